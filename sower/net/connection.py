"""One connection, from its first byte to its last: requests in order, deadlines, and the way over to a WebSocket.

Rule 1: an error of an endpoint is answered and logged here; the daemon lives on.
Rule 2: every wait has a deadline: for a head, for a body, for the next request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Literal, NamedTuple

import structlog
import trio
from websockets.datastructures import Headers
from websockets.http11 import Request as HandshakeRequest
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from sower.config import Server
from sower.errors import BadUpgrade, HandshakeTimeout, OriginRefused, RequestTimeout, SowerError
from sower.net.frames import OFFER, Compression
from sower.net.http import Header, Request, Response
from sower.net.parser import RequestParser
from sower.net.routing import Match, Router, SocketEndpoint
from sower.net.wire import Wire

log = structlog.get_logger(__name__)

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

PREFLIGHT_HEADERS: tuple[Header, ...] = (
    ("Access-Control-Allow-Methods", "GET, POST, DELETE, PATCH, OPTIONS"),
    (
        "Access-Control-Allow-Headers",
        "Authorization, Content-Type, Content-Encoding, Accept, X-Requested-With",
    ),
    ("Access-Control-Max-Age", "86400"),
)


class Begun(NamedTuple):
    """A request that was begun, and its answer or what to await for it."""

    request: Request
    answer: Response | Coroutine[Any, Any, Response]


class Upgrade(NamedTuple):
    """A request that takes the connection over."""

    request: Request
    endpoint: SocketEndpoint
    params: dict[str, str]


class Closing:
    """Tells connections that the daemon ends: those that rest between two requests end at once."""

    def __init__(self) -> None:
        self.begun = False
        self.resting: set[trio.CancelScope] = set()

    def begin(self) -> None:
        """No more requests after those that are being answered."""
        self.begun = True
        for scope in self.resting:
            scope.cancel()


async def serve_connection(wire: Wire, router: Router, settings: Server, *, closing: Closing) -> None:
    """Answer requests until the client or a deadline ends it, or a WebSocket has taken over and ended.

    The wire stays open; whoever opened it closes it. Raises nothing of the client's making.
    """
    parser = RequestParser(settings, wire.address)
    rested = False
    try:
        while True:
            try:
                if not await _read(wire, parser, settings, closing, rested):
                    return
                begun, upgrade = _begin_all(parser, router, settings)
                if not await _finish_all(wire, begun, settings, closing):
                    return
                if upgrade is not None:
                    await wire.send_all(_handshake(upgrade.request, upgrade.endpoint, settings))
                    await upgrade.endpoint.open(wire, upgrade.request, upgrade.params, parser.left or b"")
                    return
                if parser.fault is not None:
                    raise parser.fault
                if parser.left is not None:
                    return
                rested = True
            except SowerError as error:
                await wire.send_all(Response.error(error).encode(keep_alive=False))
                await wire.linger()
                return
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        return
    finally:
        parser.close()


async def _read(wire: Wire, parser: RequestParser, settings: Server, closing: Closing, rested: bool) -> bool:
    """Feed the parser until a request is whole or nothing can be read. False at the end of the connection."""
    began = trio.current_time()
    phase: Literal["rest", "head", "body"] | None = None
    deadline = began
    while not parser.requests and parser.fault is None:
        now_in = "body" if parser.in_body else "rest" if rested and not parser.in_head else "head"
        if now_in != phase:
            phase = now_in
            limit = {
                "rest": settings.keep_alive,
                "head": settings.head_timeout,
                "body": settings.body_timeout,
            }[phase]
            deadline = trio.current_time() + limit
        data = b""
        with trio.move_on_at(deadline) as scope:
            if phase == "rest":
                if closing.begun:
                    return False
                closing.resting.add(scope)
            try:
                data = await wire.recv()
            finally:
                closing.resting.discard(scope)
        if scope.cancelled_caught:
            if phase == "rest":
                return False
            raise HandshakeTimeout() if phase == "head" else RequestTimeout()
        if not data:
            return False
        parser.feed(data)
        if parser.wants_continue:
            parser.wants_continue = False
            await wire.send_all(CONTINUE)
    return True


def _route(router: Router, request: Request, settings: Server) -> Match | Response:
    """The endpoint, or the answer where there is none to ask."""
    if request.method == "OPTIONS" and "origin" in request.headers:
        return Response(204, headers=PREFLIGHT_HEADERS)
    try:
        match = router.match(request)
    except SowerError as error:
        return Response.error(error)
    if isinstance(match.endpoint, SocketEndpoint):
        origin = request.headers.get("origin")
        if not _is_upgrade(request):
            return Response.error(BadUpgrade())
        if origin is not None and not origin_allowed(origin, settings.origins):
            return Response.error(OriginRefused(f"Pages of {origin[:100]!r} may not connect."))
    return match


def _begin_all(parser: RequestParser, router: Router, settings: Server) -> tuple[deque[Begun], Upgrade | None]:
    """Begin every request that waits, in order, up to one that takes the connection over.

    What an endpoint does before it first waits is done here: so pipelined publishes are posted in their order,
    and none waits for the commit of the one before it.
    """
    begun: deque[Begun] = deque()
    while parser.requests:
        request = parser.requests.popleft()
        match = _route(router, request, settings)
        if isinstance(match, Response):
            begun.append(Begun(request, match))
        elif isinstance(match.endpoint, SocketEndpoint):
            return begun, Upgrade(request, match.endpoint, match.params)
        else:
            try:
                begun.append(Begun(request, match.endpoint(request, match.params)))
            except Exception as error:  # noqa: BLE001 - the boundary of a request: its fault is its own
                begun.append(Begun(request, _failed(request, error)))
    return begun, None


async def _finish_all(wire: Wire, begun: deque[Begun], settings: Server, closing: Closing) -> bool:
    """Answer in order. Whether the connection goes on."""
    try:
        while begun:
            request, answer = begun.popleft()
            if not isinstance(answer, Response):
                try:
                    answer = await answer
                except Exception as error:  # noqa: BLE001 - the boundary of a request: its fault is its own
                    answer = _failed(request, error)
            keep_alive = request.keep_alive and not closing.begun and answer.status < 500
            await _send(wire, request, answer, settings, keep_alive)
            if not keep_alive:
                return False
        return True
    finally:
        for _, answer in begun:
            if not isinstance(answer, Response):
                answer.close()


def _failed(request: Request, error: Exception) -> Response:
    """A refusal as it is; anything else is our fault, logged and told as such."""
    if isinstance(error, SowerError):
        return Response.error(error)
    log.error("request_failed", method=request.method, path=request.path, exc_info=error)
    return Response.error(SowerError())


async def _send(wire: Wire, request: Request, response: Response, settings: Server, keep_alive: bool) -> None:
    more: tuple[Header, ...] = ()
    origin = request.headers.get("origin")
    if origin is not None and origin_allowed(origin, settings.origins):
        more = (("Access-Control-Allow-Origin", origin), ("Vary", "Origin"))
    await wire.send_all(response.encode(keep_alive=keep_alive, head_only=request.method == "HEAD", more=more))


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


def _is_upgrade(request: Request) -> bool:
    return request.upgrade and request.headers.get("upgrade", "").lower() == "websocket"


def _handshake(request: Request, endpoint: SocketEndpoint, settings: Server) -> bytes:
    """The 101 (RFC 6455 section 4.2.2). Raises BadUpgrade."""
    known = [Subprotocol(name) for name in endpoint.subprotocols]
    protocol = ServerProtocol(extensions=[OFFER], subprotocols=known or None, select_subprotocol=_first_known)
    answer = protocol.accept(HandshakeRequest(request.target, Headers(request.headers)))
    if answer.status_code != 101:
        raise BadUpgrade((answer.body or b"").decode(errors="replace").strip().splitlines()[0])
    request.compression = Compression.agreed(protocol.extensions)
    return answer.serialize()


def _first_known(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """A client that offers none, or none that is known, is served without one."""
    known = protocol.available_subprotocols or ()
    return next((name for name in known if name in offered), None)
