"""A task of a channel raises at its Nth await, for every N that there is in a channel's day."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine, Generator
from types import coroutine
from typing import Any

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sower import channel_tree, replays
from sower.channel_tree import ChannelTree
from sower.core.answer import Receipt
from sower.core.command import Publish
from sower.core.message import Message, Position
from sower.errors import SowerError
from sower.inbox import Publication
from sower.membership import Membership
from sower.replays import Replays
from tests.test_channel_tree import House, Listener, Waiting, a_house

EARLIER = [Message(n, "e", b"%d" % n) for n in range(1, 6)]


class Injected(Exception):
    """What a task meets."""


Task = Callable[..., Coroutine[Any, Any, None]]


class Awaits:
    """Counts the awaits of some channels' tasks, and has some of them raise."""

    def __init__(self, *at: int) -> None:
        self.count = 0
        self._at = at

    @property
    def struck(self) -> bool:
        """Whether there were all of them."""
        return self.count >= max(self._at)

    def wrap(self, task: Task, name_of: Callable[[Any], str]) -> Task:
        """The same task; the name of its channel says whether it is one of those."""

        async def run(owner: Any, *args: Any) -> None:
            running = task(owner, *args)
            await (self._stepped(running) if "sick" in name_of(owner) else running)

        return run

    @coroutine
    def _stepped(self, running: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Goes through a task from await to await."""
        step: Callable[[Any], Any] = running.send
        value: Any = None
        while True:
            try:
                trap = step(value)
            except StopIteration:
                return
            of_trio = _ends_a_nursery(running)
            try:
                step, value = running.send, (yield trap)
            except BaseException as error:  # noqa: BLE001 - a cancellation, on its way into the task
                step, value = running.throw, error
                continue
            self.count += not of_trio
            if self.count in self._at and not of_trio:
                step, value = running.throw, Injected(f"at await {self.count}")


def _ends_a_nursery(running: Any) -> bool:
    """Whether a coroutine waits in a nursery's own end, where nothing can raise but trio."""
    while running is not None and hasattr(running, "cr_await"):
        if running.cr_code.co_name == "_nested_child_finished":
            return True
        running = running.cr_await
    return False


class Day:
    """What was published on a channel and not yet acknowledged."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.acked: dict[tuple[str, str], int] = {}
        self._asked: list[tuple[str, str, Waiting]] = []

    def publish(self, channel: str, text: str) -> None:
        self._asked.append((channel, text, self.house.publish(channel, text, message_id=text)))

    async def answered(self) -> list[tuple[str, str]]:
        """Wait for every answer. Returns what was refused."""
        refused: list[tuple[str, str]] = []
        asked, self._asked = self._asked, []
        for channel, text, ticket in asked:
            with trio.fail_after(30):
                await ticket.done.wait()
            if isinstance(ticket.outcome, Receipt):
                assert self.acked.setdefault((channel, text), ticket.outcome.serial) == ticket.outcome.serial
            else:
                refused.append((channel, text))
        return refused

    async def all_accepted(self) -> None:
        """Publish what was refused again with the same id, until it is taken."""
        while refused := await self.answered():
            await trio.sleep(1)
            for channel, text in refused:
                self.publish(channel, text)

    def due(self, channel: str) -> list[str]:
        return [text for (name, text), _ in sorted(self.acked.items(), key=lambda item: item[1]) if name == channel]


async def a_day(at: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Everything that is promised where a channel's task raises at these awaits. Whether there were so many."""
    awaits = Awaits(*at)
    with monkeypatch.context() as patched, capture_logs():
        patched.setattr(replays, "REPLAY_PAGE", 2)
        patched.setattr(channel_tree, "HANDED_OUT_AT_ONCE", 2)
        patched.setattr(ChannelTree, "run", awaits.wrap(ChannelTree.run, lambda tree: tree.name))
        patched.setattr(Replays, "_replay", awaits.wrap(Replays._replay, lambda replays: replays._channel))
        patched.setattr(Membership, "_clock", awaits.wrap(Membership._clock, lambda members: "presence-sick"))
        async with a_house() as house:
            await _live(house, Day(house))
            restarted = {told[2] for told in house.failures}
            assert all("sick" in name for name in restarted), "a neighbour was restarted"
            assert restarted or not awaits.struck
    return awaits.struck


async def _live(house: House, day: Day) -> None:
    house.journal.rows["1", "kept-sick"] = list(EARLIER)
    well, _ = house.subscribe("kept-well")
    live = [house.subscribe(name)[0] for name in ("kept-sick", "kept-sick", "kept-sick", "sick", "sick", "sick")]
    ada, _ = house.subscribe("presence-sick", user="ada")
    _, bob = house.subscribe("presence-sick", user="bob")
    await trio.testing.wait_all_tasks_blocked()
    day.publish("kept-sick", "a")
    behind, _ = house.subscribe("kept-sick", since=Position("e0", 0))
    for channel, text in (("kept-sick", "b"), ("sick", "s"), ("kept-well", "w"), ("kept-sick", "c")):
        day.publish(channel, text)
    bob.end()
    await day.all_accepted()
    await trio.sleep(channel_tree.QUARANTINE)
    for channel in ("kept-sick", "sick", "kept-well"):
        day.publish(channel, "later")
    await day.all_accepted()
    await trio.sleep(10)
    assert _heard(well) == day.due("kept-well")
    for listener, channel in zip(live, ["kept-sick"] * 3 + ["sick"] * 3, strict=True):
        assert _heard(listener) == day.due(channel)
        assert not listener.closed
    assert _heard(behind) == [m.data.decode() for m in EARLIER] + day.due("kept-sick")
    assert ada.heard.count("Left(bob)") == 1
    rows = [m.data.decode() for m in house.journal.rows["1", "kept-sick"]]
    assert rows == [m.data.decode() for m in EARLIER] + day.due("kept-sick")


def _heard(listener: Listener) -> list[str]:
    return listener.heard.split()


@pytest.mark.parametrize("again", [0, 1, 2, 3], ids=["once", "and at the next", "and two later", "and three later"])
async def test_a_channel_whose_task_raises_at_its_nth_await_loses_and_doubles_nothing_and_keeps_its_followers(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch, again: int
) -> None:
    for at in itertools.count(1):
        try:
            if not await a_day((at, at + again), monkeypatch):
                break
        except BaseException as problem:
            problem.add_note(f"raised at await {at}")
            raise
    assert at > 20, "a day has more awaits than that"


class Raising(Waiting):
    """A publisher whose answer cannot be said."""

    def settle(self, outcome: Receipt | SowerError) -> None:
        raise Injected("its answer cannot be encoded")


async def test_a_publisher_whose_answer_raises_takes_no_other_answer_with_it_and_nobody_hears_twice(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_house() as house:
        listener, _ = house.subscribe("kept-sick")
        await trio.testing.wait_all_tasks_blocked()
        tickets = [Waiting(), Raising(), Waiting()]
        for number, ticket in enumerate(tickets):
            house.hub.publish("1", Publication(Publish("kept-sick", "e", b"%d" % number), None, None, ticket))
        await trio.sleep(10)
        assert [isinstance(ticket.outcome, Receipt) for ticket in tickets] == [True, False, True]
        assert listener.heard == "0 1 2 "
