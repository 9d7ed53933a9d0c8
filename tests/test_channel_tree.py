"""channel_tree.py under its hub and supervisor: faults at each await, quarantine, retirement, replay."""

from __future__ import annotations

import gc
import weakref
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from sower import channel_tree, replays
from sower import hub as hub_module
from sower.config import App, ChannelRule, Config, History, Limits
from sower.core.answer import Acknowledged, Receipt, SocketAnswer, Welcome
from sower.core.channel import Channel
from sower.core.command import Appear, Publish, SocketCommand, Subscribe
from sower.core.message import Appearance, Delivery, Did, Left, Message, Position
from sower.core.presence import Presence
from sower.core.rules import presence_of
from sower.errors import ChannelBusy, ChannelQuarantined, JournalFailed, SowerError
from sower.hub import Hub
from sower.inbox import MetaChange, Publication, Subscriber, Subscription
from sower.store.journal import Page, Stored


class MemoryJournal:
    """A journal in memory that can be told to fail: `fail(call)` is asked before and after each await."""

    epoch = "e0"
    last_serial = 0
    hangs = False

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], list[Message]] = {}
        self.ids: dict[tuple[str, str, str], int] = {}
        self.fail: Callable[[str], None] = lambda _: None
        self.gate: trio.Event | None = None

    async def append(
        self,
        app: str,
        channel: str,
        messages: Sequence[Message],
        history: History,
        *,
        passing: Collection[int] = (),
        largest: int = 0,
    ) -> list[Stored]:
        self.fail("append begins")
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        rows = self.rows.setdefault((app, channel), [])
        answer: list[Stored] = []
        for message in messages:
            first = message.serial
            if message.id is not None:
                first = self.ids.setdefault((app, channel, message.id), first)
            answer.append(Stored(first, first == message.serial))
            if first == message.serial and first not in [*passing, *(r.serial for r in rows)]:
                rows.append(message)
        self.fail("append ends")
        return answer

    async def head(self, app: str, channel: str) -> int:
        self.fail("head begins")
        await trio.lowlevel.checkpoint()
        rows = self.rows.get((app, channel))
        self.fail("head ends")
        return rows[-1].serial if rows else 0

    async def since(
        self,
        app: str,
        channel: str,
        serial: int,
        *,
        upto: int | None = None,
        limit: int,
        history: History,
        in_order: bool = False,
        as_of: int | None = None,
    ) -> Page:
        self.fail("since begins")
        await trio.lowlevel.checkpoint()
        rows = [r for r in self.rows.get((app, channel), []) if serial < r.serial <= (10**18 if upto is None else upto)]
        self.fail("since ends")
        return Page(rows[:limit], gap=False, more=len(rows) > limit)


class Listener:
    """A subscriber that notes what it is told. Held words wait as a session's do."""

    def __init__(self) -> None:
        self.closed = False
        self.said: list[Any] = []
        self._held: list[Any] | None = None
        self.fail: Callable[[str], None] = lambda _: None

    def write(self, data: bytes) -> None:
        (self.said if self._held is None else self._held).append(data.decode())

    @property
    def connection(self) -> str:
        return str(id(self))

    def answer(self, command: SocketCommand, answer: SocketAnswer) -> None:
        self.said.append("welcome" if isinstance(answer, Welcome) else answer)

    answer_ahead = answer

    def refuse(self, command: SocketCommand, error: SowerError) -> None:
        self.said.append(error.code)

    def turn_away(self, subscription: Subscription, command: Subscribe, error: SowerError) -> None:
        subscription.end(at_once=True)
        self.refuse(command, error)

    def tell_gap(self, channel: str, since: Position, position: Position) -> None:
        self.said.append("gap")

    def hold(self) -> None:
        self._held = []

    def write_ahead(self, data: bytes) -> None:
        self.said.extend([data.decode()] if data else [])

    async def drained(self) -> None:
        self.fail("drained begins")
        await trio.lowlevel.checkpoint()
        self.fail("drained ends")

    def release(self) -> None:
        self.said.extend(self._held or [])
        self._held = None

    @property
    def heard(self) -> str:
        return "".join(word for word in self.said if isinstance(word, str) and word != "welcome")


class Audience(ABC):
    """An encoding in which every delivery has a word of its own."""

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> bytes:
        return b"".join([self.word(channel, delivery) for delivery in deliveries])

    @abstractmethod
    def word(self, channel: str, delivery: Delivery) -> bytes: ...


class Plain(Audience):
    def word(self, channel: str, delivery: Delivery) -> bytes:
        if isinstance(delivery, Message):
            return delivery.data + b" "
        return b"" if isinstance(delivery, Appearance) else f"{type(delivery).__name__}({delivery.user}) ".encode()


class Waiting:
    """A publisher that waits for its ticket."""

    def __init__(self) -> None:
        self.outcome: Receipt | SowerError | None = None
        self.done = trio.Event()

    def settle(self, outcome: Receipt | SowerError) -> None:
        assert self.outcome is None, "a ticket is settled once"
        self.outcome = outcome
        self.done.set()


PLAIN = Plain()
CONFIG = Config(
    apps=(App(id="1", key="k", secret="s" * 16),),
    channels=(
        ChannelRule(match="kept-*", history=History()),
        ChannelRule(match="presence-*", grace=channel_tree.QUARANTINE / 10),  # type: ignore[arg-type]
    ),
)


class House:
    def __init__(self, hub: Hub, journal: MemoryJournal, failures: list[tuple[str, ...]]) -> None:
        self.hub = hub
        self.journal = journal
        self.failures = failures

    def subscribe(
        self, name: str, *, since: Position | None = None, user: str | None = None
    ) -> tuple[Listener, Subscription]:
        listener = Listener()
        subscription = Subscription(self.hub.tree("1", name), listener, PLAIN, user)
        subscription.begin(Subscribe(name, since), b"null" if user else None)
        return listener, subscription

    def publish(self, name: str, data: str, *, message_id: str | None = None, stored: bool = True) -> Waiting:
        ticket = Waiting()
        command = Publish(name, "e", data.encode(), id=message_id, stored=stored)
        self.hub.publish("1", Publication(command, None, None, ticket))
        return ticket


@asynccontextmanager
async def a_house(config: Config = CONFIG) -> AsyncIterator[House]:
    journal, failures = MemoryJournal(), []
    hub = Hub(config, journal, now=lambda: 1_700_000_000.0, failed=lambda *told: failures.append(told))  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield House(hub, journal, failures)
        nursery.cancel_scope.cancel()


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()


class Noting:
    """A tap that notes what it takes."""

    apart, departs = True, False

    def __init__(self) -> None:
        self.followers = 0
        self.begun: list[tuple[int, int]] = []
        self.taken: list[Delivery] = []

    def begin(self, head: int, members: int) -> None:
        self.begun.append((head, members))

    def take(self, deliveries: Sequence[Delivery]) -> None:
        assert self.begun, "nothing is taken before the beginning"
        self.taken += deliveries

    def decide(self, state: Channel[Subscriber], now: float) -> Sequence[Delivery]:
        state.begin_tap(self)
        return ()

    def refuse(self, error: SowerError) -> None:
        raise error


async def test_a_tap_begins_behind_who_is_here_and_takes_all_that_is_told_from_then_on() -> None:
    async with a_house() as house:
        earlier, _ = house.subscribe("presence-x", user="ada")
        await settle()
        tap = Noting()
        tree = house.hub.tree("1", "presence-x")
        _, bob = house.subscribe("presence-x", user="bob")
        tree.post(tap)
        house.publish("presence-x", "one")
        await settle()
        assert [members for _, members in tap.begun] == [2]
        assert [d.data for d in tap.taken if isinstance(d, Message)] == [b"one"]
        assert earlier.heard == "Joined(bob) one "
        bob.end(at_once=True)
        await settle()
        assert [told for told in tap.taken[1:] if not isinstance(told, Appearance)] == [Left("bob", b"null")]
        assert not tree.state.vacant if tree.state else False


async def test_what_is_not_stored_is_told_in_its_place_and_what_is_not_told_is_stored() -> None:
    async with a_house() as house:
        listener, _ = house.subscribe("kept-a")
        await settle()
        tickets = [Waiting() for _ in range(3)]
        for ticket, (data, stored, told) in zip(
            tickets, [(b"a", True, True), (b"b", False, True), (b"c", True, False)], strict=True
        ):
            command = Publish("kept-a", "e", data, stored=stored, told=told)
            house.hub.publish("1", Publication(command, None, None, ticket))
        await settle()
        serials = [ticket.outcome.serial for ticket in tickets if isinstance(ticket.outcome, Receipt)]
        assert serials == sorted(set(serials))
        assert listener.heard == "a b "
        assert [m.data for m in house.journal.rows["1", "kept-a"]] == [b"a", b"c"]


async def test_messages_are_settled_once_all_before_them_are_told() -> None:
    async with a_house() as house:
        for name in ("kept-a", "kept-b"):
            house.subscribe(name)
        await settle()
        drawn = house.hub.next_serial()
        assert house.hub.settled("1") == drawn
        house.journal.gate = trio.Event()
        first, second = house.publish("kept-a", "1"), house.publish("kept-b", "2")
        await settle()
        waits = house.hub.settled("1")
        assert not first.done.is_set()
        assert not second.done.is_set()
        house.journal.gate.set()
        await settle()
        serials = [ticket.outcome.serial for ticket in (first, second) if isinstance(ticket.outcome, Receipt)]
        assert len(serials) == 2
        assert waits < min(serials)
        assert house.hub.settled("1") >= max(serials)


AWAITS = ["append begins", "append ends", "head begins", "head ends", "since begins", "since ends"]


@pytest.mark.parametrize("place", [*AWAITS, "drained begins", "drained ends"])
async def test_a_fault_at_each_await_of_a_channel_loses_nothing_and_touches_no_neighbour(
    place: str, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays, "REPLAY_PAGE", 2)
    async with a_house() as house:
        earlier = [Message(n, "e", b"%d" % n) for n in range(1, 6)]
        house.journal.rows["1", "kept-sick"] = list(earlier)
        neighbour, _ = house.subscribe("kept-well")
        await settle()
        faults = [2]

        def fail(where: str) -> None:
            if where == place and faults[0]:
                faults[0] -= 1
                raise RuntimeError(f"injected where {where}")

        house.journal.fail = fail
        sick, _ = house.subscribe("kept-sick", since=Position("e0", 0))
        sick.fail = fail
        tickets = [house.publish("kept-sick", "new"), house.publish("kept-well", "fine")]
        for ticket in tickets:
            await ticket.done.wait()
        await trio.sleep(10)
        assert faults == [0], "the fault was never injected"
        assert neighbour.heard == "fine "
        assert sick.heard == "1 2 3 4 5 new "
        assert sick.said[0] == "welcome"
        assert all(isinstance(ticket.outcome, Receipt) for ticket in tickets)
        assert {told[0] for told in house.failures} == {"channel_restarted"}


async def test_a_crash_in_the_middle_of_a_hand_out_goes_on_with_the_next_subscriber(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_tree, "HANDED_OUT_AT_ONCE", 3)
    async with a_house() as house:
        listeners = [house.subscribe("room")[0] for _ in range(10)]
        await settle()
        checkpoint, faults = trio.lowlevel.checkpoint, [1]

        async def failing() -> None:
            if faults[0]:
                faults[0] = 0
                raise RuntimeError("injected between two writes")
            await checkpoint()

        monkeypatch.setattr(trio.lowlevel, "checkpoint", failing)
        house.publish("room", "once")
        await trio.sleep(10)
        assert faults == [0]
        assert [listener.heard for listener in listeners] == ["once "] * 10


async def test_a_fault_where_the_loop_waits_for_work_is_not_noticed_by_anybody(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, faults = trio.Event, [0]

    class Faulty:
        """An event whose wait fails once it is told to."""

        def __init__(self) -> None:
            self._event = genuine()
            self.set, self.is_set = self._event.set, self._event.is_set

        async def wait(self) -> None:
            if faults[0]:
                faults[0] -= 1
                raise RuntimeError("injected where it waits")
            await self._event.wait()

    async with a_house() as house:
        sick, _ = house.subscribe("presence-sick", user="ada")
        well, _ = house.subscribe("presence-well", user="ada")
        await settle()
        monkeypatch.setattr(trio, "Event", Faulty)
        faults[0] = 2
        house.publish("presence-sick", "1")
        await trio.sleep(10)
        assert faults == [0]
        house.publish("presence-sick", "2")
        house.publish("presence-well", "fine")
        await trio.sleep(10)
        assert (sick.heard, well.heard) == ("1 2 ", "fine ")
        assert [told[0] for told in house.failures] == ["channel_restarted"] * 2


async def test_a_fault_in_the_presence_clock_delays_a_leave_and_loses_none(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine, faults = Presence.expire, [1]

    def failing(presence: Presence, now: float, serial: int) -> Sequence[Delivery]:
        if faults[0]:
            faults[0] -= 1
            raise RuntimeError("injected in the clock")
        return genuine(presence, now, serial)

    async with a_house() as house:
        watcher, _ = house.subscribe("presence-room", user="ada")
        _, leaver = house.subscribe("presence-room", user="bob")
        await settle()
        monkeypatch.setattr(Presence, "expire", failing)
        leaver.end()
        await trio.sleep(channel_tree.QUARANTINE / 10 + 1)
        assert faults == [0]
        assert watcher.heard.endswith("Left(bob) ")
        assert not watcher.closed


async def test_a_channel_that_fails_too_often_is_quarantined_with_a_named_error_and_comes_back(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_house() as house:
        listener, _ = house.subscribe("kept-sick")
        neighbour, _ = house.subscribe("kept-well")
        await settle()
        broken = [True]

        def fail(where: str) -> None:
            if where == "append begins" and broken[0]:
                raise RuntimeError("always")

        house.journal.fail = fail
        refused = house.publish("kept-sick", "lost")
        await refused.done.wait()
        assert isinstance(refused.outcome, ChannelQuarantined)
        with pytest.raises(ChannelQuarantined):
            house.publish("kept-sick", "too early")
        assert house.failures[-1][0] == "channel_quarantined"
        broken[0] = False
        await house.publish("kept-well", "fine").done.wait()
        await trio.sleep(channel_tree.QUARANTINE + 1)
        later = house.publish("kept-sick", "again")
        await later.done.wait()
        await settle()
        assert isinstance(later.outcome, Receipt)
        assert (listener.heard, neighbour.heard) == ("again ", "fine ")
        assert not listener.closed


class Breaking(Noting):
    """A tap that takes nothing while it is broken."""

    broken = True

    def take(self, deliveries: Sequence[Delivery]) -> None:
        if self.broken:
            raise RuntimeError("always")
        super().take(deliveries)


async def quarantined(house: House, name: str, message_id: str = "a") -> tuple[Listener, Breaking]:
    """Somebody who follows a channel that was in quarantine, because what was published with the id a could not be
    told; and the tap that was why."""
    listener, _ = house.subscribe(name)
    tap = Breaking()
    house.hub.tree("1", name).post(tap)
    await settle()
    refused = house.publish(name, "x", message_id=message_id)
    await refused.done.wait()
    assert isinstance(refused.outcome, ChannelQuarantined)
    tap.broken = False
    await trio.sleep(channel_tree.QUARANTINE + 1)
    return listener, tap


async def test_what_was_stored_as_a_channel_failed_for_the_last_time_is_a_gap_to_who_follows_it(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_house() as house:
        listener, tap = await quarantined(house, "kept-room")
        (stored,) = house.journal.rows["1", "kept-room"]
        again = house.publish("kept-room", "x", message_id="a")
        following = house.publish("kept-room", "y")
        await following.done.wait()
        await settle()
        assert isinstance(again.outcome, Receipt)
        assert (again.outcome.serial, again.outcome.fresh) == (stored.serial, False)
        assert listener.said == ["welcome", "gap", "y "]
        assert tap.begun[-1][0] == stored.serial, "who polls finds it in the journal"


@pytest.mark.parametrize("message_id", ["a", "order-123456:1:2"])
async def test_what_a_quarantine_refused_is_told_when_it_is_said_again_with_its_id(
    message_id: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with a_house() as house:
        listener, _ = await quarantined(house, "room", message_id)
        for fresh in (True, False):
            again = house.publish("room", "x", message_id=message_id)
            await again.done.wait()
            assert isinstance(again.outcome, Receipt)
            assert again.outcome.fresh is fresh
        await settle()
        assert listener.heard == "x "


async def test_a_journal_that_cannot_write_refuses_the_publish_and_delivers_nothing() -> None:
    async with a_house() as house:
        listener, _ = house.subscribe("kept-room")
        await settle()

        def fail(where: str) -> None:
            if where == "append begins":
                raise JournalFailed("disk full")

        house.journal.fail = fail
        ticket = house.publish("kept-room", "x")
        await ticket.done.wait()
        assert isinstance(ticket.outcome, JournalFailed)
        assert listener.heard == ""
        assert house.failures == []


async def test_nothing_is_told_before_its_commit() -> None:
    async with a_house() as house:
        listener, _ = house.subscribe("kept-room")
        await settle()
        house.journal.gate = trio.Event()
        ticket = house.publish("kept-room", "x")
        await settle()
        assert (listener.heard, ticket.outcome) == ("", None)
        house.journal.gate.set()
        await settle()
        assert listener.heard == "x "
        assert isinstance(ticket.outcome, Receipt)


async def test_a_replay_of_large_messages_waits_for_its_reader_and_loses_none() -> None:
    large = b"x" * 60_000
    async with a_house() as house:
        house.journal.rows["1", "kept-x"] = [Message(n, "e", b"%d-%b" % (n, large)) for n in range(1, 101)]
        listener = Listener()
        subscription = Subscription(house.hub.tree("1", "kept-x"), listener, PLAIN, None)
        pieces: list[int] = []

        async def drained() -> None:
            pieces.append(len(listener.heard))
            await trio.lowlevel.checkpoint()

        listener.drained = drained  # type: ignore[method-assign]
        subscription.begin(Subscribe("kept-x", Position("e0", 0)), None)
        await settle()
        house.publish("kept-x", "news")
        await settle()
        assert [word.partition("-")[0] for word in listener.heard.split()] == [*map(str, range(1, 101)), "news"]
        assert max(after - before for before, after in pairwise([0, *pieces])) < replays.REPLAY_BYTES + 2 * len(large)


async def test_who_leaves_during_a_replay_is_given_no_more_of_it_and_comes_back_to_one_of_its_own() -> None:
    async with a_house() as house:
        house.journal.rows["1", "kept-x"] = [Message(n, "e", b"%d" % n) for n in range(1, 1001)]
        listener, subscription = house.subscribe("kept-x", since=Position("e0", 0))
        read = trio.Event()
        listener.drained = read.wait  # type: ignore[method-assign]
        await settle()
        assert len(listener.heard.split()) == replays.REPLAY_PAGE
        subscription.end(at_once=True)
        await settle()
        listener.said.clear()
        again = Subscription(subscription.tree, listener, PLAIN, None)
        again.begin(Subscribe("kept-x", Position("e0", 990)), None)
        await settle()
        read.set()
        await settle()
        house.publish("kept-x", "news")
        await settle()
        assert listener.heard.split() == [*map(str, range(991, 1001)), "news"]


async def test_who_goes_before_its_replay_began_harms_nobody() -> None:
    rules = (ChannelRule(match="kept-*", presence=True, history=History()),)
    async with a_house(Config(apps=CONFIG.apps, channels=rules)) as house:
        house.journal.rows["1", "kept-x"] = [Message(1, "e", b"1")]
        listener, subscription = house.subscribe("kept-x", since=Position("e0", 0), user="ada")
        subscription.tree.post(Noting())  # what was decided before it is told first, and then its channel's inbox
        subscription.end(at_once=True)
        await settle()
        assert not house.failures
        assert listener.said == []


async def test_who_came_before_a_quarantine_is_welcomed_and_told_of_after_it(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_house() as house:
        earlier, _ = house.subscribe("presence-x", user="ada")
        await settle()
        parcels, faults = Channel.parcels, [RuntimeError("injected")] * 4

        def fail(*told: Any, **more: Any) -> Any:
            if faults:
                raise faults.pop()
            return parcels(*told, **more)

        monkeypatch.setattr(Channel, "parcels", fail)
        newcomer, _ = house.subscribe("presence-x", user="bob")
        await trio.sleep(channel_tree.QUARANTINE + 2 * hub_module.SWEEP_EVERY)
        assert house.failures[-1][0] == "channel_quarantined"
        assert newcomer.said == ["welcome"]
        assert earlier.heard == "Joined(bob) "


async def test_who_asks_again_and_again_for_what_it_follows_is_one_member() -> None:
    async with a_house() as house:
        _, subscription = house.subscribe("presence-x", user="ada")
        for _ in range(3):
            subscription.begin(Subscribe("presence-x"), b"null", again=True)
            await settle()
        assert subscription.members == ("ada",)


async def test_what_is_published_during_a_replay_follows_it_without_gap_or_duplicate() -> None:
    async with a_house() as house:
        house.journal.rows["1", "kept-room"] = [Message(n, "e", b"%d" % n) for n in range(1, 4)]
        listener, _ = house.subscribe("kept-room", since=Position("e0", 1))
        for n in (4, 5, 6):
            house.publish("kept-room", str(n))
        await settle()
        assert listener.said[0] == "welcome"
        assert listener.heard == "2 3 4 5 6 "


async def test_a_position_of_another_epoch_gets_a_gap_and_then_what_is_kept() -> None:
    async with a_house() as house:
        house.journal.rows["1", "kept-room"] = [Message(1, "e", b"1"), Message(2, "e", b"2")]
        listener, _ = house.subscribe("kept-room", since=Position("other", 1))
        await settle()
        assert listener.said == ["welcome", "gap", "1 2 "]


async def test_a_channel_without_history_tells_a_gap_only_where_something_was_missed() -> None:
    async with a_house() as house:
        house.subscribe("room")
        house.publish("room", "a")
        await settle()
        state = house.hub.tree("1", "room").state
        assert state is not None
        here = Position(house.journal.epoch, state.head)
        present, _ = house.subscribe("room", since=here)
        behind, _ = house.subscribe("room", since=Position(house.journal.epoch, state.head - 1))
        await settle()
        assert present.said == ["welcome"]
        assert behind.said == ["welcome", "gap"]


async def test_newcomers_get_a_snapshot_and_no_diff_that_it_already_holds() -> None:
    async with a_house() as house:
        first, _ = house.subscribe("presence-room", user="ada")
        await settle()
        second, _ = house.subscribe("presence-room", user="bob")
        third, _ = house.subscribe("presence-room", user="cy")
        await settle()
        assert first.heard == "Joined(bob) Joined(cy) "
        assert (second.said, third.said) == (["welcome"], ["welcome"])


async def test_a_member_leaves_when_its_grace_period_is_over(autojump_clock: trio.testing.MockClock) -> None:
    async with a_house() as house:
        watcher, _ = house.subscribe("presence-room", user="ada")
        _, leaver = house.subscribe("presence-room", user="bob")
        await settle()
        leaver.end()
        await settle()
        assert watcher.heard == "Joined(bob) " or watcher.heard == ""
        await trio.sleep(channel_tree.QUARANTINE / 10 + 0.1)
        await settle()
        assert watcher.heard.endswith("Left(bob) ")


async def test_a_quiet_channel_retires_its_tasks_and_wakes_on_the_next_publish(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with a_house() as house:
        listener, _ = house.subscribe("room")
        await settle()
        tree = house.hub.tree("1", "room")
        assert tree.running
        await trio.sleep(3.5 * hub_module.SWEEP_EVERY)
        assert not tree.running
        assert house.hub.look("1", "room") is tree
        await house.publish("room", "hello").done.wait()
        await settle()
        assert listener.heard == "hello "


async def test_a_channel_that_everybody_left_costs_nothing(autojump_clock: trio.testing.MockClock) -> None:
    async with a_house() as house:
        _, subscription = house.subscribe("room")
        await settle()
        subscription.end()
        await trio.sleep(3.5 * hub_module.SWEEP_EVERY)
        assert house.hub.look("1", "room") is None


async def test_a_publish_where_nobody_listens_and_nothing_is_kept_makes_no_channel() -> None:
    async with a_house() as house:
        ticket = house.publish("room", "x")
        assert isinstance(ticket.outcome, Receipt)
        assert house.hub.look("1", "room") is None


@pytest.mark.parametrize("stored", [True, False], ids=["stored", "passing"])
async def test_the_same_id_is_delivered_once_and_answered_with_the_same_serial(stored: bool) -> None:
    async with a_house() as house:
        for name in ("room", "kept-room"):
            listener, _ = house.subscribe(name)
            tickets = [house.publish(name, "x", message_id="a", stored=stored) for _ in range(64)]
            await settle()
            assert listener.heard == "x "
            assert len({t.outcome.serial for t in tickets if isinstance(t.outcome, Receipt)}) == 1


async def test_past_the_bound_of_its_queue_a_channel_is_busy_but_departures_always_count() -> None:
    config = Config(apps=CONFIG.apps, channels=CONFIG.channels, limits=Limits(channel_queue=2))
    async with a_house(config) as house:
        _, subscription = house.subscribe("kept-room")
        await settle()
        house.journal.gate = trio.Event()
        house.publish("kept-room", "1")
        await settle()
        house.publish("kept-room", "2")
        house.publish("kept-room", "3")
        with pytest.raises(ChannelBusy):
            house.publish("kept-room", "4")
        subscription.end()
        house.journal.gate.set()
        await settle()
        state = house.hub.tree("1", "kept-room").state
        assert state is not None
        assert state.subscribers == 0


async def test_a_member_whose_record_the_journal_refuses_is_told_so_and_may_say_it_again() -> None:
    async with a_house() as house:
        listener, subscription = house.subscribe("kept-a")
        await settle()

        def fail(call: str) -> None:
            raise JournalFailed("injected")

        house.journal.fail = fail
        for number in range(2):
            said = Appear("kept-a", Did.ENTERED, "ada", b"null", id=f"c:{number}")
            subscription.tree.post(MetaChange(subscription, said, "ada"))
            await settle()
            house.journal.fail = lambda _: None
        refused, done = listener.said[1:]
        assert (refused, isinstance(done, Acknowledged) and done.appearance is not None) == ("journal_failed", True)
        assert JournalFailed.retry
        (row,) = house.journal.rows["1", presence_of("kept-a")]
        assert (row.user, row.event) == ("ada", "ENTERED")


async def test_a_forgotten_channel_is_freed_by_its_counts(autojump_clock: trio.testing.MockClock) -> None:
    rules = (ChannelRule(match="kept-*", presence=True, history=History()), ChannelRule(match="*", presence=True))
    async with a_house(msgspec.structs.replace(CONFIG, channels=rules)) as house:
        gc.collect()
        gc.disable()  # it does not see what was frozen
        try:
            for name in ("room", "kept-a"):
                _, subscription = house.subscribe(name, since=Position("e0", 1), user="ada")
                house.publish(name, "one")
                await settle()
                gone = weakref.ref(subscription.tree)
                subscription.end(at_once=True)
                del subscription
                await trio.sleep(4 * hub_module.SWEEP_EVERY)
                assert (len(house.hub), gone()) == (0, None), name
        finally:
            gc.enable()
