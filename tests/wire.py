"""wire: clients that show every byte, for tests of the carriers themselves.

Wire     one WebSocket made by hand: any frame may be sent, in any pieces; what comes is kept whole.
Line     one TCP connection on which HTTP is written as it stands and answers are read one by one.

Every read has a deadline in seconds; none of them sleeps.
"""
import base64
import json
import os
import select
import socket
import struct
import time

WAIT_S = 20
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode, payload=b"", fin=True, masked=True, reserved=0):
    """The bytes of one client frame."""
    if isinstance(payload, str):
        payload = payload.encode()
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([mask_bit | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", len(payload))
    if not masked:
        return head + payload
    key = os.urandom(4)
    whole = int.from_bytes(payload, "big")
    pad = (key * (len(payload) // 4 + 1))[:len(payload)]
    return head + key + (whole ^ int.from_bytes(pad, "big")).to_bytes(len(payload), "big")


class Ended(Exception):
    """The other side has closed the connection."""


class Line:
    def __init__(self, server, receive_bytes=None):
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect(("127.0.0.1", server.port))
        self.have = b""

    def close(self):
        self.socket.close()

    def write(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)

    def more(self, until):
        left = until - time.monotonic()
        if left <= 0 or not select.select([self.socket], [], [], left)[0]:
            raise AssertionError(f"nothing came in time; so far {self.have[:200]!r}")
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Ended
        self.have += data

    def take(self, count, until):
        while len(self.have) < count:
            self.more(until)
        data, self.have = self.have[:count], self.have[count:]
        return data

    def take_head(self, until):
        while b"\r\n\r\n" not in self.have:
            self.more(until)
        head, _, self.have = self.have.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers.setdefault(name.lower(), value.strip())
        return int(lines[0].split(" ")[1]), headers

    def answer(self, seconds=WAIT_S, body=True):
        """(status, headers, body) of the next answer. `body` False: it was asked with HEAD."""
        until = time.monotonic() + seconds
        status, headers = self.take_head(until)
        length = int(headers.get("content-length", "0")) if body and status not in (100, 304) else 0
        return status, headers, self.take(length, until)

    def ended(self, seconds=WAIT_S):
        """Until the other side closes; answers what still came."""
        until = time.monotonic() + seconds
        try:
            while True:
                self.more(until)
        except Ended:
            return self.have


class Wire(Line):
    def __init__(self, server, headers=(), path="/connection/websocket", receive_bytes=None):
        super().__init__(server, receive_bytes)
        self.messages = []   # JSON that came and was not asked for yet
        self.pushes = []     # pushes that came while a reply was awaited
        self.number = 0
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{server.port}", "Upgrade: websocket",
                 "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: " + base64.b64encode(os.urandom(16)).decode(), *headers]
        self.write("\r\n".join(lines) + "\r\n\r\n")
        self.status, self.headers = self.take_head(time.monotonic() + WAIT_S)

    def send(self, *commands):
        """One text frame with these commands; dicts or text as it is."""
        self.write(frame(TEXT, "\n".join(c if isinstance(c, str) else json.dumps(c)
                                         for c in commands)))

    def frame(self, seconds=WAIT_S):
        """(opcode, payload) of the next frame; Ended at the end of the connection."""
        until = time.monotonic() + seconds
        first, second = self.take(2, until)
        assert first & 0x80 and not second & 0x80, "a server frame is whole and not masked"
        count = second & 0x7f
        if count == 126:
            count = struct.unpack(">H", self.take(2, until))[0]
        elif count == 127:
            count = struct.unpack(">Q", self.take(8, until))[0]
        return first & 0x0f, self.take(count, until)

    def message(self, seconds=WAIT_S):
        """The next reply, push or ping ({}); pings are not answered."""
        until = time.monotonic() + seconds
        while not self.messages:
            opcode, payload = self.frame(until - time.monotonic())
            assert opcode == TEXT, (opcode, payload)
            text = payload.decode()
            assert "\n\n" not in text
            self.messages += [json.loads(one) for one in text.split("\n")]
        return self.messages.pop(0)

    def reply(self, number, seconds=WAIT_S):
        """The reply to command `number`; pushes on the way are kept in order."""
        until = time.monotonic() + seconds
        while True:
            message = self.message(until - time.monotonic())
            if "push" in message:
                self.pushes.append(message["push"])
            elif message:
                assert message["id"] == number, (number, message)
                return message

    def ask(self, method, request=None):
        self.number += 1
        self.send({"id": self.number, method: request or {}})
        return self.reply(self.number)

    def connect(self, token=None, **more):
        reply = self.ask("connect", ({"token": token} if token else {}) | more)
        assert "connect" in reply, reply
        return reply["connect"]

    def rpc(self, command, **data):
        reply = self.ask("rpc", {"method": command, "data": data})
        assert "rpc" in reply, reply
        return reply["rpc"]["data"]

    def push(self, fits=lambda p: True, seconds=WAIT_S):
        """The next push that fits; others before it are dropped."""
        until = time.monotonic() + seconds
        while True:
            while self.pushes:
                push = self.pushes.pop(0)
                if fits(push):
                    return push
            message = self.message(until - time.monotonic())
            if "push" in message:
                self.pushes.append(message["push"])

    def goodbye(self, seconds=WAIT_S):
        """Until the end. ((code, reason) of the close frame or None, frames before it)."""
        until = time.monotonic() + seconds
        before = []
        code = None
        try:
            while True:
                opcode, payload = self.frame(until - time.monotonic())
                if opcode == CLOSE:
                    code = (struct.unpack(">H", payload[:2])[0], payload[2:].decode())
                else:
                    before.append((opcode, payload))
        except Ended:
            return code, before
