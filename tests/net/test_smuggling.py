"""Requests that a proxy may read otherwise than the daemon does, against a real daemon over TCP.

Each carries a second request that would publish, with a key that may. Where the first is refused, its connection ends
and nothing was published: whoever hid it there did not get it served. REFUSED is the table of what is answered.
"""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator

import httpx
import pytest
import trio

from tests.e2e.daemon import CONFIG, KEY, PATIENCE, SECRET, Daemon

LIMITS = (
    '\n[limits]\nconnects = "10000/s"\nconnections_per_address = 1000\nrefusals = "10000/s"\npublishes = "10000/s"\n'
)
CHANNEL = "kept-smuggled"
BASIC = base64.b64encode(f"{KEY}:{SECRET}".encode())


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    running = Daemon(tmp_path_factory.mktemp("daemon"), CONFIG + LIMITS)
    trio.run(running.start)
    yield running
    trio.run(running.stop)


def publish(event: str, head: bytes = b"") -> bytes:
    """A request that publishes. head: more of its headers."""
    body = json.dumps({"channel": CHANNEL, "event": event, "data": 1}).encode()
    first = b"POST /events/publish HTTP/1.1\r\nHost: h\r\nAuthorization: Basic " + BASIC + b"\r\n" + head
    return first + b"Content-Length: %d\r\n\r\n" % len(body) + body


def exchange(daemon: Daemon, data: bytes, piece: int) -> bytes:
    """Everything that comes back until the daemon ends the connection."""
    with socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for at in range(0, len(data), piece):
                client.sendall(data[at : at + piece])
            client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the daemon had read enough
        answer = b""
        try:
            while part := client.recv(65536):
                answer += part
        except ConnectionResetError:
            pass
        return answer


def statuses(answer: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


def published(daemon: Daemon) -> set[str]:
    page = httpx.get(f"{daemon.url}/history/{CHANNEL}", params={"limit": "1000"}, auth=(KEY, SECRET), timeout=PATIENCE)
    return {event["event"] for event in page.json()["events"]}


HOST = b"Host: h\r\n"
GET = b"GET /health/live HTTP/1.1\r\n"
HIDDEN = b"@@"
"""Where the second request is in a case; else it is behind it."""


def get(headers: bytes = HOST, *, line: bytes = GET) -> bytes:
    return line + headers + b"\r\n"


def post(headers: bytes, body: bytes = b"") -> bytes:
    return b"POST /events/publish HTTP/1.1\r\n" + HOST + headers + b"\r\n" + body


def chunked(body: bytes, coding: bytes = b"Transfer-Encoding: chunked\r\n") -> bytes:
    return post(coding, body)


LAST = b"0\r\n\r\n"
UPGRADE = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

REFUSED: dict[str, tuple[int, bytes]] = {
    # Two lengths
    "a length and chunks": (400, post(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", LAST)),
    "chunks and a length": (400, post(b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", LAST)),
    "a length of nothing and chunks": (400, post(b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", LAST)),
    "two different lengths": (400, post(b"Content-Length: 0\r\nContent-Length: 400\r\n", HIDDEN)),
    "two equal lengths": (400, post(b"Content-Length: 0\r\nContent-Length: 0\r\n")),
    "a list of lengths": (400, post(b"Content-Length: 0, 400\r\n", HIDDEN)),
    "a list of equal lengths": (400, post(b"Content-Length: 0,0\r\n")),
    "a length with a sign": (400, post(b"Content-Length: +0\r\n")),
    "a length below nothing": (400, post(b"Content-Length: -1\r\n")),
    "a length in hexadecimal": (400, post(b"Content-Length: 0x0\r\n")),
    "a length with a point": (400, post(b"Content-Length: 0.0\r\n")),
    "a length with letters": (400, post(b"Content-Length: 0abc\r\n")),
    "a length with a space in it": (400, post(b"Content-Length: 0 0\r\n")),
    "a length in other digits": (400, post("Content-Length: ٠\r\n".encode())),
    "a length of no digits": (400, post(b"Content-Length: \r\n")),
    "a length beyond 64 bits": (400, post(b"Content-Length: 18446744073709551616\r\n")),
    "a length of a thousand digits": (400, post(b"Content-Length: " + b"9" * 1000 + b"\r\n")),
    "a quoted length": (400, post(b'Content-Length: "0"\r\n')),
    "a length folded onto the next line": (400, post(b"Content-Length:\r\n 0\r\n")),
    # Codings
    "chunks twice": (400, chunked(LAST, b"Transfer-Encoding: chunked, chunked\r\n")),
    "chunks in two headers": (400, chunked(LAST, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
    "chunks and then another coding": (400, chunked(LAST, b"Transfer-Encoding: chunked, identity\r\n")),
    "another coding and then chunks": (400, chunked(LAST, b"Transfer-Encoding: identity, chunked\r\n")),
    "chunks that are deflated": (400, chunked(LAST, b"Transfer-Encoding: gzip, chunked\r\n")),
    "an unknown coding": (400, chunked(LAST, b"Transfer-Encoding: cow\r\n")),
    "no coding": (400, chunked(LAST, b"Transfer-Encoding: identity\r\n")),
    "an empty coding": (400, chunked(LAST, b"Transfer-Encoding:\r\n")),
    "a coding that begins with x": (400, chunked(LAST, b"Transfer-Encoding: xchunked\r\n")),
    "a coding with a parameter": (400, chunked(LAST, b"Transfer-Encoding: chunked;q=0.5\r\n")),
    "a quoted coding": (400, chunked(LAST, b'Transfer-Encoding: "chunked"\r\n')),
    "a coding behind a vertical tab": (400, chunked(LAST, b"Transfer-Encoding: \x0bchunked\r\n")),
    "a coding before a NUL": (400, chunked(LAST, b"Transfer-Encoding: chunked\x00\r\n")),
    "a coding with a list's comma": (400, chunked(LAST, b"Transfer-Encoding: ,chunked\r\n")),
    "a coding behind a space": (400, chunked(LAST, b"Transfer-Encoding : chunked\r\n")),
    "a coding folded onto the next line": (400, chunked(LAST, b"Transfer-Encoding:\r\n chunked\r\n")),
    "a coding hidden in another header": (400, chunked(LAST, b"X: y\r\n Transfer-Encoding: chunked\r\n")),
    "a coding behind a bare carriage return": (400, chunked(LAST, b"X: y\rTransfer-Encoding: chunked\r\n")),
    "a coding behind a bare line feed": (400, chunked(LAST, b"X: y\nTransfer-Encoding: chunked\r\n")),
    "a coding in HTTP/1.0": (400, b"POST /events/publish HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + LAST),
    # Chunks
    "a chunk of no size": (400, chunked(b"\r\n" + LAST)),
    "a chunk of a size below nothing": (400, chunked(b"-1\r\nx\r\n" + LAST)),
    "a chunk of a size with a sign": (400, chunked(b"+1\r\nx\r\n" + LAST)),
    "a chunk of a size with a prefix": (400, chunked(b"0x1\r\nx\r\n" + LAST)),
    "a chunk of a size with an underscore": (400, chunked(b"1_0\r\nx\r\n" + LAST)),
    "a chunk of a size behind a space": (400, chunked(b" 1\r\nx\r\n" + LAST)),
    "a chunk of a size before a space": (400, chunked(b"1 \r\nx\r\n" + LAST)),
    "a chunk of a size beyond 64 bits": (400, chunked(b"10000000000000000\r\nx\r\n" + LAST)),
    "a chunk of a size that is the last one, wrapped around": (400, chunked(b"100000000000000000\r\n\r\n")),
    "a chunk that is longer than its size": (400, chunked(b"1\r\nxyz\r\n" + LAST)),
    "a chunk that is shorter than its size": (400, chunked(b"5\r\nx\r\n" + LAST)),
    "a chunk that ends with a bare line feed": (400, chunked(b"1\r\nx\n" + LAST)),
    "a chunk that ends with a bare carriage return": (400, chunked(b"1\r\nx\r" + LAST)),
    "a size that ends with a bare line feed": (400, chunked(b"1\nx\r\n" + LAST)),
    "a size that ends with a bare carriage return": (400, chunked(b"1\rx\r\n" + LAST)),
    "an extension that ends with a bare line feed": (400, chunked(b"1;a\nx\r\n" + LAST)),
    "an extension with a carriage return in it": (400, chunked(b"1;a\rb\r\nx\r\n" + LAST)),
    "an extension with a NUL in it": (400, chunked(b"1;a\x00b\r\nx\r\n" + LAST)),
    "an extension without its semicolon": (400, chunked(b"1 a=b\r\nx\r\n" + LAST)),
    "an extension that begins a quotation and does not end it": (400, chunked(b'1;a="\r\nx\r\n' + LAST)),
    "the last chunk with a bare line feed": (400, chunked(b"0\n\n")),
    "a trailer without a colon": (400, chunked(b"0\r\nX\r\n\r\n")),
    "a length in a trailer": (400, chunked(b"0\r\nContent-Length: 9\r\n\r\n")),
    "a trailer that is folded": (400, chunked(b"0\r\nX: a\r\n b\r\n\r\n")),
    # Lines and headers
    "bare line feeds": (400, b"GET /health/live HTTP/1.1\nHost: h\n\n"),
    "a bare line feed behind the first line": (400, b"GET /health/live HTTP/1.1\nHost: h\r\n\r\n"),
    "a bare line feed behind a header": (400, get(b"Host: h\nX: y\r\n")),
    "a bare line feed behind the head": (400, GET + HOST + b"\n"),
    "a bare carriage return behind the first line": (400, b"GET /health/live HTTP/1.1\rHost: h\r\n\r\n"),
    "two carriage returns": (400, get(b"Host: h\r\r\n")),
    "a folded header": (400, get(b"X: a\r\n b\r\n" + HOST)),
    "a header folded with a tab": (400, get(b"X: a\r\n\tb\r\n" + HOST)),
    "a first header that is folded": (400, get(b" X: a\r\n" + HOST)),
    "a header without a colon": (400, get(HOST + b"X\r\n")),
    "a header without a name": (400, get(HOST + b": x\r\n")),
    "a space before the colon": (400, get(HOST + b"X : a\r\n")),
    "a tab before the colon": (400, get(HOST + b"X\t: a\r\n")),
    "a name in brackets": (400, get(HOST + b"[X]: a\r\n")),
    "a name that is no ASCII": (400, get(HOST + b"\xc3\xa9: a\r\n")),
    "another request in place of a header": (400, GET + HIDDEN),
    # The first line
    "no version": (400, get(line=b"GET /health/live\r\n")),
    "HTTP/0.9": (400, get(line=b"GET /health/live HTTP/0.9\r\n")),
    "HTTP/1.2": (400, get(line=b"GET /health/live HTTP/1.2\r\n")),
    "HTTP/1.10": (400, get(line=b"GET /health/live HTTP/1.10\r\n")),
    "HTTP/2.0": (400, get(line=b"GET /health/live HTTP/2.0\r\n")),
    "http in small letters": (400, get(line=b"GET /health/live http/1.1\r\n")),
    "words behind the version": (400, get(line=b"GET /health/live HTTP/1.1 HTTP/1.1\r\n")),
    "a space behind the version": (400, get(line=b"GET /health/live HTTP/1.1 \r\n")),
    "tabs in place of spaces": (400, get(line=b"GET\t/health/live\tHTTP/1.1\r\n")),
    "a space before the method": (400, get(line=b" GET /health/live HTTP/1.1\r\n")),
    "a method in small letters": (400, get(line=b"get /health/live HTTP/1.1\r\n")),
    "an unknown method": (400, get(line=b"BREW /health/live HTTP/1.1\r\n")),
    "no method": (400, get(line=b"/health/live HTTP/1.1\r\n")),
    "a space in the target": (400, get(line=b"GET /health live HTTP/1.1\r\n")),
    "a target that is no ASCII": (400, get(line=b"GET /\xc3\xa9 HTTP/1.1\r\n")),
    "a target with a fragment": (400, get(line=b"GET /health/live#x HTTP/1.1\r\n")),
    "an absolute target": (400, get(line=b"GET http://h/health/live HTTP/1.1\r\n")),
    "an absolute target of another host": (400, get(line=b"GET http://evil/health/live HTTP/1.1\r\n")),
    "an absolute target of another scheme": (400, get(line=b"GET gopher://h/ HTTP/1.1\r\n")),
    "a star": (400, get(line=b"OPTIONS * HTTP/1.1\r\n")),
    "an authority": (400, get(line=b"CONNECT h:443 HTTP/1.1\r\n")),
    "no target": (400, get(line=b"GET  HTTP/1.1\r\n")),
    "the preface of HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "a greeting in TLS": (400, b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"),
    "a header of the PROXY protocol": (400, b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + get()),
    # Host
    "no host": (400, get(b"")),
    "two hosts": (400, get(b"Host: h\r\nHost: evil\r\n")),
    "two equal hosts": (400, get(HOST + HOST)),
    "a list of hosts": (400, get(b"Host: h, evil\r\n")),
    "a host with a user": (400, get(b"Host: a@h\r\n")),
    "a host with a path": (400, get(b"Host: h/x\r\n")),
    "a host with a space": (400, get(b"Host: h evil\r\n")),
    "a host that is folded": (400, get(b"Host:\r\n h\r\n")),
    "a host with letters for a port": (400, get(b"Host: h:x\r\n")),
    "two credentials": (400, get(HOST + b"Authorization: Basic YTpi\r\nAuthorization: Basic YTpi\r\n")),
    # Upgrades
    "an upgrade with a length": (400, post(UPGRADE + b"Content-Length: 4\r\n", b"abcd")),
    "an upgrade with chunks": (400, post(UPGRADE + b"Transfer-Encoding: chunked\r\n", LAST)),
    "an upgrade in HTTP/1.0": (400, b"GET /ws/a?key=k HTTP/1.0\r\n" + HOST + UPGRADE + b"\r\n"),
    "an upgrade with a bad key": (426, b"GET /ws/a?key=k HTTP/1.1\r\n" + HOST + UPGRADE.replace(b"dGhl", b"") + b"\r\n"),
    "an upgrade of another version": (426, b"GET /ws/a?key=k HTTP/1.1\r\n" + HOST + UPGRADE.replace(b"13", b"12") + b"\r\n"),
    # Sizes
    "a target that is too long": (414, get(line=b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n")),
    "a query that is too long": (414, get(line=b"GET /?" + b"a" * 40_000 + b" HTTP/1.1\r\n")),
    "a header that is too long": (431, get(HOST + b"X: " + b"a" * 60_000 + b"\r\n")),
    "a header that does not end": (431, GET + HOST + b"X: " + b"a" * 200_000),
    "a name that is too long": (431, get(HOST + b"X" * 60_000 + b": a\r\n")),
    "headers that are too long together": (431, get(HOST + b"".join(b"X%d: %s\r\n" % (n, b"a" * 900) for n in range(90)))),
    "too many headers": (431, get(HOST + b"".join(b"X%d: a\r\n" % n for n in range(101)))),
    "too many of one header": (431, get(HOST + b"X: a\r\n" * 101)),
    "too many trailers": (431, chunked(b"0\r\n" + b"X: a\r\n" * 101 + b"\r\n")),
    "a trailer that does not end": (431, chunked(b"0\r\nX: " + b"a" * 200_000)),
    "a body that is announced as too long": (413, post(b"Content-Length: 1048577\r\n")),
    "a chunk that is announced as too long": (413, chunked(b"100001\r\n" + b"a" * 0x100001 + b"\r\n" + LAST)),
    "chunks that are too long together": (413, chunked(b"8000\r\n%s\r\n" % (b"a" * 0x8000) * 33 + LAST)),
    "an extension that is too long": (431, chunked(b"1;" + b"a" * 200_000 + b"\r\nx\r\n" + LAST)),
    "extensions that are too long together": (431, chunked(b"1;%s\r\nx\r\n" % (b"a" * 2000) * 100 + LAST)),
}  # fmt: skip

SERVED: dict[str, tuple[list[int], bytes]] = {
    "a body of a length": ([400, 200], post(b"Content-Length: 400\r\n", HIDDEN)),
    "a body in a chunk": ([400, 200], chunked(b"190\r\n" + HIDDEN + b"\r\n" + LAST)),
    "a body in a chunk with an extension": ([400, 200], chunked(b"190;a=b\r\n" + HIDDEN + b"\r\n0;c\r\n\r\n")),
    "a body with trailers": ([400, 200], chunked(b"190\r\n" + HIDDEN + b"\r\n0\r\nX: y\r\n\r\n")),
    "a body in thousands of chunks": ([400, 200], chunked(b"1\r\nx\r\n" * 3000 + LAST)),
    "a coding in capital letters": ([400, 200], chunked(LAST, b"TRANSFER-ENCODING: CHUNKED\r\n")),
    "a length with zeros before it": ([400, 200], post(b"Content-Length: 000400\r\n", HIDDEN)),
    "a length between spaces": ([400, 200], post(b"Content-Length: \t 400 \t \r\n", HIDDEN)),
    "a GET with a body": ([200, 200], get(HOST + b"Content-Length: 400\r\n") + HIDDEN),
    "a HEAD": ([200, 200], get(line=b"HEAD /health/live HTTP/1.1\r\n")),
    "empty lines before it": ([200, 200], b"\r\n\r\n" + get()),
    "a header that is like a length": ([200, 200], get(HOST + b"Content_Length: 400\r\nContent-Length-: 400\r\n")),
    "a tab in a header": ([200, 200], get(HOST + b"X: a\tb\r\n")),
    "letters beyond ASCII in a header": ([200, 200], get(HOST + b"X: \xc3\xa9\xff\r\n")),
    "two spaces in the first line": ([200, 200], get(line=b"GET  /health/live  HTTP/1.1\r\n")),
    "another protocol's name before the version": ([200, 200], get(line=b"GET /health/live RTSP/1.1\r\n")),
    "two that are refused alike": ([404, 404, 200], get(line=b"GET /x HTTP/1.1\r\n") * 2),
}
"""Requests with one reading: what is in their bodies is not served, and what is behind them is."""

CONTROLS = [bytes((c,)) for c in (*range(0x20), 0x7F)]
PLACES = {
    "the method": b"G%bET /health/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "the target": b"GET /health%b/live HTTP/1.1\r\n" + HOST + b"\r\n",
    "the query": b"GET /health/live?a%bb HTTP/1.1\r\n" + HOST + b"\r\n",
    "the version": b"GET /health/live HTTP/1.%b1\r\n" + HOST + b"\r\n",
    "a header's name": GET + HOST + b"X%bY: a\r\n\r\n",
    "a header's value": GET + HOST + b"X: a%bb\r\n\r\n",
    "the host": GET + b"Host: h%bi\r\n\r\n",
    "a length": b"POST /events/publish HTTP/1.1\r\n" + HOST + b"Content-Length: 0%b0\r\n\r\n",
    "a coding": b"POST /events/publish HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chun%bked\r\n\r\n" + LAST,
    "a chunk's size": chunked(b"0%b1\r\nx\r\n" + LAST),
    "a chunk's extension": chunked(b"1;a%bb\r\nx\r\n" + LAST),
    "a trailer's value": chunked(b"0\r\nX: a%bb\r\n\r\n"),
}


@pytest.mark.parametrize("piece", [1 << 20, 1], ids=["whole", "byte by byte"])
def test_what_can_be_read_in_two_ways_is_refused_and_nothing_behind_or_within_it_is_served(
    daemon: Daemon, piece: int
) -> None:
    answered: dict[str, object] = {}
    for name, (_, case) in REFUSED.items():
        hidden = publish(f"{name}, {piece}")
        data = case.replace(HIDDEN, hidden) if HIDDEN in case else case + hidden
        if piece > 1 or len(data) < 2000:
            answered[name] = statuses(exchange(daemon, data, piece))
    assert answered == {name: [REFUSED[name][0]] for name in answered}
    assert published(daemon) & {f"{name}, {piece}" for name in REFUSED} == set()


@pytest.mark.parametrize("piece", [1 << 20, 1], ids=["whole", "byte by byte"])
def test_what_has_one_reading_is_answered_and_the_request_behind_it_is_served_once(daemon: Daemon, piece: int) -> None:
    answered: dict[str, object] = {}
    for name, (_, case) in SERVED.items():
        within = publish(f"within {name}, {piece}")
        data = case.replace(HIDDEN, within + b" " * (400 - len(within))) + publish(f"behind {name}, {piece}")
        answered[name] = statuses(exchange(daemon, data, piece))
    assert answered == {name: expected for name, (expected, _) in SERVED.items()}
    events = published(daemon)
    assert events >= {f"behind {name}, {piece}" for name in SERVED}
    assert events & {f"within {name}, {piece}" for name in SERVED} == set()


@pytest.mark.parametrize("place", PLACES)
def test_no_control_character_is_taken_anywhere_but_a_tab_in_a_value(daemon: Daemon, place: str) -> None:
    taken = [
        control
        for control in CONTROLS
        if statuses(exchange(daemon, PLACES[place].replace(b"%b", control) + publish(f"{place} {control!r}"), 1 << 20))
        != [400]
    ]
    allowed = [b"\t"] if place.endswith("value") else []
    assert taken == allowed
    assert published(daemon) & {f"{place} {control!r}" for control in CONTROLS} == {f"{place} {c!r}" for c in allowed}
