"""Leases: who is taken for dead, who is not, and what a node says again that was."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from sower.cluster.counts import Numbers
from sower.cluster.keys import SHARDS, left_by, names_of, said_by, shard_of
from sower.cluster.node import Node
from sower.cluster.versions import PROTOCOL
from sower.config import Cluster, Duration
from sower.errors import ClusterFailed
from tests.cluster.conftest import Redis, cluster
from tests.cluster.test_faults import until_ready
from tests.cluster.test_presence import ROOM, token
from tests.cluster.test_workers import until

LEASE = 2.0


def a_node(redis: Redis) -> Any:
    """Which renews its lease every 0.4 seconds."""
    shared = Cluster(url=redis.url, prefix=secrets.token_hex(4), lease=Duration(LEASE))
    return Node.open(shared, lambda name: None, 600.0)


async def test_nobody_leaves_because_redis_was_away_for_longer_than_a_lease(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis) as (one, two):
        async with AsyncExitStack() as stack:
            ann = await stack.enter_async_context(one.socket(ROOM, token=await token(one, "ann")))
            await ann.expect("welcome")
            bob = await stack.enter_async_context(two.socket(ROOM, token=await token(two, "bob")))
            await bob.expect("welcome")
            await ann.expect("join")
            with redis.away():
                await trio.sleep(LEASE + 0.5)
            for node in (one, two):
                await until_ready(node)
            await trio.sleep(LEASE / 2)
            await one.publish(ROOM, "on")
            for client in (ann, bob):
                assert await client.events(1) == ["on"]


async def test_the_living_renew_their_leases_while_they_take_away_what_a_dead_one_left(redis: Redis) -> None:
    async with a_node(redis) as node:
        left, nodes = left_by(node.prefix, "deadbeef", shard_of("1")), f"{node.prefix}:{{all}}:nodes"
        for at in range(0, 8000, 1000):
            await node.line.ask(b"SADD", left, *(f"1\0channel-{n}" for n in range(at, at + 1000)))
        await node.line.ask(b"ZADD", nodes, 1, "deadbeef")

        async def begun() -> bool:
            return bool(await node.line.ask(b"KEYS", f"{node.prefix}:*channel-*:s"))

        async def lease() -> float:
            return float(await node.line.ask(b"ZSCORE", nodes, node.name))

        await until(begun)
        before = await lease()

        async def renewed() -> bool:
            return await lease() > before

        await until(renewed)
        assert await node.line.ask(b"EXISTS", left)


async def test_what_a_node_left_is_looked_for_in_all_shards_at_once(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One after the other, a Redis that is 20 ms away had not answered all within the time that a node has to end."""
    async with a_node(redis) as node:
        ask, asked, together = node.line.ask, set[bytes](), trio.Event()

        async def ask_together(command: bytes, *args: Any) -> Any:
            if command == b"SMEMBERS":
                asked.add(args[0])
                if len(asked) == SHARDS:
                    together.set()
                await together.wait()
            return await ask(command, *args)

        monkeypatch.setattr(node.line, "ask", ask_together)
        with trio.fail_after(60):
            await node.estate.bury("deadbeef")


async def test_a_node_whose_lease_was_over_says_again_all_that_it_is(redis: Redis) -> None:
    async with a_node(redis) as node:
        node.counts.set("1", "news", b"", Numbers(connections=3))
        key = said_by(node.prefix, "followed", node.name, "1")

        async def said() -> bool:
            return await node.line.ask(b"HGET", key, "news") == bytes(Numbers(connections=3))

        await until(said)
        name = await node.line.ask(b"HGET", names_of(node.prefix), node.name)
        await node.line.ask(b"DEL", key)  # as when it has said nothing for some leases
        await node.bury(node.name)
        await node.look()
        await until(said)

        async def introduced() -> bool:
            return await node.line.ask(b"HGET", names_of(node.prefix), node.name) == name

        await until(introduced)


async def test_a_node_that_could_not_say_again_what_it_is_says_it_when_it_can(redis: Redis) -> None:
    async with a_node(redis) as node:
        nodes, versions = (f"{node.prefix}:{{all}}:{name}" for name in ("nodes", "versions"))
        await node.line.ask(b"ZADD", nodes, 10**13, "00000000")
        await node.line.ask(b"HSET", versions, "00000000", f"{PROTOCOL + 2} 99.0")
        await node.bury(node.name)
        for _ in range(2):
            with pytest.raises(ClusterFailed):
                await node.look()
        await node.line.ask(b"HDEL", versions, "00000000")
        await node.look()
        assert await node.line.ask(b"HEXISTS", names_of(node.prefix), node.name)


async def test_what_redis_refused_is_said_when_it_has_room(redis: Redis) -> None:
    async with a_node(redis) as node:
        redis.command("CONFIG", "SET", "maxmemory", "1")
        try:
            node.counts.set("1", "news", b"", Numbers(connections=3))
            await trio.sleep(0.1)
        finally:
            redis.command("CONFIG", "SET", "maxmemory", "0")

        async def said() -> bool:
            return bool(await node.line.ask(b"HGET", said_by(node.prefix, "followed", node.name, "1"), "news"))

        await until(said)


@pytest.mark.parametrize("cut_off", [False, True])
async def test_a_node_that_was_taken_for_dead_notes_again_where_it_has_members(
    tmp_path: Path, redis: Redis, *, cut_off: bool
) -> None:
    prefix = secrets.token_hex(4)
    async with cluster(tmp_path, redis, 1, prefix=prefix) as (one,):
        async with one.socket(ROOM, token=await token(one, "ann")) as ann:
            await ann.expect("welcome")
            (name,) = redis.command("ZRANGE", f"{prefix}:{{all}}:nodes", "0", "-1").split()
            noted = left_by(prefix, name, shard_of("1001")).decode()
            assert ROOM in redis.command("SMEMBERS", noted)
            redis.command("DEL", noted)  # it came while the others took away what it had
            redis.command("ZREM", f"{prefix}:{{all}}:nodes", name)
            if cut_off:
                redis.command("CLIENT", "KILL", "TYPE", "PUBSUB")

            async def noted_again() -> bool:
                return ROOM in redis.command("SMEMBERS", noted)

            await until(noted_again)
