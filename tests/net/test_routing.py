"""net/routing.py: which endpoint a request is for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sower.errors import BadRequest, MethodNotAllowed, NotFound
from sower.net.http import Request, Response
from sower.net.routing import Router, SocketEndpoint
from sower.net.wire import Wire


async def read(request: Request, params: Mapping[str, str]) -> Response:
    return Response(200)


async def write(request: Request, params: Mapping[str, str]) -> Response:
    return Response(200)


async def talk(wire: Wire, request: Request, params: Mapping[str, str], accepted: bytes, buffered: bytes) -> None:
    return


SOCKET = SocketEndpoint(talk, ("v1",))


@pytest.fixture
def router() -> Router:
    router = Router()
    router.add("GET", "/history/{channel}", read)
    router.add("GET", "/channels", read)
    router.add("GET", "/channels/{channel}", read)
    router.add("POST", "/channels/{channel}", write)
    router.add("POST", "/channels/{channel}/auth", write)
    router.add("GET", "/ws/{channel}", SOCKET)
    return router


def ask(method: str, path: str) -> Request:
    return Request(method, path, {}, b"", address="127.0.0.1")


def test_the_method_and_the_path_choose_the_endpoint(router: Router) -> None:
    assert router.match(ask("GET", "/channels")) == (read, {})
    assert router.match(ask("POST", "/channels/a")) == (write, {"channel": "a"})
    assert router.match(ask("POST", "/channels/a/auth")) == (write, {"channel": "a"})
    assert router.match(ask("GET", "/ws/a")) == (SOCKET, {"channel": "a"})


def test_a_query_is_no_part_of_the_path(router: Router) -> None:
    assert router.match(ask("GET", "/channels?prefix=/history/a")) == (read, {})


def test_head_is_answered_by_get(router: Router) -> None:
    assert router.match(ask("HEAD", "/channels")).endpoint is read


def test_an_encoded_slash_stays_in_its_segment(router: Router) -> None:
    assert router.match(ask("GET", "/history/a%2Fb")).params == {"channel": "a/b"}
    assert router.match(ask("GET", "/history/%5Bmeta%5Dactivity")).params == {"channel": "[meta]activity"}


def test_a_segment_that_is_no_utf8_is_refused(router: Router) -> None:
    with pytest.raises(BadRequest):
        router.match(ask("GET", "/history/%ff"))


@pytest.mark.parametrize("path", ["/", "/histor/a", "/history", "/history/a/b", "/channels/", "//channels", "/..", ""])
def test_another_path_is_not_found_unless_a_segment_is_merely_empty(router: Router, path: str) -> None:
    if path == "/channels/":
        assert router.match(ask("GET", path)).params == {"channel": ""}
    else:
        with pytest.raises(NotFound):
            router.match(ask("GET", path))


def test_the_nearest_route_is_named(router: Router) -> None:
    with pytest.raises(NotFound, match=r"The nearest is /history/\{channel\}\."):
        router.match(ask("GET", "/histroy/chat"))
    with pytest.raises(NotFound) as caught:
        router.match(ask("GET", "/entirely-elsewhere-and-far/" + "x" * 8000))
    assert "nearest" not in str(caught.value)


def test_a_wrong_method_names_the_right_ones(router: Router) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        router.match(ask("DELETE", "/channels/a"))
    assert caught.value.allow == ("GET", "POST")
