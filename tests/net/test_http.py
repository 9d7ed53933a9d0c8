"""net/http.py: requests as they are read, responses as they are written."""

from __future__ import annotations

import pytest

from sower.errors import (
    BadRequest,
    BadUpgrade,
    ChannelBusy,
    MethodNotAllowed,
    NotAuthorised,
    RateLimited,
    SowerError,
)
from sower.net.http import Request, Response, decode_segment


def request(target: str) -> Request:
    return Request("GET", target, {}, b"", address="127.0.0.1")


def test_a_target_is_a_path_and_a_query() -> None:
    asked = request("/a%2Fb?x=1&y=%C3%A9+z&x=2&empty=")
    assert asked.path == "/a%2Fb"
    assert asked.query == {"x": "2", "y": "é z", "empty": ""}
    assert request("/a").query == {}


@pytest.mark.parametrize("query", ["x=%ff", "&".join(f"x{n}=1" for n in range(201))], ids=["no UTF-8", "201 fields"])
def test_a_query_that_cannot_be_read_is_refused(query: str) -> None:
    with pytest.raises(BadRequest):
        _ = request(f"/a?{query}").query


@pytest.mark.parametrize(
    ("segment", "decoded"), [("plain", "plain"), ("a%2Fb", "a/b"), ("%C3%A9", "é"), ("%25zz", "%zz"), ("a+b", "a+b")]
)
def test_a_segment_is_decoded_as_a_path_is(segment: str, decoded: str) -> None:
    assert decode_segment(segment) == decoded


@pytest.mark.parametrize("segment", ["%ff", "%", "%a", "%zz", "a%2", "%ed%a0%80", "%c0%af"])
def test_a_segment_that_is_no_strict_utf8_is_refused(segment: str) -> None:
    with pytest.raises(BadRequest):
        decode_segment(segment)


def test_a_response_carries_its_length_and_says_whether_it_is_the_last() -> None:
    response = Response(200, b"hello", (("X-A", "b"),))
    assert response.encode(keep_alive=True) == (
        b"HTTP/1.1 200 OK\r\nServer: sower\r\nX-A: b\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert response.encode(keep_alive=False).count(b"Connection: close\r\n") == 1
    assert response.encode(keep_alive=True, head_only=True).endswith(b"Content-Length: 5\r\n\r\n")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: b", "a\nb", "a\x00b", "é"])
def test_a_header_that_is_not_printable_ascii_is_never_built(value: str) -> None:
    with pytest.raises(ValueError, match="not printable ASCII"):
        Response(200, headers=(("X", value),))
    with pytest.raises(ValueError, match="not printable ASCII"):
        Response(200, headers=((value, "X"),))


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (RateLimited(retry_after=1.2), ("Retry-After", "2")),
        (RateLimited(retry_after=0.01), ("Retry-After", "1")),
        (ChannelBusy(), ("Retry-After", "1")),
        (NotAuthorised(), ("WWW-Authenticate", 'Basic realm="sower", charset="UTF-8"')),
        (MethodNotAllowed(allow=("GET", "POST")), ("Allow", "GET, POST")),
        (BadUpgrade(), ("Upgrade", "websocket")),
    ],
)
def test_an_error_brings_the_header_that_goes_with_its_status(error: SowerError, header: tuple[str, str]) -> None:
    response = Response.error(error)
    assert response.status == error.status
    assert header in response.headers
