"""channel_tree.py besides messages: the event that it remembers, how many follow it, and the facts for webhooks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from sower import channel_tree
from sower.config import App, ChannelRule, Config, Duration, History
from sower.core.command import Publish, Subscribe
from sower.core.happening import Fact, Happening
from sower.core.message import CacheMiss, Counted, Delivery, Joined, Left, Message
from sower.inbox import Publication, Subscription
from tests.test_channel_tree import Audience, House, Listener, Waiting, a_house, settle

CONFIG = Config(
    apps=(App(id="1", key="k", secret="s" * 16, subscription_count=True),),
    channels=(
        ChannelRule(match="cache-kept-*", history=History()),
        ChannelRule(match="presence-*", grace=Duration(0)),
    ),
)


class Spoken(Audience):
    """Everything in a word: messages by their data, the rest by what they are."""

    def word(self, channel: str, delivery: Delivery) -> bytes:
        match delivery:
            case Message():
                return delivery.data + b" "
            case Counted():
                return b"#%d " % delivery.subscribers
            case CacheMiss():
                return b"miss "
            case Joined() | Left():
                return f"{type(delivery).__name__}({delivery.user}) ".encode()
            case _:
                return b""


SPOKEN = Spoken()


class Place:
    """A house, and the facts that it told."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.told: list[tuple[Any, ...]] = []
        house.hub.hears = lambda app, fact: True
        house.hub.happened = self._happened

    def _happened(self, app: str, happening: Happening) -> None:
        about = happening.user if happening.user is not None else happening.count
        self.told.append((happening.fact, about) if about is not None else (happening.fact,))

    def follow(self, name: str, user: str | None = None, most: int | None = None) -> tuple[Listener, Subscription]:
        listener = Listener()
        subscription = Subscription(self.house.hub.tree("1", name), listener, SPOKEN, user)
        subscription.begin(Subscribe(name, most=most), b"null" if user else None)
        return listener, subscription

    def publish(self, name: str, data: str, event: str = "e") -> None:
        self.house.hub.publish("1", Publication(Publish(name, event, data.encode()), None, None, Waiting()))


@asynccontextmanager
async def a_place() -> AsyncIterator[Place]:
    async with a_house(CONFIG) as house:
        yield Place(house)


async def test_who_comes_gets_the_last_event_first_and_then_what_is_live() -> None:
    async with a_place() as place:
        first, _ = place.follow("presence-cache-a")
        await settle()
        for word in ("one", "two"):
            place.publish("presence-cache-a", word)
        await settle()
        late, _ = place.follow("presence-cache-a")
        await settle()
        place.publish("presence-cache-a", "three")
        await settle()
        assert first.heard == "miss one two three "
        assert late.said[0] == "welcome"
        assert late.heard == "two three "


async def test_an_event_is_remembered_with_nobody_there_and_a_clients_is_not() -> None:
    async with a_place() as place:
        place.publish("presence-cache-a", "server's")
        place.publish("presence-cache-a", "client's", event="client-e")
        await settle()
        listener, _ = place.follow("presence-cache-a")
        await settle()
        assert listener.heard == "server's "


async def test_after_its_time_an_event_is_forgotten(autojump_clock: trio.testing.MockClock) -> None:
    async with a_place() as place:
        place.publish("presence-cache-a", "old")
        await trio.sleep(1801)
        listener, _ = place.follow("presence-cache-a")
        await settle()
        assert listener.heard == "miss "


async def test_only_the_first_miss_is_a_fact_until_there_was_an_event_again() -> None:
    async with a_place() as place:
        for _ in range(3):
            listener, subscription = place.follow("presence-cache-a")
            await settle()
            assert listener.heard == "miss "
            subscription.end(at_once=True)
            await settle()
        assert place.told.count((Fact.CACHE_MISS,)) == 1


async def test_each_count_is_told_to_all_and_the_newcomer_too() -> None:
    async with a_place() as place:
        ada, _ = place.follow("room")
        await settle()
        bob, leaving = place.follow("room")
        await settle()
        leaving.end(at_once=True)
        await settle()
        assert ada.heard == "#1 #2 #1 "
        assert bob.heard == "#2 "
        assert [told for told in place.told if told[0] is Fact.COUNTED] == [(Fact.COUNTED, n) for n in (1, 2, 1)]


async def test_members_are_told_by_name_and_not_counted() -> None:
    async with a_place() as place:
        ada, _ = place.follow("presence-room", "ada")
        await settle()
        place.follow("presence-room", "bob")
        await settle()
        assert ada.heard == "Joined(bob) "
        assert Fact.COUNTED not in {told[0] for told in place.told}


async def test_a_crowd_is_counted_once_in_five_seconds(autojump_clock: trio.testing.MockClock) -> None:
    async with a_place() as place:
        ada, _ = place.follow("room")
        for _ in range(channel_tree.CROWD):
            place.follow("room")
        await settle()
        begun = trio.current_time()
        for _ in range(10):
            place.follow("room")
            await trio.sleep(0.1)
        assert ada.heard == f"#{channel_tree.CROWD + 1} "
        await trio.sleep(channel_tree.COUNT_EVERY - (trio.current_time() - begun) + 0.1)
        assert ada.heard == f"#{channel_tree.CROWD + 1} #{channel_tree.CROWD + 11} "


@pytest.mark.parametrize("users", [("ada", "ada", "bob"), ("ada", "bob", "ada")])
async def test_facts_come_in_the_order_in_which_they_arose(users: tuple[str, ...]) -> None:
    async with a_place() as place:
        subscriptions = [place.follow("presence-room", user)[1] for user in users]
        await settle()
        for subscription in subscriptions:
            subscription.end(at_once=True)
        await settle()
        added = [(Fact.MEMBER_ADDED, user) for user in dict.fromkeys(users)]
        gone = [(Fact.MEMBER_REMOVED, user) for user in reversed(dict.fromkeys(reversed(users)))]
        assert [told for told in place.told if len(told) == 2] == added + gone
        assert [told for told in place.told if len(told) == 1] == [(Fact.OCCUPIED,), (Fact.VACATED,)]


async def test_who_is_turned_away_follows_nothing_and_may_come_back() -> None:
    async with a_place() as place:
        _, first = place.follow("presence-room", "ada", most=1)
        await settle()
        late, _ = place.follow("presence-room", "bob", most=1)
        await settle()
        place.publish("presence-room", "one")
        first.end(at_once=True)
        await settle()
        assert late.said == ["too_many"]
        again, _ = place.follow("presence-room", "bob", most=1)
        await settle()
        assert again.said == ["welcome"]


async def test_the_daemons_own_channels_tell_no_facts() -> None:
    async with a_place() as place:
        _, subscription = place.follow("[meta]activity")
        await settle()
        subscription.end(at_once=True)
        await settle()
        assert place.told == []
