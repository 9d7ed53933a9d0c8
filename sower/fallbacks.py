"""The ways to a socket route where no WebSocket gets through: SockJS' xhr_streaming and xhr_polling.

    POST {socket's path}/{server}/{session}/xhr_streaming   a response that goes on and on
    POST {socket's path}/{server}/{session}/xhr             a poll: a response as soon as there is something
    POST {socket's path}/{server}/{session}/xhr_send        what the client says

Rule 1: a session begins with the first request that receives; whoever says something before, or after its end, is told.
Rule 2: it counts as one connection of its address, however many requests it is made of.
Rule 3: a client that is not let in is told so in a session of its own, because of a failed request it learns nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import trio

from sower.clients import Clients
from sower.dialects.interface import Dialect, SocketRoute
from sower.errors import BadRequest, NotFound, SowerError, TooManyConnections
from sower.net.http import Request, Response
from sower.net.keepalive import Keepalive
from sower.net.listen import Caps
from sower.net.relay import HEADERS, Relay
from sower.net.routing import Router, Taken, TakingEndpoint
from sower.net.session import Session
from sower.net.sockjs import OPEN, SOCKJS, refusal
from sower.routes import Routes, call_of

NAME = re.compile(r"[\w-]{1,64}\Z", re.ASCII)
"""A server's number and a session's name. pusher-js sends up to 3 digits and 8 characters."""

Name = tuple[str, ...]
"""A session's: the pattern of its route, and the parameters of its path."""


class Fallbacks:
    """The fallbacks of all dialects. nursery: where polls are answered."""

    def __init__(
        self,
        routes: Routes,
        clients: Clients,
        keepalive: Keepalive,
        caps: Caps,
        nursery: trio.Nursery,
    ) -> None:
        self._routes = routes
        self._clients = clients
        self._keepalive = keepalive
        self._caps = caps
        self._nursery = nursery
        self._sessions: dict[Name, Session] = {}

    def install(self, dialect: Dialect, router: Router) -> None:
        """Add three routes for each fallback of a dialect."""
        for route in dialect.fallbacks:
            base = f"{route.pattern}/{{server}}/{{session}}"
            for name, streams in (("xhr_streaming", True), ("xhr", False)):
                router.add(
                    "POST", f"{base}/{name}", TakingEndpoint(partial(self._receive, route, dialect.name, streams))
                )
            router.add("POST", f"{base}/xhr_send", partial(self._send, route))

    def _receive(self, route: SocketRoute, dialect: str, streams: bool, taken: Taken) -> Response | None:
        """One request that receives: of a session that goes on, or the first of one."""
        name = _name(route, taken.params)
        session = self._sessions.get(name)
        if session is not None and isinstance(session.wire, Relay):
            session.heard = True
            session.wire.attach(taken, streams=streams)
            return None
        request = taken.request
        call = call_of(request, taken.params)
        try:
            opened = route.open(call)
            relay = self._relay(name, request.address)
            try:
                session = self._sessions[name] = self._routes.admit(relay, opened, SOCKJS, dialect)
            except SowerError:
                relay.close()
                raise
        except SowerError as error:
            told = self._routes.refused(request.address, request.path, error)
            words = route.refuse(call, told)
            return Response(200, refusal(words.payload, words.code, told.code), HEADERS)
        relay.attach(taken, streams=streams)
        self._clients.came(session, OPEN, b"")
        return None

    def _relay(self, name: Name, address: str) -> Relay:
        """A connection without a request as yet. Raises TooManyConnections, RateLimited."""
        error = self._caps.enter(address, trio.current_time())
        if error is not None:
            raise error

        def ended(address: str) -> None:
            self._caps.leave(address)
            self._sessions.pop(name, None)

        try:
            return Relay(address, ended, self._keepalive, self._nursery)
        except OSError as error:
            self._caps.leave(address)
            raise TooManyConnections(f"There is no file for it: {error.strerror}.", retry_after=5) from error

    def _send(self, route: SocketRoute, request: Request, params: Mapping[str, str]) -> Response:
        """What a client says. Raises NotFound, BadRequest."""
        session = self._sessions.get(_name(route, params))
        if session is None:
            raise NotFound("There is no such session, or it has ended; begin another.")
        session.hear(request.body)
        if session.farewell is not None:
            raise BadRequest(session.farewell.reason)
        return Response(204)


def _name(route: SocketRoute, params: Mapping[str, str]) -> Name:
    """Raises NotFound for what is no session's name."""
    if not all(NAME.match(params[part]) for part in ("server", "session")):
        raise NotFound("A session's path is {server}/{session}: letters, digits, _ and -.")
    return route.pattern, *params.values()
