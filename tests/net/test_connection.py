"""net/connection.py and net/parser.py over a real socket: what is answered to what, and when it ends."""

from __future__ import annotations

import json

import msgspec
import pytest
import trio
import trio.testing

from sower.config import Duration, Server, Size
from sower.net.connection import BEGIN_AT_ONCE, LINGER_FOR, SEND_WITHIN
from sower.net.site import origin_allowed
from tests.net.served import SETTINGS, exchange, served

GOOD = {
    "get": b"GET /name/a%2Fb?x=1&x=2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "post": b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    "chunked": b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
    "http/1.0": b"POST /echo HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
    "pipelined": b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\none"
    b"GET /name/two HTTP/1.1\r\nHost: h\r\n\r\n"
    b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nConnection: close\r\n\r\nthree",
    "head": b"HEAD /name/x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "empty lines before it": b"\r\n\r\nGET /name/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    "another upgrade": b"GET /name/a HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
    "trailers": b"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    b"2\r\nhe\r\n0\r\nX-Sum: 1\r\nHost: other\r\n\r\n",
    "more than was announced": b"GET /name/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /crash HTTP/1.1\r\n",
}


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def body(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("which", GOOD)
async def test_a_good_request_gets_the_same_answer_whole_and_byte_by_byte(which: str) -> None:
    whole = await exchange(GOOD[which])
    assert status(whole) == 200
    assert await exchange(GOOD[which], chunks=1) == whole


async def test_segments_are_split_before_they_are_decoded_and_the_last_of_a_query_name_wins() -> None:
    answer = await exchange(GOOD["get"])
    assert json.loads(body(answer)) == {"name": "a/b", "query": {"x": "2"}}


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    answer = await exchange(GOOD["pipelined"])
    assert [answer.find(word) for word in (b"one", b"two", b"three")] == sorted(
        answer.find(word) for word in (b"one", b"two", b"three")
    )
    assert answer.count(b"HTTP/1.1 200 OK") == 3


HOST = b"Host: h\r\n"
TE = b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: "
UPGRADE = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
MALFORMED = {
    "both length headers": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "two lengths": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", 400),
    "a negative length": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: -5\r\n\r\n", 400),
    "a length that is none": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 5x\r\n\r\nhello", 400),
    "a bad chunk size": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nhe\r\n", 400),
    "a chunk longer than it says": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", 400),
    "chunked not last": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
    "a folded header": (b"GET /name/a HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "a bare line feed": (b"GET /name/a HTTP/1.1\nHost: h\n\n", 400),
    "a NUL in a header": (b"GET /name/a HTTP/1.1\r\n" + HOST + b"X: a\x00b\r\n\r\n", 400),
    "a space before the colon": (b"GET /name/a HTTP/1.1\r\n" + HOST + b"X : a\r\n\r\n", 400),
    "no host": (b"GET /name/a HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /name/a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "an unknown method": (b"BREW /name/a HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "no version": (b"GET /name/a\r\n\r\n", 400),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "a segment that is no UTF-8": (b"GET /name/%ff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a query that is no UTF-8": (b"GET /name/a?x=%ff HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "an unknown route": (b"GET /nme/a HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 404),
    "two equal lengths": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    "a list of lengths": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 5, 5\r\n\r\nhello", 400),
    "a signed length": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: +5\r\n\r\nhello", 400),
    "an empty length": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: \r\n\r\nhello", 400),
    "a length that overflows": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n", 400),
    "another coding": (TE + b"gzip, chunked\r\n\r\n0\r\n\r\n", 400),
    "no coding": (TE + b"identity\r\n\r\n", 400),
    "a hidden coding": (TE + b"\x0bchunked\r\n\r\n0\r\n\r\n", 400),
    "chunked twice": (TE + b"chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "chunked in HTTP/1.0": (b"POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "a chunk size with a prefix": (TE + b"chunked\r\n\r\n0x2\r\nhe\r\n0\r\n\r\n", 400),
    "a chunk size that overflows": (TE + b"chunked\r\n\r\n" + b"f" * 17 + b"\r\nhe\r\n", 400),
    "a bare line feed behind a chunk's extension": (TE + b"chunked\r\n\r\n2;a\nhe\r\n0\r\n\r\n", 400),
    "a bare line feed behind a header": (b"GET /name/a HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", 400),
    "a bare carriage return": (b"GET /name/a HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n", 400),
    "a space before the first header": (b"GET /name/a HTTP/1.1\r\n Host: h\r\n\r\n", 400),
    "a header without a name": (b"GET /name/a HTTP/1.1\r\n" + HOST + b": x\r\n\r\n", 400),
    "a host that is none": (b"GET /name/a HTTP/1.1\r\nHost: h/a@b\r\n\r\n", 400),
    "a list of hosts": (b"GET /name/a HTTP/1.1\r\nHost: a, b\r\n\r\n", 400),
    "HTTP/2 in the words of HTTP/1": (b"GET /name/a HTTP/2.0\r\n" + HOST + b"\r\n", 400),
    "a version that does not exist": (b"GET /name/a HTTP/1.2\r\n" + HOST + b"\r\n", 400),
    "an absolute target": (b"GET http://h/name/a HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "an authority as a target": (b"CONNECT h:443 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a star as a target": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a fragment": (b"GET /name/a#b HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a target that is not encoded": (b"GET /name/\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "a broken escape": (b"GET /name/%zz HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 400),
    "an upgrade with a body": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello", 400),
    "an upgrade in HTTP/1.0": (b"GET /ws/a HTTP/1.0\r\n" + HOST + UPGRADE + b"\r\n", 400),
    "a trailer that never ends": (TE + b"chunked\r\n\r\n2\r\nhe\r\n0\r\nX: " + b"a" * 300_000, 431),
    "too many trailers": (TE + b"chunked\r\n\r\n0\r\n" + b"x: 1\r\n" * 120 + b"\r\n", 431),
    "too many of one header": (b"GET /name/a HTTP/1.1\r\n" + HOST + b"x: 1\r\n" * 120 + b"\r\n", 431),
    "a wrong method": (b"DELETE /name/a HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 405),
    "a target too long": (b"GET /name/" + b"a" * 600 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "a head too long": (b"GET /name/a HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 3000 + b"\r\n\r\n", 431),
    "a header that never ends": (b"GET /name/a HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 300_000, 431),
    "too many headers": (b"GET /name/a HTTP/1.1\r\n" + HOST + b"".join(b"x%d: 1\r\n" % n for n in range(120)) + b"\r\n", 431),
    "a body too long": (b"POST /echo HTTP/1.1\r\n" + HOST + b"Content-Length: 1001\r\n\r\n", 413),
    "a chunked body too long": (
        b"POST /echo HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + b"100\r\n" + b"a" * 256 + b"\r\n" * 1
        + (b"100\r\n" + b"a" * 256 + b"\r\n") * 4,
        413,
    ),
    "no upgrade on a socket route": (b"GET /ws/a HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 426),
}  # fmt: skip


@pytest.mark.parametrize("which", MALFORMED)
async def test_what_is_malformed_ambiguous_or_too_large_gets_one_json_error_and_the_connection_ends(which: str) -> None:
    request, expected = MALFORMED[which]
    answer = await exchange(request)
    assert status(answer) == expected, answer
    assert answer.count(b"HTTP/1.1 ") == 1
    error = json.loads(body(answer))["error"]
    assert error["code"]
    assert error["hint"]
    assert b"Content-Type: application/json" in answer


@pytest.mark.parametrize("which", ["an unknown method", "a head too long", "two lengths", "a body too long"])
async def test_what_is_wrong_behind_good_requests_is_told_after_their_answers(which: str) -> None:
    request, expected = MALFORMED[which]
    good = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\none"
    for chunks in (0, 1):
        answer = await exchange(good + request, chunks=chunks)
        assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, expected]


async def test_a_trailer_is_no_header_of_this_request_nor_of_the_next() -> None:
    answer = await exchange(
        b"POST /headers HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nAuthorization: forged\r\n\r\n"
        b"POST /headers HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    )
    assert answer.count(b"HTTP/1.1 200 ") == 2
    assert b"authorization" not in answer


@pytest.mark.parametrize(
    "host", [b"", b"h", b"h:80", b"h:", b"127.0.0.1:8787", b"[::1]:8787", b"a_b.example ", b"h%20"]
)
async def test_a_host_may_have_a_port_be_an_address_or_be_empty(host: bytes) -> None:
    answer = await exchange(b"GET /name/a HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
    assert status(answer) == 200


async def test_an_upgrade_behind_another_request_is_answered_after_it() -> None:
    answer = await exchange(b"GET /name/a HTTP/1.1\r\nHost: h\r\n\r\n" + HANDSHAKE + b"\r\nmore")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 101 " in answer
    assert answer.endswith(b"talking:more")


async def test_an_upgrade_to_something_else_is_ignored_and_the_connection_ends() -> None:
    answer = await exchange(GOOD["another upgrade"])
    assert status(answer) == 200
    assert b"Connection: close\r\n" in answer


async def test_an_error_of_an_open_socket_is_not_answered_in_http() -> None:
    answer = await exchange(HANDSHAKE.replace(b"/ws/a", b"/broken") + b"\r\n")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"not here" not in answer


async def test_a_header_that_would_begin_another_is_a_bug_of_the_endpoint_alone() -> None:
    answer = await exchange(b"GET /split HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"X-Evil" not in answer


async def test_what_was_begun_behind_a_crash_is_answered_and_only_the_last_answer_ends_the_connection() -> None:
    answer = await exchange(
        b"GET /crash HTTP/1.1\r\nHost: h\r\n\r\nPOST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\none"
    )
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [500, 200]
    assert answer.count(b"Connection: close") == 1
    assert answer.endswith(b"one")


async def test_an_answer_does_not_wait_for_the_one_behind_it() -> None:
    with trio.fail_after(60):
        async with served() as peer:
            await peer.send(b"GET /name/a HTTP/1.1\r\nHost: h\r\n\r\nGET /never HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await peer.read(b"}}")).startswith(b"HTTP/1.1 200 ")


async def test_an_answer_that_was_read_slowly_keeps_nobody_from_the_one_behind_it_that_is_awaited_meanwhile(
    mock_clock: trio.testing.MockClock,
) -> None:
    async with served() as peer:
        await peer.send(
            b"".join(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path for path in (b"/name/a", b"/large", b"/late"))
        )
        await trio.testing.wait_all_tasks_blocked()
        assert [connection.state for connection in peer.server.connections] == ["send"]
        await peer.read(bytes(16 * 1024 * 1024))
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1)
        assert (await peer.read(b"late")).startswith(b"HTTP/1.1 200 ")


async def test_a_socket_is_not_opened_while_the_daemon_ends() -> None:
    with trio.fail_after(60):
        async with served() as peer:
            await peer.send(HANDSHAKE)
            await trio.testing.wait_all_tasks_blocked()
            peer.server.begin_closing()
            await peer.send(b"\r\n")
            answer = await peer.rest()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in answer


@pytest.mark.parametrize(("path", "expected"), [(b"/refuse", b""), (b"/busy", b""), (b"/crash", b"Connection: close")])
async def test_only_a_crash_ends_the_connection_of_who_would_go_on(path: bytes, expected: bytes) -> None:
    answer = await exchange(b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (b"Connection: close" in answer) is bool(expected)


async def test_a_204_has_no_length_and_the_next_answer_follows_it() -> None:
    answer = await exchange(
        b"OPTIONS /echo HTTP/1.1\r\nHost: h\r\nOrigin: https://good.example\r\n\r\n"
        b"GET /name/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    )
    first, _, second = answer.partition(b"\r\n\r\n")
    assert b"Content-Length" not in first
    assert second.startswith(b"HTTP/1.1 200 ")


async def test_a_page_may_read_answers_only_where_its_origin_is_allowed() -> None:
    for origin, allowed in ((b"https://a.wild.example", True), (b"https://evil.example", False)):
        answer = await exchange(
            b"GET /name/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nOrigin: " + origin + b"\r\n\r\n"
        )
        assert (b"Access-Control-Allow-Origin: " + origin in answer) is allowed


async def test_an_unknown_route_names_the_nearest_one() -> None:
    assert b"/name/{name}" in await exchange(MALFORMED["an unknown route"][0])


async def test_a_wrong_method_names_the_right_ones() -> None:
    assert b"Allow: GET\r\n" in await exchange(MALFORMED["a wrong method"][0])


async def test_a_refusal_is_json_and_a_crash_is_500_and_ends_this_connection_alone() -> None:
    answer = await exchange(b"GET /refuse HTTP/1.1\r\nHost: h\r\n\r\nGET /crash HTTP/1.1\r\nHost: h\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert b"HTTP/1.1 500 " in answer
    assert b"internal_error" in answer
    assert b"ZeroDivisionError" not in answer


async def test_expect_100_continue_is_answered_before_the_body() -> None:
    with trio.fail_after(60):
        async with served() as peer:
            await peer.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
            assert await peer.read(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await peer.send(b"ok")
            assert (await peer.read(b"ok")).startswith(b"HTTP/1.1 200 ")


async def test_a_100_waits_for_the_answers_before_it_and_is_not_for_http_1_0() -> None:
    one = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\none"
    awaiting = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    answer = await exchange(one + awaiting)
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 100]
    assert await exchange(awaiting.replace(b"HTTP/1.1", b"HTTP/1.0")) == b""


async def test_other_tasks_run_while_one_client_pipelines_hundreds_of_requests() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    with trio.fail_after(60):
        async with served() as peer, trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await peer.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx" * 500 + GOOD["get"])
            answer = await peer.rest()
            nursery.cancel_scope.cancel()
    assert answer.count(b"HTTP/1.1 200 ") == 501
    assert turns >= 500 // BEGIN_AT_ONCE


async def test_a_client_that_does_not_read_its_answer_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with served() as peer:
        await peer.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        await peer.ended.wait()
    assert trio.current_time() >= SEND_WITHIN


async def test_a_slow_client_that_goes_on_reading_has_its_answer_whole(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """16 MiB at 100 KiB a second: nearly three minutes."""
    async with served() as peer:
        await peer.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        heard = 0
        while heard < 16 * 1024 * 1024:
            part = await peer.stream.receive_some(100 * 1024)
            assert part
            heard += len(part)
            await trio.sleep(len(part) / 100 / 1024)


async def test_a_client_that_reads_a_byte_now_and_then_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    async with served() as peer:
        await peer.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n")
        while not peer.ended.is_set():
            await peer.stream.receive_some(1000)
            await trio.sleep(1)
        assert trio.current_time() < 5 * SEND_WITHIN


async def test_who_is_refused_gets_the_answer_though_it_talks_on_but_not_for_ever(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with served() as peer:
        await peer.send(b"BREW / HTTP/1.1\r\n" + b"x" * 100_000)
        assert (await peer.rest()).startswith(b"HTTP/1.1 400 ")
        began = trio.current_time()
        await peer.ended.wait()
        assert 0 < trio.current_time() - began <= LINGER_FOR + 1


FAST = msgspec.structs.replace(
    SETTINGS, head_timeout=Duration(0.05), body_timeout=Duration(0.05), keep_alive=Duration(0.05)
)


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        (b"", b"HTTP/1.1 408 "),
        (b"GET /na", b"HTTP/1.1 408 "),
        (b"GET /name/a HTTP/1.1\r\nHost: h\r\n", b"HTTP/1.1 408 "),
        (b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe", b"HTTP/1.1 408 "),
    ],
    ids=["nothing", "part of a line", "part of a head", "part of a body"],
)
async def test_who_does_not_finish_a_request_in_time_gets_408(begun: bytes, expected: bytes) -> None:
    with trio.fail_after(60):
        async with served(FAST) as peer:
            if begun:
                await peer.send(begun)
            assert (await peer.rest()).startswith(expected)


async def test_a_client_that_sends_a_byte_now_and_then_does_not_move_its_deadline() -> None:
    with trio.fail_after(60):
        async with served(FAST) as peer, trio.open_nursery() as nursery:

            async def drip() -> None:
                for byte in b"GET /name/a HTTP/1.1\r\nX: " + b"a" * 100_000:
                    try:
                        await peer.send(bytes((byte,)))
                    except trio.BrokenResourceError:
                        return
                    with trio.move_on_after(0.005):
                        await peer.ended.wait()

            nursery.start_soon(drip)
            assert (await peer.rest()).startswith(b"HTTP/1.1 408 ")
            nursery.cancel_scope.cancel()


async def test_a_connection_that_rests_too_long_is_closed_without_a_word() -> None:
    with trio.fail_after(60):
        async with served(FAST) as peer:
            await peer.send(b"GET /name/a HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await peer.rest()).count(b"HTTP/1.1 ") == 1


async def test_when_the_daemon_ends_resting_connections_end_and_busy_ones_are_answered() -> None:
    with trio.fail_after(60):
        async with served() as peer:
            await peer.send(b"GET /name/a HTTP/1.1\r\nHost: h\r\n\r\n")
            await peer.read(b"}}")
            await trio.testing.wait_all_tasks_blocked()
            peer.server.begin_closing()
            assert await peer.rest() == b""
        async with served() as peer:
            await peer.send(b"GET /name/a HTTP/1.1\r\n")
            await trio.testing.wait_all_tasks_blocked()
            peer.server.begin_closing()
            await peer.send(b"Host: h\r\n\r\n")
            assert b"Connection: close" in await peer.rest()


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        (b"", b""),
        (b"GET /na", b"HTTP/1.1 503 "),
        (b"GET /name/a HTTP/1.1\r\nHost: h\r\n\r\nGET /na", b"HTTP/1.1 503 "),
    ],
    ids=["nothing", "part of a head", "part of the next head"],
)
async def test_who_has_not_asked_whole_a_moment_after_the_daemon_ends_does_not_hold_it(
    begun: bytes, expected: bytes, autojump_clock: trio.testing.MockClock
) -> None:
    patient = Server(head_timeout=Duration(3600))
    async with served(patient) as peer:
        if begun:
            await peer.send(begun)
        await trio.testing.wait_all_tasks_blocked()
        peer.server.begin_closing()
        last = (await peer.rest()).rpartition(b"HTTP/1.1 ")
        assert (last[1] + last[2]).startswith(expected)
        assert bool(last[2]) == bool(expected)
        await peer.stream.aclose()
        await peer.server.gone()
        assert trio.current_time() < 10


async def test_a_body_that_is_under_way_when_the_daemon_ends_is_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with served() as peer:
        await peer.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhe")
        await trio.testing.wait_all_tasks_blocked()
        peer.server.begin_closing()
        await trio.sleep(SETTINGS.body_timeout / 2)
        await peer.send(b"llo")
        assert (await peer.rest()).endswith(b"hello")


HANDSHAKE = b"GET /ws/a HTTP/1.1\r\n" + HOST + UPGRADE


async def test_a_websocket_handshake_is_answered_and_the_bytes_behind_it_are_kept() -> None:
    answer = await exchange(HANDSHAKE + b"Sec-WebSocket-Protocol: v0, v1\r\n\r\nmore")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in answer
    assert b"Sec-WebSocket-Protocol: v1" in answer
    assert answer.endswith(b"talking:more")


async def test_a_handshake_whose_query_cannot_be_read_is_refused() -> None:
    answer = await exchange(HANDSHAKE.replace(b"/ws/a", b"/ws/a?x=%ff") + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"Connection: close\r\n" in answer


async def test_an_unknown_subprotocol_is_served_without_one() -> None:
    answer = await exchange(HANDSHAKE + b"Sec-WebSocket-Protocol: other\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert b"Sec-WebSocket-Protocol" not in answer


@pytest.mark.parametrize(
    "change",
    [
        (b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Version: 8"),
        (b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b""),
        (b"dGhlIHNhbXBsZSBub25jZQ==", b"short"),
        (b"Upgrade: websocket", b"Upgrade: h2c"),
        (b"GET ", b"HEAD "),
    ],
    ids=["an old version", "no key", "a bad key", "another protocol", "another method"],
)
async def test_a_bad_handshake_is_refused_with_426(change: tuple[bytes, bytes]) -> None:
    answer = await exchange(HANDSHAKE.replace(*change) + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 426 ")
    assert b"Upgrade: websocket\r\n" in answer
    assert b"Connection: close\r\n" in answer


@pytest.mark.parametrize(("origin", "allowed"), [(b"https://good.example", True), (b"https://bad.example", False)])
async def test_pages_of_other_origins_may_not_connect(origin: bytes, allowed: bool) -> None:
    answer = await exchange(HANDSHAKE + b"Origin: " + origin + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 101 "), "a page is not told why a handshake failed"
    assert (b"origin_refused" in answer) is not allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://good.example", True),
        ("HTTPS://GOOD.example", True),
        ("http://good.example", False),
        ("https://good.example.evil", False),
        ("https://a.wild.example", True),
        ("https://wild.example", False),
        ("https://awild.example", False),
        ("null", False),
    ],
)
def test_an_origin_is_allowed_by_name_or_by_subdomain(origin: str, allowed: bool) -> None:
    assert origin_allowed(origin, SETTINGS.origins) is allowed
    assert origin_allowed(origin, ("*",))


async def test_a_preflight_names_what_is_allowed_to_allowed_origins() -> None:
    answer = await exchange(
        b"OPTIONS /echo HTTP/1.1\r\nHost: h\r\nOrigin: https://good.example\r\nConnection: close\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 204 ")
    assert b"Access-Control-Allow-Origin: https://good.example" in answer
    assert b"Access-Control-Allow-Methods: GET, POST" in answer


async def test_a_long_target_that_comes_in_pieces_counts_once() -> None:
    settings = msgspec.structs.replace(SETTINGS, max_uri=Size(3000), max_head=Size(4000))
    for length, status in ((2900, b"200"), (3100, b"414")):
        request = b"GET /name/" + b"x" * (length - 6) + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        answer = await exchange(request, chunks=700, settings=settings)
        assert answer.startswith(b"HTTP/1.1 " + status), answer[:80]


async def test_requests_with_a_known_head_are_answered_as_the_first_ones_were() -> None:
    async with served() as peer:
        for n in (1, 2, 30, 400):
            body = b"x" * n
            await peer.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s" % (n, body))
            assert b"Content-Length: %d\r\n" % n in await peer.read(b"\r\n\r\n" + body)
            assert not peer.server.connections[0].reads
        await peer.send(b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n1234")
        assert b"400 Bad Request" in await peer.rest()
