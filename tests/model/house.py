"""A hub on a real journal that goes down and comes back, its clients, and what they should know."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import trio
import trio.testing

from sower.access import Access
from sower.config import ChannelRule, Config, Duration, History, Limits, Store
from sower.core.answer import Receipt
from sower.core.command import Credentials, Publish, PublishAll
from sower.core.grants import Grant
from sower.core.message import Did, Position
from sower.core.polling import Poll, Reach, Source
from sower.dialects.ably.wire import JSON, MSGPACK
from sower.dialects.interface import HttpCall, Polled
from sower.dialects.pubnub.envelopes import Envelopes
from sower.dialects.pubnub.publish import decode_publish
from sower.hub import Hub
from sower.inbox import MetaChange, Publication, Subscription
from sower.net.keepalive import Keepalive
from sower.polling.allowing import Allowing
from sower.polling.groups import Groups
from sower.polling.places import Places
from sower.polling.polls import Polls
from sower.polling.roster import Roster
from tests.model.speakers import APP, Ably, Link, Native, Pusher, Speaker, Stretch, Transport
from tests.polling.test_polls import Room
from tests.store.opened import NOW
from tests.store.watched import WatchedJournal
from tests.test_channel_tree import Waiting

KEPT = 3
"""Messages that a channel keeps, so that some are gone before their client is back."""

GRACE = 2.0
REMEMBERED = 30.0137
"""Seconds that an id counts. No sum of WAITS and of the moments between them ends this, or a grace, to the moment."""

MOST_POLLS = 20
"""One after the other, while nothing is said."""

WAITS = (0.7, 5.3, 17.9)
CHANNELS = ("presence-kept", "kept", "presence-open", "open")
HISTORY = History(messages=KEPT)
CONFIG = Config(
    apps=(APP,),
    channels=(
        ChannelRule(match="presence-kept", history=HISTORY, grace=Duration(GRACE), client_events=True),
        ChannelRule(match="kept", history=HISTORY),
        ChannelRule(match="presence-*", grace=Duration(GRACE), client_events=True),
    ),
    store=Store(remember_ids=Duration(REMEMBERED)),
)


class Sent:
    """A publish. sender: what does not hear it. first: the one before it with the same id, where that still counts."""

    def __init__(self, number: int, name: str | None, ticket: Waiting, sender: Transport | None) -> None:
        self.number = number
        self.name = name
        self.ticket = ticket
        self.sender = sender
        self.first: Sent | None = None
        self.found: int | None = None  # its serial, where its answer was lost with the daemon

    @property
    def acknowledged(self) -> bool:
        return self.ticket.outcome is not None

    @property
    def serial(self) -> int:
        return self.found if self.found is not None else self.receipt.serial

    @property
    def receipt(self) -> Receipt:
        assert isinstance(self.ticket.outcome, Receipt), self.ticket.outcome
        return self.ticket.outcome


class Poller:
    """PubNub's: it holds a poll on every channel, and one on who is in those that say so.

    since: the serial of each channel after which it should have heard all
    """

    def __init__(self) -> None:
        self.cursor = 0
        self.since: dict[str, int] = {}
        self.heard: dict[str, list[int]] = {name: [] for name in CHANNELS}
        self.views: dict[str, set[str]] = {name: set() for name in CHANNELS}
        self._held: Any = None

    def poll(self, polls: Polls, room: Room) -> bool:
        """Ask again, as soon as the last one is answered. Whether it was."""
        for asked in range(MOST_POLLS):
            if self._held is not None and self._held.response is None:
                return asked > 0
            self.read()
            sources = [Source(Reach.CHANNEL, name, presence) for name in CHANNELS for presence in (False, True)]
            polled = Polled(Credentials(), Poll(tuple(sources), self.cursor), Envelopes("sub-k"))
            answered = polls.begin(Grant("1", "sub-k", server=True), polled, room)  # type: ignore[arg-type]
            if answered is None:
                self._held = room.held[-1]
            else:
                self._read(answered)
        raise AssertionError("polls are answered again and again")

    def read(self) -> None:
        """Read what the poll was answered, if it was; it is over."""
        if self._held is not None and self._held.response is not None:
            self._read(self._held.response)
        self._held = None

    def _read(self, response: Any) -> None:
        body = msgspec.json.decode(response.body)
        self.cursor = int(body["t"]["t"])
        self.since = self.since or dict.fromkeys(CHANNELS, self.cursor)
        for envelope in body["m"]:
            name, said = envelope["c"], envelope["d"]
            if not name.endswith("-pnpres"):
                self.heard[name].append(int(said))
            elif said["action"] == "join":
                self.views[name.removesuffix("-pnpres")].add(said["uuid"])
            elif said["action"] in ("leave", "timeout"):
                self.views[name.removesuffix("-pnpres")].remove(said["uuid"])

    def begin_again(self, order: dict[str, Sequence[Sent]], now: int) -> None:
        """The daemon came back at a serial: what is to be heard from its cursor on is what its journal has."""
        for name in CHANNELS:
            gone = [one.serial for one in order[name][:-KEPT]]
            self.since[name] = max(self.cursor, gone[-1] if gone else 0) if is_kept(name) else now
            self.heard[name].clear()
            self.views[name].clear()


def is_kept(channel: str) -> bool:
    return channel.endswith("kept")


class House:
    """The hub, its clients, and what they should know.

    sent:    what was published, without what a killed daemon took with it
    ids:     by channel and id, until when it counts and who was first
    present: by channel, connection and user, until when; None for who is there
    cut:     what was heard over transports that are gone
    """

    def __init__(self, clock: trio.testing.MockClock, folder: Path) -> None:
        self.clock = clock
        self.folder = folder
        self.speakers: tuple[Speaker, ...] = (Native(), Pusher(), Ably(JSON, "ada"), Ably(MSGPACK, "ben"))
        self.links = {(at, name): Link(one, name) for at, one in enumerate(self.speakers) for name in CHANNELS}
        self.poller = Poller()
        self.sent: dict[str, list[Sent]] = {name: [] for name in CHANNELS}
        self.ids: dict[tuple[str, str], tuple[float, Sent]] = {}
        self.present: dict[str, dict[tuple[str, str], float | None]] = {name: {} for name in CHANNELS}
        self.cut: list[tuple[Link, Transport, Stretch]] = []
        self._published = self._sockets = self._lives = self._boots = 0
        self._over = False
        self._up = trio.Event()

    # The daemon

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """One life of the daemon after the other."""
        while not self._over:
            self._down = trio.Event()
            async with self._a_life():
                if not self._lives:
                    self.poller.poll(self.polls, self.room)
                    await self.settle()
                    task_status.started()
                self._lives += 1
                self._up.set()
                await self._down.wait()

    @asynccontextmanager
    async def _a_life(self) -> AsyncIterator[None]:
        opening = WatchedJournal.open(
            str(self.folder / "sower.db"), sync="normal", remember_ids=REMEMBERED, keep_audit=60.0,
            rules_fingerprint="", boot_id=str(self._boots), now=lambda: NOW + trio.current_time(),
        )  # fmt: skip
        async with opening as self.journal, trio.open_nursery() as nursery:
            self.hub = hub = Hub(CONFIG, self.journal, now=self.journal.now)
            await nursery.start(hub.run)
            allowing = Allowing(hub, Access(CONFIG.apps, Limits(), now=hub.now))
            groups, keepalive, self.room = Groups(hub.shelf, allowing), Keepalive(hub.now), Room()
            places = Places(hub, groups, CONFIG)
            roster = Roster(hub, allowing, groups, keepalive, Limits())
            self.polls = Polls(hub, allowing, groups, roster, places, nursery)
            for run in (self.polls.run, places.run, keepalive.run):
                nursery.start_soon(run)
            for speaker in self.speakers:
                speaker.serve(self.journal.epoch)
            yield
            nursery.cancel_scope.cancel()

    def end(self) -> None:
        self._over = True
        self._down.set()

    async def settle(self) -> None:
        """Let everything happen that was begun."""
        await self.journal.quiet()
        self.clock.jump(0.002)  # polls look again after a moment
        await self.journal.quiet()

    async def poll(self) -> None:
        """Have the one who polls hear all that there is, and wait for more."""
        while self.poller.poll(self.polls, self.room):
            await self.settle()

    async def wait(self, seconds: float) -> None:
        """Let time pass, in which nobody who polls is between two polls."""
        await self.settle()
        await self.poll()
        self.clock.jump(seconds)
        await self.settle()

    async def restart(self, how: str) -> None:
        """Have the daemon end, or killed, or the machine lose its power; and come back on the same journal."""
        for link in self.links.values():
            if link.transport is not None:
                link.read()
                self._hang_up(link)
        self.poller.read()
        doubts = {name: [one for one in sent if not one.acknowledged] for name, sent in self.sent.items()}
        for doubt in (one for doubts_of_one in doubts.values() for one in doubts_of_one):
            doubt.ticket = Waiting()  # whatever it is answered now, nobody hears it
        if how != "end":
            killed = self.folder.parent / str(self._lives)
            self.folder = Path(shutil.copytree(self.folder, killed))
        self._boots += how == "power"
        self._up = trio.Event()
        self._down.set()
        await self._up.wait()
        self.clock.jump(0.1)
        await self._find_out(doubts)
        self.ids = {key: known for key, known in self.ids.items() if is_kept(key[0]) and known[1].serial}
        self.present = {name: {} for name in CHANNELS}
        self.poller.begin_again({name: self._order(name) for name in CHANNELS}, self.hub.next_serial())
        self.poller.poll(self.polls, self.room)
        await self.settle()

    async def _find_out(self, doubts: dict[str, list[Sent]]) -> None:
        """Which of the publishes that were never answered are there."""
        for name, doubtful in doubts.items():
            rows = await self.journal.select(
                "SELECT data, serial FROM messages WHERE channel = (SELECT id FROM channels WHERE name = ?)", (name,)
            )
            serials = {int(data): serial for data, serial in rows}
            for one in doubtful:
                one.found = serials.get(one.number)
                if one.found is None:
                    self.sent[name].remove(one)
                    if one.name is not None and self.ids.get((name, one.name), (0, None))[1] is one:
                        del self.ids[name, one.name]

    # What happens

    def attach(self, link: Link, since: Position | None = None) -> None:
        speaker = link.speaker
        self._sockets += 1
        name = f"c-{speaker.user}" if isinstance(speaker, Ably) else f"s{self._sockets}"
        link.transport = Transport(name)
        command = speaker.subscribe(link.channel, since)
        is_member = not isinstance(speaker, Ably) and link.channel.startswith("presence-")
        user = speaker.user if is_member else None
        subscription = Subscription(self.hub.tree("1", link.channel), link.transport, speaker.audience, user)
        subscription.grace = command.grace if command.grace is not None else speaker.grace
        subscription.begin(command, b"null" if is_member else None)
        link.subscription = subscription
        present = self.present[link.channel]
        if is_member:
            present[name, speaker.user] = None
        elif (name, speaker.user) in present and self._is_present(link.channel, (name, speaker.user)):
            present[name, speaker.user] = None  # it came back under the same name

    def leave(self, link: Link, *, at_once: bool) -> None:
        assert link.subscription is not None
        assert link.transport is not None
        link.read()
        grace = link.subscription.grace if link.subscription.grace is not None else GRACE
        link.subscription.end(at_once=at_once)
        present, key = self.present[link.channel], (link.transport.connection, link.speaker.user)
        if present.get(key, 0.0) is None:
            present[key] = trio.current_time() + (0.0 if at_once else grace)
        self._hang_up(link)

    def _hang_up(self, link: Link) -> None:
        assert link.transport is not None
        if link.transport.welcomed:
            self.cut.append((link, link.transport, link.stretches[-1]))
        link.transport.closed = True
        link.transport = link.subscription = None

    def appear(self, link: Link, did: Did) -> None:
        speaker = link.speaker
        if isinstance(speaker, Ably) and link.subscription is not None and link.transport is not None:
            key = (link.transport.connection, speaker.user)
            there = self.present[link.channel].get(key, 0.0) is None
            link.subscription.tree.post(MetaChange(link.subscription, speaker.appear(link.channel, did), speaker.user))
            if did is not Did.LEFT:
                self.present[link.channel][key] = None
            elif there:
                del self.present[link.channel][key]

    def publish(self, at: int, channel: str, name: str | None, echo: bool) -> Sent | None:
        """at: which speaker, one more for PubNub's, over HTTP. None where it cannot."""
        speaker = self.speakers[at] if at < len(self.speakers) else None
        link = self.links.get((at, channel))
        if isinstance(speaker, Native | Pusher) and (link is None or link.transport is None):
            return None  # only who follows a channel publishes there over its socket
        self._published += 1
        if speaker is None:
            publish = _pubnub(channel, self._published)
        else:
            publish = speaker.publish(channel, self._published, name, echo)
        sender = link.transport if link is not None and not publish.echo else None
        sent = Sent(self._published, publish.id if publish.id == name else None, Waiting(), sender)
        self.sent[channel].append(sent)
        if sent.name is not None:
            until, first = self.ids.get((channel, sent.name), (0.0, None))
            sent.first = first if trio.current_time() < until else None
            if sent.first is None:
                self.ids[channel, sent.name] = (trio.current_time() + REMEMBERED, sent)
        self.hub.publish("1", Publication(publish, None, sender, sent.ticket))
        return sent

    # What must be so

    async def check(self) -> None:
        """Everything, when nothing is under way."""
        await self.poll()
        for channel, sent in self.sent.items():
            for one in sent:
                assert one.found is not None or one.receipt.fresh == (one.first is None)
                assert one.first is None or one.serial == one.first.serial
            order = self._order(channel)
            assert [one.serial for one in order] == sorted({one.serial for one in order})
            if is_kept(channel):
                page = await self.journal.page("1", channel, limit=2 * KEPT, history=HISTORY)
                assert [(int(m.data), m.serial) for m in page.messages] == [(o.number, o.serial) for o in order[-KEPT:]]
            users = Counter(user for name, user in self.present[channel] if self._is_present(channel, (name, user)))
            self._check_hub(channel, users)
            assert self.poller.heard[channel] == [o.number for o in order if o.serial > self.poller.since[channel]]
            if channel.startswith("presence-"):
                assert self.poller.views[channel] == set(users)
            for (_, name), link in self.links.items():
                if name == channel and link.transport is not None:
                    link.read()
                    stretch = link.stretches[-1]
                    assert stretch.heard == self._due(link, link.transport, stretch, order)
                    self._check_break(link, stretch, order)
                    if channel.startswith("presence-") or isinstance(link.speaker, Ably):
                        assert link.view == set(users), (channel, link.speaker)
        for link, transport, stretch in self.cut:
            due = self._due(link, transport, stretch, self._order(link.channel))
            assert stretch.heard == due[: len(stretch.heard)], "something else was heard before it was cut"
        self.cut.clear()

    def _order(self, channel: str) -> list[Sent]:
        """What was published on a channel, without what said an id again."""
        return [one for one in self.sent[channel] if one.first is None]

    def _is_present(self, channel: str, key: tuple[str, str]) -> bool:
        until = self.present[channel].get(key, 0.0)
        return until is None or until > trio.current_time()

    def _check_hub(self, channel: str, users: Mapping[str, int]) -> None:
        tree = self.hub.look("1", channel)
        presence = tree.state.presence if tree is not None and tree.state is not None else None
        members = presence.view() if presence is not None else ()
        assert {member.user: member.connections for member in members} == users

    def _due(
        self, link: Link, transport: Transport, stretch: Stretch, order: list[Sent]
    ) -> list[tuple[int, int | None]]:
        """What is to be heard from where a client was told that its stream begins."""
        return [
            (one.number, None if isinstance(link.speaker, Pusher) else one.serial)
            for one in order
            if one.serial > stretch.start and (one.sender is not transport or one.serial <= stretch.replayed)
        ]

    def _check_break(self, link: Link, stretch: Stretch, order: list[Sent]) -> None:
        """Who wanted to go on from somewhere was told whether something between is missing, and truly."""
        if stretch.since is None:
            return
        since = stretch.since.serial
        lost = [one for one in order if since < one.serial <= stretch.start]
        assert not (stretch.resumed and lost), "a break was kept quiet"
        assert stretch.resumed != stretch.told_of_a_gap
        missed = [one for one in order if since < one.serial]
        if stretch.since.epoch != self.journal.epoch:
            assert stretch.told_of_a_gap, "another epoch's position is a gap"
        elif is_kept(link.channel) and len(missed) <= KEPT:
            assert stretch.resumed, "a break was told that was none"


def _pubnub(channel: str, number: int) -> Publish:
    path = f"/publish/pub-k/sub-k/0/{quote(channel)}/0/{number}"
    call = HttpCall("GET", path, {"sub": "sub-k", "pub": "pub-k", "channel": channel}, {}, {}, b"")
    command = decode_publish({"sub-k": "pub-k"}, call).command
    assert isinstance(command, PublishAll)
    return command.publishes[0]
