"""One connection, from its first byte to its last: requests in order, deadlines, and the way over to whoever takes it.

Rule 1: an error of an endpoint is answered and logged here; the daemon lives on.
Rule 2: every wait for a client has a deadline: for a head, for a body, for the next request, for an answer to be read.
Rule 3: requests are begun and answered in their order. Whatever was begun is answered, also where the connection
        ends with it; what is wrong behind good requests is told after their answers.
Rule 4: when this side ends a connection that the client would go on with, it lingers, so that the answer arrives.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine
from typing import Any, Literal, NamedTuple

import structlog
import trio

from sower.config import Server
from sower.errors import BadUpgrade, Draining, HandshakeTimeout, OriginRefused, RequestTimeout, SowerError
from sower.net.handshake import accept
from sower.net.held import GivenBack
from sower.net.http import Header, Request, Response
from sower.net.parser import RequestParser
from sower.net.routing import Router, SocketEndpoint, Taken, TakingEndpoint
from sower.net.wire import READ_AT_ONCE, Wire

log = structlog.get_logger(__name__)

ANY_ORIGIN: tuple[Header, ...] = (("Access-Control-Allow-Origin", "*"),)
"""What lets a page read why its request could not be read; whose page it was is not known then."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

BEGIN_AT_ONCE = 64
"""Requests of one client that are begun before other tasks run: 2 ms of work."""

SEND_WITHIN = 60.0
"""Seconds that a client may take to read one answer. nginx' send_timeout is 60, between two writes."""

LAST_REQUEST_WITHIN = 1.0
"""Seconds in which a request may still come once the daemon ends: a few round trips of a bad network."""

PREFLIGHT_HEADERS: tuple[Header, ...] = (
    ("Access-Control-Allow-Methods", "GET, POST, DELETE, PATCH, OPTIONS"),
    (
        "Access-Control-Allow-Headers",
        "Authorization, Content-Type, Content-Encoding, Accept, X-Requested-With, Last-Event-ID,"
        " X-Ably-Version, X-Ably-ClientId, X-Ably-Lib, Ably-Agent",
    ),
    # Some SDKs ask in this mode. Only their own answers may be read so, and the dashboard's cookie is not sent along.
    ("Access-Control-Allow-Credentials", "true"),
    ("Access-Control-Max-Age", "86400"),
)


Phase = Literal["rest", "head", "body"]
"""What a connection is waited for."""


class Begun(NamedTuple):
    """A request that was begun, and its answer or what to await for it."""

    request: Request
    answer: Response | Coroutine[Any, Any, Response]


class Upgrade(NamedTuple):
    """A request that takes the connection over, and the 101 that says so."""

    request: Request
    endpoint: SocketEndpoint
    params: dict[str, str]
    accepted: bytes


class Taking(NamedTuple):
    """A request that may take the connection over as it is."""

    request: Request
    endpoint: TakingEndpoint
    params: dict[str, str]


class Closing:
    """Tells connections that the daemon ends: those that rest between two requests end soon.

    Not at once: a request may be under way on a connection that was told to go on, and one that is closed without an
    answer stops PubNub's legacy loop for good.
    """

    def __init__(self) -> None:
        self.begun = False
        self.resting: set[trio.CancelScope] = set()

    def begin(self) -> None:
        """No more requests after those that are being answered or are under way."""
        self.begun = True
        soon = trio.current_time() + LAST_REQUEST_WITHIN
        for scope in self.resting:
            scope.deadline = min(scope.deadline, soon)


async def serve_connection(
    wire: Wire,
    router: Router,
    settings: Server,
    *,
    closing: Closing,
    given_back: GivenBack | None = None,
) -> None:
    """Answer requests until the client or a deadline ends it, or an endpoint has taken over.

    The wire stays open; whoever opened it closes it. Raises what a SocketEndpoint raises, nothing of the client's
    making.
    """
    parser = given_back.behind if given_back and given_back.behind else RequestParser(settings, wire.address)
    rested = given_back is not None
    taken = False
    try:
        if given_back is not None:
            await _send(wire, given_back.unsent)
            if not given_back.keep_alive:
                return
        while True:
            try:
                if not await _read(wire, parser, settings, closing, rested):
                    return
            except SowerError as error:
                more = ANY_ORIGIN if "*" in settings.origins else ()
                await _send(wire, Response.error(error).encode(keep_alive=False, more=more))
                await wire.linger()
                return
            while parser.requests:
                begun, taker = _begin_some(parser, router, settings, closing)
                if not await _finish_all(wire, begun, settings, closing):
                    return
                if taker is not None:
                    wire.address = taker.request.address
                if isinstance(taker, Upgrade):
                    await taker.endpoint.open(wire, taker.request, taker.params, taker.accepted, parser.left or b"")
                    return
                if taker is not None:
                    answer = await _let_take(wire, taker, parser, settings)
                    if answer is None:
                        taken = True
                        return
                    if not await _finish_all(wire, deque((Begun(taker.request, answer),)), settings, closing):
                        return
                if parser.requests:
                    await trio.lowlevel.checkpoint()
            rested = True
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
    finally:
        if not taken or parser.idle:
            parser.close()


async def _let_take(wire: Wire, taking: Taking, parser: RequestParser, settings: Server) -> Response | None:
    """The answer to a request that did not take the connection after all."""
    request = taking.request
    behind = None if parser.idle else parser
    try:
        return await taking.endpoint.take(Taken(wire, request, taking.params, behind, allow_origin(request, settings)))
    except Exception as error:  # noqa: BLE001 - the boundary of a request: its fault is its own
        return _failed(request, error)


async def _read(wire: Wire, parser: RequestParser, settings: Server, closing: Closing, rested: bool) -> bool:
    """Feed the parser until a request is whole. False at the end of the connection.

    Raises HandshakeTimeout, RequestTimeout, and the parser's fault.
    """
    phase: Phase | None = None
    deadline = 0.0
    brand_new = not rested
    limits = {"rest": settings.keep_alive, "head": settings.head_timeout, "body": settings.body_timeout}
    while not parser.requests:
        if parser.fault is not None:
            raise parser.fault
        if parser.wants_continue:
            parser.wants_continue = False
            await _send(wire, CONTINUE)
        now_in: Phase = "body" if parser.in_body else "rest" if rested and not parser.in_head else "head"
        if now_in != phase:
            phase = now_in
            within = LAST_REQUEST_WITHIN if phase == "rest" and closing.begun else limits[phase]
            deadline = trio.current_time() + within
        # A new connection has mostly said something by now, and under load one that was answered has, a round of the
        # loop later: then it needs no deadline to wait under.
        if phase == "rest":
            await trio.lowlevel.checkpoint()
        data = wire.recv_now(READ_AT_ONCE) if brand_new or phase == "rest" else None
        brand_new = False
        if data is None:
            data = await _wait(wire, deadline, closing, now_in)
        if not data:
            return False
        parser.feed(data)
    return True


async def _wait(wire: Wire, deadline: float, closing: Closing, phase: Phase) -> bytes:
    """What comes before the deadline; empty at the end, and when a rest was long enough.

    Raises HandshakeTimeout, RequestTimeout.
    """
    data = b""
    with trio.move_on_at(deadline) as scope:
        if phase == "rest":
            closing.resting.add(scope)
        try:
            data = await wire.recv()
        finally:
            closing.resting.discard(scope)
    if scope.cancelled_caught and phase != "rest":
        raise HandshakeTimeout() if phase == "head" else RequestTimeout()
    return data


def _begin_some(
    parser: RequestParser, router: Router, settings: Server, closing: Closing
) -> tuple[deque[Begun], Upgrade | Taking | None]:
    """Begin the requests that wait, in order, up to one that takes the connection over.

    What an endpoint does before it first waits is done here: so pipelined publishes are posted in their order,
    and none waits for the commit of the one before it.
    """
    begun: deque[Begun] = deque()
    while parser.requests and len(begun) < BEGIN_AT_ONCE:
        request = parser.requests.popleft()
        try:
            if request.method == "OPTIONS" and "origin" in request.headers:
                begun.append(Begun(request, Response(204, headers=PREFLIGHT_HEADERS)))
                continue
            endpoint, params = router.match(request)
            if isinstance(endpoint, SocketEndpoint):
                accepted = _handshake(request, endpoint, settings, closing)
                return begun, Upgrade(request, endpoint, params, accepted)
            if isinstance(endpoint, TakingEndpoint):
                return begun, Taking(request, endpoint, params)
            begun.append(Begun(request, endpoint(request, params)))
        except Exception as error:  # noqa: BLE001 - the boundary of a request: its fault is its own
            begun.append(Begun(request, _failed(request, error)))
    return begun, None


async def _finish_all(wire: Wire, begun: deque[Begun], settings: Server, closing: Closing) -> bool:
    """Answer in order. Whether the connection goes on."""
    asked_for_more = goes_on = True
    try:
        while begun:
            request, answer = begun.popleft()
            if not isinstance(answer, Response):
                try:
                    answer = await answer
                except Exception as error:  # noqa: BLE001 - the boundary of a request: its fault is its own
                    answer = _failed(request, error)
            asked_for_more = request.keep_alive
            goes_on = goes_on and not closing.begun and not request.upgrade and answer.status != 500
            await _respond(wire, request, answer, settings, asked_for_more and (goes_on or bool(begun)))
    finally:
        for _, answer in begun:
            if not isinstance(answer, Response):
                answer.close()
    if asked_for_more and not goes_on:
        await wire.linger()
    return asked_for_more and goes_on


def _failed(request: Request, error: Exception) -> Response:
    """A refusal as it is; anything else is our fault, logged and told as such."""
    if isinstance(error, SowerError):
        return Response.error(error)
    log.error("request_failed", method=request.method, path=request.path, exc_info=error)
    return Response.error(SowerError())


async def _respond(wire: Wire, request: Request, response: Response, settings: Server, keep_alive: bool) -> None:
    more = allow_origin(request, settings)
    await _send(wire, response.encode(keep_alive=keep_alive, head_only=request.method == "HEAD", more=more))


def allow_origin(request: Request, settings: Server) -> tuple[Header, ...]:
    """The headers that let a page of an allowed origin read the answer."""
    origin = request.headers.get("origin")
    if origin is None or not origin_allowed(origin, settings.origins):
        return ()
    return (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))


async def _send(wire: Wire, data: bytes) -> None:
    """Send everything. Raises BrokenResourceError, also for a client that does not read."""
    sent = wire.send_now(data)
    if sent == len(data):
        return
    with trio.move_on_after(SEND_WITHIN) as scope:
        await wire.send_all(data[sent:])
    if scope.cancelled_caught:
        raise trio.BrokenResourceError("the client does not read its answer")


def origin_allowed(origin: str, origins: tuple[str, ...]) -> bool:
    """Whether pages of an origin may connect. An entry is "*", an origin, or one with *. before its host."""
    origin = origin.lower()
    for entry in origins:
        if entry == "*" or entry.lower() == origin:
            return True
        scheme, found, host = entry.lower().partition("://*.")
        if found and origin.startswith(f"{scheme}://") and origin.endswith(f".{host}"):
            return True
    return False


def _handshake(request: Request, endpoint: SocketEndpoint, settings: Server, closing: Closing) -> bytes:
    """The 101 (RFC 6455 section 4.2.2). Raises BadUpgrade, OriginRefused, Draining."""
    if not request.upgrade or request.method != "GET" or request.headers.get("upgrade", "").lower() != "websocket":
        raise BadUpgrade()
    origin = request.headers.get("origin")
    if origin is not None and not origin_allowed(origin, settings.origins):
        raise OriginRefused(f"Pages of {origin[:100]!r} may not connect.")
    if closing.begun:
        raise Draining()
    accepted, request.compression = accept(request.headers, endpoint.subprotocols)
    return accepted
