"""cutter: a TCP line between a client and the server that breaks.

    with Cutter(server.port, cuts=20, seed=1) as line:
        ...                 a client talks to line.url
        line.arm()          from now on each connection breaks after some pieces from the server
        line.done.wait(60)  it broke 20 times

A connection breaks with a reset after 1 to 8 pieces, or when nothing came for QUIET_S: so it
breaks in the handshake, behind the replies, and between deltas.
"""
import asyncio
import random
import socket
import struct
import threading

QUIET_S = 0.15
PIECE = 1 << 16


class Cutter:
    def __init__(self, port, cuts, seed=1):
        self.port = port
        self.cuts = cuts
        self.made = 0          # cuts so far
        self.connections = 0
        self.armed = False
        self.leaving = False
        self.chance = random.Random(seed)
        self.done = threading.Event()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def __enter__(self):
        self.thread.start()
        self.server = self.call(asyncio.start_server(self.serve, "127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        self.ws = self.url.replace("http", "ws") + "/connection/websocket"
        return self

    def __exit__(self, *_):
        self.call(self.leave())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    def call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def leave(self):
        self.leaving = True
        self.server.close()
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=0.5)  # wait_for may swallow one cancel (3.11)

    def arm(self):
        self.armed = True

    @property
    def cutting(self):
        return self.armed and self.made < self.cuts

    async def serve(self, client_reader, client_writer):
        self.connections += 1
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            client_writer.transport.abort()
            return
        up = asyncio.ensure_future(self.forward(client_reader, writer))
        try:
            await self.down(reader, client_writer, writer)
        finally:
            up.cancel()
            for each in (client_writer, writer):
                each.transport.abort()

    async def forward(self, reader, writer):
        try:
            while data := await reader.read(PIECE):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.transport.abort()

    async def down(self, reader, client_writer, writer):
        left = self.chance.randint(1, 8)
        while not self.leaving:
            try:
                data = await asyncio.wait_for(reader.read(PIECE), QUIET_S)
            except asyncio.TimeoutError:
                if self.cutting:
                    return self.cut(client_writer, writer)
                continue
            except OSError:
                return None
            if not data:
                return None
            if self.cutting:
                left -= 1
                if left <= 0:
                    return self.cut(client_writer, writer, data[:self.chance.randint(0, len(data))])
            client_writer.write(data)
        return None

    def cut(self, client_writer, writer, last=b""):
        """The last bytes may still arrive, in the middle of a frame; then a reset."""
        self.made += 1
        client_writer.write(last)
        for each in (client_writer, writer):
            raw = each.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.made >= self.cuts:
            self.done.set()
