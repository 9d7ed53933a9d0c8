"""net/session.py, backlog.py and reader.py over real socket pairs: order, bounds, sleep, pings, and faults."""

from __future__ import annotations

import gc
import random
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from sower.core.answer import SocketAnswer, Watched
from sower.core.command import Ping, SocketCommand
from sower.core.grants import Grant, anonymous
from sower.core.message import Delivery, Position
from sower.dialects.interface import EVENT_STREAM, Conversation, Named
from sower.errors import BadFrame, Draining, RateLimited, SowerError
from sower.net import frames
from sower.net.frames import Compression, WebSocketFraming
from sower.net.framing import Farewell, FramedAudience, Framing, StreamFraming
from sower.net.keepalive import Keepalive
from sower.net.reader import Reader
from sower.net.session import CLOSE_WITHIN, Session
from sower.net.shared import Bounds, Shared
from sower.net.wire import Wire
from sower.tally import Tally
from tests.e2e.raw import closes_with, masked

BOUNDS = Bounds(
    backlog=100_000,
    backlog_age=10.0,
    ping_every=25.0,
    pong_within=10.0,
    sleep_after=2.0,
    message=1000,
    message_within=10.0,
    violations=3,
)


class Plain:
    is_text = True

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> list[bytes]:
        return []


class Parrot(Conversation):
    """A conversation that takes every text as a ping, and says errors by their code."""

    def begin(self) -> Sequence[SocketCommand]:
        return ()

    def receive(self, session: Named, payload: bytes, *, is_text: bool) -> Sequence[SocketCommand]:
        if payload == b"bad":
            raise BadFrame
        if payload == b"idle":
            return ()
        return (Ping(payload.decode()),)

    def answer(self, session: Named, command: SocketCommand, answer: SocketAnswer) -> bytes:
        return b""

    def refuse(self, command: SocketCommand | None, error: SowerError) -> bytes:
        return error.code.encode()

    def ends(self, command: SocketCommand | None) -> bool:
        return False

    def close(self, error: SowerError) -> int:
        return error.close

    def tell(self, word: Watched) -> bytes:
        return b""

    def gap(self, channel: str, since: Position, position: Position) -> bytes:
        return b"gap"


class House:
    """Notes what sessions ask, and reads them."""

    now = 0.0

    def __init__(self, nursery: trio.Nursery) -> None:
        self.asked: list[str] = []
        self.looks: list[float] = []
        self.counted, self.most_frames = 0, 1000
        self.ended: dict[str, Farewell] = {}
        self.reader = Reader(lambda session, farewell: self.ended.__setitem__(session.id, farewell))
        self.fault: Callable[[str], None] = lambda _: None
        self._shared = Shared(self, BOUNDS, nursery, Tally())

    def perform(self, session: Session, command: SocketCommand) -> None:
        assert isinstance(command, Ping)
        self.fault(command.id or "")
        self.asked.append(command.id or "")

    def look_again(self, session: Session, after: float) -> None:
        self.looks.append(after)

    def count(self, session: Session, frames: int) -> None:
        self.counted += frames
        if frames > self.most_frames:
            raise RateLimited("too many")

    def session(
        self, framing: Framing | None = None, conversation: Conversation | None = None, grant: Grant | None = None
    ) -> tuple[Session, trio.SocketStream]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        audience = FramedAudience(Plain(), framing or WebSocketFraming(Compression()))
        session = Session(
            Wire(ours, "127.0.0.1"),
            random.getrandbits(48),
            grant or anonymous("1", "k", None),
            conversation or Parrot(),
            audience,
            self._shared,
        )
        self.reader.add(session)
        return session, trio.SocketStream(trio.socket.from_stdlib_socket(theirs))


@asynccontextmanager
async def a_house() -> AsyncGenerator[House]:
    async with trio.open_nursery() as nursery:
        house = House(nursery)
        nursery.start_soon(house.reader.run)
        yield house
        nursery.cancel_scope.cancel()


async def read_until(stream: trio.SocketStream, end: bytes) -> bytes:
    data = b""
    with trio.fail_after(60):
        while not data.endswith(end):
            data += await stream.receive_some()
    return data


async def test_what_does_not_fit_waits_and_everything_comes_in_order() -> None:
    async with a_house() as house:
        session, stream = house.session()
        words = [b"%05d" % n + b"x" * 2000 + b";" for n in range(200)]
        received = b""
        for word in words:
            session.write(word)
            if random.random() < 0.3:
                received += await stream.receive_some(50_000)
        session.write(b"THE END")
        received += await read_until(stream, b"THE END")
        assert received == b"".join(words) + b"THE END"
        await trio.testing.wait_all_tasks_blocked()
        session.write(b"directly")
        assert await stream.receive_some() == b"directly"


async def test_a_replay_goes_ahead_of_what_comes_live_meanwhile() -> None:
    async with a_house() as house:
        session, stream = house.session()
        session.write(b"welcome ")
        session.hold()
        session.write(b"live1 ")
        session.write_ahead(b"old1 ")
        await session.drained()
        session.write(b"live2 ")
        session.write_ahead(b"old2 ")
        session.release()
        session.write(b"live3")
        assert await read_until(stream, b"live3") == b"welcome old1 old2 live1 live2 live3"


async def test_past_its_backlog_a_session_is_closed_and_keeps_no_more() -> None:
    async with a_house() as house:
        session, stream = house.session()
        while not session.closed:
            session.write(b"x" * 10_000)
        assert session.ending is not None
        assert session.ending.code == "slow_consumer"
        session.write(b"nothing more")
        data = await read_until(stream, frames.close(session.ending.close, "slow_consumer"))
        assert b"nothing more" not in data
        assert data.startswith(b"x" * 10_000)


async def test_a_silent_session_sleeps_and_half_a_message_keeps_it_awake() -> None:
    async with a_house() as house:
        session, stream = house.session()
        await stream.send_all(masked(0x81, b"hello"))
        await trio.testing.wait_all_tasks_blocked()
        assert session.speech is None, "a single message leaves nothing behind"
        await stream.send_all(masked(0x81, b"you"))
        await trio.testing.wait_all_tasks_blocked()
        assert session.speech is not None
        now = trio.current_time()
        assert session.tend(now, 0.0) == BOUNDS.sleep_after, "it has just spoken"
        session.tend(now + 2.0, 0.0)
        assert session.speech is None
        half = masked(0x81, b"world")
        await stream.send_all(half[:5])
        await trio.testing.wait_all_tasks_blocked()
        session.tend(now + 3.0, 0.0)
        session.tend(now + 6.0, 0.0)
        assert session.speech is not None
        await stream.send_all(half[5:])
        await trio.testing.wait_all_tasks_blocked()
        assert house.asked == ["hello", "you", "world"]


async def test_a_silent_client_is_pinged_and_closed_when_it_does_not_answer() -> None:
    async with a_house() as house:
        session, stream = house.session()
        assert session.tend(24.0, 0.0) == 1.0
        assert session.tend(25.0, 0.0) == BOUNDS.pong_within
        assert await stream.receive_some() == frames.PING
        await stream.send_all(masked(0x8A, b""))
        await trio.testing.wait_all_tasks_blocked()
        session.tend(30.0, 0.0)
        session.tend(56.0, 0.0)
        assert await stream.receive_some() == frames.PING
        session.tend(66.0, 0.0)
        assert closes_with(4043) in await stream.receive_some()
        session.tend(71.0, 0.0)
        await trio.testing.wait_all_tasks_blocked()
        assert session.id not in [s.id for s in house.reader]


async def test_who_does_not_finish_a_message_is_closed_however_often_it_sends_a_byte_or_a_ping() -> None:
    async with a_house() as house:
        session, stream = house.session()
        first = masked(0x01, b"half ") + masked(0x80, b"and whole")
        await stream.send_all(first + masked(0x01, b"half"))
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        for byte in masked(0x89, b"") + masked(0x80, b"more")[:-1]:
            await stream.send_all(bytes((byte,)))
            await trio.testing.wait_all_tasks_blocked()
        session.tend(began + 9.0, 0.0)
        assert session.ending is None
        assert session.tend(began + 10.5, 0.0) == 1.0
        await read_until(stream, frames.close(4045, "message_timeout"))
        assert house.asked == ["half and whole"]
        session.tend(began + 11.5, 0.0)
        await trio.testing.wait_all_tasks_blocked()
        assert session.id not in [s.id for s in house.reader]


@pytest.mark.parametrize("cut", range(1, 12))
async def test_a_frame_may_come_in_two_pieces_cut_anywhere_and_nothing_of_the_first_is_forgotten(cut: int) -> None:
    async with a_house() as house:
        session, stream = house.session()
        for said in (b"hello", b"world"):
            frame = masked(0x81, said)
            await stream.send_all(frame[:cut])
            await trio.testing.wait_all_tasks_blocked()
            session.tend(trio.current_time() + 3.0, 0.0)
            await stream.send_all(frame[cut:])
            await trio.testing.wait_all_tasks_blocked()
        assert house.asked == ["hello", "world"]


async def test_each_message_has_its_time_anew() -> None:
    async with a_house() as house:
        session, stream = house.session()
        message = masked(0x81, b"hello")
        await stream.send_all(message[:5])
        await trio.testing.wait_all_tasks_blocked()
        assert session.speech is not None
        session.speech.begun = trio.current_time() - 9.0
        await stream.send_all(message[5:] + message[:5])
        await trio.testing.wait_all_tasks_blocked()
        session.tend(trio.current_time() + 2.0, 0.0)
        assert (session.ending, house.asked) == (None, ["hello"])


async def test_pings_are_counted_as_frames_and_a_flood_of_them_ends_the_session() -> None:
    async with a_house() as house:
        session, stream = house.session()
        await stream.send_all(masked(0x89, b"x") * 3)
        await trio.testing.wait_all_tasks_blocked()
        assert house.counted == 3
        house.most_frames = 0
        while session.ending is None:
            await stream.send_all(masked(0x89, b"x") * 10)
            await trio.testing.wait_all_tasks_blocked()
        assert session.ending.code == "rate_limited"


async def test_messages_that_ask_for_nothing_are_counted_as_frames_too() -> None:
    async with a_house() as house:
        session, stream = house.session()
        await stream.send_all(masked(0x81, b"idle") * 3)
        await trio.testing.wait_all_tasks_blocked()
        assert house.counted == 3
        house.most_frames = 0
        while session.ending is None:
            await stream.send_all(masked(0x81, b"idle"))
            await trio.testing.wait_all_tasks_blocked()
        assert session.ending.code == "rate_limited"


async def test_empty_pings_and_pongs_wake_nobody() -> None:
    async with a_house() as house:
        session, stream = house.session()
        await stream.send_all(masked(0x89, b""))
        assert await stream.receive_some() == frames.PONG
        await stream.send_all(masked(0x8A, b""))
        await trio.testing.wait_all_tasks_blocked()
        assert session.speech is None
        assert session.heard
        await stream.send_all(masked(0x89, b"word"))
        assert await stream.receive_some() == b"\x8a\x04word"


async def test_an_empty_ping_in_the_middle_of_a_message_is_answered_and_the_message_goes_on() -> None:
    async with a_house() as house:
        _, stream = house.session()
        for part in (masked(0x01, b"hel"), masked(0x89, b""), masked(0x80, b"lo")):
            await stream.send_all(part)
            await trio.testing.wait_all_tasks_blocked()
        assert await stream.receive_some() == frames.PONG
        assert house.asked == ["hello"]


async def test_what_one_session_raises_ends_it_alone() -> None:
    async with a_house() as house:
        sick, sick_stream = house.session()
        _, well_stream = house.session()
        sick_id = sick.id

        def fault(word: str) -> None:
            if word == "crash":
                raise ZeroDivisionError

        house.fault = fault
        await sick_stream.send_all(masked(0x81, b"crash"))
        assert await sick_stream.receive_some() == b""
        await well_stream.send_all(masked(0x81, b"fine"))
        await trio.testing.wait_all_tasks_blocked()
        assert house.asked == ["fine"]
        assert house.ended[sick_id].code == 1011
        assert len(house.reader) == 1


async def test_a_session_is_found_by_its_id_and_by_nothing_else() -> None:
    async with a_house() as house:
        session, stream = house.session()
        assert house.reader.find(session.id) is session
        for other in ("", "zz", session.id[:-1] + "ff", "0" * 12 + session.id[12:]):
            assert house.reader.find(other) is None
        await stream.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert list(house.reader) == []


async def test_ending_says_why_once_and_waits_for_the_client_to_agree() -> None:
    async with a_house() as house:
        session, stream = house.session()
        session.end(Draining())
        session.end(Draining())
        assert (await stream.receive_some()).count(b"draining") == 2, "an error frame and a close frame"
        assert house.ended == {}
        await stream.send_all(masked(0x88, b"\x03\xf4"))
        assert await stream.receive_some() == b""
        assert next(iter(house.ended.values())).code == 1012


@pytest.mark.parametrize("how", ["by this side", "for what it said"])
async def test_who_is_closed_has_all_its_time_to_answer_whatever_it_was_to_be_looked_at_for(
    mock_clock: trio.testing.MockClock, how: str
) -> None:
    async with a_house() as house:
        keepalive = Keepalive(lambda: 0.0)
        house.look_again = keepalive.look_again
        session, stream = house.session()
        keepalive.look_again(session, 1.0)
        if how == "by this side":
            session.end(Draining())
        else:
            await stream.send_all(b"\x83\x80mask")
        await trio.testing.wait_all_tasks_blocked()
        for second in range(int(CLOSE_WITHIN)):
            assert list(house.reader) == [session], f"after {second} s"
            mock_clock.jump(1)
            keepalive.turn()
            await trio.testing.wait_all_tasks_blocked()
        assert list(house.reader) == []


async def test_who_goes_on_with_nonsense_is_closed() -> None:
    async with a_house() as house:
        session, stream = house.session()
        await stream.send_all(masked(0x81, b"bad") * 10)
        await trio.testing.wait_all_tasks_blocked()
        assert session.closed
        assert (await stream.receive_some()).count(b"bad_frame") == BOUNDS.violations + 1 + 2


async def test_who_was_closed_for_nonsense_is_freed_by_its_counts() -> None:
    gc.collect()
    gc.disable()  # it does not see what was frozen
    try:
        async with a_house() as house:
            _, stream = house.session()
            await stream.send_all(masked(0x81, b"bad") * 10)
            await stream.send_eof()
            await read_until(stream, b"bad_frame")
            await trio.testing.wait_all_tasks_blocked()
            assert list(house.reader) == []
            del _
        assert [one for one in gc.get_objects() if isinstance(one, Session)] == []
    finally:
        gc.enable()


async def test_who_says_one_nonsense_after_the_other_is_closed_at_the_same_count() -> None:
    async with a_house() as house:
        session, stream = house.session()
        for said in range(BOUNDS.violations + 1):
            assert not session.closed, said
            await stream.send_all(masked(0x81, b"bad"))
            await trio.testing.wait_all_tasks_blocked()
        assert session.closed


async def test_a_stream_that_ended_and_has_bytes_left_still_hears_nothing() -> None:
    async with a_house() as house:
        session, stream = house.session(StreamFraming(EVENT_STREAM))
        session.write(bytes(BOUNDS.backlog // 2))
        session.end(Draining())
        await stream.send_all(b"nonsense")
        await trio.testing.wait_all_tasks_blocked()
        assert house.ended == {}
        while await stream.receive_some():
            pass
        await stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert [farewell.code for farewell in house.ended.values()] == [1006]


async def test_a_stream_is_kept_alive_hears_nothing_and_ends_with_its_bytes() -> None:
    async with a_house() as house:
        session, stream = house.session(StreamFraming(EVENT_STREAM))
        session.write(session.audience.frame(b"data: 1"))
        assert await stream.receive_some() == b"data: 1\n\n"
        for now in (25.0, 50.0, 75.0):
            assert session.tend(now, 0.0) == BOUNDS.ping_every, "nobody answers, and nobody is waited for"
            assert await stream.receive_some() == b":\n\n"
        await stream.send_all(b"\x81\xff nonsense " * 5000)
        await trio.testing.wait_all_tasks_blocked()
        assert session.speech is None
        assert not session.closed
        session.end(Draining())
        assert await stream.receive_some() == b"draining\n\n"
        assert await stream.receive_some() == b"", "no close frame, only the end"
        await stream.send_eof()
        await trio.testing.wait_all_tasks_blocked()
        assert next(iter(house.ended.values())).code == 1006


async def test_a_slow_stream_ends_as_any_other_and_still_hears_why() -> None:
    async with a_house() as house:
        session, stream = house.session(StreamFraming(EVENT_STREAM))
        while not session.closed:
            session.write(b"x" * 10_000)
        assert session.ending is not None
        assert session.ending.code == "slow_consumer"
        heard = b""
        with trio.fail_after(60):
            while part := await stream.receive_some():
                heard += part
        assert heard.endswith(b"slow_consumer\n\n")
