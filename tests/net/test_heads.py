"""net/heads.py: a head that was read before is read to the same request, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.config import Server
from sower.net.heads import AT_HAND, Heads
from sower.net.parser import RequestParser
from tests.net.served import SETTINGS

PUBLISH = (
    b"POST /apps/1/events?sig=%s HTTP/1.1\r\nHost: h\r\nAccept: */*\r\nContent-Length: %d\r\nX-Lib: node\r\n\r\n%s"
)
FIRST = PUBLISH % (b"0", 2, b"{}")
POLL = b"GET /time/0?tt=%s HTTP/1.1\r\nHost: h\r\nOrigin: https://good.example\r\n\r\n"
LAST = b"DELETE /x%s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s"
PLAIN = (FIRST, POLL % b"0", LAST % (b"0", 1, b"x"))
ADDRESS = "127.0.0.1"


def parse(data: bytes, settings: Server = SETTINGS) -> RequestParser:
    parser = RequestParser(settings, ADDRESS)
    parser.feed(data)
    return parser


def knowing(*datas: bytes, settings: Server = SETTINGS) -> Heads:
    """What has read these before."""
    heads = Heads(settings)
    for data in datas:
        heads.learn(data, parse(data, settings))
    return heads


@pytest.mark.parametrize(
    "data",
    [
        PUBLISH % (b"another", 11, b'{"more":"1"}'[:11]),
        PUBLISH % (b"%22&x=%00", 0, b""),
        POLL % b"17000",
        LAST % (b"/y?z=1", 3, b"\r\n\r"),
    ],
)
def test_the_same_head_with_another_target_and_body_is_read_as_the_parser_reads_it(data: bytes) -> None:
    request = knowing(*PLAIN).read(data, ADDRESS)
    assert request == parse(data).requests[0]


@pytest.mark.parametrize(
    "data",
    [
        FIRST[:-1],
        FIRST + b"G",
        FIRST + FIRST,
        FIRST.replace(b"POST", b"PUT"),
        FIRST.replace(b"POST /", b"POST  /"),
        FIRST.replace(b"HTTP/1.1", b"HTTP/1.0"),
        FIRST.replace(b"/apps", b"http://h/apps"),
        FIRST.replace(b"sig", b"#sig"),
        FIRST.replace(b"sig", b"s\x00g"),
        FIRST.replace(b"sig", "säg".encode()),
        FIRST.replace(b"Length: 2", b"Length: 02"),
        FIRST.replace(b"Length: 2", b"Length: +2"),
        FIRST.replace(b"Length: 2", b"Length: 2 "),
        FIRST.replace(b"node", b"node\r\nContent-Length: 2"),
        FIRST.replace(b"node", b"node\r\nTransfer-Encoding: chunked"),
        FIRST.replace(b"sig", b"s" * int(SETTINGS.max_uri)),
        PUBLISH % (b"0", int(SETTINGS.max_body) + 1, b"x" * (int(SETTINGS.max_body) + 1)),
        b"\r\n" + FIRST,
        POLL.replace(b"%s", b"0") + b"x",
    ],
)
def test_what_is_less_plain_is_left_to_the_parser(data: bytes) -> None:
    assert knowing(*PLAIN).read(data, ADDRESS) is None


@pytest.mark.parametrize("data", PLAIN)
def test_what_has_come_in_part_is_left_to_the_parser_wherever_it_is_cut(data: bytes) -> None:
    heads = knowing(*PLAIN)
    assert [cut for cut in range(len(data)) if heads.read(data[:cut], ADDRESS) is not None] == []
    assert heads.read(data, ADDRESS) is not None


@pytest.mark.parametrize(
    "data",
    [
        FIRST + FIRST,
        FIRST[:-1],
        FIRST.replace(b"X-Lib: node", b"Connection: close"),
        FIRST.replace(b"X-Lib: node", b"Expect: 100-continue"),
        FIRST.replace(b"Host: h\r\n", b""),
        FIRST.replace(b"Content-Length: 2", b"X-Content-Length: 2"),
        FIRST.replace(b"Content-Length: 2", b"X-Content-Length: 2\r\ncontent-length: 2"),
        FIRST.replace(b"node", b"n" * 1100),
        b"POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /ws/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_a_head_that_says_something_about_what_follows_is_not_remembered(data: bytes) -> None:
    assert knowing(data).read(data, ADDRESS) is None


def test_lines_before_a_request_are_no_part_of_its_method() -> None:
    heads = knowing(b"\n\n" + FIRST)
    assert heads.read(b"\n\n" + FIRST, ADDRESS) is None
    assert [request.method for request in parse(b"\n\n" + FIRST).requests] == ["POST"]


def test_no_more_heads_are_remembered_than_are_at_hand() -> None:
    datas = [FIRST.replace(b"node", b"%d" % n) for n in range(AT_HAND + 1)]
    heads = knowing(*datas)
    assert [heads.read(data, ADDRESS) is not None for data in datas] == [False] * AT_HAND + [True]


def test_who_asks_is_whom_a_trusted_proxy_names_and_the_prefix_is_no_part_of_the_path() -> None:
    settings = Server(trusted_proxies=("127.0.0.1",), path_prefix="/live")
    data = b"GET /live/time HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n"
    request = knowing(data, settings=settings).read(data, ADDRESS)
    assert request is not None
    assert (request.address, request.path) == ("192.0.2.7", "/time")
    request = knowing(data, settings=settings).read(data, "198.51.100.1")
    assert request is not None
    assert request.address == "198.51.100.1"


@given(
    st.sampled_from(PLAIN),
    st.lists(
        st.tuples(
            st.integers(0, len(FIRST)),
            st.integers(0, 3),
            st.sampled_from(
                [b"", b"\r\n", b"\n", b"\r", b" ", b":", b"\x00", b"#", b"1", b"/", b"\t", b"\xff", LAST[-8:]]
            ),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_whatever_is_changed_it_is_read_as_the_parser_reads_it_or_left_to_it(
    data: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    for at, dropped, put in changes:
        data = data[:at] + put + data[at + dropped :]
    request = knowing(*PLAIN).read(data, ADDRESS)
    if request is not None:
        parser = parse(data)
        assert parser.whole
        assert list(parser.requests) == [request]
