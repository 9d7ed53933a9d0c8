"""Bytes on a socket, for what no proper client says."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from tests.e2e.daemon import KEY, PATIENCE, Daemon


def masked(first: int, payload: bytes) -> bytes:
    """A client's frame (RFC 6455 section 5.2)."""
    length = len(payload)
    if length < 126:
        head = bytes((first, 0x80 | length))
    elif length < 65536:
        head = bytes((first, 0x80 | 126)) + struct.pack("!H", length)
    else:
        head = bytes((first, 0x80 | 127)) + struct.pack("!Q", length)
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


def text(payload: str) -> bytes:
    return masked(0x81, payload.encode())


class Raw:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.heard = b""

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def until(self, marker: bytes) -> bytes:
        """Everything heard so far, once it holds the marker."""
        with trio.fail_after(PATIENCE):
            while marker not in self.heard:
                part = await self.stream.receive_some()
                assert part, self.heard
                self.heard += part
        return self.heard

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        with trio.fail_after(PATIENCE):
            try:
                while part := await self.stream.receive_some():
                    self.heard += part
            except trio.BrokenResourceError:
                pass
        return self.heard


@asynccontextmanager
async def connection(daemon: Daemon) -> AsyncGenerator[Raw]:
    async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as stream:
        yield Raw(stream)


@asynccontextmanager
async def upgraded(daemon: Daemon, channel: str = "open-room") -> AsyncGenerator[Raw]:
    """A socket after its welcome."""
    async with connection(daemon) as raw:
        await raw.send(
            f"GET /ws/{channel}?key={KEY} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await raw.until(b'"welcome"')
        await raw.until(b"}")
        yield raw


def closes_with(code: int) -> bytes:
    """What a close frame of this code holds."""
    return struct.pack("!H", code)
