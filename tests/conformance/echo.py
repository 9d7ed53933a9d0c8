"""A server that says every message back: Sower's own listener, handshake, frames and sessions, and nothing above them."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio

from sower.config import Limits, Server
from sower.core.answer import SocketAnswer, Watched
from sower.core.command import SocketCommand
from sower.core.grants import anonymous
from sower.core.message import Delivery, Position
from sower.dialects.interface import Named
from sower.errors import SowerError
from sower.net.frames import Compression, WebSocketFraming
from sower.net.framing import Farewell, FramedAudience
from sower.net.http import Request
from sower.net.keepalive import Keepalive
from sower.net.listen import Caps, accept_loop, bind
from sower.net.reader import Reader
from sower.net.routing import Router, SocketEndpoint
from sower.net.server import HttpServer
from sower.net.session import Session
from sower.net.shared import Bounds, Shared
from sower.net.site import Site
from sower.net.wire import Wire
from sower.tally import Tally

MIB = 1024 * 1024

BOUNDS = Bounds(
    backlog=64 * MIB,
    backlog_age=60.0,
    ping_every=600.0,
    pong_within=600.0,
    message_within=600.0,
    sleep_after=2.0,
    message=16 * MIB,
    violations=10,
)
"""The suite's largest messages are 16 MiB, said back whole."""


class Echoed(NamedTuple):
    """A message that was heard."""

    payload: bytes
    is_text: bool


class Echo:
    """The conversation, the encoder and the door of all sockets at once."""

    is_text = True
    longest = 0
    now = 0.0

    def greeting(self, session: Named) -> bytes:
        return b""

    def begin(self) -> Sequence[SocketCommand]:
        return ()

    def receive(self, session: Named, payload: bytes, *, is_text: bool) -> Sequence[Echoed]:
        return (Echoed(payload, is_text),)

    def perform(self, session: Session, command: Echoed) -> None:
        framing = session.audience.framing
        session.write(framing.text(command.payload) if command.is_text else framing.binary(command.payload))

    def look_again(self, session: Session, after: float) -> None:
        """Nobody is pinged."""

    def count(self, session: Session, frames: int) -> None:
        """Nobody is too fast."""

    def answer(self, session: Named, command: SocketCommand, answer: SocketAnswer) -> bytes:
        return b""

    def refuse(self, command: SocketCommand | None, error: SowerError) -> bytes:
        return b""

    def ends(self, command: SocketCommand | None) -> bool:
        return True

    def close(self, error: SowerError) -> int:
        return error.close

    def tell(self, word: Watched) -> bytes:
        return b""

    def gap(self, channel: str, since: Position, position: Position) -> bytes:
        return b""

    def encode(self, channel: str, delivery: Delivery) -> bytes:
        return b""


@asynccontextmanager
async def echoing() -> AsyncGenerator[int]:
    """A server for as long as the block runs. Yields its port."""
    echo = Echo()
    caps, router = Caps(Limits()), Router()
    (listener,) = await bind(["127.0.0.1:0"])
    async with trio.open_nursery() as nursery:
        reader = Reader(_went)
        shared = Shared(echo, BOUNDS, nursery, Tally())  # type: ignore[arg-type]
        audiences: dict[Compression, FramedAudience] = {}

        def open_socket(
            wire: Wire, request: Request, params: Mapping[str, str], accepted: bytes, buffered: bytes
        ) -> None:
            framing = WebSocketFraming(request.compression)
            audience = audiences.setdefault(request.compression, FramedAudience(echo, framing, "echo"))
            session = Session(wire, random.getrandbits(48), anonymous("1", "k", None), echo, audience, shared)  # type: ignore[arg-type]
            reader.add(session)
            session.begin(accepted)
            farewell = session.hear(buffered) if buffered else None
            if farewell is not None:
                reader.end(session, farewell)

        router.add("GET", "/", SocketEndpoint(open_socket))
        server, site = HttpServer(nursery, Keepalive(lambda: 0.0)), Site(router, Server())
        nursery.start_soon(reader.run)
        nursery.start_soon(server.run)
        nursery.start_soon(accept_loop, listener, lambda wire: server.add(wire, site), caps)
        yield listener.port
        nursery.cancel_scope.cancel()
    listener.close()


def _went(session: Session, farewell: Farewell) -> None:
    session.closed = True
