"""Many native clients at once, each a socket and a few lines, that come back as an SDK does."""

from __future__ import annotations

import json
import struct
from typing import Any

import trio

from tests.e2e.daemon import KEY


class Follower:
    """One client on one channel. heard: the data of its events; position: where it comes back to."""

    def __init__(self, port: int, channel: str) -> None:
        self._port = port
        self._channel = channel
        self._stream: trio.SocketStream | None = None
        self._buffer = b""
        self._epoch = ""
        self.position = ""
        self.heard: list[Any] = []

    async def connect(self) -> None:
        """Connect, and read up to the welcome."""
        self._stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        since = f"&since={self.position}" if self.position else ""
        await self._stream.send_all(
            f"GET /ws/{self._channel}?key={KEY}{since} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            await self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 "), head
        opcode, payload = await self._frame()
        welcome = json.loads(payload)
        assert (opcode, welcome["type"]) == (1, "welcome"), payload
        self._epoch = welcome["position"].partition(":")[0]
        self.position = self.position or welcome["position"]

    async def follow(self) -> int:
        """Note events until the server closes. Returns the code of its close frame."""
        while True:
            opcode, payload = await self._frame()
            if opcode == 8:
                assert self._stream is not None
                await self._stream.send_all(b"\x88\x82\0\0\0\0" + payload[:2])
                await self._stream.aclose()
                return struct.unpack("!H", payload[:2])[0]
            if opcode == 1:
                self._note(json.loads(payload))

    async def until(self, count: int) -> None:
        """Note events until so many were heard."""
        while len(self.heard) < count:
            opcode, payload = await self._frame()
            assert opcode == 1, (opcode, payload)
            self._note(json.loads(payload))

    def _note(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "event":
            self.heard.append(frame["data"])
            self.position = f"{self._epoch}:{frame['serial']}"
        else:
            assert frame["type"] == "error", frame

    async def _frame(self) -> tuple[int, bytes]:
        while len(self._buffer) < 4:
            await self._receive()
        opcode, length, start = self._buffer[0] & 15, self._buffer[1], 2
        if length == 126:
            length, start = struct.unpack("!H", self._buffer[2:4])[0], 4
        while len(self._buffer) < start + length:
            await self._receive()
        payload, self._buffer = self._buffer[start : start + length], self._buffer[start + length :]
        return opcode, payload

    async def _receive(self) -> None:
        assert self._stream is not None
        part = await self._stream.receive_some()
        assert part, f"the server ended it without a close frame, after {self._buffer!r}"
        self._buffer += part


async def connect_all(followers: list[Follower], at_once: int = 50) -> None:
    """Connect them, so many at a time."""
    limit = trio.CapacityLimiter(at_once)

    async def connect(follower: Follower) -> None:
        async with limit:
            await follower.connect()

    async with trio.open_nursery() as nursery:
        for follower in followers:
            nursery.start_soon(connect, follower)
