"""attending.py: who asked is told how many there are: at once, then at most once in TOLD_EVERY, and no other is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
import trio.testing

from sower import hub
from sower.attending import TOLD_EVERY
from sower.config import App, ChannelRule, Config
from sower.core.attendance import EVERY_USE, Attendance, Use
from sower.core.command import Appear, Subscribe
from sower.core.grants import Can
from sower.core.message import Delivery, Did
from sower.inbox import MetaChange, Subscription
from tests.test_channel_tree import Audience, House, Listener, a_house, settle

CONFIG = Config(apps=(App(id="1", key="k", secret="s" * 16),), channels=(ChannelRule(match="*"),))


class Numbers(Audience):
    """Says how many connections, publishers and members there are."""

    def word(self, channel: str, delivery: Delivery) -> bytes:
        match delivery:
            case Attendance(connections=all_of_them, publish=publish, members=members):
                return f"{all_of_them}/{publish}/{members} ".encode()
            case _:
                return b""


class Deaf(Audience):
    def word(self, channel: str, delivery: Delivery) -> bytes:
        assert not isinstance(delivery, Attendance) or channel
        return b""


NUMBERS, DEAF = Numbers(), Deaf()


def follow(house: House, *, counts: bool = False, uses: Use = EVERY_USE) -> tuple[Listener, Subscription]:
    listener = Listener()
    subscription = Subscription(house.hub.tree("1", "room"), listener, NUMBERS if counts else DEAF, None)
    subscription.begin(Subscribe("room", counts=counts), None, frozenset(Can), uses=uses)
    return listener, subscription


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[House, Listener, Subscription]]:
    async with a_house(CONFIG) as house:
        listener, subscription = follow(house, counts=True)
        await settle()
        assert listener.heard == "1/1/0 "
        yield house, listener, subscription


async def test_changes_of_a_moment_are_told_together(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as (house, listener, _):
        others = [follow(house, uses=uses) for uses in (Use.HEAR, Use.PUBLISH, EVERY_USE)]
        await settle()
        assert listener.heard == "1/1/0 "
        await trio.sleep(TOLD_EVERY * 1.5)
        assert listener.heard == "1/1/0 4/3/0 "
        for _, subscription in others[1:]:
            subscription.end(at_once=True)
        await trio.sleep(TOLD_EVERY)
        assert listener.heard == "1/1/0 4/3/0 2/1/0 "
        await trio.sleep(TOLD_EVERY * 5)
        assert listener.heard == "1/1/0 4/3/0 2/1/0 "
        assert others[0][0].heard == ""


async def test_members_count_and_whoever_follows_in_another_way_is_counted_anew(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with watched() as (_, listener, subscription):
        await trio.sleep(TOLD_EVERY * 2)
        subscription.tree.post(MetaChange(subscription, Appear("room", Did.ENTERED, None, b"null"), "ada"))
        await settle()
        assert listener.heard == "1/1/0 1/1/1 "
        again = Subscribe("room", counts=True)
        subscription.begin(again, None, frozenset(Can), uses=Use.HEAR, again=True)
        await trio.sleep(TOLD_EVERY * 2)
        assert listener.heard == "1/1/0 1/1/1 1/0/1 "


async def test_it_goes_on_after_the_channel_has_rested(autojump_clock: trio.testing.MockClock) -> None:
    async with watched() as (house, listener, _):
        await trio.sleep(hub.SWEEP_EVERY * 4)
        assert not house.hub.tree("1", "room").running
        follow(house)
        await trio.sleep(TOLD_EVERY)
        assert listener.heard == "1/1/0 2/2/0 "
