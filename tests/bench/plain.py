"""What one would write first: a broadcaster on trio-websocket's server, and a publish route on h11's level of HTTP.

Speaks nchan's routes, so that the same load can be put on it: a WebSocket at /sub/CHANNEL, a POST to /pub/CHANNEL.
"""

from __future__ import annotations

import sys

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_server_stream

followers: dict[str, set[WebSocketConnection]] = {}


async def serve(stream: trio.SocketStream) -> None:
    data = b""
    while True:
        while b"\r\n\r\n" not in data:
            part = await stream.receive_some()
            if not part:
                return
            data += part
        if data.startswith(b"GET"):
            await follow(trio.StapledStream(stream, Replayed(data, stream)))
            return
        head, _, rest = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split()[0])
        while len(rest) < length:
            rest += await stream.receive_some()
        body, data = rest[:length], rest[length:]
        channel = head.split()[1].decode().removeprefix("/pub/")
        await broadcast(channel, body.decode())
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


async def broadcast(channel: str, text: str) -> None:
    async def send(socket: WebSocketConnection) -> None:
        try:
            await socket.send_message(text)
        except ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        for socket in followers.get(channel, ()):
            nursery.start_soon(send, socket)


class Replayed(trio.abc.ReceiveStream):
    """A stream with the bytes that were read of it already."""

    def __init__(self, first: bytes, stream: trio.SocketStream) -> None:
        self._first = first
        self._stream = stream

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        first, self._first = self._first, b""
        return first or await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._stream.aclose()


async def follow(stream: trio.abc.Stream) -> None:
    async with trio.open_nursery() as nursery:
        request = await wrap_server_stream(nursery, stream)
        socket = await request.accept()
        channel = request.path.removeprefix("/sub/")
        followers.setdefault(channel, set()).add(socket)
        try:
            while True:
                await socket.get_message()
        except ConnectionClosed:
            followers[channel].discard(socket)


if __name__ == "__main__":
    trio.run(trio.serve_tcp, serve, int(sys.argv[1]))
