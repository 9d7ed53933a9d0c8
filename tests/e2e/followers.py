"""Many native clients at once, each a socket and a few lines, that come back as an SDK does."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

import trio

from tests.e2e.daemon import KEY


class Socket:
    """A WebSocket of a few lines, in the client's role."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._buffer = bytearray()
        self.stream: trio.SocketStream | None = None

    async def open(self, target: str) -> None:
        """Connect and shake hands."""
        self.stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        await self.stream.send_all(
            f"GET {target} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._buffer.clear()
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            await self._receive()
        assert self._buffer.startswith(b"HTTP/1.1 101 "), bytes(self._buffer)
        del self._buffer[: end + 4]

    async def say(self, frame: dict[str, Any]) -> None:
        """Send a frame of JSON, with a mask of zeros."""
        payload = json.dumps(frame).encode()
        length = len(payload)
        head = bytes((0x81, 0x80 | length)) if length < 126 else struct.pack("!BBH", 0x81, 0xFE, length)
        assert self.stream is not None
        await self.stream.send_all(head + bytes(4) + payload)

    async def frame(self) -> tuple[int, bytes]:
        """The opcode and the payload of the next frame. Pings are answered and passed over."""
        while True:
            opcode, payload = await self._next()
            if opcode != 9:
                return opcode, payload
            assert self.stream is not None
            await self.stream.send_all(b"\x8a\x80\0\0\0\0")

    async def _next(self) -> tuple[int, bytes]:
        while len(self._buffer) < 2:
            await self._receive()
        opcode, length, start = self._buffer[0] & 15, self._buffer[1], 2
        if length >= 126:
            start = 4 if length == 126 else 10
            while len(self._buffer) < start:
                await self._receive()
            length = int.from_bytes(self._buffer[2:start], "big")
        while len(self._buffer) < start + length:
            await self._receive()
        payload = bytes(self._buffer[start : start + length])
        del self._buffer[: start + length]
        return opcode, payload

    async def hear(self) -> Any:
        """The next frame of JSON."""
        opcode, payload = await self.frame()
        assert opcode == 1, (opcode, payload)
        return json.loads(payload)

    async def drop(self, how: str = "end") -> None:
        """Be gone: "reset", "end" without a close frame, or "close" with one."""
        assert self.stream is not None
        if how == "reset":
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "close":
            try:
                await self.stream.send_all(b"\x88\x82\0\0\0\0\x03\xe8")
            except trio.BrokenResourceError:
                pass
        await self.stream.aclose()

    async def _receive(self) -> None:
        assert self.stream is not None
        part = await self.stream.receive_some(65536)
        assert part, f"the server ended it without a close frame, after {bytes(self._buffer)!r}"
        self._buffer += part


class Follower(Socket):
    """One client on one channel. heard: the data of its events; position: where it comes back to."""

    def __init__(self, port: int, channel: str, query: str = "") -> None:
        super().__init__(port)
        self.channel = channel
        self._query = query
        self._epoch = ""
        self.position = ""
        self.heard: list[Any] = []

    async def connect(self) -> dict[str, Any]:
        """Connect, and read up to the welcome, which is returned."""
        since = f"&since={self.position}" if self.position else ""
        await self.open(f"/ws/{self.channel}?key={KEY}{since}{self._query}")
        opcode, payload = await self.frame()
        welcome = json.loads(payload)
        assert (opcode, welcome["type"]) == (1, "welcome"), payload
        self._epoch = welcome["position"].partition(":")[0]
        self.position = self.position or welcome["position"]
        return welcome

    async def follow(self) -> int:
        """Note events until the server closes. Returns the code of its close frame."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 8:
                assert self.stream is not None
                await self.stream.send_all(b"\x88\x82\0\0\0\0" + payload[:2])
                await self.stream.aclose()
                return struct.unpack("!H", payload[:2])[0]
            if opcode == 1:
                self._note(json.loads(payload))

    async def until(self, count: int) -> None:
        """Note events until so many were heard."""
        while len(self.heard) < count:
            opcode, payload = await self.frame()
            assert opcode == 1, (opcode, payload)
            self._note(json.loads(payload))

    def _note(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "event":
            self.heard.append(frame["data"])
            self.position = f"{self._epoch}:{frame['serial']}"
        else:
            assert frame["type"] == "error", frame


async def connect_all(followers: list[Follower], at_once: int = 50) -> None:
    """Connect them, so many at a time."""
    limit = trio.CapacityLimiter(at_once)

    async def connect(follower: Follower) -> None:
        async with limit:
            await follower.connect()

    async with trio.open_nursery() as nursery:
        for follower in followers:
            nursery.start_soon(connect, follower)
