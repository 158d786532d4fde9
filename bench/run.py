#!/usr/bin/env python3
"""bench: kith's figures, each beside its floor in the same run.

    idle     memory of an idle session: authenticated, a conversation and the inbox subscribed
    send     chat.send to its committed answer, beside raw fdatasync of the same disk
    relay    CPU a relayed token, beside nginx relaying the same stream (proxy_buffering off)
    echo     a WebSocket echo through net and codec, beside a minimal epoll echo
    journal  durable appends, beside a bare SQLite loop with the same rows and commits

Prints one table: what, kith, floor, ratio. CPU counts come from /proc/PID/stat of the process that
is measured. Absolute times depend on the machine; the ratios are the figures.
"""
import argparse
import asyncio
import base64
import contextlib
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from kith import Live, Server  # noqa: E402
from upstream import Process  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
ROWS = []


def row(what, kith, floor, ratio):
    ROWS.append((what, kith, floor, ratio))
    print(f"| {what} | {kith} | {floor} | {ratio} |", flush=True)


def cpu_s(pid):
    """User and system time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def rss_bytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


class Raw:
    """A WebSocket client that costs little: text frames under 64 KiB, no extensions."""

    async def open(self, port):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write((f"GET /connection/websocket HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                           "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                           f"Sec-WebSocket-Key: {key}\r\n"
                           "Sec-WebSocket-Version: 13\r\n\r\n").encode())
        await self.reader.readuntil(b"\r\n\r\n")
        self.number = 0
        return self

    def post(self, method, request):
        self.number += 1
        text = json.dumps({"id": self.number, method: request}).encode()
        head = bytes([0x81]) + (bytes([0x80 | len(text)]) if len(text) < 126
                                else bytes([0x80 | 126]) + struct.pack(">H", len(text)))
        self.writer.write(head + b"\0\0\0\0" + text)
        return self.number

    async def frame(self):
        head = await self.reader.readexactly(2)
        length = head[1]
        if length == 126:
            length = struct.unpack(">H", await self.reader.readexactly(2))[0]
        elif length == 127:
            length = struct.unpack(">Q", await self.reader.readexactly(8))[0]
        return await self.reader.readexactly(length)

    async def ask(self, method, request):
        number = self.post(method, request)
        while True:
            for line in (await self.frame()).split(b"\n"):
                reply = json.loads(line)
                if reply.get("id") == number:
                    assert "error" not in reply, reply
                    return reply[method]

    async def rpc(self, command, **data):
        return (await self.ask("rpc", {"method": command, "data": data}))["data"]


def settings(**more):
    return {"limits.connections_per_address": "1000000", "limits.user_commands": "1000000",
            "limits.user_commands_burst": "1000000", "limits.user_runs": "10000",
            "log.level": "warn", "engines": "1"} | more


@contextlib.contextmanager
def kith(upstream_url, **more):
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as data:
        server = Server(data, [{"name": "default", "url": upstream_url, "model": "words"}],
                        settings(**more))
        try:
            yield server
        finally:
            server.close()


# ---------------------------------------------------------------- idle


async def open_idle(port, count):
    sessions = []

    async def one():
        raw = await Raw().open(port)
        await raw.ask("connect", {})
        conv = (await raw.rpc("conv.create"))["conv"]["id"]
        await raw.ask("subscribe", {"channel": f"conv:{conv}"})
        sessions.append(raw)

    for start in range(0, count, 100):
        await asyncio.gather(*(one() for _ in range(min(100, count - start))))
    return sessions


def bench_idle(count):
    with Process() as up, kith(up.url) as server:
        async def go():
            warm = await open_idle(server.port, 200)
            before = rss_bytes(server.pid)
            used = server.metric("kith_memory_used_bytes")
            idle = await open_idle(server.port, count)
            await asyncio.sleep(2)
            each = (rss_bytes(server.pid) - before) / count
            own = (server.metric("kith_memory_used_bytes") - used) / count
            row(f"resident bytes per idle session, {count} of them", f"{each:.0f}",
                "1024 (budget)", f"{each / 1024:.2f}")
            if own > 0:
                row("of these in kith's own structures", f"{own:.0f}", "1024 (budget)",
                    f"{own / 1024:.2f}")
            for raw in warm + idle:
                raw.writer.close()
        asyncio.run(go())


# ---------------------------------------------------------------- send


def fdatasync_s(count):
    times = []
    with tempfile.NamedTemporaryFile(dir=ROOT / "build") as file:
        for _ in range(count):
            file.write(b"x" * 512)
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - start)
    return sorted(times)


def at(times, part):
    return times[min(len(times) - 1, int(len(times) * part))]


def bench_send(count):
    with Process() as up, kith(up.url) as server:
        async def go():
            raw = await Raw().open(server.port)
            await raw.ask("connect", {})
            conv = (await raw.rpc("conv.create"))["conv"]["id"]
            times, floor = [], []
            for turn in range(4):
                floor += fdatasync_s(count // 4)
                for i in range(count // 4):
                    start = time.perf_counter()
                    await raw.rpc("chat.send", conv=conv, cid=f"{turn}-{i}", text="hello",
                                  answer=False)
                    times.append(time.perf_counter() - start)
            times.sort()
            floor.sort()
            for name, part in (("p50", 0.5), ("p99", 0.99)):
                k, f = at(times, part), at(floor, part)
                row(f"chat.send to committed answer, {name}", f"{k * 1e3:.2f} ms",
                    f"fdatasync {f * 1e3:.2f} ms", f"{k / f:.2f}")
        asyncio.run(go())


# ---------------------------------------------------------------- relay


def nginx_conf(folder, port, upstream_port):
    return f"""
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream up {{ server 127.0.0.1:{upstream_port}; keepalive 256; }}
  server {{
    listen 127.0.0.1:{port}; tcp_nodelay on;
    location / {{ proxy_pass http://up; proxy_buffering off; proxy_http_version 1.1;
                  proxy_set_header Connection ""; }}
  }}
}}
"""


def free_port():
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def nginx(upstream_port):
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as folder:
        port = free_port()
        Path(folder, "conf").write_text(nginx_conf(folder, port, upstream_port))
        process = subprocess.Popen(["nginx", "-c", f"{folder}/conf", "-e", f"{folder}/error.log"],
                                   stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                with contextlib.suppress(OSError):
                    import socket
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                time.sleep(0.05)
            yield process.pid, port
        finally:
            process.kill()
            process.wait()


async def nginx_stream(port, text):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": "words", "stream": True,
                       "messages": [{"role": "user", "content": text}]}).encode()
    writer.write(("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                  f"Content-Length: {len(body)}\r\n"
                  "Content-Type: application/json\r\nConnection: close\r\n\r\n").encode() + body)
    while await reader.read(65536):
        pass
    writer.close()


async def kith_streams(port, streams, text):
    async def one():
        raw = await Raw().open(port)
        await raw.ask("connect", {})
        conv = (await raw.rpc("conv.create"))["conv"]["id"]
        await raw.ask("subscribe", {"channel": f"conv:{conv}"})
        return raw, conv

    async def talk(raw, conv):
        raw.post("rpc", {"method": "chat.send", "data": {"conv": conv, "cid": "1", "text": text}})
        while b'"status":"complete","model"' not in await raw.frame():
            pass

    return await asyncio.gather(*(one() for _ in range(streams))), talk


def bench_relay(streams, tokens, rate):
    text = f"[[words:{tokens}:{rate}]]"
    total = streams * tokens
    kiths, nginxs = [], []
    with Process() as up, kith(up.url, **{"runs.delta": "0"}) as server, \
            nginx(up.port) as (nginx_pid, nginx_port):
        async def go():
            for _ in range(3):
                ready, talk = await kith_streams(server.port, streams, text)
                start = cpu_s(server.pid)
                await asyncio.gather(*(talk(*r) for r in ready))
                kiths.append((cpu_s(server.pid) - start) / total)
                for raw, _ in ready:
                    raw.writer.close()
                start = cpu_s(nginx_pid)
                await asyncio.gather(*(nginx_stream(nginx_port, text) for _ in range(streams)))
                nginxs.append((cpu_s(nginx_pid) - start) / total)
        asyncio.run(go())
    k, n = statistics.median(kiths), statistics.median(nginxs)
    row(f"CPU per relayed token, {streams} streams x {rate}/s, a delta a token, commits included",
        f"{k * 1e6:.1f} us", f"nginx {n * 1e6:.1f} us", f"{k / n:.2f}")


# ---------------------------------------------------------------- others


def bench_program(path, *arguments):
    if Path(path).exists():
        print(subprocess.run([path, *arguments], check=False, capture_output=True,
                             text=True).stdout, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="*", default=["idle", "send", "relay", "echo", "journal"])
    parser.add_argument("--sessions", type=int, default=9000)
    parser.add_argument("--sends", type=int, default=400)
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--rate", type=int, default=20)
    options = parser.parse_args()
    cpu = Path("/proc/cpuinfo").read_text().split("\n")
    model = next((line.split(":")[1].strip() for line in cpu
                  if line.startswith("model name")), "?")
    print(f"{time.strftime('%Y-%m-%d')}, {model}, {os.cpu_count()} cores\n")
    print("| what | kith | floor | ratio |\n| --- | --- | --- | --- |")
    if "idle" in options.what:
        bench_idle(options.sessions)
    if "send" in options.what:
        bench_send(options.sends)
    if "relay" in options.what:
        if shutil.which("nginx"):
            bench_relay(options.streams, 200, options.rate)
        else:
            print("| relay | - | nginx is missing: make deps-bench | - |")
    if "echo" in options.what:
        bench_program(sys.executable, str(ROOT / "bench/run_echo.py"))
    if "journal" in options.what:
        bench_program(str(ROOT / "build/release/bench/journal"))


if __name__ == "__main__":
    main()
