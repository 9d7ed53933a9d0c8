"""Webhooks of several daemons: each event once, in order, whoever dies."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.cli.shell import sower
from tests.cluster.conftest import Redis, made
from tests.cluster.test_presence import token, until
from tests.e2e.daemon import PATIENCE, Daemon
from tests.e2e.test_webhooks import about, config, publish
from tests.receiver import Receiver, receiving

ROOM = "presence-room"


@asynccontextmanager
async def hooked(
    folder: Path, redis: Redis, receiver: Receiver, count: int = 2, **more: Any
) -> AsyncIterator[list[Daemon]]:
    """Daemons that share webhooks; the first one sends."""
    nodes = made(folder, redis, count, config(receiver.url, **more), "2s", folder.name)
    try:
        await nodes[0].start()
        with trio.fail_after(PATIENCE):
            while not redis.command("GET", key(folder, "owner")):  # noqa: ASYNC110 - a daemon has no event
                await trio.sleep(0.02)
        async with trio.open_nursery() as nursery:
            for node in nodes[1:]:
                nursery.start_soon(node.start)
        yield nodes
    finally:
        with trio.CancelScope(shield=True):
            for node in nodes:
                if node.alive:
                    await node.stop(signal.SIGKILL)


def key(folder: Path, name: str) -> str:
    return f"{folder.name}:{{webhooks}}:{name}"


async def nothing_waits(folder: Path, redis: Redis) -> None:
    """Until what was accepted is known to be."""
    with trio.fail_after(PATIENCE):
        while redis.command("HLEN", key(folder, "notices")) != "0":  # noqa: ASYNC110 - as above
            await trio.sleep(0.02)


async def test_what_happens_on_three_nodes_is_told_once_and_in_order(tmp_path: Path, redis: Redis) -> None:
    async with receiving() as receiver, hooked(tmp_path, redis, receiver, 3) as nodes:
        one, two, three = nodes
        async with (
            one.socket(ROOM, token=await token(one, "ann")) as ann,
            two.socket(ROOM, token=await token(two, "ann")) as again,
            three.socket(ROOM, token=await token(three, "bob")) as bob,
        ):
            for client in (ann, again, bob):
                await client.expect("welcome")
            await until(nodes, {"ann": 2, "bob": 1})
        async with two.socket("open-a") as here:
            await here.expect("welcome")
            async with three.socket("open-a") as there:
                await there.expect("welcome")
                await publish(here, 1)
                await receiver.until(lambda: about(receiver, "open-a").count("subscription_count") == 2)
            await receiver.until(lambda: about(receiver, "open-a").count("subscription_count") == 3)
        for node in (two, three):
            async with node.socket("cache-a") as client:
                await client.expect("welcome")
        await receiver.until(
            lambda: all("channel_vacated" in about(receiver, name) for name in (ROOM, "open-a", "cache-a"))
        )
        assert [name for name in about(receiver, ROOM) if name != "client_event"] == [
            "channel_occupied", "member_added", "member_added", "member_removed", "member_removed", "channel_vacated"
        ]  # fmt: skip
        assert sorted(e["user_id"] for e in receiver.accepted if e["name"] == "member_added") == ["ann", "bob"]
        told = {name: about(receiver, "open-a").count(name) for name in set(about(receiver, "open-a"))}
        assert told == {"channel_occupied": 1, "client_event": 1, "subscription_count": 4, "channel_vacated": 1}
        assert about(receiver, "cache-a").count("cache_miss") == 1
        assert [
            e["subscription_count"]
            for e in receiver.accepted
            if e.get("channel") == "open-a" and "subscription_count" in e
        ] == [1, 2, 1, 0]


async def test_nothing_is_lost_or_told_twice_where_the_receiver_is_away_and_both_the_sender_and_another_die(
    tmp_path: Path, redis: Redis
) -> None:
    async with receiving() as receiver:
        hooks = hooked(tmp_path, redis, receiver, 3, events=["client_event"], batch=5)
        async with hooks as (one, two, three):
            receiver.answer = lambda _: 500
            async with one.socket("open-a") as a, two.socket("open-b") as b, three.socket("open-c") as c:
                for client in (a, b, c):
                    await client.expect("welcome")
                    await publish(client, *range(10))
                await receiver.until(lambda: len(receiver.posts) > 0)
                listed = await sower(two.folder, "webhooks")
                assert "answered 500" in listed.out
                assert "sends them" in listed.out
                await two.stop(signal.SIGKILL)
                await publish(a, *range(10, 20))
                await one.stop(signal.SIGKILL)  # it is the one that sends
                await publish(c, *range(10, 20))
            receiver.answer = lambda _: 200
            await receiver.accept(50)
            await trio.sleep(0.5)
    heard = {
        channel: [e["data"] for e in receiver.accepted if e["channel"] == channel]
        for channel in ("open-a", "open-b", "open-c")
    }
    assert heard == {"open-a": list(range(20)), "open-b": list(range(10)), "open-c": list(range(20))}


async def test_members_of_a_killed_node_are_told_to_be_gone_once_by_another(tmp_path: Path, redis: Redis) -> None:
    async with receiving() as receiver, hooked(tmp_path, redis, receiver) as (one, two):
        async with (
            one.socket(ROOM, token=await token(one, "ann")) as ann,
            one.socket("presence-both", token=await token(one, "ann", "presence-both")) as here,
            two.socket("presence-both", token=await token(two, "ann", "presence-both")) as there,
        ):
            for client in (ann, here, there):
                await client.expect("welcome")
            await receiver.until(
                lambda: all("member_added" in about(receiver, room) for room in (ROOM, "presence-both"))
            )
            await nothing_waits(tmp_path, redis)
            await one.stop(signal.SIGKILL)
            await receiver.until(lambda: "channel_vacated" in about(receiver, ROOM))
            assert about(receiver, ROOM) == ["channel_occupied", "member_added", "member_removed", "channel_vacated"]
            assert about(receiver, "presence-both") == ["channel_occupied", "member_added"]


async def test_a_client_that_moves_from_a_node_that_is_stopped_was_never_gone(tmp_path: Path, redis: Redis) -> None:
    async with receiving() as receiver, hooked(tmp_path, redis, receiver) as (one, two):
        async with one.socket(ROOM, token=await token(one, "ann")) as ann:
            await ann.expect("welcome")
            await receiver.until(lambda: "member_added" in about(receiver, ROOM))
            await nothing_waits(tmp_path, redis)
            await one.stop()
        await until([two], {})
        await trio.sleep(3.5)  # pusher-js comes back within 10 s, an end is told after 3
        async with two.socket(ROOM, token=await token(two, "ann")) as ann:
            await ann.expect("welcome")
            async with two.socket("presence-b", token=await token(two, "bob", "presence-b")) as bob:
                await bob.expect("welcome")
            await receiver.until(lambda: "channel_vacated" in about(receiver, "presence-b"))
            assert about(receiver, ROOM) == ["channel_occupied", "member_added"]


async def test_webhooks_go_on_where_redis_lost_what_was_to_be_sent(tmp_path: Path, redis: Redis) -> None:
    async with receiving() as receiver, hooked(tmp_path, redis, receiver, events=["client_event"]) as (_, two):
        receiver.answer = lambda _: 500
        async with two.socket("open-a") as client:
            await client.expect("welcome")
            await publish(client, 1)
            await receiver.until(lambda: len(receiver.posts) > 0)
            redis.command("FLUSHALL")
            await client.expect("gap")
            receiver.answer = lambda _: 200
            with trio.fail_after(PATIENCE):
                while not redis.command("GET", key(tmp_path, "owner")):  # noqa: ASYNC110 - a daemon has no event
                    await trio.sleep(0.02)
            await publish(client, 2)
            with trio.fail_after(PATIENCE):
                await receiver.until(lambda: any(event["data"] == 2 for event in receiver.accepted))
