#!/usr/bin/env python3
"""upstream: a scripted OpenAI-compatible model server for tests and benches. Standard library only.

    python3 tests/upstream.py [--port N]          prints  event=listening port=N

What is asked for decides what comes back:

1. A script that a test left (POST /script) and that matches the model's name or the last user text.
2. A directive in the last user text: [[name]], [[name:argument]], or [[script:{...JSON...}]].
3. The model's name, when it is one of BEHAVIOURS.
4. Else eight words.

A script is {"steps": [...], "crlf": bool, "bytewise": bool, "times": n}. Steps, done in order:

    {"text": "x"} {"reasoning": "x"}     one chunk each
    {"words": 50, "rate": 20}            so many tokens, so many a second (0 = at once)
    {"echo": true}                       the last user text, word by word
    {"event": {...}} {"raw": "..."} {"raw_hex": ".."} {"comment": "x"}
    {"error": {"message": "x", "code": "y"}}          an error event
    {"finish": "stop"} {"usage": [in, out]} {"done": true}
    {"end": true}                        the good ending: what is missing of finish_reason, usage
                                         (when asked for) and [DONE]
    {"status": 503, "body": ..., "headers": {...}}    instead of a stream
    {"whole": "text", "finish": "stop"}  one JSON completion instead of a stream
    {"head": "text/html"}                sends the head now (else: with the first piece)
    {"wait": "gate"}                     until POST /release/gate
    {"sleep": seconds}
    {"close": "clean|cut|reset"} {"hang": true} {"endless": rate}
    {"exit": code} {"freeze": true}      this process ends, or stops answering anybody

A script without an ending step gets {"end": true}. For a request without "stream" the texts are
gathered and sent whole.

Besides: GET /v1/models, /health, /requests (all bodies and headers seen), /stats, /closed_port
(nobody listens there), /wait?requests=N&active=N&aborts=N&done=N&timeout=S (answers once all
counters have reached their number, 408 if they do not); POST /script, /release/GATE, /hold/GATE,
/reset. Tests in Python use the class Process, which does these calls.
"""
import argparse
import asyncio
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.parse
import urllib.request

DIRECTIVE = re.compile(r"\[\[(\w+)(?::(.*?))?\]\](?!\])", re.DOTALL)
ENDINGS = ("exit", "end", "status", "whole", "close", "hang", "endless")
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 408: "Request Timeout",
           429: "Too Many Requests", 500: "Internal Server Error", 503: "Service Unavailable"}


def words(count, start=0):
    return [f"word{i} " for i in range(start, start + count)]


def number(argument, index, otherwise):
    parts = (argument or "").split(":")
    return float(parts[index]) if len(parts) > index and parts[index] else otherwise


def failure(status, code, **headers):
    body = {"error": {"message": f"scripted {code}", "type": "server_error", "code": code}}
    return [{"status": status, "body": body, "headers": headers}]


def half_characters():
    """A euro sign and a face, cut in the middle of their UTF-8 over four chunks."""
    def event(content):
        return b'data: {"choices":[{"index":0,"delta":{"content":"' + content + b'"}}]}\n\n'
    cuts = (b"\xe2", b"\x82\xac", b"\xf0\x9f", b"\x98\x80!")
    return [{"raw_hex": event(cut).hex()} for cut in cuts]


def surrogates():
    event = 'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
    return [{"raw": event % "a\\ud83d"}, {"raw": event % "\\ude00b"}]


# Each takes the directive's argument and answers a script.
BEHAVIOURS = {
    "words": lambda a: {"steps": [{"words": int(number(a, 0, 8)), "rate": number(a, 1, 0)}]},
    "m": lambda a: {"steps": [{"words": 8}]},
    "echo": lambda a: {"steps": [{"echo": True}]},
    "think": lambda a: {"steps": [{"reasoning": "hm, "}, {"reasoning": "let me see"},
                                  {"words": 4}]},
    "usage": lambda a: {"steps": [{"words": 3}, {"finish": "stop"}, {"usage": [41, 9]}]},
    "slow": lambda a: {"steps": [{"sleep": number(a, 0, 1)}, {"words": 8}]},
    "gate": lambda a: {"steps": [{"words": 2}, {"wait": a or "gate"}, {"words": 2}]},
    "gate_first": lambda a: {"steps": [{"wait": a or "gate"}, {"words": 4}]},
    "whole": lambda a: {"steps": [{"whole": "".join(words(4)).strip()}]},
    "empty": lambda a: {"steps": [{"end": True}]},
    "length": lambda a: {"steps": [{"words": 4}, {"finish": "length"}]},
    "filter": lambda a: {"steps": [{"words": 2}, {"finish": "content_filter"}]},
    "no_finish": lambda a: {"steps": [{"words": 4}, {"done": True}, {"close": "clean"}]},
    "no_done": lambda a: {"steps": [{"words": 4}, {"finish": "stop"}, {"close": "clean"}]},
    "no_end": lambda a: {"steps": [{"words": 4}, {"close": "clean"}]},
    "cut": lambda a: {"steps": [{"words": 4}, {"close": "cut"}]},
    "cut_first": lambda a: {"steps": [{"head": "text/event-stream"}, {"close": "cut"}]},
    "reset": lambda a: {"steps": [{"words": 4}, {"sleep": 0.05}, {"close": "reset"}]},
    "reset_first": lambda a: {"steps": [{"close": "reset"}]},
    "stall": lambda a: {"steps": [{"words": 4}, {"hang": True}]},
    "stall_comments": lambda a: {"steps": [{"words": 4}]
                                 + [{"comment": "x"}, {"sleep": 0.05}] * 400},
    "hang": lambda a: {"steps": [{"hang": True}]},
    "hang_head": lambda a: {"steps": [{"head": "text/event-stream"}, {"hang": True}]},
    "garbage": lambda a: {"steps": [{"head": "text/plain"}, {"raw": "no stream at all\n" * 3},
                                    {"close": "clean"}]},
    "html": lambda a: {"steps": [{"head": "text/html"}, {"raw": "<html><body>hi</body></html>"},
                                 {"close": "clean"}]},
    "bad_json": lambda a: {"steps": [{"words": 2}, {"raw": "data: {\"choices\":[{\n\n"},
                                     {"hang": True}]},
    "bad_http": lambda a: {"steps": [{"raw_socket": "SSH-2.0-OpenSSH_9.2\r\n"},
                                     {"close": "clean"}]},
    "error": lambda a: {"steps": [{"error": {"message": "scripted", "code": "boom"}},
                                  {"close": "clean"}]},
    "die": lambda a: {"steps": [{"words": 4}, {"error": {"message": "scripted", "code": "boom"}},
                                {"close": "clean"}]},
    "comments": lambda a: {"steps": [{"comment": "keep-alive"}, {"words": 2}, {"comment": ""},
                                     {"raw": "event: ping\nid: 7\nretry: 10\n\n"}, {"words": 2}]},
    "surrogates": lambda a: {"steps": surrogates()},
    "half": lambda a: {"steps": half_characters()},
    "bigline": lambda a: {"steps": [{"text": "x" * int(number(a, 0, 1 << 20))}]},
    "bytewise": lambda a: {"bytewise": True, "steps": [{"words": 4}]},
    "crlf": lambda a: {"crlf": True, "steps": [{"words": 4}]},
    "endless": lambda a: {"steps": [{"endless": number(a, 0, 1000)}]},
    "exit": lambda a: {"steps": [{"words": 2}, {"sleep": 0.05}, {"exit": int(number(a, 0, 1))}]},
    "exit_first": lambda a: {"steps": [{"exit": int(number(a, 0, 1))}]},
    "freeze": lambda a: {"steps": [{"words": 2}, {"sleep": 0.05}, {"freeze": True}]},
    "not_found": lambda a: {"steps": failure(404, "model_not_found")},
    "nope": lambda a: {"steps": failure(404, "model_not_found")},
    "e400": lambda a: {"steps": failure(400, "context_length_exceeded")},
    "e500": lambda a: {"steps": failure(500, "internal_error")},
    "e503": lambda a: {"steps": failure(503, "overloaded")},
    "busy": lambda a: {"steps": failure(429, "rate_limit_exceeded", **{"retry-after-ms": "1500",
                                                                     "retry-after": "2"})},
}


class Ticker:
    """All streams of one rate are written in one go: a timer per stream would cost more than the
    streams themselves."""

    def __init__(self, rate):
        self.interval = 1 / rate
        self.members = set()
        self.handle = None

    def join(self, emit):
        self.members.add(emit)
        if self.handle is None:
            self.next_at = asyncio.get_running_loop().time() + self.interval
            self.arm()

    def arm(self):
        self.handle = asyncio.get_running_loop().call_at(self.next_at, self.tick)

    def tick(self):
        now = asyncio.get_running_loop().time()
        while self.next_at <= now:
            for emit in list(self.members):
                if not emit():
                    self.members.discard(emit)
            self.next_at += self.interval
        if self.members:
            self.arm()
        else:
            self.handle = None


class Counters:
    def __init__(self):
        self.requests = self.active = self.active_max = self.aborts = self.done = 0

    def view(self):
        return dict(vars(self))


class World:
    """What all connections share."""

    def __init__(self):
        self.tickers = {}
        self.connections = set()
        self.connections_made = 0
        self.closed = None
        self.changed = asyncio.Condition()
        self.clear()

    def clear(self):
        self.scripts = []
        self.requests = []
        self.gates = {}
        self.by_model = {}
        self.total = Counters()

    def gate(self, name):
        return self.gates.setdefault(name, asyncio.Event())

    def ticker(self, rate):
        return self.tickers.setdefault(rate, Ticker(rate))

    def counters(self, model):
        return (self.total, self.by_model.setdefault(model, Counters()))

    def tell(self):
        asyncio.ensure_future(self._tell())

    async def _tell(self):
        async with self.changed:
            self.changed.notify_all()

    def begin(self, model):
        for c in self.counters(model):
            c.requests += 1
            c.active += 1
            c.active_max = max(c.active_max, c.active)
        self.tell()

    def end(self, model, aborted):
        for c in self.counters(model):
            c.active -= 1
            if aborted:
                c.aborts += 1
            else:
                c.done += 1
        self.tell()

    async def wait(self, wanted, timeout):
        def reached():
            for name, value in wanted.items():
                have = getattr(self.total, name)
                if (have > value) if name == "active" else (have < value):
                    return False
            return True

        async with self.changed:
            try:
                await asyncio.wait_for(self.changed.wait_for(reached), timeout)
            except asyncio.TimeoutError:
                return False
        return True

    def closed_port(self):
        """A port that is ours, so that nobody else gets it, but on which nobody listens."""
        if self.closed is None:
            self.closed = socket.socket()
            self.closed.bind(("127.0.0.1", 0))
        return self.closed.getsockname()[1]

    def script_for(self, model, text):
        for script in self.scripts:
            match = script.get("match", "")
            if match != model and match not in text:
                continue
            if "times" in script:
                script["times"] -= 1
                if script["times"] <= 0:
                    self.scripts.remove(script)
            return script
        directive = DIRECTIVE.search(text)
        if directive:
            name, argument = directive.groups()
            if name == "script":
                return json.loads(argument)
            if name in BEHAVIOURS:
                return BEHAVIOURS[name](argument)
        name, _, argument = model.partition(":")
        return BEHAVIOURS.get(name, BEHAVIOURS["words"])(argument)


class Stream:
    """One answer being written."""

    def __init__(self, connection, body, text, script):
        self.connection = connection
        self.transport = connection.transport
        self.world = connection.world
        self.model = str(body.get("model", ""))
        self.text = text
        self.streams = bool(body.get("stream"))
        self.wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        self.prompt_tokens = sum(len(str(m.get("content", "")).split()) + 4
                                 for m in body.get("messages", []))
        self.crlf = script.get("crlf", False)
        self.bytewise = script.get("bytewise", False)
        self.head_sent = False
        self.tokens = 0
        self.gathered = []
        self.finished = self.told_usage = self.told_done = False
        self.over = False
        stamp = int(time.time())
        self.prefix = (f'data: {{"id":"chatcmpl-{stamp}","object":"chat.completion.chunk",'
                       f'"created":{stamp},"model":{json.dumps(self.model)},'
                       '"choices":[{"index":0,')
        self.end_line = "\r\n\r\n" if self.crlf else "\n\n"

    def head(self, content_type="text/event-stream"):
        if not self.head_sent:
            self.head_sent = True
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Type: " + content_type.encode()
                                 + b"\r\nCache-Control: no-cache"
                                 + b"\r\nTransfer-Encoding: chunked\r\n\r\n")

    def piece(self, data):
        self.head()
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def send(self, data):
        if self.transport.is_closing():
            raise asyncio.CancelledError  # the client has left; connection_lost comes next
        if not self.bytewise:
            self.piece(data)
            await self.connection.drained()
            return
        for i in range(len(data)):
            self.piece(data[i:i + 1])
            await asyncio.sleep(0)

    def token_bytes(self, text):
        self.tokens += 1
        return (self.prefix + '"delta":{"content":' + json.dumps(text) + '},"finish_reason":null}]}'
                + self.end_line).encode()

    async def delta(self, key, text):
        self.tokens += 1
        if not self.streams:
            if key == "content":
                self.gathered.append(text)
            return
        delta = json.dumps({key: text})
        await self.send((self.prefix + f'"delta":{delta},"finish_reason":null}}]}}'
                         + self.end_line).encode())

    async def event(self, data):
        await self.send(("data: " + data + self.end_line).encode())

    async def tokens_at(self, source, rate):
        """Tokens at a rate, by the ticker."""
        done = asyncio.get_running_loop().create_future()

        def emit():
            token = next(source, None)
            if token is None or self.transport.is_closing():
                if not done.done():
                    done.set_result(None)
                return False
            if not self.connection.paused:
                self.piece(self.token_bytes(token))
            return True

        self.world.ticker(rate).join(emit)
        await done

    async def many(self, texts, rate):
        if rate > 0 and self.streams and not self.bytewise:
            await self.tokens_at(iter(texts), rate)
            return
        for text in texts:
            await self.delta("content", text)

    async def endless(self, rate):
        def forever():
            count = 0
            while True:
                yield f"word{count} "
                count += 1
        await self.tokens_at(forever(), rate)

    async def finish(self, reason):
        self.finished = True
        if self.streams:
            await self.send((self.prefix + f'"delta":{{}},"finish_reason":"{reason}"}}]}}'
                             + self.end_line).encode())

    async def usage(self, tokens_in, tokens_out):
        self.told_usage = True
        await self.event(json.dumps({"id": "u", "object": "chat.completion.chunk",
                                     "model": self.model, "choices": [],
                                     "usage": {"prompt_tokens": tokens_in,
                                               "completion_tokens": tokens_out,
                                               "total_tokens": tokens_in + tokens_out}}))

    def whole(self, text, finish):
        body = {"id": "chatcmpl-1", "object": "chat.completion", "model": self.model,
                "choices": [{"index": 0, "finish_reason": finish,
                             "message": {"role": "assistant", "content": text}}],
                "usage": {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.tokens,
                          "total_tokens": self.prompt_tokens + self.tokens}}
        self.status(200, body, {})

    def status(self, status, body, headers):
        self.over = True
        self.connection.answer(status, body, headers)

    def close(self, how):
        self.over = True
        if how == "clean":
            if self.head_sent:
                self.transport.write(b"0\r\n\r\n")
            else:
                self.transport.close()
            return
        if how == "reset":
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
            return
        self.transport.close()

    async def end(self):
        if not self.streams:
            self.whole("".join(self.gathered), "stop")
            return
        if not self.finished:
            await self.finish("stop")
        if self.wants_usage and not self.told_usage:
            await self.usage(self.prompt_tokens, self.tokens)
        if not self.told_done:
            await self.event("[DONE]")
        self.close("clean")

    async def step(self, step):
        if "text" in step:
            await self.delta("content", step["text"])
        elif "reasoning" in step:
            await self.delta("reasoning_content", step["reasoning"])
        elif "words" in step:
            await self.many(words(step["words"], self.tokens), step.get("rate", 0))
        elif "echo" in step:
            await self.many(re.findall(r"\S*\s*", self.text)[:-1], step.get("rate", 0))
        elif "event" in step:
            await self.event(json.dumps(step["event"]))
        elif "error" in step:
            await self.event(json.dumps({"error": step["error"]}))
        elif "raw" in step:
            await self.send(step["raw"].encode())
        elif "raw_hex" in step:
            await self.send(bytes.fromhex(step["raw_hex"]))
        elif "raw_socket" in step:
            self.transport.write(step["raw_socket"].encode())
        elif "comment" in step:
            await self.send((":" + step["comment"] + self.end_line).encode())
        elif "whole" in step:
            self.whole(step["whole"], step.get("finish", "stop"))
        elif "finish" in step:
            await self.finish(step["finish"])
        elif "usage" in step:
            await self.usage(*step["usage"])
        elif "done" in step:
            self.told_done = True
            await self.event("[DONE]")
        else:
            await self.step_flow(step)

    async def step_flow(self, step):
        if "end" in step:
            await self.end()
        elif "status" in step:
            self.status(step["status"], step.get("body", ""), step.get("headers", {}))
        elif "head" in step:
            self.head(step["head"])
        elif "wait" in step:
            await self.world.gate(step["wait"]).wait()
        elif "sleep" in step:
            await asyncio.sleep(step["sleep"])
        elif "close" in step:
            self.close(step["close"])
        elif "hang" in step:
            await asyncio.Event().wait()
        elif "endless" in step:
            await self.endless(step["endless"])
        elif "exit" in step:
            os._exit(step["exit"])
        elif "freeze" in step:
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            raise ValueError(f"unknown step {step}")

    async def run(self, steps):
        for step in steps:
            if self.over:
                return
            await self.step(step)
        if not self.over and not any(name in step for step in steps for name in ENDINGS):
            await self.end()


class Connection(asyncio.Protocol):
    def __init__(self, world):
        self.world = world
        self.buffer = bytearray()
        self.task = None
        self.model = None  # of the completion that runs
        self.paused = False
        self.can_write = None

    def connection_made(self, transport):
        self.transport = transport
        self.world.connections.add(self)
        self.world.connections_made += 1
        raw = transport.get_extra_info("socket")
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def pause_writing(self):
        self.paused = True
        self.can_write = asyncio.get_running_loop().create_future()

    def resume_writing(self):
        self.paused = False
        if self.can_write is not None and not self.can_write.done():
            self.can_write.set_result(None)

    async def drained(self):
        if self.paused:
            await self.can_write

    def connection_lost(self, error):
        self.world.connections.discard(self)
        self.resume_writing()
        if self.task is not None:
            self.task.cancel()

    def data_received(self, data):
        self.buffer += data
        self.next_request()

    def next_request(self):
        if self.task is not None:
            return  # pipelined: after this answer
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        lines = self.buffer[:end].decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        length = int(headers.get("content-length", "0"))
        if len(self.buffer) < end + 4 + length:
            return
        body = bytes(self.buffer[end + 4:end + 4 + length])
        del self.buffer[:end + 4 + length]
        method, target, _ = lines[0].split(" ", 2)
        self.task = asyncio.ensure_future(self.serve(method, target, headers, body))

    async def serve(self, method, target, headers, body):
        try:
            await self.route(method, urllib.parse.urlsplit(target), headers, body)
        except asyncio.CancelledError:
            pass
        except Exception as error:  # a broken script must show, not hang the test
            print(f"upstream: {error!r}", file=sys.stderr, flush=True)
            self.transport.abort()
        self.task = None
        if not self.transport.is_closing():
            self.next_request()

    def answer(self, status, body, headers=None):
        kind = "application/json"
        if isinstance(body, str):
            kind, data = "text/plain", body.encode()
        else:
            data = json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Scripted')}", f"Content-Type: {kind}",
                 f"Content-Length: {len(data)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.transport.write("\r\n".join(lines).encode() + b"\r\n\r\n" + data)

    async def route(self, method, target, headers, body):
        path = target.path
        if method == "POST" and path in ("/v1/chat/completions", "/chat/completions"):
            await self.complete(headers, json.loads(body))
        elif method == "POST":
            self.admin(path, body)
        elif path in ("/v1/models", "/models"):
            self.answer(200, {"object": "list", "data": [
                {"id": name, "object": "model", "created": 0, "owned_by": "tests"}
                for name in BEHAVIOURS]})
        elif path == "/health":
            self.answer(200, {"status": "ok"})
        elif path == "/requests":
            self.answer(200, self.world.requests)
        elif path == "/stats":
            self.answer(200, self.world.total.view()
                        | {"connections": self.world.connections_made, "by_model":
                           {m: c.view() for m, c in self.world.by_model.items()}})
        elif path == "/closed_port":
            self.answer(200, {"port": self.world.closed_port()})
        elif path == "/wait":
            wanted = {k: float(v[0]) for k, v in urllib.parse.parse_qs(target.query).items()}
            timeout = wanted.pop("timeout", 10.0)
            reached = await self.world.wait(wanted, timeout)
            self.answer(200 if reached else 408, self.world.total.view())
        else:
            self.answer(404, {"error": {"message": "no such path", "code": "not_found"}})

    def admin(self, path, body):
        if path == "/script":
            self.world.scripts.insert(0, json.loads(body))
        elif path.startswith("/release/"):
            self.world.gate(path[len("/release/"):]).set()
        elif path.startswith("/hold/"):
            self.world.gate(path[len("/hold/"):]).clear()
        elif path == "/reset":
            for gate in self.world.gates.values():
                gate.set()  # nobody waits for a gate that is forgotten
            for other in list(self.world.connections):
                if other is not self:
                    other.transport.abort()
            self.world.clear()
        else:
            self.answer(404, {"error": {"message": "no such path", "code": "not_found"}})
            return
        self.answer(200, {})

    async def complete(self, headers, body):
        users = [m for m in body.get("messages", []) if m.get("role") == "user"]
        text = str(users[-1].get("content", "")) if users else ""
        model = str(body.get("model", ""))
        script = self.world.script_for(model, text)
        world, total = self.world, self.world.total
        world.requests.append({"headers": headers, "body": body})
        world.begin(model)
        aborted = True
        try:
            await Stream(self, body, text, script).run(script["steps"])
            aborted = False
        finally:
            if world.total is total:  # not reset meanwhile
                world.end(model, aborted)


class Process:
    """The upstream as a process of its own, and its admin calls; a context manager."""

    def __init__(self, port=0):
        self.process = subprocess.Popen([sys.executable, os.path.abspath(__file__),
                                         "--port", str(port)], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.port = int(re.search(r"port=(\d+)", line).group(1))
        self.base = f"http://127.0.0.1:{self.port}"
        self.url = self.base + "/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def _call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(self.base + path, data, timeout=60) as answer:
            return json.load(answer)

    def script(self, match, steps, **options):
        self._call("/script", {"match": match, "steps": steps} | options)

    def release(self, gate):
        self._call(f"/release/{gate}", {})

    def hold(self, gate):
        self._call(f"/hold/{gate}", {})

    def reset(self):
        self._call("/reset", {})

    def requests(self):
        return self._call("/requests")

    def stats(self):
        return self._call("/stats")

    def closed_port(self):
        return self._call("/closed_port")["port"]

    def wait(self, timeout=10, **counters):
        """Until requests, aborts and done are at least, and active is at most, what is given."""
        query = urllib.parse.urlencode(counters | {"timeout": timeout})
        return self._call(f"/wait?{query}")


async def serve(port):
    world = World()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(world), "127.0.0.1", port, backlog=1024)
    print(f"event=listening port={server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    try:
        asyncio.run(serve(options.port))
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
