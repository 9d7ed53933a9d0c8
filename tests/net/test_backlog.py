"""net/backlog.py: what waits goes out in order, a replay ahead of what comes live, and never more than was counted."""

from __future__ import annotations

from collections import deque

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from sower.net.backlog import Backlog

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.binary(min_size=1, max_size=5)),
        st.tuples(st.just("ahead"), st.binary(min_size=1, max_size=5)),
        st.tuples(st.just("next"), st.just(b"")),
    ),
    max_size=30,
)


async def sent(backlog: Backlog) -> list[bytes]:
    """Send all that may go out now. While something is held, a clock that jumps ends the wait for more."""
    out: list[bytes] = []
    with trio.move_on_after(1):
        while (chunk := await backlog.next()) is not None:
            backlog.sent(len(chunk), trio.current_time())
            out.append(chunk)
    return out


async def test_nothing_that_waits_is_the_end() -> None:
    backlog = Backlog(0.0)
    assert await backlog.next() is None
    backlog.add(b"one")
    backlog.add(b"two")
    assert await sent(backlog) == [b"one", b"two"]
    assert backlog.size == 0


async def test_what_came_before_the_hold_goes_before_the_replay_and_what_came_after_behind_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    backlog = Backlog(0.0)
    backlog.add(b"welcome")
    backlog.hold()
    backlog.add(b"live 1")
    backlog.add_ahead(b"old 1")
    assert await sent(backlog) == [b"welcome", b"old 1"]
    assert backlog.size == len(b"live 1")
    backlog.add(b"live 2")
    backlog.add_ahead(b"old 2")
    backlog.release()
    assert await sent(backlog) == [b"old 2", b"live 1", b"live 2"]


async def test_a_writer_that_waits_is_woken_by_what_comes_ahead_and_by_the_release() -> None:
    backlog = Backlog(0.0)
    backlog.hold()
    out: list[bytes | None] = []

    async def write() -> None:
        while (chunk := await backlog.next()) is not None:
            out.append(chunk)
        out.append(None)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write)
        for step, expected in (
            (lambda: backlog.add(b"live"), []),
            (lambda: backlog.add_ahead(b"old"), [b"old"]),
            (backlog.release, [b"old", b"live", None]),
        ):
            step()
            await trio.testing.wait_all_tasks_blocked()
            assert out == expected


async def test_a_replay_waits_until_its_page_is_out(autojump_clock: trio.testing.MockClock) -> None:
    backlog = Backlog(0.0)
    backlog.hold()
    backlog.add_ahead(b"page")
    with trio.move_on_after(1) as scope:
        await backlog.spent()
    assert scope.cancelled_caught
    assert await sent(backlog) == [b"page"]
    await backlog.spent()


async def test_two_replays_that_wait_at_the_same_time_both_go_on() -> None:
    backlog = Backlog(0.0)
    backlog.hold()
    backlog.hold()
    backlog.add_ahead(b"page of one")
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(backlog.spent)
            await trio.testing.wait_all_tasks_blocked()
            backlog.add_ahead(b"page of the other")
            nursery.start_soon(backlog.spent)
            await trio.testing.wait_all_tasks_blocked()
            backlog.release()
            backlog.release()
            assert await sent(backlog) == [b"page of one", b"page of the other"]


async def test_a_cut_drops_what_waits_and_lets_a_replay_go_on_to_its_end() -> None:
    backlog = Backlog(0.0)
    backlog.add(b"sending")
    chunk = await backlog.next()
    assert chunk == b"sending"
    backlog.hold()
    backlog.add_ahead(b"old")
    backlog.add(b"live")
    backlog.cut(b"goodbye")
    await backlog.spent()
    assert await backlog.next() == b"goodbye"
    assert await backlog.next() is None


async def test_the_oldest_byte_that_waits_is_as_old_as_the_chunk_that_was_sent_last() -> None:
    backlog = Backlog(3.0)
    backlog.add(b"x" * 10)
    assert (backlog.size, backlog.since) == (10, 3.0)
    backlog.sent(10, 8.0)
    assert (backlog.size, backlog.since) == (0, 8.0)


@given(steps=STEPS)
def test_while_held_nothing_live_overtakes_a_replay_and_nothing_is_lost(steps: list[tuple[str, bytes]]) -> None:
    async def run() -> None:
        backlog = Backlog(0.0)
        backlog.hold()
        ahead: deque[bytes] = deque()
        behind: list[bytes] = []

        async def send(expected: bytes) -> None:
            assert await backlog.next() == expected
            backlog.sent(len(expected), 0.0)

        for kind, word in steps:
            if kind == "add":
                backlog.add(word)
                behind.append(word)
            elif kind == "ahead":
                backlog.add_ahead(word)
                ahead.append(word)
            elif ahead:
                await send(ahead.popleft())
            assert backlog.size == sum(map(len, [*ahead, *behind]))
        backlog.release()
        for word in [*ahead, *behind]:
            await send(word)
        assert await backlog.next() is None

    trio.run(run)


async def test_what_the_socket_took_in_part_is_finished_before_anything_also_when_the_rest_is_cut() -> None:
    backlog = Backlog(0.0, b"half a frame")
    backlog.add(b"live")
    backlog.hold()
    backlog.add_ahead(b"old")
    backlog.cut(b"goodbye")
    assert await sent(backlog) == [b"half a frame", b"goodbye"]
