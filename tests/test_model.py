"""One model of channels, presence, recovery and publish ids, with a client of every protocol on one hub.

Rule 1: a client's stream is the channel's order from where it was told that it begins, and it was told of every break.
Rule 2: a publish id is stored once, whichever protocols say it.
Rule 3: who is present is the same in the hub, and in what each protocol's clients were told.

SOWER_MODEL_RUNS says how many lives of a hub are tried.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import msgspec
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from sower.access import Access
from sower.config import AblySettings, App, ChannelRule, Config, Duration, History, Limits
from sower.core.answer import Connected, Receipt, Welcome
from sower.core.command import Appear, Credentials, Publish, PublishAll, Subscribe
from sower.core.grants import Grant
from sower.core.message import Did, Position
from sower.core.polling import Poll, Reach, Source
from sower.dialects.ably import serials
from sower.dialects.ably.channels import ChannelWords
from sower.dialects.ably.socket import AblyConversation, Manner
from sower.dialects.ably.wire import JSON, MSGPACK, Format
from sower.dialects.interface import HttpCall, Polled
from sower.dialects.native.socket import NativeConversation
from sower.dialects.native.words import ENCODER as NATIVE
from sower.dialects.pubnub.envelopes import Envelopes
from sower.dialects.pubnub.publish import decode_publish
from sower.dialects.pusher.socket import PusherConversation
from sower.dialects.pusher.words import ENCODER as PUSHER
from sower.hub import Hub
from sower.inbox import MetaChange, Publication, Subscription
from sower.net.framing import FramedAudience
from sower.net.keepalive import Keepalive
from sower.polling.allowing import Allowing
from sower.polling.groups import Groups
from sower.polling.places import Places
from sower.polling.polls import Polls
from sower.polling.roster import Roster
from sower.store.journal import Page
from tests.polling.test_polls import Room
from tests.test_channel_tree import MemoryJournal, Waiting

RUNS = int(os.environ.get("SOWER_MODEL_RUNS", "60"))

APP = App(id="1", key="k", secret="s" * 16)
KEPT = 3
"""Messages that a channel keeps, so that some are gone before their client is back."""

GRACE, ABLY_GRACE = 2.0, 15.0
CHANNELS = ("presence-kept", "presence-open", "open")
RULES = (
    ChannelRule(match="presence-kept", history=History(messages=KEPT), grace=Duration(GRACE), client_events=True),
    ChannelRule(match="presence-*", grace=Duration(GRACE), client_events=True),
)
CONFIG = Config(apps=(APP,), channels=RULES)
SESSION = SimpleNamespace(id="0123456789ab7")
BEGAN = 1_700_000_000.0
WAITS = (0.7, 5.3, 17.9)
"""Seconds; no sum of them ends a grace period to the moment."""


class ShortJournal(MemoryJournal):
    """It keeps the last few messages, and says what it no longer has."""

    async def since(self, app: str, channel: str, serial: int, *, limit: int, **more: Any) -> Page:
        page = await super().since(app, channel, serial, limit=1000, **more)
        rows = self.rows.get((app, channel), [])
        trimmed = rows[-KEPT - 1].serial if len(rows) > KEPT else 0
        kept = [message for message in page.messages if message.serial > trimmed]
        return Page(kept[:limit], gap=serial < trimmed, more=len(kept) > limit)


class Prefixed:
    """A framing for whoever reads frames out of a list: the length, and the frame."""

    def text(self, payload: bytes) -> bytes:
        return len(payload).to_bytes(4, "big") + payload

    binary = text

    @staticmethod
    def split(data: bytes) -> list[bytes]:
        frames = []
        while data:
            end = 4 + int.from_bytes(data[:4], "big")
            frames.append(data[4:end])
            data = data[end:]
        return frames


FRAMING = Prefixed()


class Transport:
    """A subscriber as a session is one: what it is told, in its order."""

    def __init__(self, connection: str) -> None:
        self.connection = connection
        self.closed = False
        self.said: list[Any] = []
        self._held: list[Any] | None = None

    def write(self, data: bytes) -> None:
        if not self.closed:
            (self.said if self._held is None else self._held).extend(Prefixed.split(data))

    def write_ahead(self, data: bytes) -> None:
        self.said.extend(Prefixed.split(data))

    def answer(self, command: Any, answer: Any) -> None:
        self.said.append((command, answer))

    answer_ahead = answer

    def refuse(self, command: Any, error: Exception) -> None:
        raise error

    def turn_away(self, subscription: Subscription, command: Subscribe, error: Exception) -> None:
        raise error

    def tell_gap(self, channel: str, since: Position, position: Position) -> None:
        self.said.append("gap")

    def hold(self) -> None:
        self._held = []

    def release(self) -> None:
        self.said.extend(self._held or [])
        self._held = None

    async def drained(self) -> None:
        await trio.lowlevel.checkpoint()


class Stretch:
    """What a client heard from one beginning on.

    since: where it wanted to go on. replayed: up to where it is told its own messages too, which nobody keeps apart
    """

    def __init__(self, since: Position | None, welcome: Welcome) -> None:
        self.start = (welcome.follows or welcome.position).serial
        self.since = since
        self.replayed = welcome.position.serial
        self.resumed = welcome.resumed
        self.told_of_a_gap = False
        self.heard: list[int] = []


class Native:
    """Sower's own protocol: a channel a socket, a member by subscribing, since= the last serial."""

    resumes, user, grace = True, "ada", None
    audience = FramedAudience(NATIVE, FRAMING, "native")  # type: ignore[arg-type]

    def subscribe(self, channel: str, since: Position | None) -> Subscribe:
        (command,) = NativeConversation(channel, since).begin()
        assert isinstance(command, Subscribe)
        return command

    def publish(self, channel: str, number: int, name: str | None, echo: bool) -> Publish:
        frame = {"type": "publish", "event": "e", "data": number, "echo": echo, **({"id": name} if name else {})}
        (command,) = NativeConversation(channel, None).receive(SESSION, msgspec.json.encode(frame), is_text=True)
        assert isinstance(command, Publish)
        return command

    def welcomed(self, link: Link, command: Subscribe, welcome: Welcome) -> None:
        said = msgspec.json.decode(NativeConversation(link.channel, None).answer(SESSION, command, welcome))
        link.view = set(said.get("members", ()))

    def read(self, link: Link, frame: bytes) -> None:
        said = msgspec.json.decode(frame)
        if said["type"] == "event":
            link.hear(int(said["data"]), Position("e0", int(said["serial"])))
        elif said["type"] == "join":
            link.view.add(said["user"])
        elif said["type"] == "leave":
            link.view.remove(said["user"])


class Pusher:
    """Pusher's: it does not resume, and its client events go to all others."""

    resumes, user, grace = False, "pam", None
    audience = FramedAudience(PUSHER, FRAMING, "pusher")  # type: ignore[arg-type]
    conversation = PusherConversation(APP)

    def subscribe(self, channel: str, since: Position | None) -> Subscribe:
        frame = {"event": "pusher:subscribe", "data": {"channel": channel}}
        if channel.startswith("presence-"):
            frame["data"] |= {"auth": "k:00", "channel_data": '{"user_id":"pam"}'}  # type: ignore[operator]
        (command,) = self.conversation.receive(SESSION, msgspec.json.encode(frame), is_text=True)
        assert isinstance(command, Subscribe)
        return command

    def publish(self, channel: str, number: int, name: str | None, echo: bool) -> Publish:
        frame = {"event": "client-e", "channel": channel, "data": number}
        (command,) = self.conversation.receive(SESSION, msgspec.json.encode(frame), is_text=True)
        assert isinstance(command, Publish)
        return command

    def welcomed(self, link: Link, command: Subscribe, welcome: Welcome) -> None:
        said = msgspec.json.decode(self.conversation.answer(SESSION, command, welcome))
        data = msgspec.json.decode(said["data"])
        link.view = set(data.get("presence", {}).get("ids", ()))

    def read(self, link: Link, frame: bytes) -> None:
        said = msgspec.json.decode(frame)
        data = msgspec.json.decode(said["data"]) if isinstance(said["data"], str) else said["data"]
        if said["event"] == "pusher_internal:member_added":
            link.view.add(data["user_id"])
        elif said["event"] == "pusher_internal:member_removed":
            link.view.remove(data["user_id"])
        else:
            link.hear(int(data), None)


class Ably:
    """Ably's, in either format: members by entering, each connection one, and a connection that outlives its socket."""

    resumes, grace = True, ABLY_GRACE

    def __init__(self, wire: Format, user: str) -> None:
        self.user = user
        self.wire = wire
        self.words = ChannelWords(wire, "e0")
        self.audience = FramedAudience(self.words, FRAMING, "ably")  # type: ignore[arg-type]
        self.decode = (msgspec.msgpack if wire.binary else msgspec.json).decode
        self.numbers = 0

    def conversation(self, echo: bool = True) -> AblyConversation:
        params = {"echo": str(echo).lower()}
        conversation = AblyConversation(Manner(self.wire, self.words, "e0", AblySettings(), 25.0), params)
        (connect,) = conversation.begin()
        conversation.answer(SESSION, connect, Connected(f"c-{self.user}", "", self.user, False))
        return conversation

    def say(self, frame: dict[str, Any], echo: bool = True) -> Any:
        self.numbers += 1
        said = self.wire.encode({"msgSerial": self.numbers, **frame})
        (command,) = self.conversation(echo).receive(SESSION, said, is_text=not self.wire.binary)
        return command

    def subscribe(self, channel: str, since: Position | None) -> Subscribe:
        serial = {"channelSerial": serials.position(since)} if since is not None else {}
        command = self.say({"action": 10, "channel": channel, **serial})
        assert isinstance(command, Subscribe)
        return command

    def publish(self, channel: str, number: int, name: str | None, echo: bool) -> Publish:
        message = {"name": "e", "data": str(number), "encoding": "json", **({"id": name} if name else {})}
        command = self.say({"action": 15, "channel": channel, "messages": [message]}, echo)
        assert isinstance(command, PublishAll)
        return command.publishes[0]

    def appear(self, channel: str, did: Did) -> Appear:
        action = {Did.ENTERED: 2, Did.LEFT: 3, Did.UPDATED: 4}[did]
        command = self.say({"action": 14, "channel": channel, "presence": [{"action": action, "clientId": self.user}]})
        assert isinstance(command, Appear)
        return command

    def welcomed(self, link: Link, command: Subscribe, welcome: Welcome) -> None:
        link.members = set()
        words = self.conversation().answer(SESSION, command, welcome)
        for frame in words if isinstance(words, tuple) else (words,):
            self.read(link, frame)

    def read(self, link: Link, frame: bytes) -> None:
        said = self.decode(frame)
        for message in said.get("messages", ()):
            link.hear(int(message["data"]), serials.read(said["channelSerial"]))
        for member in said.get("presence", ()):
            who = (member["connectionId"], member["clientId"])
            (link.members.discard if member["action"] == 3 else link.members.add)(who)
        link.view = {user for _, user in link.members}


Speaker = Native | Pusher | Ably


class Link:
    """A client on a channel: over one transport after the other."""

    def __init__(self, speaker: Speaker, channel: str) -> None:
        self.speaker = speaker
        self.channel = channel
        self.transport: Transport | None = None
        self.subscription: Subscription | None = None
        self.last: Position | None = None
        self.stretches: list[Stretch] = []
        self.view: set[str] = set()
        self.members: set[tuple[str, str]] = set()

    def hear(self, number: int, at: Position | None) -> None:
        self.stretches[-1].heard.append(number)
        self.last = at

    def read(self) -> None:
        """Take in what came, as an SDK does."""
        assert self.transport is not None
        for said in self.transport.said:
            if isinstance(said, bytes):
                self.speaker.read(self, said)
            elif said == "gap":
                self.stretches[-1].told_of_a_gap = True
            elif isinstance(said[1], Welcome):
                command, welcome = said
                self.stretches.append(Stretch(command.since, welcome))
                self.last = welcome.follows or welcome.position
                self.speaker.welcomed(self, command, welcome)
        self.transport.said.clear()


class Poller:
    """PubNub's: it holds a poll on every channel, and one on who is in those that say so."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.start = 0
        self.cursor = 0
        self.heard: dict[str, list[int]] = {name: [] for name in CHANNELS}
        self.views: dict[str, set[str]] = {name: set() for name in CHANNELS}
        self._held: Any = None

    def poll(self) -> None:
        """Ask again, as soon as the last one is answered."""
        while self._held is None or self._held.response is not None:
            response = None if self._held is None else self._held.response
            self._held = None
            while response is not None:
                self._read(response)
                response = None
            sources = [Source(Reach.CHANNEL, name, presence) for name in CHANNELS for presence in (False, True)]
            polled = Polled(Credentials(), Poll(tuple(sources), self.cursor), Envelopes("sub-k"))
            answered = self._house.polls.begin(Grant("1", "sub-k", server=True), polled, self._house.room)  # type: ignore[arg-type]
            if answered is None:
                self._held = self._house.room.held[-1]
                return
            self._read(answered)

    def _read(self, response: Any) -> None:
        body = msgspec.json.decode(response.body)
        self.cursor = int(body["t"]["t"])
        self.start = self.start or self.cursor
        for envelope in body["m"]:
            name, said = envelope["c"], envelope["d"]
            if not name.endswith("-pnpres"):
                self.heard[name].append(int(said))
            elif said["action"] == "join":
                self.views[name.removesuffix("-pnpres")].add(said["uuid"])
            elif said["action"] in ("leave", "timeout"):
                self.views[name.removesuffix("-pnpres")].remove(said["uuid"])


class Sent:
    """A publish. sender: what does not hear it. first: the one before it with the same id, where that still counts."""

    def __init__(self, number: int, ticket: Waiting, sender: Transport | None, first: Sent | None) -> None:
        self.number = number
        self.ticket = ticket
        self.sender = sender
        self.first = first

    @property
    def receipt(self) -> Receipt:
        assert isinstance(self.ticket.outcome, Receipt), self.ticket.outcome
        return self.ticket.outcome


class House:
    """The hub, its clients, and what they should know."""

    def __init__(self, clock: trio.testing.MockClock, hub: Hub, polls: Polls, room: Room) -> None:
        self.clock = clock
        self.hub = hub
        self.polls = polls
        self.room = room
        self.speakers: tuple[Speaker, ...] = (Native(), Pusher(), Ably(JSON, "ada"), Ably(MSGPACK, "ben"))
        self.links = {(at, name): Link(one, name) for at, one in enumerate(self.speakers) for name in CHANNELS}
        self.poller = Poller(self)
        self.sent: dict[str, list[Sent]] = {name: [] for name in CHANNELS}
        self.ids: dict[tuple[str, str], tuple[float, Sent]] = {}
        self.present: dict[str, dict[tuple[str, str], float | None]] = {name: {} for name in CHANNELS}
        self.sockets = 0

    async def settle(self) -> None:
        await trio.testing.wait_all_tasks_blocked()
        self.clock.jump(0.002)  # polls look again after a moment
        await trio.testing.wait_all_tasks_blocked()

    # What happens

    def attach(self, link: Link, since: Position | None = None) -> None:
        speaker = link.speaker
        self.sockets += 1
        name = f"c-{speaker.user}" if isinstance(speaker, Ably) else f"s{self.sockets}"
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
        elif (name, speaker.user) in present and self.is_present(link.channel, (name, speaker.user)):
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
        link.transport.closed = True
        link.transport = link.subscription = None

    def appear(self, link: Link, did: Did) -> None:
        speaker, key = link.speaker, None
        if isinstance(speaker, Ably) and link.subscription is not None and link.transport is not None:
            key = (link.transport.connection, speaker.user)
            there = self.present[link.channel].get(key, 0.0) is None
            link.subscription.tree.post(MetaChange(link.subscription, speaker.appear(link.channel, did), speaker.user))
            if did is not Did.LEFT:
                self.present[link.channel][key] = None
            elif there:
                del self.present[link.channel][key]

    def publish(self, at: int, channel: str, name: str | None, echo: bool) -> None:
        speaker = self.speakers[at] if at < len(self.speakers) else None
        link = self.links.get((at, channel))
        if isinstance(speaker, Native | Pusher) and (link is None or link.transport is None):
            return  # only who follows a channel publishes there over its socket
        number = sum(map(len, self.sent.values()))
        if speaker is None:
            call = HttpCall(
                "GET",
                f"/publish/pub-k/sub-k/0/{quote(channel)}/0/{number}",
                {"sub": "sub-k", "pub": "pub-k", "channel": channel},
                {},
                {},
                b"",
            )
            command = decode_publish({"sub-k": "pub-k"}, call).command
            assert isinstance(command, PublishAll)
            publish = command.publishes[0]
        else:
            publish = speaker.publish(channel, number, name, echo)
        sender = link.transport if link is not None and not publish.echo else None
        first = None
        if publish.id is not None and name is not None and publish.id == name:
            until, first = self.ids.get((channel, name), (0.0, None))
            first = first if trio.current_time() < until else None
        ticket = Waiting()
        sent = Sent(number, ticket, sender, first)
        self.hub.publish("1", Publication(publish, None, sender, ticket))
        self.sent[channel].append(sent)
        if publish.id == name and name is not None and first is None:
            forever = self.hub.rules.of(channel).history is not None
            until = trio.current_time() + (1e9 if forever else self.hub.remember_ids)
            self.ids[channel, name] = (until, sent)

    # What must be so

    def is_present(self, channel: str, key: tuple[str, str]) -> bool:
        until = self.present[channel].get(key, 0.0)
        return until is None or until > trio.current_time()

    def check(self) -> None:
        """Everything, when nothing is under way."""
        self.poller.poll()
        for channel, sent in self.sent.items():
            for one in sent:
                if one.first is not None:
                    assert (one.receipt.serial, one.receipt.fresh) == (one.first.receipt.serial, False)
                else:
                    assert one.receipt.fresh
            order = sorted((one for one in sent if one.first is None), key=lambda one: one.receipt.serial)
            assert [one.number for one in order] == [one.number for one in sent if one.first is None]
            users = {user for name, user in self.present[channel] if self.is_present(channel, (name, user))}
            self._check_hub(channel, users)
            told = [one.number for one in order if one.receipt.serial > self.poller.start]
            assert self.poller.heard[channel] == told
            for (_, name), link in self.links.items():
                if name == channel and link.transport is not None:
                    link.read()
                    self._check_stretch(link, order)
                    if channel.startswith("presence-") or isinstance(link.speaker, Ably):
                        assert link.view == users, (channel, link.speaker)
        for name in CHANNELS:
            if name.startswith("presence-"):
                users = {user for key, user in self.present[name] if self.is_present(name, (key, user))}
                assert self.poller.views[name] == users

    def _check_hub(self, channel: str, users: set[str]) -> None:
        tree = self.hub.look("1", channel)
        presence = tree.state.presence if tree is not None and tree.state is not None else None
        assert {member.user for member in (presence.view() if presence is not None else ())} == users

    def _check_stretch(self, link: Link, order: list[Sent]) -> None:
        stretch = link.stretches[-1]
        due = [one for one in order if one.receipt.serial > stretch.start]
        assert stretch.heard == [
            one.number for one in due if one.sender is not link.transport or one.receipt.serial <= stretch.replayed
        ]
        if stretch.since is not None:
            since = stretch.since.serial
            lost = [one for one in order if since < one.receipt.serial <= stretch.start]
            assert not (stretch.resumed and lost), "a break was kept quiet"
            assert stretch.resumed != stretch.told_of_a_gap
            missed = [one for one in order if since < one.receipt.serial]
            if self.hub.rules.of(link.channel).history is not None and len(missed) <= KEPT:
                assert stretch.resumed, "a break was told that was none"


@asynccontextmanager
async def a_house(clock: trio.testing.MockClock) -> AsyncIterator[House]:
    journal: Any = ShortJournal()
    hub = Hub(CONFIG, journal, now=lambda: BEGAN + trio.current_time())
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        allowing = Allowing(hub, Access(CONFIG.apps, Limits(), now=hub.now))
        groups = Groups(journal, allowing)
        places, room, keepalive = Places(hub, groups, CONFIG), Room(), Keepalive(hub.now)
        roster = Roster(hub, allowing, groups, keepalive, Limits())
        polls = Polls(hub, allowing, groups, roster, places, nursery)
        for run in (polls.run, places.run, keepalive.run):
            nursery.start_soon(run)
        yield House(clock, hub, polls, room)
        nursery.cancel_scope.cancel()


WHO = st.integers(0, 3)
WHERE = st.sampled_from(CHANNELS)
SPEAK = st.tuples(
    st.just("publish"), st.integers(1, 3), st.integers(0, 4), WHERE, st.sampled_from([None, None, "a"]), st.booleans()
)
ATTACH = st.tuples(st.just("attach"), WHO, WHERE)
STEP = st.one_of(
    SPEAK,
    SPEAK,
    SPEAK,
    ATTACH,
    ATTACH,
    st.tuples(st.just("leave"), WHO, WHERE),
    st.tuples(st.sampled_from(["drop", "lose"]), WHO),
    st.tuples(st.just("appear"), st.integers(2, 3), WHERE, st.sampled_from(list(Did))),
    st.tuples(st.just("wait"), st.sampled_from(WAITS)),
    st.just(("settle",)),
)


@given(steps=st.lists(STEP, min_size=25, max_size=60))
@settings(max_examples=RUNS, deadline=None)
def test_every_client_hears_the_order_or_of_a_break_ids_are_stored_once_and_all_see_the_same_members(
    steps: list[tuple[Any, ...]],
) -> None:
    clock = trio.testing.MockClock()
    trio.run(live, clock, steps, clock=clock)


async def live(clock: trio.testing.MockClock, steps: list[tuple[Any, ...]]) -> None:
    async with a_house(clock) as house:
        house.poller.poll()
        await house.settle()
        for step in steps:
            await do(house, *step)
        await house.settle()
        house.check()


async def do(house: House, what: str, *how: Any) -> None:
    if what == "publish":
        for _ in range(how[0]):
            house.publish(*how[1:])
    elif what == "attach":
        link = house.links[how]
        if link.transport is None:
            house.attach(link, link.last if link.speaker.resumes else None)
    elif what == "leave":
        link = house.links[how]
        if link.transport is not None:
            await house.settle()
            house.leave(link, at_once=True)
    elif what in ("drop", "lose"):
        await house.settle()
        for link in [link for (at, _), link in house.links.items() if at == how[0] and link.transport is not None]:
            house.leave(link, at_once=False)
            if what == "drop":
                house.attach(link, link.last if link.speaker.resumes else None)
    elif what == "appear":
        house.appear(house.links[how[:2]], how[2])
    else:
        if what == "wait":
            await house.settle()
            house.clock.jump(how[0])
        await house.settle()
        house.check()
