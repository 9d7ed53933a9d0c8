"""Attach, publish, drop and resume over several channels: every subscriber's stream is the channel's order from its
attach point on, or it is told of the break.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from sower.config import App, ChannelRule, Config, History
from sower.core.answer import SocketAnswer, Welcome
from sower.core.command import Publish, SocketCommand, Subscribe
from sower.core.message import Delivery, Message
from sower.dialects.ably import serials
from sower.dialects.ably.channels import ChannelWords
from sower.dialects.ably.wire import JSON
from sower.hub import Hub
from sower.inbox import Publication, Subscription
from sower.store.journal import Page, Stored
from tests.test_channel_tree import Listener, MemoryJournal, Waiting

CHANNELS = ("kept-a", "kept-b", "open")
CLIENTS = ("ada", "bob")
KEPT = 4


class Lines:
    """A frame a line, so that they are told apart without a socket."""

    def __init__(self, words: ChannelWords) -> None:
        self._words = words

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> bytes:
        return b"".join([frame + b"\n" for frame in self._words.encode(channel, deliveries)])


WORDS = Lines(ChannelWords(JSON, "e0"))


class ShortJournal(MemoryJournal):
    """It keeps the last few messages, and says what it no longer has."""

    async def append(
        self, app: str, channel: str, messages: Sequence[Message], history: History, **more: Any
    ) -> list[Stored]:
        return await super().append(app, channel, messages, history)

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
        page = await super().since(app, channel, serial, upto=upto, limit=1000, history=history)
        rows = self.rows.get((app, channel), [])
        trimmed = rows[-KEPT - 1].serial if len(rows) > KEPT else 0
        kept = [message for message in page.messages if message.serial > trimmed]
        return Page(kept[:limit], gap=serial < trimmed, more=len(kept) > limit)


class Client(Listener):
    """One transport of a client: it reads its frames as an SDK does, and keeps the last serial of each channel."""

    def __init__(self, state: dict[str, str], streams: dict[str, list[str]]) -> None:
        super().__init__()
        self.state = state
        self.streams = streams

    def write(self, data: bytes) -> None:
        if not self.closed:
            super().write(data)

    def answer(self, command: SocketCommand, answer: SocketAnswer) -> None:
        self.said.append((command, answer))

    answer_ahead = answer

    def read(self) -> None:
        """Take in what came, in its order."""
        for said in self.said:
            if isinstance(said, tuple):
                command, welcome = said
                assert isinstance(command, Subscribe)
                assert isinstance(welcome, Welcome)
                if not welcome.resumed:
                    self.streams[welcome.channel].append("attached")
                self.state[welcome.channel] = serials.position(welcome.follows or welcome.position)
            elif said != "gap":
                for line in said.splitlines():
                    frame = msgspec.json.decode(line)
                    self.streams[frame["channel"]] += [message["serial"] for message in frame["messages"]]
                    self.state[frame["channel"]] = frame["channelSerial"]
        self.said.clear()


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["publish", "publish", "attach", "drop"]), st.sampled_from(CLIENTS), st.sampled_from(CHANNELS)
    ),
    max_size=40,
)


@given(steps=STEPS, waits=st.lists(st.booleans(), min_size=40, max_size=40))
@settings(max_examples=60, deadline=None)
def test_every_stream_is_the_channels_order_or_the_break_is_told(
    steps: list[tuple[str, str, str]], waits: list[bool]
) -> None:
    trio.run(play, steps, waits)


async def play(steps: list[tuple[str, str, str]], waits: list[bool]) -> None:
    rules = (ChannelRule(match="kept-*", history=History(messages=KEPT)),)
    config = Config(apps=(App(id="1", key="k", secret="s" * 16),), channels=rules)
    hub = Hub(config, ShortJournal(), now=lambda: 1_700_000_000.0)  # type: ignore[arg-type]
    order: dict[str, list[str]] = {name: [] for name in CHANNELS}
    states: dict[str, dict[str, str]] = {name: {} for name in CLIENTS}
    streams = {name: {channel: list[str]() for channel in CHANNELS} for name in CLIENTS}
    clients = {name: Client(states[name], streams[name]) for name in CLIENTS}
    following: dict[tuple[str, str], Subscription] = {}
    tickets: list[tuple[str, Waiting]] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        for (what, name, channel), wait in zip(steps, waits, strict=False):
            if what == "publish":
                ticket = Waiting()
                tickets.append((channel, ticket))
                hub.publish("1", Publication(Publish(channel, "e", b"1"), None, None, ticket))
            elif what == "attach" and (name, channel) not in following:
                attach(hub, clients[name], name, channel, following)
            elif what == "drop":
                await settle()
                clients[name].read()
                clients[name].closed = True
                mine = [key for key in following if key[0] == name]
                for key in mine:
                    following.pop(key).end()
                clients[name] = Client(states[name], streams[name])
                for _, followed in mine:
                    attach(hub, clients[name], name, followed, following)
            if wait:
                await settle()
        await settle()
        for client in clients.values():
            client.read()
        for channel, ticket in tickets:
            order[channel].append(serials.write(ticket.outcome.serial, "e0"))  # type: ignore[union-attr]
        nursery.cancel_scope.cancel()
    for name, of_client in streams.items():
        for channel, stream in of_client.items():
            check(stream, order[channel], attached=(name, channel) in following)


def attach(hub: Hub, client: Client, name: str, channel: str, following: dict[tuple[str, str], Subscription]) -> None:
    last = client.state.get(channel)
    subscription = Subscription(hub.tree("1", channel), client, WORDS, None)
    subscription.begin(Subscribe(channel, serials.read(last) if last else None), None)
    following[name, channel] = subscription


def check(stream: list[str], order: list[str], *, attached: bool) -> None:
    """Each stretch between two breaks is a stretch of the channel's order, and the last one reaches its end."""
    stretch: list[str] = []
    for word in [*stream, "attached"]:
        if word != "attached":
            stretch.append(word)
            continue
        if stretch:
            begin = order.index(stretch[0])
            assert stretch == order[begin : begin + len(stretch)]
        last, stretch = stretch, []
    if attached and last:
        assert last[-1] == order[-1]


async def settle() -> None:
    await trio.testing.wait_all_tasks_blocked()
