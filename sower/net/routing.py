"""Which endpoint a request is for: by method and by the path's segments."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sower.errors import MethodNotAllowed, NotFound, SowerError
from sower.net.held import Held, Waiter
from sower.net.http import Header, Request, Response, decode_segment
from sower.net.wire import Wire

HttpEndpoint = Callable[[Request, Mapping[str, str]], Response | Coroutine[Any, Any, Response]]
"""Called in the order of the requests. What it returns to be awaited takes a task: what need not wait is answered at
once, and what must keep the order of the requests is done before it returns."""

Opening = Callable[[], Coroutine[Any, Any, None] | None]
"""Opens a socket; as SocketEndpoint.open."""


@dataclass(frozen=True, slots=True)
class SocketEndpoint:
    """open: takes the socket; it is given the 101 to send, and the bytes that came behind the request.

    Where it returns something to be awaited, the socket is closed after that.
    """

    open: Callable[[Wire, Request, Mapping[str, str], bytes, bytes], Coroutine[Any, Any, None] | None]
    subprotocols: tuple[str, ...] = ()


class Taken(NamedTuple):
    """A request that may have its connection to itself: those before it are answered, those behind it wait.

    hold: holds it for a waiter, for so many seconds at most
    more: the headers that every answer to this request has besides its own
    """

    wire: Wire
    request: Request
    params: Mapping[str, str]
    hold: Callable[[Waiter, float], Held]
    more: tuple[Header, ...]


@dataclass(frozen=True, slots=True)
class TakingEndpoint:
    """take: answers a request as any other, or returns None; then it has held the request, or it has the socket."""

    take: Callable[[Taken], Response | None]


Endpoint = HttpEndpoint | SocketEndpoint | TakingEndpoint

When = Callable[[Request], bool]
"""Whether a request is one of this endpoint's, where several share a method and a path."""


Refuse = Callable[[Request, SowerError], Response]
"""Words a request that no route takes."""


class _Candidate(NamedTuple):
    endpoint: Endpoint
    when: When | None


class Match(NamedTuple):
    endpoint: Endpoint
    params: Mapping[str, str]


PATHS_AT_HAND = 256
"""Paths whose matches are remembered: a server that publishes has a few, and they are looked up with each request.
One more, and all are forgotten: those that come again are soon known again."""

REST = "..."
"""What the name of a segment ends with that takes all that follow it."""


class _Route:
    __slots__ = ("endpoints", "pattern", "segments", "takes_rest")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.takes_rest = pattern.endswith(REST + "}")
        self.segments = pattern.split("/")[1:]
        self.endpoints: dict[str, list[_Candidate]] = {}

    def endpoint(self, method: str, request: Request) -> Endpoint | None:
        """The endpoint of a request. Where a socket and something else share a path, an upgrade goes to the socket."""
        given = self.endpoints.get(method, ())
        candidates = [c.endpoint for c in given if c.when is None or c.when(request)]
        fitting = (e for e in candidates if isinstance(e, SocketEndpoint) == request.upgrade)
        return next(fitting, next(iter(candidates), None))

    def alone(self, method: str) -> Endpoint | None:
        """The endpoint of all requests with this method, where there is one for all."""
        given = self.endpoints.get(method, ())
        return given[0].endpoint if len(given) == 1 and given[0].when is None else None

    def params(self, given: list[str]) -> dict[str, str] | None:
        """The raw values of the named segments, None where the path is another one."""
        params: dict[str, str] = {}
        if self.takes_rest and len(given) >= len(self.segments):
            before = len(self.segments) - 1
            given = [*given[:before], "/".join(given[before:])]
        if len(given) != len(self.segments):
            return None
        for own, segment in zip(self.segments, given, strict=True):
            if own.startswith("{"):
                params[own[1:-1].removesuffix(REST)] = segment
            elif own != segment:
                return None
        return params


_Found = tuple[_Route, Mapping[str, str], Match | None]


class Router:
    """All routes. A segment written {name} takes any one segment, and a last one written {name...} all that follow."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, int], list[_Route]] = {}
        self._rests: dict[str, list[_Route]] = {}
        self._unserved: list[tuple[When, Refuse]] = []
        self._found: dict[tuple[str, str], _Found] = {}

    def add_unserved(self, when: When, refuse: Refuse) -> None:
        """Have requests of this kind that no route takes refused in these words."""
        self._unserved.append((when, refuse))

    def add(self, method: str, pattern: str, endpoint: Endpoint, when: When | None = None) -> None:
        """Add a route. when: which requests it takes of those that another route has too; None for the others."""
        segments = pattern.split("/")[1:]
        if pattern.endswith(REST + "}"):
            routes = self._rests.setdefault(segments[0], [])
        else:
            routes = self._routes.setdefault((segments[0], len(segments)), [])
        route = next((r for r in routes if r.pattern == pattern), None)
        if route is None:
            route = _Route(pattern)
            routes.append(route)
        candidates = route.endpoints.setdefault(method, [])
        candidates.append(_Candidate(endpoint, when))
        candidates.sort(key=lambda candidate: candidate.when is None)
        self._found.clear()

    def match(self, request: Request) -> Match:
        """The endpoint of a request, or what words that there is none. HEAD is answered by GET, unless that would
        take the connection.

        Raises NotFound, which names the nearest route, MethodNotAllowed, BadRequest.
        """
        try:
            asked = request.method, request.path
            route, params, alone = self._found.get(asked) or self._look_for(*asked)
            return alone or self._choose(route, params, request)
        except (NotFound, MethodNotAllowed) as error:
            refuse = next((refuse for when, refuse in self._unserved if when(request)), None)
            if refuse is None:
                raise
            return Match(_answering(refuse, error), {})

    def _choose(self, route: _Route, params: Mapping[str, str], request: Request) -> Match:
        method = "GET" if request.method == "HEAD" else request.method
        endpoint = route.endpoint(method, request)
        if endpoint is None or (isinstance(endpoint, TakingEndpoint) and method != request.method):
            raise MethodNotAllowed(f"{route.pattern} does not take {method[:20]}.", allow=sorted(route.endpoints))
        return Match(endpoint, params)

    def _look_for(self, method: str, path: str) -> _Found:
        """The route of a path, its parameters, and the match where that hangs on no more. It is remembered."""
        segments = path.split("/")[1:]
        first = segments[0] if segments else ""
        for route in (*self._routes.get((first, len(segments)), ()), *self._rests.get(first, ())):
            params = route.params(segments)
            if params is not None:
                params = {name: decode_segment(value) for name, value in params.items()}
                alone = route.alone(method)
                found = route, params, Match(alone, params) if alone is not None else None
                if len(self._found) >= PATHS_AT_HAND:
                    self._found.clear()
                self._found[method, path] = found
                return found
        raise NotFound(f"There is no route {path[:100]!r}.{self._nearest(path)}")

    def _nearest(self, path: str) -> str:
        patterns = [route.pattern for routes in self._routes.values() for route in routes]
        near = difflib.get_close_matches(path, patterns, n=1, cutoff=0.5)
        return f" The nearest is {near[0]}." if near else ""


def _answering(refuse: Refuse, error: SowerError) -> HttpEndpoint:
    def endpoint(request: Request, params: Mapping[str, str]) -> Response:
        return refuse(request, error)

    return endpoint
