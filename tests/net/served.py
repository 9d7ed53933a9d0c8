"""An HTTP server for tests: the real connection loop over a real socket pair, with a few endpoints."""

from __future__ import annotations

import math
import socket
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager

import trio

from sower.config import Duration, Server, Size
from sower.errors import ChannelBusy, Forbidden
from sower.net.held import Held
from sower.net.http import Request, Response
from sower.net.keepalive import Keepalive
from sower.net.routing import Router, SocketEndpoint, Taken, TakingEndpoint
from sower.net.server import HttpServer
from sower.net.site import Site
from sower.net.wire import Wire

TICK = 0.02
"""Seconds between two looks at deadlines, so that those of a test are met soon."""

SETTINGS = Server(
    max_head=Size(2048),
    max_uri=Size(512),
    max_body=Size(1000),
    head_timeout=Duration(5),
    body_timeout=Duration(10),
    keep_alive=Duration(75),
    origins=("https://good.example", "https://*.wild.example"),
)


def echo(request: Request, params: Mapping[str, str]) -> Response:
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


async def late(request: Request, params: Mapping[str, str]) -> Response:
    await trio.sleep(1)
    return Response(200, b"late")


async def never(request: Request, params: Mapping[str, str]) -> Response:
    await trio.sleep_forever()
    raise AssertionError


async def fall_silent(
    wire: Wire, request: Request, params: Mapping[str, str], accepted: bytes, buffered: bytes
) -> None:
    await wire.send_all(accepted)
    raise Forbidden("not here")


async def talk(wire: Wire, request: Request, params: Mapping[str, str], accepted: bytes, buffered: bytes) -> None:
    word = b"talking:" if request.refused is None else request.refused.code.encode()
    await wire.send_all(accepted + word + buffered)


class Poll:
    """A held request of a test. ended: whether its client went."""

    def __init__(self) -> None:
        self.held: Held | None = None
        self.gone = trio.Event()

    def went(self) -> None:
        self.gone.set()

    def expired(self) -> Response:
        return Response(200, b"nothing came")

    def answer(self, body: bytes) -> None:
        assert self.held is not None
        self.held.answer(Response(200, body))


class Polls:
    """GET /poll/{how} is held for 30 s; of how = endless, now, crash or stream it is held without end, answered, raises or
    streams. instead: what takes it."""

    def __init__(self) -> None:
        self.instead: Callable[[Taken], Response | None] | None = None
        self.all: list[Poll] = []
        self.more = trio.Event()

    def take(self, taken: Taken) -> Response | None:
        if self.instead is not None:
            return self.instead(taken)
        how = taken.params["how"]
        if how == "now":
            return Response(200, b"at once")
        if how == "crash":
            raise ZeroDivisionError("a bug")
        if how == "stream":
            head = Response(200, b"", (("Content-Type", "text/plain"),)).encode_stream(taken.more)
            taken.wire.send_now(head + b"one two")
            taken.wire.finish()
            return None
        poll = Poll()
        poll.held = taken.hold(poll, math.inf if how == "endless" else 30.0)
        self.all.append(poll)
        self.more.set()
        return None

    async def next(self, number: int = 1) -> Poll:
        """The poll of this number, once it is held."""
        while len(self.all) < number:
            self.more = trio.Event()
            await self.more.wait()
        return self.all[number - 1]


def routes(polls: Polls) -> Router:
    router = Router()
    router.add("GET", "/poll/{how}", TakingEndpoint(polls.take))
    router.add("POST", "/echo", echo)
    router.add("GET", "/name/{name}", name)
    router.add("GET", "/refuse", refuse)
    router.add("GET", "/crash", crash)
    router.add("GET", "/busy", busy)
    router.add("GET", "/split", split)
    router.add("POST", "/headers", headers)
    router.add("GET", "/large", large)
    router.add("GET", "/late", late)
    router.add("GET", "/never", never)
    router.add("GET", "/broken", SocketEndpoint(fall_silent))
    router.add("GET", "/ws/{channel}", SocketEndpoint(talk, ("v1",)))
    return router


class Peer:
    """The client's end. ended: whether the server closed its own."""

    def __init__(self, stream: trio.SocketStream, server: HttpServer, polls: Polls) -> None:
        self.stream = stream
        self.server = server
        self.polls = polls
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
    async with trio.open_nursery() as nursery, trio.SocketStream(trio.socket.from_stdlib_socket(theirs)) as stream:
        keepalive, polls = Keepalive(lambda: 0.0), Polls()
        server = HttpServer(nursery, keepalive)
        peer = Peer(stream, server, polls)

        async def tick() -> None:
            while True:
                await trio.sleep(TICK)
                keepalive.turn()

        wire = Wire(ours, "127.0.0.1", lambda _: peer.ended.set())
        nursery.start_soon(tick)
        nursery.start_soon(server.run)
        server.add(wire, Site(routes(polls), settings))
        yield peer
        nursery.cancel_scope.cancel()
    wire.close()


async def exchange(data: bytes, *, chunks: int = 0, settings: Server = SETTINGS) -> bytes:
    """Send everything (in pieces of so many bytes) and return everything that comes back."""
    with trio.fail_after(60):
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
