"""Masters of a Redis Cluster that are away, or hang: what is on the others goes on, and all does when they are back.

Which master has what does not depend on what nodes are called: see HOMES.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trio
from coredis.connection import TCPLocation

from sower.cluster import hooks
from sower.cluster.budgets import Budgets
from sower.cluster.entries import Entered, Spoken
from sower.cluster.facts import Facts
from sower.cluster.hooks import Hooks
from sower.cluster.hub import ClusterHub
from sower.cluster.keys import Keys, left_by, said_by, shard_of, spoke_of
from sower.cluster.links import Links
from sower.cluster.node import Node
from sower.cluster.shelf import ClusterShelf
from sower.cluster.wildcards import Wildcards
from sower.cluster.words import Withdrawn
from sower.config import App, Cluster, Duration, Rate, Webhook
from sower.core.happening import Fact
from sower.core.message import Did
from sower.core.rules import RuleBook
from sower.errors import ClusterFailed
from sower.health import Health
from sower.store.audit import Audit
from sower.systemd import Systemd
from tests.cluster.conftest import Master, RedisCluster, cluster, wait_for
from tests.cluster.test_faults import until_ready
from tests.cluster.test_occupancy import become
from tests.cluster.test_presence import ROOM, token
from tests.cluster.test_presence import until as there_are
from tests.cluster.test_slots import MORE, key_of, publish
from tests.cluster.test_workers import until
from tests.e2e.daemon import CONFIG
from tests.e2e.test_webhooks import about
from tests.faults.house import CONFIG as HOUSE
from tests.faults.house import House
from tests.receiver import receiving
from tests.store.opened import opened

LEASE = 2.0

FIRST, SECOND, THIRD = "1004", "1001", "1003"
"""An app on each master, in their order. Of the shards, that of the second is the lowest."""

HOMES = {"{all}": 0, "{webhooks}": 0, "{rates}": 0, FIRST: 0, SECOND: 1, THIRD: 2}

DEAD = "deadbeef"
"""A node that is gone."""

SAID = Spoken("e", b"1", 1, None, None, None)


@asynccontextmanager
async def a_node(masters: RedisCluster, prefix: str = "", facts: Facts | None = None) -> AsyncIterator[Node]:
    config = Cluster(url=masters.url, prefix=prefix or secrets.token_hex(4), lease=Duration(LEASE))
    async with Node.open(config, RuleBook(HOUSE.channels).kept, 600.0, facts) as node:
        yield node


@contextmanager
def cut_off(node: Node, *some: Master) -> Iterator[None]:
    """A node cannot reach some masters, which others can: the way there ends at a port where nobody listens."""
    assert isinstance(node.line, Links)
    lines = [node.line._lines[TCPLocation("127.0.0.1", master.port)] for master in some]
    places = [line._place for line in lines]
    for line in lines:
        line._place = line._place.at(TCPLocation("127.0.0.1", 1))
        assert line._connection is not None
        line._drop(line._connection, "cut off")
    try:
        yield
    finally:
        for line, place in zip(lines, places, strict=True):
            line._place = place


async def decides(node: Node, app: str) -> None:
    async def stands() -> bool:
        return node.decides(node.keys(app, "a"))

    await until(stands)


class Follower:
    """Notes whether data was lost."""

    def __init__(self, node: Node, app: str) -> None:
        self.app, self.name, self.keys = app, "a", node.keys(app, "a")
        self.lost = trio.Event()

    def hear(self, payload: bytes) -> None:
        """Nothing is said."""

    def look_again(self, *, lost: bool) -> None:
        if lost:
            self.lost.set()

    def hear_numbers(self, payload: bytes) -> None:
        """Nobody is counted."""

    def count_again(self) -> None:
        """Nobody is counted."""


def test_each_app_is_where_these_tests_take_it_to_be(masters: RedisCluster) -> None:
    for name, number in HOMES.items():
        key = f"x:{name}:y".encode() if name.startswith("{") else Keys("x", name, "a").topic
        assert masters.master_of(key) is masters.masters[number]
    assert shard_of(SECOND) < min(shard_of(FIRST), shard_of(THIRD))


@pytest.mark.parametrize("away", [0, 2])
async def test_what_a_node_says_of_an_app_is_kept_up_while_another_master_is_away(
    masters: RedisCluster, away: int
) -> None:
    async with a_node(masters) as node:
        boards = {"followed": node.counts._board, "present": node.whereabouts._board, "signed_in": node.signed_in}
        keys = {kind: said_by(node.prefix, kind, node.name, SECOND).decode() for kind in boards}

        def ends(kind: str) -> int:
            return int(masters.command("PEXPIRETIME", keys[kind]))

        async def said() -> bool:
            return all(ends(kind) > 0 for kind in boards)

        for board in boards.values():
            for app in (FIRST, SECOND, THIRD):
                board.say(app, "a", b"1 1 0 0 0")
        await until(said)
        with cut_off(node, masters.masters[away]):
            for kind in boards:
                before = ends(kind)

                async def renewed(kind: str = kind, before: int = before) -> bool:
                    return ends(kind) > before

                await until(renewed)
                await until(renewed)


async def test_what_is_asked_of_an_app_is_answered_while_other_masters_are_away(masters: RedisCluster) -> None:
    prefix = secrets.token_hex(4)
    async with a_node(masters, prefix) as one, a_node(masters, prefix) as two:
        for app in (FIRST, SECOND, THIRD):
            one.signed_in.say(app, "ann", b"1")
        with cut_off(two, masters.masters[0], masters.masters[2]):

            async def seen() -> bool:
                return await two.signed_in.elsewhere_on(SECOND, "ann", [one.name]) == {one.name: b"1"}

            await until(seen)
            for app in (FIRST, THIRD):
                with pytest.raises(ClusterFailed):
                    await two.signed_in.elsewhere_on(app, "ann", [one.name])


async def test_a_master_that_is_back_is_told_again_and_read_while_another_is_still_away(masters: RedisCluster) -> None:
    async with a_node(masters) as node:
        key = said_by(node.prefix, "signed_in", node.name, THIRD).decode()
        told: list[None] = []
        node.moved.append(lambda: told.append(None))
        node.signed_in.say(THIRD, "ann", b"1")

        async def said() -> bool:
            return masters.command("EXISTS", key) == "1"

        await until(said)
        with cut_off(node, masters.masters[0]):
            with cut_off(node, masters.masters[2]):
                masters.command("DEL", key)  # as after three leases
                told.clear()
            await until(said)
            assert told
            assert not node.decides(node.keys(FIRST, "a"))


async def test_words_that_were_missed_are_heard_in_their_order_though_another_master_is_still_away(
    masters: RedisCluster,
) -> None:
    prefix = secrets.token_hex(4)
    async with a_node(masters, prefix) as one, a_node(masters, prefix) as two:
        heard: list[str] = []
        for node in (one, two):
            await node.words.read()
        two.words.learn(Withdrawn, lambda word: heard.append(word.name))
        with cut_off(two, masters.masters[2]):
            with cut_off(two, masters.masters[0]):
                await one.words.say(Withdrawn("missed", 1.0))
            await decides(two, FIRST)
            await one.words.say(Withdrawn("heard", 2.0))

            async def both() -> bool:
                return len(heard) > 1

            await until(both)
            assert heard == ["missed", "heard"]


async def test_that_data_was_lost_is_told_though_a_master_is_away(masters: RedisCluster) -> None:
    async with a_node(masters) as node:
        follower = Follower(node, SECOND)
        await node.follow(follower)
        node.signed_in.say(THIRD, "ann", b"1")
        with cut_off(node, masters.masters[2]):
            masters.command("SET", f"{node.prefix}:{{all}}:epoch", "another")
            with trio.fail_after(10):
                await follower.lost.wait()
        assert node.epoch == "another"


async def test_a_master_that_hangs_holds_up_no_lease(masters: RedisCluster) -> None:
    async with a_node(masters) as node:
        await node.say(THIRD, "a", node.keys(THIRD, "a"), [(SAID, b"n")])  # from here on its mark is looked at
        beats: list[float] = []
        renew = node._renew

        async def counted() -> bool:
            beats.append(trio.current_time())
            return await renew()

        node._renew = counted
        with masters.masters[2].hanging():
            asked = trio.current_time()
            with pytest.raises(ClusterFailed):
                await node.line.ask(b"GET", node.keys(THIRD, "a").clock)
            assert len([beat for beat in beats if beat > asked]) > 1  # five where it is quiet
        await decides(node, THIRD)


async def test_what_a_dead_node_left_is_taken_away_where_masters_are_there_and_the_rest_later(
    masters: RedisCluster,
) -> None:
    prefix = secrets.token_hex(4)
    async with a_node(masters, prefix) as node:
        for app in (SECOND, THIRD):
            noted = left_by(prefix, DEAD, shard_of(app))
            await node.line.ask(b"SADD", noted, f"{app}\0room")
            entered = Entered(int(Did.ENTERED), "ann", "c", b"null", None, None, DEAD, False, False)
            await node.append(app, "room", node.keys(app, "room"), [(entered, b"e")], DEAD)

        async def members(app: str) -> int:
            return int(masters.command("HLEN", node.keys(app, "room").here.decode()))

        async def gone() -> bool:
            return not await members(SECOND)

        async def all_gone() -> bool:
            return not await members(THIRD)

        assert (await members(SECOND), await members(THIRD)) == (1, 1)
        with cut_off(node, masters.masters[2]):
            await node.line.ask(b"ZADD", f"{prefix}:{{all}}:nodes".encode(), 1, DEAD)
            await until(gone)
            assert await members(THIRD) == 1
        await until(all_gone)


async def test_who_was_alive_is_taken_for_alive_until_there_was_time_to_come_back(masters: RedisCluster) -> None:
    async with a_node(masters) as node:
        nodes = f"{node.prefix}:{{all}}:nodes"
        masters.command("ZADD", nodes, "99999999999999", DEAD)

        async def alive() -> bool:
            return DEAD in node.living

        async def dead() -> bool:
            return DEAD not in node.living

        await until(alive)
        seen: list[bool] = []
        with cut_off(node, masters.masters[0]):
            masters.command("ZADD", nodes, "1", DEAD)  # it could not renew its lease either
            await trio.sleep(LEASE / 2 + 0.1)
            node.moved.append(lambda: seen.append(DEAD in node.living))
        await decides(node, FIRST)
        assert seen[0]
        await until(dead)


async def test_an_app_goes_on_while_the_master_of_all_is_killed_for_longer_than_three_leases(
    tmp_path: Path, masters: RedisCluster
) -> None:
    async with cluster(tmp_path, masters, 2, CONFIG + MORE, prefix="slots") as nodes:
        one, two = nodes
        async with one.socket(ROOM, token=await token(one, "ann")) as ann, two.socket("open-news") as news:
            await ann.expect("welcome")
            await news.expect("welcome")
            for node in nodes:  # they know each other
                await become(node, "open-news", {"open-news": (1, None)})
                await become(node, ROOM, {ROOM: (1, 1)})
            with masters.without(masters.masters[HOMES["{all}"]]):
                await trio.sleep(3 * LEASE + 0.5)
                async with two.socket(ROOM, token=await token(two, "bob")) as bob:
                    assert sorted((await bob.expect("welcome"))["members"]) == ["ann", "bob"]
                    assert (await ann.expect("join"))["user"] == "bob"
                    for node in nodes:
                        await become(node, ROOM, {ROOM: (2, 2)})
                    await two.publish(ROOM, "on")
                    for client in (ann, bob):
                        assert await client.events(1) == ["on"]
                assert (await ann.expect("leave"))["user"] == "bob"
                assert (await publish(two, FIRST, "refused")).status_code == 503
            for node in nodes:
                await until_ready(node)
            assert (await publish(two, FIRST, "accepted")).status_code == 200
            await trio.sleep(1.5 * LEASE)  # in which the others would be taken for dead
            await there_are(nodes, {"ann": 1})
            await two.publish(ROOM, "still")
            assert await ann.events(1) == ["still"]


async def test_an_app_is_as_it_was_when_its_master_has_hung_for_longer_than_three_leases(
    tmp_path: Path, masters: RedisCluster
) -> None:
    async with cluster(tmp_path, masters, 2, CONFIG + MORE, prefix="hung") as nodes, AsyncExitStack() as stack:
        one, two = nodes
        ann = await stack.enter_async_context(one.socket(ROOM, token=await token(one, "ann")))
        await ann.expect("welcome")
        bob = await stack.enter_async_context(two.socket(ROOM, token=await token(two, "bob")))
        await bob.expect("welcome")
        await ann.expect("join")
        other = await stack.enter_async_context(two.socket("open-news", key=key_of(FIRST)))
        await other.expect("welcome")
        with masters.masters[HOMES[SECOND]].hanging():
            over, n = trio.current_time() + 3 * LEASE + 0.5, 0
            assert (await publish(one, SECOND, "refused")).status_code == 503
            while trio.current_time() < over:
                assert (await publish(one, FIRST, n, channel="open-news")).status_code == 200
                n += 1
                await trio.sleep(0.2)
            assert await other.events(n) == list(range(n))
        wait_for(masters.is_whole)
        for node in nodes:
            await until_ready(node)
            await become(node, ROOM, {ROOM: (2, 2)})
        await one.publish(ROOM, "on")
        for client in (ann, bob):
            assert await client.events(1) == ["on"]  # nobody went, or came


async def test_what_a_channel_is_over_is_forgotten_when_its_master_is_back(masters: RedisCluster) -> None:
    async with a_node(masters) as node:
        await node.estate.note(THIRD, "a")
        await node.estate.note(THIRD, "b")
        noted = left_by(node.prefix, node.name, shard_of(THIRD)).decode()
        with cut_off(node, masters.masters[2]):
            for name in ("a", "b"):
                node.estate.end(THIRD, name)
            with pytest.raises(ClusterFailed):
                await node.estate.renew()
        await decides(node, THIRD)
        await node.estate.note(THIRD, "b")  # somebody is there again
        await node.estate.renew()
        assert masters.command("SMEMBERS", noted) == f"{THIRD}\0b"


async def test_webhooks_of_other_apps_are_told_while_a_master_is_away(
    tmp_path: Path, masters: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "BACK_WITHIN", 0.1)
    async with receiving() as receiver, opened(tmp_path, time.time) as journal:
        wanted = (Fact.OCCUPIED, Fact.VACATED, Fact.CLIENT_EVENT)
        webhooks = (Webhook(url=receiver.url, events=wanted),)
        apps = tuple(App(id=app, key=app, secret="s" * 16, webhooks=webhooks) for app in (FIRST, SECOND, THIRD))
        async with a_node(masters, facts=Facts(apps)) as node, trio.open_nursery() as nursery:
            spoken = Spoken("client-e", b"1", 1, None, None, None, speaker="0123456789abcdef")
            for app in (SECOND, THIRD):  # what the last owner told, and is over
                await node.line.ask(
                    b"SADD", f"{node.prefix}:{{webhooks}}:standing".encode(), hooks_standing(app, f"old-{app}")
                )
            with cut_off(node, masters.masters[1]):
                nursery.start_soon(Hooks(apps, node, Audit(journal), now=time.time).run)
                for app in (FIRST, THIRD):
                    await node.say(app, f"a-{app}", node.keys(app, f"a-{app}"), [(spoken, b"n")])
                await receiver.until(lambda: len(receiver.accepted) == 3)
            told = {app: about(receiver, f"a-{app}") for app in (FIRST, THIRD)}
            assert told == {FIRST: ["client_event"], THIRD: ["client_event"]}
            assert about(receiver, f"old-{THIRD}") == ["channel_vacated"]
            await decides(node, SECOND)
            await node.say(SECOND, "a", node.keys(SECOND, "a"), [(spoken, b"n")])
            await receiver.until(lambda: len(receiver.accepted) == 5)
            assert about(receiver, f"old-{SECOND}") == ["channel_vacated"]
            nursery.cancel_scope.cancel()


def hooks_standing(app: str, channel: str) -> bytes:
    from sower.cluster.outbox import _encode
    from sower.core.holdback import Standing

    return _encode(Standing(app, channel))


async def test_a_key_owes_no_more_than_a_burst_for_the_time_in_which_redis_was_away(masters: RedisCluster) -> None:
    async with a_node(masters) as node:
        rate = Rate(10, 10)
        budgets = Budgets(node).of(rate)
        with cut_off(node, masters.masters[0]):
            for second in range(30):
                assert budgets.take("k", float(second), 10) == 0.0
                with pytest.raises(ClusterFailed):
                    await budgets._settle()
        await decides(node, FIRST)
        await budgets._settle()
        assert float(masters.command("HGET", f"{node.prefix}:{{rates}}:k", "left")) >= -rate.burst


async def test_channels_with_a_dot_are_known_while_the_master_of_all_is_away(masters: RedisCluster) -> None:
    async with a_node(masters) as node, trio.open_nursery() as nursery:
        wildcards = Wildcards(node, lambda app, prefix: (), lambda app, name, serial: None, lambda app: 0)
        with cut_off(node, masters.masters[0]):
            nursery.start_soon(wildcards.run)
            wildcards.spoke(SECOND, "news.a")

            async def known() -> bool:
                return masters.command("EXISTS", spoke_of(node.prefix, SECOND).decode()) == "1"

            await until(known)
            assert await ClusterShelf(node).names_since(SECOND, "news.", 0, 9) == ["news.a"]
        nursery.cancel_scope.cancel()


async def test_a_channel_of_which_too_much_was_missed_goes_on_while_the_master_of_all_is_away(
    tmp_path: Path, masters: RedisCluster
) -> None:
    app = next(app for app in "123456789" if masters.master_of(Keys("x", app, "a").topic) is masters.masters[1])
    assert app == HOUSE.apps[0].id
    prefix = secrets.token_hex(4)
    async with (
        opened(tmp_path, time.time) as journal,
        a_node(masters, prefix) as node,
        a_node(masters, prefix) as other,
        trio.open_nursery() as nursery,
    ):
        hub = ClusterHub(HOUSE, journal, node, now=time.time)
        await nursery.start(hub.run)
        house = House(journal, hub, Health(hub, journal, Systemd("", watchdog=None)))
        listener, _ = house.follow("open-news")
        await house.publish("open-news", "before")
        keys = node.keys(app, "open-news")
        with cut_off(node, masters.masters[0]):
            with cut_off(node, masters.masters[1]):
                for _ in range(2):
                    await other.say(app, "open-news", keys, [(Spoken("e", b"missed", 1, None, None, None), b"n")])
                await other.line.ask(b"DEL", keys.latest)
            await decides(node, app)
            await house.publish("open-news", "after")

            async def heard() -> bool:
                return "after" in "".join(listener.said)

            await until(heard)
            assert "gap" in listener.said
        nursery.cancel_scope.cancel()
