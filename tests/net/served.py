"""An HTTP server for tests: the real connection loop over a real socket pair, with a few endpoints."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress

import trio

from sower.config import Duration, Server, Size
from sower.errors import ChannelBusy, Forbidden
from sower.net.connection import Closing, serve_connection
from sower.net.http import Request, Response
from sower.net.routing import Router, SocketEndpoint
from sower.net.wire import Wire

SETTINGS = Server(
    max_head=Size(2048),
    max_uri=Size(512),
    max_body=Size(1000),
    head_timeout=Duration(5),
    body_timeout=Duration(10),
    keep_alive=Duration(75),
    origins=("https://good.example", "https://*.wild.example"),
)


async def echo(request: Request, params: Mapping[str, str]) -> Response:
    return Response(200, request.body or b"nothing", (("Content-Type", "text/plain"),))


async def name(request: Request, params: Mapping[str, str]) -> Response:
    return Response.json({"name": params["name"], "query": request.query})


async def refuse(request: Request, params: Mapping[str, str]) -> Response:
    raise Forbidden("not here")


async def crash(request: Request, params: Mapping[str, str]) -> Response:
    raise ZeroDivisionError("a bug")


async def busy(request: Request, params: Mapping[str, str]) -> Response:
    raise ChannelBusy


async def split(request: Request, params: Mapping[str, str]) -> Response:
    return Response(200, b"", (("X", "a\r\nX-Evil: b"),))


async def headers(request: Request, params: Mapping[str, str]) -> Response:
    return Response.json(dict(request.headers))


async def large(request: Request, params: Mapping[str, str]) -> Response:
    return Response(200, bytes(16 * 1024 * 1024))


async def never(request: Request, params: Mapping[str, str]) -> Response:
    await trio.sleep_forever()
    raise AssertionError


async def fall_silent(wire: Wire, request: Request, params: Mapping[str, str], buffered: bytes) -> None:
    raise Forbidden("not here")


async def talk(wire: Wire, request: Request, params: Mapping[str, str], buffered: bytes) -> None:
    await wire.send_all(b"talking:" + buffered)


def routes() -> Router:
    router = Router()
    router.add("POST", "/echo", echo)
    router.add("GET", "/name/{name}", name)
    router.add("GET", "/refuse", refuse)
    router.add("GET", "/crash", crash)
    router.add("GET", "/busy", busy)
    router.add("GET", "/split", split)
    router.add("POST", "/headers", headers)
    router.add("GET", "/large", large)
    router.add("GET", "/never", never)
    router.add("GET", "/broken", SocketEndpoint(fall_silent))
    router.add("GET", "/ws/{channel}", SocketEndpoint(talk, ("v1",)))
    return router


class Peer:
    """The client's end."""

    def __init__(self, stream: trio.SocketStream, closing: Closing) -> None:
        self.stream = stream
        self.closing = closing
        self.ended = trio.Event()

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def rest(self) -> bytes:
        """Everything until the server closes."""
        data = b""
        while part := await self.stream.receive_some():
            data += part
        return data

    async def read(self, marker: bytes) -> bytes:
        """Everything up to and with a marker."""
        data = b""
        while marker not in data:
            part = await self.stream.receive_some()
            assert part, data
            data += part
        return data


@asynccontextmanager
async def served(settings: Server = SETTINGS) -> AsyncGenerator[Peer]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    wire, closing = Wire(ours, "127.0.0.1"), Closing()
    async with trio.open_nursery() as nursery, trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as stream:
        peer = Peer(stream, closing)

        async def serve() -> None:
            with suppress(Forbidden):  # what `fall_silent` raises; the accept loop is the boundary elsewhere
                await serve_connection(wire, routes(), settings, closing=closing)
            wire.close()
            peer.ended.set()

        nursery.start_soon(serve)
        yield peer
        nursery.cancel_scope.cancel()
    wire.close()


async def exchange(data: bytes, *, chunks: int = 0, settings: Server = SETTINGS) -> bytes:
    """Send everything (in pieces of so many bytes) and return everything that comes back."""
    with trio.fail_after(10):
        async with served(settings) as peer, trio.open_nursery() as nursery:

            async def send() -> None:
                try:
                    for at in range(0, len(data), chunks or len(data)):
                        await peer.send(data[at : at + (chunks or len(data))])
                        await trio.testing.wait_all_tasks_blocked()
                    await peer.stream.send_eof()
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass  # the server had read enough

            nursery.start_soon(send)
            return await peer.rest()
    raise AssertionError
