"""What is fuzzed. Each target states its invariant in one sentence, and raises AssertionError, or anything, where it breaks."""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path

from sower.config import Server
from sower.config_file import parse
from sower.core.message import Position
from sower.dialects.ably import serials
from sower.errors import BadUpgrade, ConfigError, SowerError
from sower.net.frames import Compression, Inbound, WebSocketFraming
from sower.net.handshake import accept
from sower.net.heads import Heads
from sower.net.http import Request, decode_segment
from sower.net.parser import RequestParser
from sower.net.proxies import Trusted, parse_header
from sower.net.sockjs import SOCKJS
from sower.quantities import (
    parse_duration,
    parse_rate,
    parse_size,
    show_duration,
    show_rate,
    show_size,
)
from tests.fuzz import credentials, dialects
from tests.fuzz.house import sane

LIMIT = 4096
FRAMING = WebSocketFraming(Compression(inbound=True, outbound=False))
SETTINGS = Server()
TRUSTED = Trusted(("10.0.0.0/8", "::1", "unix"))
NOWHERE = Path("/nonexistent/sower.toml")
CORPUS = Path(__file__).parent / "corpus"


def frames(data: bytes) -> None:
    """With a parser or without, whole or byte by byte, the same messages come out, none over its limit, and never an exception."""
    whole = Inbound(LIMIT, inflates=True)
    heard = [(m.is_text, m.payload) for m in whole.feed(data)]
    assert all(len(payload) <= LIMIT for _, payload in heard)
    cut = Inbound(LIMIT, inflates=True)
    pieces: list[tuple[bool, bytes]] = []
    for at in range(len(data)):
        if cut.ended:
            break
        pieces += [(m.is_text, m.payload) for m in cut.feed(data[at : at + 1])]
    assert pieces == heard
    assert cut.ended == whole.ended
    alone = FRAMING.whole(data, LIMIT)
    assert alone is None or (heard, whole.resting) == ([(alone.is_text, alone.payload)], True)


def http(data: bytes) -> None:
    """Whole, byte by byte or by heads that are known, the same requests are read up to the same fault, and each has a length that is allowed."""
    whole, cut = parsed(data, len(data) or 1), parsed(data, 1)
    for request in whole.requests:
        assert len(request.body) <= SETTINGS.max_body
        assert len(request.target) <= SETTINGS.max_uri
        try:
            assert isinstance(request.query, dict)
            decode_segment(request.path)
        except SowerError:
            pass
    assert told(whole.requests) == told(cut.requests)
    heads = Heads(SETTINGS)
    heads.learn(data, whole)
    for upto in range(len(data) + 1):
        known = heads.read(data[:upto], "127.0.0.1")
        if known is not None:
            alone = parsed(data[:upto], upto)
            assert (told([known]), alone.left, alone.whole) == (told(alone.requests), None, True)


def parsed(data: bytes, size: int) -> RequestParser:
    """What a parser makes of it in pieces of this size."""
    parser = RequestParser(SETTINGS, "127.0.0.1")
    for at in range(0, len(data), size):
        if parser.fault is None and parser.left is None:
            parser.feed(data[at : at + size])
    return parser


def told(requests: Iterable[Request]) -> list[tuple[str, str, dict[str, str], bytes]]:
    """What requests say."""
    return [(r.method, r.target, dict(r.headers), r.body) for r in requests]


def handshake(data: bytes) -> None:
    """Headers, one a line, are refused with bad_upgrade, or answered with a whole 101 that promises what the daemon does."""
    fields = (line.partition(":") for line in data.decode("latin-1").replace("\r", "").replace("\0", "").split("\n"))
    try:
        head, agreed = accept({name.lower(): value.strip(" \t") for name, _, value in fields}, ("sower.v1",))
    except BadUpgrade:
        return
    status, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    answer = dict(line.split(b": ", 1) for line in lines)
    assert status == b"HTTP/1.1 101 Switching Protocols"
    assert answer.get(b"Sec-WebSocket-Protocol", b"sower.v1") == b"sower.v1"
    promised = answer.get(b"Sec-WebSocket-Extensions", b"")
    assert promised.startswith(b"permessage-deflate; server_no_context_takeover" if agreed.inbound else b"")
    assert bool(promised) == agreed.inbound
    assert not agreed.outbound or promised.partition(b"server_max_window_bits=")[2][:2] in (b"", b"15")


def proxies(data: bytes) -> None:
    """A PROXY header is awaited until it is whole, whatever comes behind it, and the client that it or X-Forwarded-For names is an address."""
    outcomes = []
    for upto in range(len(data) + 1):
        try:
            outcomes.append(parse_header(data[:upto]))
        except ValueError:
            outcomes.append(ValueError)
    final = next((outcome for outcome in outcomes if outcome is not None), None)
    first = outcomes.index(final)
    assert all(outcome == final for outcome in outcomes[first:])
    if isinstance(final, tuple):
        assert final.length == first
        assert final.address is None or ipaddress.ip_address(final.address)
    ipaddress.ip_address(TRUSTED.client("10.0.0.1", data.decode("latin-1")))


def sockjs(data: bytes) -> None:
    """A body is texts or the end of the session, and a text comes back as it was."""
    inbound = SOCKJS.inbound(LIMIT)
    for message in inbound.feed(data):
        assert len(message.payload) <= LIMIT
        line = SOCKJS.text(message.payload)
        assert line.isascii()
        assert json.loads(line[1:]) == [message.payload.decode()]
    assert inbound.ended == inbound.reply().startswith(b"c[") or not inbound.ended


def positions(data: bytes) -> None:
    """A position that is read is written as it was, but for leading zeros; so is the moment behind it."""
    text = data.decode("utf-8", "surrogateescape")
    where, (written, behind, moment) = serials.read(text), text.partition("~")
    if where != serials.NOWHERE:
        assert serials.position(where).lstrip("0") == written.lstrip("0")
        then = serials.read_moment(text)
        assert then == where._replace(serial=int(moment)) if behind else then == where
        assert serials.read(serials.attached(where, then.serial)) == where
    try:
        position = Position.parse(text)
    except SowerError:
        return
    assert Position.parse(str(position)) == position
    assert position.serial < 10**17
    assert not position.epoch or position.epoch.isalnum()


def config(data: bytes) -> None:
    """A config is read, all its numbers finite, or refused with lines that each name the file."""
    text = data.decode("utf-8", "replace")
    try:
        sane(parse(text, NOWHERE))
    except ConfigError as error:
        told = error.message
    else:
        return
    assert all(line.startswith(str(NOWHERE)) for line in told.split("\n"))


def quantities(data: bytes) -> None:
    """A duration, size or rate is refused with ValueError, or shown as what is read as the same again."""
    text = data.decode("utf-8", "surrogateescape")
    for read, show in ((parse_duration, show_duration), (parse_size, show_size), (parse_rate, show_rate)):
        try:
            value = read(text)
        except ValueError:
            continue
        sane((value,))
        again = read(show(value))  # type: ignore[arg-type]
        assert again == value or math.isclose(again, value, abs_tol=1e-9)  # a duration is a float


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        frames,
        http,
        handshake,
        proxies,
        sockjs,
        positions,
        config,
        quantities,
        dialects.native,
        dialects.native_http,
        dialects.pusher,
        dialects.pusher_http,
        dialects.ably,
        dialects.ably_binary,
        dialects.ably_http,
        dialects.pubnub_http,
        dialects.filters,
        credentials.tokens,
        credentials.claims,
        credentials.cbor,
    )
}
