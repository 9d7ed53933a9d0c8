"""net/frames.py: what is written once for everybody, and what comes in."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, Protocol

from sower.net import frames
from sower.net.frames import Compression, Inbound
from tests.e2e.raw import masked


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


@given(pieces=PIECES, cuts=st.lists(st.integers(0, 400), max_size=12))
@settings(max_examples=150, deadline=None)
def test_however_the_bytes_are_cut_the_same_messages_come_out(pieces: list[tuple[str, str]], cuts: list[int]) -> None:
    stream, expected = b"", []
    for kind, word in pieces:
        payload = word.encode()
        if kind == "text":
            stream += masked(0x81, payload)
            expected.append((True, payload))
        elif kind == "binary":
            stream += masked(0x82, payload)
            expected.append((False, payload))
        elif kind == "ping":
            stream += masked(0x89, payload[:100])
        else:
            middle = len(payload) // 2
            stream += masked(0x01, payload[:middle]) + masked(0x89, b"between") + masked(0x80, payload[middle:])
            expected.append((True, payload))
    whole = Inbound(1000)
    assert [tuple(m) for m in whole.feed(stream)] == expected
    pongs = whole.reply()
    cut, got = Inbound(1000), []
    places = sorted({min(c, len(stream)) for c in cuts} | {0, len(stream)})
    for begin, end in pairwise(places):
        got += cut.feed(stream[begin:end])
    assert [tuple(m) for m in got] == expected
    assert cut.reply() == pongs
    assert cut.resting


def test_half_a_message_keeps_the_parser() -> None:
    for half in (masked(0x81, b"hello")[:4], masked(0x01, b"hel")):
        inbound = Inbound(1000)
        assert inbound.feed(half) == []
        assert not inbound.resting


def test_what_was_agreed_on_is_read_from_the_extensions() -> None:
    assert Compression.agreed([]) == Compression(False, False)
    assert Compression.agreed([PerMessageDeflate(True, True, 15, 15)]) == Compression(True, True)
    assert Compression.agreed([PerMessageDeflate(True, True, 15, 10)]) == Compression(True, False)
