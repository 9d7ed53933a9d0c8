"""What is decided about a request without a socket: whose it is, who may read its answer, and its words.

A site is a router and its settings. After a reload there is another one; who is connected stays with the one it met.

Rule 1: an error of an endpoint is answered and logged here; the daemon lives on.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, NamedTuple

import msgspec
import structlog

from sower.config import Server
from sower.errors import BadUpgrade, Draining, OriginRefused, SowerError
from sower.net.handshake import accept
from sower.net.heads import Heads
from sower.net.http import Header, Request, Response
from sower.net.parser import RequestParser
from sower.net.routing import Router, SocketEndpoint, TakingEndpoint

log = structlog.get_logger(__name__)

ANY_ORIGIN: tuple[Header, ...] = (("Access-Control-Allow-Origin", "*"),)
"""What lets a page read why its request could not be read; whose page it was is not known then."""

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


TAKERS = (SocketEndpoint, TakingEndpoint)


class Terms(NamedTuple):
    """How a request wants its answer.

    keep_alive: whether another request may follow
    cut:        whether none can be read behind it, whatever the client wants
    head_only:  whether the body is left out
    more:       the headers that every answer to it has besides its own
    """

    keep_alive: bool = True
    cut: bool = False
    head_only: bool = False
    more: tuple[Header, ...] = ()


USUAL = Terms()


class Begun(msgspec.Struct, frozen=True):
    """A request that was begun, and its answer or what to await for it; None while it is awaited."""

    request: Request
    terms: Terms
    answer: Response | Coroutine[Any, Any, Response] | None


class Taking(msgspec.Struct, frozen=True):
    """A request that takes the connection over, or may do so."""

    request: Request
    terms: Terms
    endpoint: SocketEndpoint | TakingEndpoint
    params: Mapping[str, str]


class Site:
    """What is served to those who come while one config is in force."""

    def __init__(self, router: Router, settings: Server) -> None:
        self.settings = settings
        self.heads = Heads(settings)
        self._router = router
        self._spare: RequestParser | None = None

    def lend(self, address: str) -> RequestParser:
        """A parser for who begins to speak. address: the peer's."""
        parser, self._spare = self._spare, None
        if parser is None:
            return RequestParser(self.settings, address)
        parser.address = address
        return parser

    def take_back(self, parser: RequestParser) -> None:
        """Keep an idle parser for the next who speaks."""
        if self._spare is None and not parser.spent:
            self._spare = parser
        else:
            parser.close()

    def begin(self, request: Request) -> Begun | Taking:
        """Begin a request. What its endpoint does before it first waits is done here."""
        headers = request.headers
        plain = request.keep_alive and not request.upgrade and "origin" not in headers and request.method != "HEAD"
        terms = USUAL if plain else self._terms(request)
        try:
            if not plain and request.method == "OPTIONS" and "origin" in headers:
                return Begun(request, terms, Response(204, headers=PREFLIGHT_HEADERS))
            endpoint, params = self._router.match(request)
            if isinstance(endpoint, TAKERS):
                return Taking(request, terms, endpoint, params)
            return Begun(request, terms, endpoint(request, params))
        except Exception as error:  # noqa: BLE001 - the boundary of a request: its fault is its own
            return Begun(request, terms, failed(request, error))

    def handshake(self, request: Request, endpoint: SocketEndpoint, *, closing: bool) -> bytes:
        """The 101 (RFC 6455 section 4.2.2). Raises BadUpgrade, BadRequest, Draining.

        A page of another origin is turned away over its socket: of a handshake that fails it is not told why, and
        SDKs then try again for ever.
        """
        if not request.upgrade or request.method != "GET" or request.headers.get("upgrade", "").lower() != "websocket":
            raise BadUpgrade()
        _ = request.query  # where it cannot be read that is told now: who opens the socket has no other word for it
        origin = request.headers.get("origin")
        if origin is not None and not origin_allowed(origin, self.settings.origins):
            request.refused = OriginRefused(f"Pages of {origin[:100]!r} may not connect.")
        if closing:
            raise Draining()
        accepted, request.compression = accept(request.headers, endpoint.subprotocols)
        return accepted

    def refusal(self, error: SowerError) -> bytes:
        """The answer to what could not be read."""
        more = ANY_ORIGIN if "*" in self.settings.origins else ()
        return Response.error(error).encode(keep_alive=False, more=more)

    def _terms(self, request: Request) -> Terms:
        origin = request.headers.get("origin")
        allowed = origin is not None and origin_allowed(origin, self.settings.origins)
        more = (("Access-Control-Allow-Origin", origin), ("Vary", "Origin")) if origin is not None and allowed else ()
        return Terms(request.keep_alive, request.upgrade, request.method == "HEAD", more)


def failed(request: Request, error: Exception) -> Response:
    """A refusal as it is; anything else is our fault, logged and told as such."""
    if isinstance(error, SowerError):
        return Response.error(error)
    log.error("request_failed", method=request.method, path=request.path, exc_info=error)
    return Response.error(SowerError())


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
