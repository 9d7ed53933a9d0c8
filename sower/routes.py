"""Dialects' routes as endpoints of the HTTP layer: a request becomes a call, a command, an answer, a response."""

from __future__ import annotations

import secrets
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from types import CoroutineType
from typing import Any

import trio

from sower.access import Access
from sower.activity import Activity
from sower.api import Answer, Api
from sower.clients import Clients
from sower.core.grants import Grant
from sower.dialects.interface import (
    Asked,
    Dialect,
    Encoder,
    HttpCall,
    HttpRoute,
    Opened,
    PollRoute,
    Refusal,
    Reply,
    SocketRoute,
    Stream,
    StreamRoute,
)
from sower.errors import SowerError
from sower.net import frames
from sower.net.frames import Compression, WebSocketFraming
from sower.net.framing import FramedAudience, Framing, StreamFraming
from sower.net.http import Request, Response
from sower.net.routing import HttpEndpoint, Router, SocketEndpoint, Taken, TakingEndpoint, When
from sower.net.session import CLOSE_WITHIN, Session
from sower.net.shared import SECRET_DIGITS
from sower.net.sockjs import SockJsFraming
from sower.net.wire import Wire
from sower.polling.polls import Polls

SECRETS_AT_ONCE = 256
"""Sessions' secrets that are drawn at a time: one by one, the system call was a twelfth of letting a client in."""

How = Compression | Stream | SockJsFraming
"""What a connection's framing depends on."""


class Routes:
    """What every endpoint needs."""

    def __init__(
        self,
        access: Access,
        api: Api,
        clients: Clients,
        activity: Activity,
        polls: Polls,
    ) -> None:
        self._polls = polls
        self._access = access
        self._api = api
        self._clients = clients
        self._activity = activity
        self._secrets = _secrets()
        self._audiences: dict[tuple[Encoder, How, str], FramedAudience] = {}

    def install(self, dialect: Dialect, router: Router) -> None:
        """Add all routes of a dialect."""
        for route in dialect.http:
            router.add(route.method, route.pattern, self._http(route), _when(route))
        for route in dialect.sockets:
            router.add("GET", route.pattern, SocketEndpoint(self._socket(route, dialect.name), route.subprotocols))
        for route in dialect.polls:
            router.add("GET", route.pattern, TakingEndpoint(self._poll(route)))
        for route in dialect.streams:
            router.add("GET", route.pattern, TakingEndpoint(self._stream(route, dialect.name)))
        for pattern, reply in dialect.constants:
            router.add("GET", pattern, _constant(_response(reply)))
        if dialect.unserved is not None:
            when, refuse = dialect.unserved
            router.add_unserved(
                lambda request: when(call_of(request, {})),
                lambda request, error: _response(refuse(call_of(request, {}), error)),
            )

    def _audience(self, encoder: Encoder, how: How, dialect: str) -> FramedAudience:
        """The one audience of all connections of a dialect that are told things in the same bytes."""
        audience = self._audiences.get((encoder, how, dialect))
        if audience is None:
            audience = self._audiences[encoder, how, dialect] = FramedAudience(encoder, _framing(how), dialect)
        return audience

    def _http(self, route: HttpRoute) -> HttpEndpoint:
        def endpoint(request: Request, params: Mapping[str, str]) -> Response | Coroutine[Any, Any, Response]:
            call = call_of(request, params)
            try:
                asked = route.decode(call)
                answer = self._api.ask(asked, request.address)
                if not isinstance(answer, CoroutineType):
                    return _response(asked.encode(answer))
            except SowerError as error:
                return _refused(route, call, error)
            return _answered(route, call, asked, answer)

        return endpoint

    def _socket(self, route: SocketRoute, dialect: str):
        def open_socket(
            wire: Wire, request: Request, params: Mapping[str, str], accepted: bytes, buffered: bytes
        ) -> Coroutine[Any, Any, None] | None:
            call = call_of(request, params)
            try:
                if request.refused is not None:
                    raise request.refused
                opened = route.open(call)
                session = self.admit(wire, opened, request.compression, dialect)
            except SowerError as error:
                told = self.refused(wire.address, request.path, error)
                return _turn_away(wire, accepted, route.refuse(call, told), told)
            self._clients.came(session, accepted, buffered)
            return None

        return open_socket

    def _poll(self, route: PollRoute):
        def poll(taken: Taken) -> Response | None:
            request = taken.request
            call = call_of(request, taken.params)
            grant: Grant | None = None
            try:
                polled = route.decode(call)
                grant = self._access.authorise(polled.credentials)
                return self._polls.begin(grant, polled, taken)
            except SowerError as error:
                told = self._access.refusal(request.address, error)
                if told.status in (401, 403, 429):
                    self._activity.refused(grant.app if grant else None, request.address, request.path, told)
                return _refused(route, call, told)

        return poll

    def _stream(self, route: StreamRoute, dialect: str):
        def open_stream(taken: Taken) -> Response | None:
            wire, request = taken.wire, taken.request
            call = call_of(request, taken.params)
            try:
                opened = route.open(call)
                session = self.admit(wire, opened, opened.stream, dialect)
            except SowerError as error:
                told = self.refused(wire.address, request.path, error)
                return _refused(route, call, told)
            head = Response(200, opened.stream.preamble, opened.stream.headers).encode_stream(taken.more)
            try:
                self._clients.streams(session, head)
            except SowerError as error:
                return _refused(route, call, error)
            return None

        return open_stream

    def refused(self, address: str, path: str, error: SowerError) -> SowerError:
        """Note that nobody was let in. Returns what they are told."""
        told = self._access.refusal(address, error)
        self._activity.refused(None, address, path, told)
        return told

    def admit(self, wire: Wire, opened: Opened, how: How, dialect: str) -> Session:
        """A session for whoever is let in. Raises as Access.authorise, and AppFull."""
        grant = self._access.authorise(opened.credentials)
        self._clients.check_room(grant.app)
        if opened.proves_within:
            grant = replace(grant, expires=self._clients.wall + opened.proves_within)
        audience = self._audience(opened.encoder, how, dialect)
        return Session(wire, next(self._secrets), grant, opened.conversation, audience, self._clients.shared)


def _secrets() -> Iterator[int]:
    """A secret for each session."""
    size = SECRET_DIGITS // 2
    while True:
        drawn = secrets.token_bytes(SECRETS_AT_ONCE * size)
        for start in range(0, len(drawn), size):
            yield int.from_bytes(drawn[start : start + size], "big")


def _when(route: HttpRoute) -> When | None:
    when = route.when
    return None if when is None else lambda request: when(call_of(request, {}))


def _constant(response: Response) -> HttpEndpoint:
    def endpoint(request: Request, params: Mapping[str, str]) -> Response:
        return response

    return endpoint


def _framing(how: How) -> Framing:
    if isinstance(how, Compression):
        return WebSocketFraming(how)
    return StreamFraming(how) if isinstance(how, Stream) else how


async def _answered(route: HttpRoute, call: HttpCall, asked: Asked, answer: Coroutine[Any, Any, Answer]) -> Response:
    try:
        return _response(asked.encode(await answer))
    except SowerError as error:
        return _refused(route, call, error)


def _refused(route: HttpRoute | StreamRoute | PollRoute, call: HttpCall, error: SowerError) -> Response:
    return Response.error(error) if route.refuse is None else _response(route.refuse(call, error))


def _response(reply: Reply) -> Response:
    return Response(reply.status, reply.body, reply.headers)


def call_of(request: Request, params: Mapping[str, str]) -> HttpCall:
    """A request as dialects see it."""
    query, search = request.query, request.search
    return HttpCall(request.method, request.path, params, query, request.headers, request.body, search)


async def _turn_away(wire: Wire, accepted: bytes, refusal: Refusal, error: SowerError) -> None:
    """Say why over the socket, because a browser cannot read a failed handshake; then close it. It may be gone."""
    with trio.move_on_after(CLOSE_WITHIN), suppress(trio.BrokenResourceError):
        frame = frames.text if refusal.is_text else frames.binary
        await wire.send_all(accepted + frame(refusal.payload) + frames.close(refusal.code, error.code))
        inbound = frames.Inbound(frames.MAX_REASON)
        while not inbound.ended and (data := await wire.recv()):
            inbound.feed(data)
