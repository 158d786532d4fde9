"""kith: the server under test as a process, and small honest clients for it.

Server   starts `kith serve` on a free port with its own data_dir; kill() is kill -9, stop() is
         SIGTERM.
Live     one WebSocket that speaks the Centrifuge JSON protocol; every push is kept in order.
Http     POST /kith/v1/<command> with the same bodies.

Nothing here sleeps: waits are for a line, a reply or a push, each with a deadline in seconds.
"""
import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as ws_connect

ROOT = Path(__file__).resolve().parent.parent
BINARY = os.environ.get("KITH_BIN", str(ROOT / "build/kith"))
WAIT_S = 20


def clean_environment():
    """Ours, without the KITH_ variables that steer the tests: they would be settings."""
    kept = ("KITH_MODELS", "KITH_PYTHON", "KITH_SHARE")
    return {k: v for k, v in os.environ.items() if not k.startswith("KITH_") or k in kept}


class Server:
    """A running kith. `models` is a list of {name, url, ...}; `settings` are --set key=value."""

    def __init__(self, data_dir, models=(), settings=None, prefix=(), environment=None):
        self.data_dir = Path(data_dir)
        self.models = list(models)
        self.settings = dict(settings or {})
        self.prefix = list(prefix)
        self.environment = dict(environment or {})
        self.port = 0
        self.process = None
        self.lines = []
        self.read_to = 0
        self.news = threading.Condition()
        self.start()

    def arguments(self):
        sets = {"listen": f"127.0.0.1:{self.port}", "data_dir": str(self.data_dir),
                "local.enabled": "false"}
        for i, model in enumerate(self.models):
            for key, value in model.items():
                sets[f"models.{i}.{key}"] = value
        sets.update(self.settings)
        out = [BINARY, "serve"]
        for key, value in sets.items():
            out += ["--set", f"{key}={value}"]
        return out

    def start(self):
        self.process = subprocess.Popen(self.prefix + self.arguments(), stderr=subprocess.PIPE,
                                        stdout=subprocess.DEVNULL, text=True,
                                        env=clean_environment() | self.environment)
        ready = queue.Queue()
        self.reader = threading.Thread(target=self._read, args=(self.process, ready), daemon=True)
        self.reader.start()
        port = ready.get(timeout=60)
        assert port is not None, "kith did not start:\n" + "".join(self.lines[-40:])
        self.port = port  # the same one after a restart
        self.base = f"http://127.0.0.1:{port}"
        self.ws = f"ws://127.0.0.1:{port}/connection/websocket"

    def _read(self, process, ready):
        for line in process.stderr:
            with self.news:
                self.lines.append(line)
                self.news.notify_all()
            found = re.search(r"event=ready listen=\S+:(\d+)", line)
            if found:
                ready.put(int(found.group(1)))
        ready.put(None)

    def line(self, pattern, seconds=WAIT_S):
        """The next log line that fits and was not given out before by this function."""
        until = time.monotonic() + seconds
        with self.news:
            while True:
                for i in range(self.read_to, len(self.lines)):
                    if re.search(pattern, self.lines[i]):
                        self.read_to = i + 1
                        return self.lines[i]
                left = until - time.monotonic()
                assert left > 0, f"no line {pattern}:\n" + "".join(self.lines[-20:])
                self.news.wait(min(left, 1))

    @property
    def pid(self):
        """Of kith itself, when a prefix (strace) runs it as a child."""
        if not self.prefix:
            return self.process.pid
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait(timeout=WAIT_S)

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(timeout=60)

    def restart(self):
        self.kill()
        self.start()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=WAIT_S)

    def get(self, path, headers=None):
        """(status, text) of a GET."""
        request = urllib.request.Request(self.base + path, headers=headers or {})
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name):
        _, text = self.get("/metrics")
        found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
        return float(found.group(1)) if found else 0.0


class Http:
    """Commands over HTTP as one user. `token` None: nobody."""

    def __init__(self, server, token=None, headers=None):
        self.server = server
        self.headers = {"Content-Type": "application/json"} | (headers or {})
        if token:
            self.headers["Authorization"] = f"Bearer {token}"

    def raw(self, command, body=None):
        """(status, answer, headers)."""
        request = urllib.request.Request(f"{self.server.base}/kith/v1/{command}",
                                         data=json.dumps(body or {}).encode(),
                                         headers=self.headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return answer.status, json.load(answer), answer.headers
        except urllib.error.HTTPError as error:
            text = error.read()
            return error.code, json.loads(text) if text else None, error.headers

    def __call__(self, command, **body):
        status, answer, _ = self.raw(command, body)
        assert status == 200, (command, status, answer)
        return answer


class RpcError(Exception):
    def __init__(self, error):
        super().__init__(f"{error.get('code')} {error.get('message')}")
        self.code = error["code"]
        self.temporary = error.get("temporary", False)


class Live:
    """One session. `pushes` holds every push in order; `closed` is (code, reason) once it ended."""

    def __init__(self, server, token=None, subs=None, connect=True):
        self.socket = ws_connect(server.ws, open_timeout=WAIT_S, close_timeout=2, max_size=None,
                                 ping_interval=None, compression=None, legacy=True)
        self.number = 0
        self.replies = {}
        self.pushes = []
        self.closed = None
        self.news = threading.Condition()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if connect:
            request = {"token": token} if token else {}
            if subs:
                request["subs"] = subs
            self.connected = self.ask("connect", request)
            kith = self.connected["data"]["kith"]
            self.user = kith["user"]
            self.token = token or kith.get("token")

    def _read(self):
        try:
            for frame in self.socket:
                for line in frame.split("\n"):
                    self._take(json.loads(line))
        except ConnectionClosed:
            pass
        with self.news:
            self.closed = (self.socket.close_code, self.socket.close_reason)
            self.news.notify_all()

    def _take(self, reply):
        if reply == {}:
            self.socket.send("{}")
            return
        with self.news:
            if "push" in reply:
                self.pushes.append(reply["push"])
            else:
                self.replies[reply["id"]] = reply
            self.news.notify_all()

    def wait(self, found, seconds=WAIT_S, what="news"):
        """Until found() is not None and not False; answers it."""
        until = time.monotonic() + seconds
        with self.news:
            while True:
                value = found()
                if value is not None and value is not False:
                    return value
                left = until - time.monotonic()
                assert left > 0, f"waited {seconds} s for {what}"
                self.news.wait(min(left, 1))

    def post(self, method, request):
        with self.news:
            self.number += 1
            number = self.number
        self.socket.send(json.dumps({"id": number, method: request}))
        return number

    def reply(self, number, seconds=WAIT_S):
        def found():
            if number in self.replies:
                return self.replies[number]
            assert self.closed is None, f"closed: {self.closed}"
            return None
        return self.wait(found, seconds, f"reply {number}")

    def ask(self, method, request):
        reply = self.reply(self.post(method, request))
        if "error" in reply:
            raise RpcError(reply["error"])
        return reply[method]

    def rpc(self, command, **data):
        return self.ask("rpc", {"method": command, "data": data})["data"]

    def subscribe(self, conv, **options):
        return self.ask("subscribe", {"channel": f"conv:{conv}"} | options)

    def create(self, **options):
        return self.rpc("conv.create", **options)["conv"]["id"]

    def send(self, conv, text, cid=None, **options):
        return self.rpc("chat.send", conv=conv, cid=cid or uuid.uuid4().hex, text=text, **options)

    def events(self, conv):
        """Publications of a conversation, in order: (offset or None, data)."""
        channel = f"conv:{conv}"
        return [(p["pub"].get("offset"), p["pub"]["data"]) for p in self.pushes
                if p.get("channel") == channel and "pub" in p]

    def event(self, conv, fits, seconds=WAIT_S):
        def found():
            for _, data in self.events(conv):
                if fits(data):
                    return data
            return None
        return self.wait(found, seconds, "an event")

    def final(self, conv, run, seconds=WAIT_S):
        """The message that ends a run."""
        return self.event(conv, lambda e: e["t"] == "msg" and e.get("run") == run, seconds)

    def close(self):
        self.socket.close()

    def cut(self):
        """As a dead radio would: no goodbye."""
        self.socket.socket.close()


def durable(events):
    return [(o, e) for o, e in events if o]


def check_log(events):
    """Offsets without a gap or a double, times that never go back, one ending for every run."""
    offsets = [o for o, _ in events]
    assert offsets == list(range(1, len(offsets) + 1)), offsets
    times = [e["ts"] for _, e in events]
    assert times == sorted(times)
    begun = [e["answer"]["run"] for _, e in events if "answer" in e]
    begun += [e["run"] for _, e in events if e["t"] == "run"]
    ended = [e["run"] for _, e in events if e["t"] == "msg" and "run" in e]
    assert len(ended) == len(set(ended)), "a run ended twice"
    assert set(ended) <= set(begun)
    ids = [e["id"] for _, e in events if e["t"] == "msg"]
    assert len(ids) == len(set(ids))
    return begun, ended


def history(live, conv):
    """The whole log of a conversation, page by page."""
    out = []
    while True:
        since = {"since": {"offset": out[-1][0], "epoch": ""}} if out else {}
        page = live.ask("history", {"channel": f"conv:{conv}", "limit": -1} | since)
        got = [(p["offset"], p["data"]) for p in page.get("publications", [])]
        out += got
        if not got or out[-1][0] >= page["offset"]:
            return out
