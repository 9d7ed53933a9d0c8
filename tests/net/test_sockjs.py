"""net/sockjs.py and relay.py: lines, what a client may send, and a session over several responses."""

from __future__ import annotations

import gc
import json

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sower.net.framing import FramedAudience
from sower.net.keepalive import Keepalive
from sower.net.relay import AWAY, FILLER, POLL_MOST, RESPONSE_MOST, Relay
from sower.net.routing import Taken
from sower.net.sockjs import SOCKJS, refusal
from tests.net.served import served
from tests.net.test_session import Plain

POLL = b"GET /poll/%s HTTP/1.1\r\nHost: h\r\n\r\n"


@given(st.text())
def test_a_message_is_one_line_of_ascii_and_the_same_text_at_the_other_end(text: str) -> None:
    text = text.encode(errors="ignore").decode()
    line = SOCKJS.text(text.encode())
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert json.loads(line[1:]) == [text]


@given(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)))
def test_a_body_is_the_texts_that_a_client_put_in_it(texts: list[str]) -> None:
    inbound = SOCKJS.inbound(1000)
    assert [m.payload.decode() for m in inbound.feed(json.dumps(texts).encode())] == texts
    assert not inbound.ended


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"[null]", b'["a"', b'["\xff"]', b"[" * 9000, b'["a"]x'])
def test_anything_else_ends_the_session(body: bytes) -> None:
    inbound = SOCKJS.inbound(1000)
    assert inbound.feed(body) == []
    assert inbound.ended
    assert inbound.reply_due
    assert inbound.reply().startswith(b"c[1007,")


def test_a_message_over_the_limit_ends_the_session() -> None:
    inbound = SOCKJS.inbound(10)
    assert [m.payload for m in inbound.feed(b'["0123456789"]')] == [b"0123456789"]
    assert inbound.feed(b'["0123456789a"]') == []
    assert inbound.farewell.code == 1009


def test_who_is_not_let_in_has_a_whole_session_in_one_answer() -> None:
    kinds = [line[:1] for line in refusal(b"why", 4001, "unknown_key").splitlines()]
    assert kinds == [b"o", b"a", b"c"]
    assert FramedAudience(Plain(), SOCKJS).frame(b"x") == b'a["x"]\n'


class Line:
    """A relay whose requests are those of a served connection."""

    def __init__(self, keepalive: Keepalive, nursery: trio.Nursery) -> None:
        self.closed: list[str] = []
        self.relay = Relay("127.0.0.1", self.closed.append, keepalive, nursery)
        self.streams = False
        self.attached = trio.Event()

    async def wait(self) -> None:
        """Until a request is attached."""
        with trio.fail_after(60):
            await self.attached.wait()

    def take(self, taken: Taken) -> None:
        self.relay.attach(taken, streams=self.streams)
        self.attached.set()


async def test_polls_are_answered_with_all_that_is_written_together_and_what_is_over_waits() -> None:
    async with served() as peer, trio.open_nursery() as nursery:
        line = Line(Keepalive(lambda: 0.0), nursery)
        peer.polls.instead = line.take
        assert line.relay.send_now(b"nobody listens\n") == 0
        await peer.send(POLL % b"relay")
        await line.wait()
        assert line.relay.send_now(b"one\n") + line.relay.send_now(b"two\n") == 8
        line.relay.send_now(b"x" * POLL_MOST)
        assert line.relay.send_now(b"three\n") == 0, "the answer is full"
        answer = await peer.read(b"x" * POLL_MOST)
        assert b"\r\n\r\none\ntwo\nxxx" in answer
        nursery.start_soon(line.relay.send_all, b"three\n")
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(POLL % b"relay")
        assert b"\r\n\r\nthree\n" in await peer.read(b"three\n")
        line.relay.close()
        assert line.closed == ["127.0.0.1"]


async def test_a_stream_gets_no_more_than_its_client_reads_before_it_opens_another() -> None:
    async with served() as peer, trio.open_nursery() as nursery:
        line = Line(Keepalive(lambda: 0.0), nursery)
        line.streams = True
        peer.polls.instead = line.take
        await peer.send(POLL % b"relay")
        await line.wait()
        sent = len(FILLER)
        while sent <= RESPONSE_MOST:
            nursery.start_soon(line.relay.send_all, b"y" * 9999 + b"\n")
            await peer.read(b"y\n")
            sent += 10_000
        assert line.relay.send_now(b"more\n") == 0
        line.relay.close()


@pytest.mark.parametrize("streams", [True, False])
async def test_a_session_that_ends_while_a_response_is_open_is_freed_by_its_counts(streams: bool) -> None:
    gc.collect()
    gc.disable()  # it does not see what was frozen
    try:
        async with served() as peer, trio.open_nursery() as nursery:
            line = Line(Keepalive(lambda: 0.0), nursery)
            line.streams = streams
            peer.polls.instead = line.take
            await peer.send(POLL % b"relay")
            await line.wait()
            line.relay.close()
            await peer.rest()
            peer.polls.instead = None
            del line
        assert [one for one in gc.get_objects() if isinstance(one, Relay)] == []
    finally:
        gc.enable()


async def test_a_client_that_stays_away_ends_its_session(mock_clock: trio.testing.MockClock) -> None:
    async with served() as peer, trio.open_nursery() as nursery:
        line = Line(Keepalive(lambda: 0.0), nursery)
        peer.polls.instead = line.take
        await peer.send(POLL % b"relay")
        await line.wait()
        now = trio.current_time()
        assert line.relay.tend(now + 100, 0.0) is None, "a poll is open"
        await peer.stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert line.relay.tend(now + AWAY - 1, 0.0) == 1.0
        assert line.relay.tend(now + AWAY, 0.0) is None
        await trio.lowlevel.wait_readable(line.relay.sock)
        assert line.relay.recv_now(1) == b""
        line.relay.close()
