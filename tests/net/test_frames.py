"""net/frames.py: what is written once for everybody, and what comes in."""

from __future__ import annotations

import gc
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from sower.net import frames
from sower.net.frames import Compression, Inbound, WebSocketFraming
from sower.net.framing import Farewell
from tests.e2e.raw import masked


def protocols() -> list[Protocol]:
    return [one for one in gc.get_objects() if isinstance(one, Protocol)]


def client() -> Protocol:
    return Protocol(CLIENT, state=OPEN, max_size=None)


@pytest.mark.parametrize("length", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_an_outbound_frame_is_read_by_another_implementation(length: int) -> None:
    peer = client()
    peer.receive_data(frames.text(b"x" * length) + frames.binary(b"y" * length) + frames.PING)
    got = [event for event in peer.events_received() if isinstance(event, Frame)]
    assert [(f.opcode, bytes(f.data)) for f in got] == [
        (Opcode.TEXT, b"x" * length),
        (Opcode.BINARY, b"y" * length),
        (Opcode.PING, b""),
    ]


@pytest.mark.parametrize("length", [10, 511, 512, 5000])
def test_a_deflated_frame_is_read_by_another_implementation_and_small_ones_stay_plain(length: int) -> None:
    peer = client()
    peer.extensions = [PerMessageDeflate(True, True, 15, 15)]
    frame = frames.deflated_text(b"x" * length)
    peer.receive_data(frame)
    (got,) = peer.events_received()
    assert isinstance(got, Frame)
    assert bytes(got.data) == b"x" * length
    assert bool(frame[0] & 0x40) is (length >= frames.DEFLATE_FROM)


def test_what_does_not_shrink_is_not_deflated() -> None:
    import os

    noise = os.urandom(2000)
    assert frames.deflated_binary(noise) == frames.binary(noise)


def test_a_close_reason_is_cut_at_a_character() -> None:
    frame = frames.close(4000, "ü" * 100)
    assert len(frame) <= 127
    assert frame[4:].decode() == "ü" * 61


PIECES = st.lists(st.tuples(st.sampled_from(["text", "binary", "ping", "fragments"]), st.text(max_size=40)), max_size=6)


def order(inbound: Inbound, chunks: list[bytes]) -> list[object]:
    """What is answered and what is heard, one after the other; pongs that follow each other as one."""
    happened: list[object] = []

    def say(data: bytes) -> None:
        if data and happened and isinstance(happened[-1], bytes):
            data = happened.pop() + data
        if data:
            happened.append(data)

    for chunk in chunks:
        for message in inbound.feed(chunk):
            say(message.owed)
            happened.append((message.is_text, message.payload))
        say(inbound.reply())
    return happened


@given(pieces=PIECES, cuts=st.lists(st.integers(0, 400), max_size=12))
@settings(max_examples=150, deadline=None)
def test_however_the_bytes_are_cut_all_is_heard_and_answered_in_the_same_order(
    pieces: list[tuple[str, str]], cuts: list[int]
) -> None:
    stream = b""
    heard: list[tuple[bool, bytes]] = []
    for kind, word in pieces:
        payload = word.encode()
        if kind == "ping":
            stream += masked(0x89, payload[:100])
        elif kind == "fragments":
            middle = len(payload) // 2
            stream += masked(0x01, payload[:middle]) + masked(0x89, b"between") + masked(0x80, payload[middle:])
        else:
            stream += masked(0x81 if kind == "text" else 0x82, payload)
        if kind != "ping":
            heard.append((kind != "binary", payload))
    whole = order(Inbound(1000), [stream])
    assert [word for word in whole if not isinstance(word, bytes)] == heard
    places = sorted({min(c, len(stream)) for c in cuts} | {0, len(stream)})
    cut = Inbound(1000)
    assert order(cut, [stream[begin:end] for begin, end in pairwise(places)]) == whole
    assert cut.resting


def deflated(text: str) -> bytes:
    peer = PerMessageDeflate(True, True, 15, 15)
    return bytes(peer.encode(Frame(Opcode.TEXT, text.encode())).data)


@given(
    first=st.one_of(st.sampled_from([0x81, 0x82, 0xC1, 0xC2]), st.integers(0, 255)),
    payload=st.one_of(st.text(max_size=300).map(str.encode), st.text(max_size=2000).map(deflated), st.binary()),
    damage=st.sampled_from([lambda data: data, lambda data: data[:-1], lambda data: data + b"\x89", lambda _: b"\x81"]),
    inflates=st.booleans(),
)
@settings(max_examples=300, deadline=None)
def test_a_message_that_is_seen_without_a_parser_is_the_one_that_a_parser_sees(
    first: int, payload: bytes, damage: Callable[[bytes], bytes], inflates: bool
) -> None:
    framing = WebSocketFraming(Compression(inflates, inflates))
    data = damage(masked(first, payload))
    parser = framing.inbound(1000)
    heard = parser.feed(data)
    alone = len(heard) == 1 and parser.resting and not parser.reply_due
    assert framing.whole(data, 1000) == (heard[0] if alone else None)


@pytest.mark.parametrize("size", [0, 5, 200, 70_000])
def test_a_parser_rests_between_two_frames_and_nowhere_within_one(size: int) -> None:
    frame = masked(0x81, b"x" * size)
    head = len(frame) - size
    inbound = Inbound(100_000)
    for place in range(1, len(frame)):
        inbound.feed(frame[place - 1 : place])
        if place <= head + 2 or place == len(frame) - 1:
            assert not inbound.resting, f"{place} bytes of a frame are here"
    inbound.feed(frame[-1:])
    assert inbound.resting


def test_the_beginning_of_a_long_frame_is_no_whole_one_though_it_is_as_long_as_its_length_s_mark_says() -> None:
    piece = masked(0x82, bytes(70_000))[: 2 + 4 + 127]
    assert WebSocketFraming(Compression()).whole(piece, 100_000) is None


@pytest.mark.parametrize(
    "said",
    [masked(0x81, b"a") * 2, masked(0x81, b"hello")[:4], masked(0x01, b"a"), masked(0x83, b""), masked(0x81, b"\xff")],
    ids=["whole messages", "half a frame", "half a message", "a bad frame", "no text"],
)
def test_a_parser_that_is_dropped_is_freed_by_its_counts(said: bytes) -> None:
    gc.collect()
    gc.disable()  # it does not see what was frozen
    try:
        before = len(protocols())
        inbound = Inbound(1000)
        inbound.feed(said)
        assert len(protocols()) == before + 1
        del inbound
        assert len(protocols()) == before
    finally:
        gc.enable()


def test_half_a_message_keeps_the_parser() -> None:
    for half in (masked(0x81, b"hello")[:4], masked(0x01, b"hel")):
        inbound = Inbound(1000)
        assert inbound.feed(half) == []
        assert not inbound.resting


def test_what_was_agreed_on_is_read_from_the_extensions() -> None:
    assert Compression.agreed([]) == Compression(False, False)
    assert Compression.agreed([PerMessageDeflate(True, True, 15, 15)]) == Compression(True, True)
    assert Compression.agreed([PerMessageDeflate(True, True, 15, 10)]) == Compression(True, False)


def test_a_ping_within_a_message_is_answered_before_the_message() -> None:
    inbound = Inbound(1000)
    within = masked(0x01, b"a") + masked(0x89, b"first") + masked(0x89, b"second") + masked(0x80, b"b")
    (message, last) = inbound.feed(within + masked(0x81, b"c") + masked(0x89, b"third"))
    assert (message.payload, message.owed) == (b"ab", b"\x8a\x05first\x8a\x06second")
    assert (last.payload, last.owed) == (b"c", b"")
    assert inbound.reply() == b"\x8a\x05third"


def test_a_close_within_a_message_is_a_close_like_any_other() -> None:
    inbound = Inbound(1000)
    assert inbound.feed(masked(0x01, b"a") + masked(0x88, b"\x03\xe8") + masked(0x80, b"b")) == []
    assert inbound.reply() == b"\x88\x02\x03\xe8"
    assert inbound.farewell == Farewell(1000, "", by_peer=True)


def test_a_message_may_have_many_fragments_but_not_for_ever() -> None:
    inbound = frames.Inbound(64 * 1024)
    whole = masked(0x01, b"a") + masked(0x00, b"b") * 1000 + masked(0x80, b"c")
    assert [len(message.payload) for message in inbound.feed(whole)] == [1002]
    assert not inbound.feed(masked(0x01, b""))
    for _ in range(1100):
        inbound.feed(masked(0x00, b""))
    assert inbound.ended
    assert inbound.farewell.code == 1009
