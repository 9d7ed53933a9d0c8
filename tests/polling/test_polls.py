"""polling/: catching up at the seam between journal, ring and live, crowds, rings, and who is present until when."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import msgspec
import pytest
import trio
import trio.testing

from sower.access import Access
from sower.config import App, ChannelRule, Config, History, Limits, PubnubSettings, Size
from sower.core.command import Credentials, Publish, ReadHistory
from sower.core.grants import Can, Grant
from sower.core.message import Message
from sower.core.polling import (
    Absent,
    Attend,
    ChangeGroup,
    Names,
    Poll,
    Reach,
    React,
    Reaction,
    ReadHistories,
    ReadMembers,
    ReadState,
    SetState,
    Source,
)
from sower.core.rules import Pattern
from sower.dialects.interface import Polled
from sower.dialects.pubnub.envelopes import Envelopes
from sower.errors import ChannelBusy, JournalFailed, NamesForbidden, TooLarge, TooMany, UserMismatch
from sower.hub import Hub
from sower.inbox import Publication
from sower.net.http import Response
from sower.net.keepalive import Keepalive
from sower.polling import groups
from sower.polling.allowing import Allowing
from sower.polling.archive import Archive
from sower.polling.feeds import RING, Entry, Feed, Track
from sower.polling.groups import Groups
from sower.polling.places import LINGER, Places
from sower.polling.polls import MOST_TOLD, Polls
from sower.polling.roster import Roster
from sower.store.shelf import JournalShelf
from tests.store.opened import opened
from tests.store.watched import WatchedJournal

APP = App(id="1", key="k", secret="s" * 16, pubnub=PubnubSettings(announce_max=2))
RULES = (
    ChannelRule(match="private-*", private=True),
    ChannelRule(match="kept*", history=History(messages=10_000)),
    ChannelRule(match="room*", presence=True, grace=0.0),  # type: ignore[arg-type]
)
CONFIG = Config(apps=(APP,), channels=RULES)
WORDS = Envelopes("sub")
ANYBODY = Grant("1", "sub", "ada")
SERVER = Grant("1", "sub", server=True)


class Room:
    """Stands for a request that is taken: what is held is kept here, and an answer ends it."""

    def __init__(self) -> None:
        self.held: list[Any] = []

    def hold(self, waiter: Any, seconds: float) -> Any:
        held = Held(self, waiter)
        self.held.append(held)
        return held


class Held:
    def __init__(self, room: Room, waiter: Any) -> None:
        self.room, self.waiter = room, waiter
        self.response: Response | None = None
        self.done = trio.Event()

    def answer(self, response: Response) -> None:
        self.room.held.remove(self)
        self.response = response
        self.done.set()


class House:
    def __init__(self, hub: Hub, polls: Polls, places: Places, roster: Roster, groups: Groups, room: Room) -> None:
        self.hub, self.polls, self.places, self.roster, self.groups, self.room = (
            hub,
            polls,
            places,
            roster,
            groups,
            room,
        )

    async def settle(self) -> None:
        """Let everything happen that was begun; polls look again after a moment."""
        assert isinstance(self.hub.journal, WatchedJournal)
        await self.hub.journal.quiet(0.01)

    def publish(self, channel: str, data: str, **more: Any) -> None:
        self.hub.publish(
            "1", Publication(Publish(channel, "message", msgspec.json.encode(data), **more), None, None, None)
        )

    async def poll(
        self, *sources: Source, cursor: int = 0, user: str | None = None, grant: Grant = ANYBODY, **more: Any
    ) -> tuple[int, list[Any]]:
        """One poll, from its request to its answer: the cursor, and the envelopes."""
        polled = Polled(Credentials(), Poll(sources, cursor, user, **more), WORDS)
        response = self.polls.begin(grant, polled, self.room)  # type: ignore[arg-type]
        if response is None:
            held = self.room.held[-1]
            await held.done.wait()
            response = held.response
        assert response is not None
        body = msgspec.json.decode(response.body)
        return int(body["t"]["t"]), body["m"]


@asynccontextmanager
async def a_house(folder: Path) -> AsyncIterator[House]:
    async with opened(folder) as journal, trio.open_nursery() as nursery:
        hub = Hub(CONFIG, journal, now=journal.now)
        await nursery.start(hub.run)
        access = Access(CONFIG.apps, Limits(), now=journal.now)
        allowing = Allowing(hub, access)
        groups = Groups(JournalShelf(journal), allowing)
        places = Places(hub, groups, CONFIG)
        keepalive = Keepalive(journal.now)
        roster = Roster(hub, allowing, groups, keepalive, Limits())
        room = Room()
        polls = Polls(hub, allowing, groups, roster, places, nursery)
        for run in (polls.run, places.run, keepalive.run):
            nursery.start_soon(run)
        yield House(hub, polls, places, roster, groups, room)
        nursery.cancel_scope.cancel()


def channel(name: str, *, presence: bool = False) -> Source:
    return Source(Reach.CHANNEL, name, presence)


def data(envelopes: list[Any]) -> list[Any]:
    return [envelope["d"] for envelope in envelopes]


def feeds(house: House) -> list[Feed]:
    """All that are in memory, whoever keeps them."""
    return [one for one in gc.get_objects() if isinstance(one, Feed) and one.node is house.places]


@pytest.mark.parametrize("seed", range(6))
async def test_a_client_that_polls_hears_each_message_of_all_its_channels_once_and_in_order(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order in which the channels' commits end, and however much comes between two polls."""
    random = Random(seed)
    names = ["kept-a", "kept-b", "kept-c", "fleeting"]
    async with a_house(tmp_path) as house:
        append = house.hub.journal.append

        async def slowly(*args: Any, **more: Any) -> Any:
            for _ in range(random.randrange(8)):
                await trio.lowlevel.checkpoint()
            stored = await append(*args, **more)
            for _ in range(random.randrange(8)):
                await trio.lowlevel.checkpoint()
            return stored

        monkeypatch.setattr(house.hub.journal, "append", slowly)
        cursor, _ = await house.poll(*map(channel, names))
        heard: list[Any] = []
        total = 400

        async def speak() -> None:
            for number in range(total):
                house.publish(random.choice(names), str(number))
                for _ in range(random.choice([0, 0, 1, 5, 20])):
                    await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(speak)
            with trio.fail_after(60):
                while len(heard) < total:
                    cursor, envelopes = await house.poll(*map(channel, names), cursor=cursor)
                    assert len(envelopes) <= MOST_TOLD
                    heard += envelopes
                    for _ in range(random.choice([0, 0, 0, 30])):  # a client that is slow to come again
                        await trio.lowlevel.checkpoint()
        serials = [int(envelope["p"]["t"]) for envelope in heard]
        assert serials == sorted(set(serials))
        assert sorted(map(int, data(heard))) == list(range(total))


async def test_what_is_older_than_the_rings_is_read_from_the_journal_without_a_seam(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        sources = [channel("kept-a"), channel("kept-b")]
        for number in range(230):
            house.publish(["kept-a", "kept-b"][number % 3 == 0], number)  # type: ignore[arg-type]
        await house.settle()
        for repeat in range(2):  # with feeds that are new, and with feeds whose rings have moved on
            heard: list[Any] = []
            cursor = 1
            while len(heard) < 230 + 250 * repeat:
                cursor, envelopes = await house.poll(*sources, cursor=cursor)
                assert 0 < len(envelopes) <= MOST_TOLD
                heard += envelopes
            serials = [int(envelope["p"]["t"]) for envelope in heard]
            assert serials == sorted(set(serials))
            assert sorted(data(heard)) == list(range(230 + 250 * repeat))
            for number in range(230, 230 + 250):
                house.publish("kept-a", number)  # type: ignore[arg-type]
            await house.settle()


async def test_an_envelope_is_encoded_once_for_all_polls_and_a_filter_asked_once(tmp_path: Path) -> None:
    encoded: list[str] = []

    class Counting(Envelopes):
        def envelope(self, channel: str, message: Message) -> bytes:
            encoded.append(channel)
            return super().envelope(channel, message)

    words = Counting("sub")
    asked: list[int] = []

    def passes(message: Message) -> bool:
        asked.append(message.serial)
        return True

    async with a_house(tmp_path) as house:
        house.polls.begin(ANYBODY, Polled(Credentials(), Poll((channel("fleeting"),), 0), words), house.room)  # type: ignore[arg-type]
        cursor = house.hub.next_serial()
        for number in range(300):
            poll = Poll((channel("fleeting"),), cursor, None, passes if number % 2 else None)
            assert house.polls.begin(ANYBODY, Polled(Credentials(), poll, words), house.room) is None  # type: ignore[arg-type]
        held = list(house.room.held)
        house.publish("fleeting", "x")
        for one in held:
            with trio.fail_after(60):
                await one.done.wait()
        assert len({one.response.body for one in held}) == 1
        assert len(asked) == 1
    assert encoded == ["fleeting"]


async def test_a_filter_is_not_kept_longer_than_the_polls_that_have_it(tmp_path: Path) -> None:
    """Clients make them up, a new one with each poll where they like."""

    class Passes:
        def __call__(self, message: Message) -> bool:
            return True

    filters: WeakSet[Passes] = WeakSet()

    def made_up() -> Passes:
        passes = Passes()
        filters.add(passes)
        return passes

    async with a_house(tmp_path) as house:
        cursor, _ = await house.poll(channel("fleeting"))
        await house.settle()
        for _ in range(3):
            house.publish("fleeting", "x")
        await house.settle()
        for _ in range(20):
            assert len((await house.poll(channel("fleeting"), cursor=cursor, passes=made_up()))[1]) == 3
        gc.collect()
        assert not filters


@pytest.mark.parametrize("name", ["fleeting", "kept-a"])
async def test_what_one_poll_raises_ends_it_alone(tmp_path: Path, name: str) -> None:
    def faulty(message: Message) -> bool:
        raise ZeroDivisionError("a bug")

    async with a_house(tmp_path) as house:
        if name == "kept-a":
            house.publish(name, "kept before anybody polled")
            await house.settle()
        polled = Polled(Credentials(), Poll((channel(name),), 1, None, faulty), WORDS)
        assert house.polls.begin(ANYBODY, polled, house.room) is None  # type: ignore[arg-type]
        (held,) = house.room.held
        await house.settle()
        house.publish(name, "news")
        await house.settle()
        assert held.response.status == 500
        assert (await house.poll(channel(name), cursor=1))[1]


async def test_of_a_client_that_is_gone_nothing_is_left(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        cursor, _ = await house.poll(channel("room"), user="ada")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: house.poll(channel("room"), cursor=cursor, user="ada"))
            await house.settle()
            (track,) = house.places.of("1", [channel("room")], WORDS)
            assert isinstance(track, Track)
            (tap,) = track.spring.tree.state.taps
            assert (len(track.waiting), tap.followers) == (1, 1)
            house.room.held[0].waiter.went()
            assert (len(track.waiting), tap.followers) == (0, 0)
            nursery.cancel_scope.cancel()


async def test_a_poll_without_news_is_answered_empty_and_goes_on_from_there(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        cursor, _ = await house.poll(channel("fleeting"))
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                answered, envelopes = await house.poll(channel("fleeting"), cursor=cursor)
                assert (answered >= cursor, envelopes) == (True, [])

            nursery.start_soon(wait)
            await house.settle()
            held = house.room.held[0]
            held.answer(held.waiter.expired())


async def test_a_wildcard_finds_what_its_channels_said_before_it_knew_them(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        for name in ("kept.a", "kept.b", "other"):
            house.publish(name, name)
            await house.settle()
        _, envelopes = await house.poll(Source(Reach.PREFIX, "kept."), cursor=1)
        assert data(envelopes) == ["kept.a", "kept.b"]
        assert envelopes[0]["b"] == "kept.*"


async def test_channels_are_gone_through_once_for_all_wildcards_of_a_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody may name 2,000: once for each of them, among 10,000 channels, was eight seconds."""
    async with a_house(tmp_path) as house:
        await house.poll(channel("a.1"), channel("a.b.1"), channel("b.1"), channel("c"))
        await house.settle()
        looked: list[str] = []
        trees = house.hub.trees
        monkeypatch.setattr(house.hub, "trees", lambda app, prefix: looked.append(prefix) or trees(app, prefix))
        named = [Source(Reach.PREFIX, name) for name in ("a.", "a.b.", "b.", *(f"d{n}." for n in range(50)))]
        cursor, _ = await house.poll(*named)
        assert len(looked) == 1
        for name in ("a.1", "a.b.1", "b.1", "c"):
            house.publish(name, name)
        await house.settle()
        assert sorted(data((await house.poll(*named, cursor=cursor))[1])) == ["a.1", "a.b.1", "b.1"]


async def test_deleted_messages_are_not_brought_back_by_a_ring(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        cursor, _ = await house.poll(channel("kept"))
        for word in ("one", "two", "three"):
            house.publish("kept", word)
        await house.settle()
        _, envelopes = await house.poll(channel("kept"), cursor=cursor)
        second = int(envelopes[1]["p"]["t"])
        await house.hub.journal.delete("1", "kept", second - 1, second + 1)
        await house.settle()
        assert data((await house.poll(channel("kept"), cursor=cursor))[1]) == ["one", "three"]
        assert data((await house.poll(channel("kept"), cursor=1))[1]) == ["one", "three"]


async def test_an_action_on_a_busy_channel_is_refused_before_it_is_kept_and_done_when_it_is_asked_for_again(
    tmp_path: Path,
) -> None:
    async with a_house(tmp_path) as house:
        archive = Archive(house.hub, Allowing(house.hub, Access(CONFIG.apps, Limits(), now=house.hub.now)), _uncounted)
        cursor, _ = await house.poll(channel("kept"))
        house.publish("kept", "look")
        cursor, (envelope,) = await house.poll(channel("kept"), cursor=cursor)

        def told(reaction: Reaction, added: bool) -> bytes:
            return msgspec.json.encode([reaction.value, added])

        smile = React("kept", int(envelope["p"]["t"]), "ada", told, "reaction", "smile")
        room, house.hub.queue_limit = house.hub.queue_limit, 0
        with pytest.raises(ChannelBusy):
            await archive.react(SERVER, "", smile)
        house.hub.queue_limit = room
        (added,) = (await archive.react(SERVER, "", smile)).reactions
        house.hub.queue_limit = 0
        gone = msgspec.structs.replace(smile, at=added.at)
        with pytest.raises(ChannelBusy):
            await archive.react(SERVER, "", gone)
        house.hub.queue_limit = room
        await archive.react(SERVER, "", gone)
        await house.settle()
        assert data((await house.poll(channel("kept"), cursor=cursor))[1]) == [["smile", True], ["smile", False]]


def _uncounted(grant: Grant, count: int) -> None:
    """Nothing is too often."""


async def test_a_member_stays_while_it_polls_and_is_lost_when_its_time_is_over(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        watching = [channel("room", presence=True)]
        cursor, _ = await house.poll(*watching)
        (attendee,) = house.roster.attend("1", "ada", ["room", "fleeting"], 20.0, {"room": b'{"a":1}'})
        cursor, envelopes = await house.poll(*watching, cursor=cursor)
        assert data(envelopes)[0] | {"timestamp": 0} == {
            "action": "join",
            "uuid": "ada",
            "occupancy": 1,
            "timestamp": 0,
            "data": {"a": 1},
        }
        attendee.polls = 1
        assert attendee.tend(trio.current_time() + 1000, 0.0) is not None
        attendee.polls = 0
        assert attendee.tend(trio.current_time() + 5, 0.0) == pytest.approx(15, abs=1)
        assert attendee.tend(trio.current_time() + 21, 0.0) is None
        _, envelopes = await house.poll(*watching, cursor=cursor)
        assert (data(envelopes)[0]["action"], data(envelopes)[0]["occupancy"]) == ("timeout", 0)
        house.roster.attend("1", "ada", ["room"], 20.0, {})
        await house.settle()
        tree = house.hub.look("1", "room")
        assert tree is not None
        assert tree.state is not None
        assert tree.state.presence is not None
        assert len(tree.state.presence) == 1


async def test_who_is_in_a_private_channel_is_not_told_through_a_group_and_nobody_comes_in_by_it(
    tmp_path: Path,
) -> None:
    group = Names((), ("mine",))
    async with a_house(tmp_path) as house:
        await house.groups.change(SERVER, "", ChangeGroup("mine", ("presence-board", "room")))
        house.roster.attend("1", "boss", ["presence-board"], 300, {"presence-board": b'{"phone":1}'})
        await house.roster.beat(ANYBODY, "", Attend(group, "ada", 300.0))
        await house.roster.set_state(ANYBODY, "", SetState(group, "ada", b'{"a":1}', 300.0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: house.poll(Source(Reach.GROUP, "mine"), cursor=1, user="ada"))
            await house.settle()
            nursery.cancel_scope.cancel()
        everything = (await house.roster.read_members(SERVER, "", ReadMembers(group))).rooms
        assert [(room.channel, [m.user for m in room.members]) for room in everything] == [
            ("presence-board", ["boss"]),
            ("room", ["ada"]),
        ]
        assert [room.channel for room in (await house.roster.read_members(ANYBODY, "", ReadMembers(group))).rooms] == [
            "room"
        ]
        assert (await house.roster.read_state(ANYBODY, "", ReadState(group, "boss"))).states == ()
        await house.roster.leave(ANYBODY, "", Absent(Names(("presence-board",), ("mine",)), "boss"))
        await house.settle()
        everything = (await house.roster.read_members(SERVER, "", ReadMembers(group))).rooms
        assert [room.channel for room in everything] == ["presence-board", "room"], "nor has one go"


async def test_a_token_for_a_group_alone_changes_what_is_in_the_group(tmp_path: Path) -> None:
    manager = Grant("1", "sub", closed=True, groups=((Pattern("family"), frozenset((Can.MANAGE,))),))
    async with a_house(tmp_path) as house:
        await house.groups.change(manager, "", ChangeGroup("family", ("room",)))
        assert house.groups.channels("1", "family") == ("room",)
        with pytest.raises(NamesForbidden):
            await house.groups.change(manager, "", ChangeGroup("other", ("room",)))


async def test_a_token_of_one_user_does_not_set_the_state_of_another(tmp_path: Path) -> None:
    claims = ((Pattern("room"), frozenset((Can.SUBSCRIBE, Can.PRESENCE))),)
    ada = Grant("1", "sub", "ada", closed=True, claims=claims)
    room = Names(("room",))
    async with a_house(tmp_path) as house:
        with pytest.raises(UserMismatch):
            await house.roster.set_state(ada, "", SetState(room, "bob", b'{"a":1}', 300.0))
        await house.roster.set_state(ada, "", SetState(room, "ada", b'{"a":1}', 300.0))
        await house.settle()
        (told,) = (await house.roster.read_members(SERVER, "", ReadMembers(room))).rooms
        assert [member.user for member in told.members] == ["ada"]


async def test_idle_feeds_are_let_go_and_their_channels_with_them(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        await house.poll(channel("fleeting"), Source(Reach.PREFIX, "a."))
        await house.settle()
        assert house.hub.look("1", "fleeting") is not None
        house.places.sweep(trio.current_time() + LINGER + 1)
        await house.settle()
        for _ in range(3):
            house.hub.sweep()
            await house.settle()
        assert house.hub.look("1", "fleeting") is None
        assert not house.places.followed("1", "a.b")


async def test_groups_wildcards_and_channels_that_clients_make_up_are_let_go_past_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sower.polling.places.IDLE", 20)
    async with a_house(tmp_path) as house:
        for reach, end in ((Reach.GROUP, ""), (Reach.PREFIX, "."), (Reach.CHANNEL, "")):
            for number in range(10):
                await house.poll(*(Source(reach, f"made-up-{number}-{one}{end}") for one in range(10)))
                await house.settle()  # far from the time of the next sweep
            bundles = house.places._bundles
            assert len(bundles) + len(feeds(house)) <= 2 * 20 + 10
        cursor, _ = await house.poll(Source(Reach.PREFIX, "made-up-9-9."))
        house.publish("made-up-9-9.a", "heard")
        assert data((await house.poll(Source(Reach.PREFIX, "made-up-9-9."), cursor=cursor))[1]) == ["heard"]


def test_a_ring_is_bounded_and_says_what_it_no_longer_has() -> None:
    track = Track(SimpleNamespace(node=SimpleNamespace(grew=lambda size: None)), b"}", stored=False)  # type: ignore[arg-type]
    for serial in range(1, RING + 51):
        track.add(Entry(serial, b"x", None))
    assert (len(track.ring), track.floor) == (RING, 50)
    assert [entry.serial for entry in track.after(RING + 48, 10**18)] == [RING + 49, RING + 50]
    assert [entry.serial for entry in track.after(60, 62)] == [61, 62]
    track.add(Entry(RING + 50, b"again", None))
    assert track.ring[-1].envelope == b"x"
    for serial in range(1000, 1003):
        track.add(Entry(serial, b"x" * 1_400_000, None))
    assert [entry.serial for entry in track.ring] == [1002]


async def test_polls_hear_of_a_channel_that_could_not_be_read_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_house(tmp_path) as house:
        await house.groups.change(SERVER, "", ChangeGroup("group", add=("kept-a", "kept-b")))
        sources = [channel("kept"), Source(Reach.GROUP, "group")]
        with monkeypatch.context() as patched:

            async def fail(app: str, name: str) -> int:
                raise JournalFailed("The disk hangs.")

            patched.setattr(house.hub.journal, "head", fail)
            cursors = [(await house.poll(source))[0] for source in sources]
            await house.settle()
        house.hub.sweep()
        assert len(house.hub) == 0, "nobody is there, as far as the hub knows"
        house.places.sweep(trio.current_time())
        for source, cursor, name in zip(sources, cursors, ("kept", "kept-a"), strict=True):
            house.publish(name, "news")
            with trio.fail_after(60):
                assert data((await house.poll(source, cursor=cursor))[1]) == ["news"]


async def test_a_channel_that_is_polled_by_its_name_and_by_a_wildcard_has_one_feed(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        await house.poll(Source(Reach.PREFIX, "a."))
        await house.poll(channel("a.b"))
        await house.settle()
        assert len(feeds(house)) == 1


@pytest.mark.parametrize("at_once", [True, False])
async def test_whoever_goes_while_the_channel_can_do_nothing_is_gone_afterwards(tmp_path: Path, at_once: bool) -> None:
    async with a_house(tmp_path) as house:
        (attendee,) = house.roster.attend("1", "ada", ["room"], 20.0, {})
        await house.settle()
        tree = attendee.tree
        assert tree.state is not None
        if at_once:
            await house.roster.leave(SERVER, "", Absent(Names(("room",)), "ada"))
        else:
            house.roster.lose(attendee)
        tree.refuse_waiting(JournalFailed("The disk hangs."))
        await house.settle()
        assert not tree.state.presence


async def test_who_left_does_not_bring_a_forgotten_channel_back_when_its_time_is_over(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        (attendee,) = house.roster.attend("1", "ada", ["room"], 20.0, {})
        await house.roster.leave(SERVER, "", Absent(Names(("room",)), "ada"))
        await house.settle()
        for _ in range(3):
            house.hub.sweep()
            await house.settle()
        assert house.hub.look("1", "room") is None
        attendee.tend(trio.current_time() + 21, 0.0)
        assert not attendee.tree.running, "nobody would ever end its tasks"


async def test_a_feed_that_is_let_go_is_freed_by_its_counts(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        gc.collect()
        gc.disable()  # it does not see what was frozen
        try:
            await house.poll(channel("kept"), channel("fleeting", presence=True))
            house.publish("kept", "said")
            await house.settle()
            assert len(feeds(house)) == 2
            house.places.sweep(trio.current_time() + LINGER + 1)
            await house.settle()
            assert feeds(house) == []
        finally:
            gc.enable()


async def test_what_is_kept_for_polls_has_a_bound_in_all_and_the_journal_has_the_rest(tmp_path: Path) -> None:
    most = 800 * 1024
    names = [f"{kind}-{number}" for number in range(10) for kind in ("kept", "fleeting")]
    async with a_house(tmp_path) as house:
        house.places.use(msgspec.structs.replace(CONFIG, limits=Limits(polled=Size(most))))
        cursors = {name: (await house.poll(channel(name)))[0] for name in names}
        for word in range(6):
            for name in names:
                house.publish(name, f"{word}" + "x" * 4096)
                await house.settle()
                assert sum(track.size for feed in feeds(house) for track in feed.tracks) <= most
        left = {feed.name: len(feed.messages.ring) for feed in feeds(house)}
        assert (left["fleeting-0"], left["fleeting-9"], left["kept-0"] < 6) == (6, 6, True), "the journal has kept-0's"
        for name in [name for name in names if name.startswith("kept") or left[name] == 6]:
            assert len((await house.poll(channel(name), cursor=cursors[name]))[1]) == 6, name
        house.places.use(msgspec.structs.replace(CONFIG, limits=Limits(polled=Size(100 * 1024))))
        house.publish("fleeting-9", "one more")
        await house.settle()
        left = {feed.name: len(feed.messages.ring) for feed in feeds(house)}
        assert (left["fleeting-0"], left["fleeting-9"]) == (0, 7), "what was polled last is let go last"


async def test_above_a_crowd_single_comings_are_gathered(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        watching = [channel("room", presence=True)]
        cursor, _ = await house.poll(*watching)
        for user in "abcd":
            house.roster.attend("1", user, ["room"], 20.0, {})
        await house.settle()
        (track,) = house.places.of("1", watching[:1], WORDS)
        assert isinstance(track, Track)
        (feed,) = feeds(house)
        feed.announce()
        _, envelopes = await house.poll(*watching, cursor=cursor)
        assert [e["action"] for e in data(envelopes)] == ["join", "join", "interval"]
        assert (data(envelopes)[2]["join"], data(envelopes)[2]["occupancy"]) == (["c", "d"], 4)


async def test_a_poll_that_begins_below_a_message_in_flight_is_answered_when_that_ends_without_a_word(
    tmp_path: Path, patient_clock: trio.testing.MockClock
) -> None:
    async with a_house(tmp_path) as house:
        here, answered = Source(Reach.CHANNEL, "open"), list[Any]()
        cursor, _ = await house.poll(here)
        elsewhere = house.hub.tree("1", "kept")
        polled = Polled(Credentials(), Poll((here,), cursor), WORDS)
        assert house.polls.begin(ANYBODY, polled, house.room) is None  # type: ignore[arg-type]
        house.hub.in_flight[elsewhere] = house.hub.next_serial()
        house.publish("open", "news")
        await trio.sleep(0.01)

        async def poll_again() -> None:
            answered.append(await house.poll(here, cursor=cursor))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll_again)
            await trio.sleep(0.1)
            assert answered == []
            del house.hub.in_flight[elsewhere]
            await trio.sleep(0.1)
            nursery.cancel_scope.cancel()
        assert [envelope["d"] for _, envelopes in answered for envelope in envelopes] == ["news"]


async def test_the_groups_of_an_app_hold_so_many_channels_in_all_that_they_fit_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "MOST_IN_ALL", 5)
    async with a_house(tmp_path) as house:
        await house.groups.change(ANYBODY, "", ChangeGroup("a", add=("1", "2")))
        await house.groups.change(ANYBODY, "", ChangeGroup("b", add=("1", "2", "3")))
        with pytest.raises(TooMany):
            await house.groups.change(ANYBODY, "", ChangeGroup("b", add=("4",)))
        await house.groups.change(ANYBODY, "", ChangeGroup("a", remove=("1",)))
        await house.groups.change(ANYBODY, "", ChangeGroup("b", add=("4",)))


async def test_a_read_of_several_channels_comes_to_so_many_bytes_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sower.polling.archive.MOST_READ", 100)
    async with a_house(tmp_path) as house:
        archive = Archive(house.hub, Allowing(house.hub, Access(CONFIG.apps, Limits(), now=house.hub.now)), _uncounted)
        names = ("kept-a", "kept-b", "kept-c")
        for name in names:
            house.publish(name, "x" * 40)
        await house.settle()
        asked = [ReadHistory(name) for name in names]
        assert len((await archive.read(ANYBODY, "", ReadHistories(tuple(asked[:2])))).pages) == 2
        with pytest.raises(TooLarge):
            await archive.read(ANYBODY, "", ReadHistories(tuple(asked)))
