"""Who is here, on all nodes the same: however they came, went, or were cut off."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import trio

from tests.cluster.conftest import Redis, cluster
from tests.e2e.daemon import Client, Daemon

PATIENCE = 15.0
ROOM = "presence-room"


async def token(daemon: Daemon, user: str, channel: str = ROOM) -> str:
    return (await daemon.request("POST", f"/channels/{channel}/auth", json={"user": user})).json()["token"]


async def members(daemon: Daemon, channel: str = ROOM) -> dict[str, int]:
    answer = await daemon.request("GET", f"/presence/{channel}")
    assert answer.status_code == 200, answer.text
    return {member["user"]: member["connections"] for member in answer.json()["members"]}


async def until(daemons: list[Daemon], there: dict[str, int], within: float = PATIENCE) -> None:
    """Wait until all of these see exactly these members."""
    seen: list[Any] = []
    with trio.move_on_after(within):
        while True:
            seen = [await members(daemon) for daemon in daemons]
            if all(one == there for one in seen):
                return
            await trio.sleep(0.05)
    raise AssertionError(f"{seen} and not {there}")


async def heard(client: Client, until_: Callable[[dict[str, Any]], bool]) -> list[tuple[str, str]]:
    """What is told of members, up to and with a frame."""
    told: list[tuple[str, str]] = []
    while True:
        frame = await client.hear()
        told.append((frame["type"], frame.get("user", "")))
        if until_(frame):
            return told


async def test_members_of_two_nodes_are_members_of_one_channel(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis) as nodes:
        one, two = nodes
        async with one.socket(ROOM, token=await token(one, "ann")) as ann:
            assert sorted((await ann.expect("welcome"))["members"]) == ["ann"]
            async with two.socket(ROOM, token=await token(two, "bob")) as bob:
                assert sorted((await bob.expect("welcome"))["members"]) == ["ann", "bob"]
                assert (await ann.expect("join"))["user"] == "bob"
                async with two.socket(ROOM, token=await token(two, "ann")) as again:
                    await again.expect("welcome")
                    await until(nodes, {"ann": 2, "bob": 1})
                await until(nodes, {"ann": 1, "bob": 1})
                await ann.send(type="presence", meta={"mood": "good"})
                assert (await bob.expect("update"))["meta"] == {"mood": "good"}
                await ann.expect("update")
            assert (await ann.expect("leave"))["user"] == "bob"
        await until(nodes, {})


async def test_members_of_a_killed_node_go_once_within_the_lease(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, 3) as nodes:
        one, two, three = nodes
        async with AsyncExitStack() as stack:
            bob = await stack.enter_async_context(two.socket(ROOM, token=await token(two, "bob")))
            await bob.expect("welcome")
            cid = await stack.enter_async_context(three.socket(ROOM, token=await token(three, "cid")))
            await cid.expect("welcome")
            await bob.expect("join")
            async with one.socket(ROOM, token=await token(one, "ann")) as ann:
                await ann.expect("welcome")
                for other in (bob, cid):
                    await other.expect("join")
                began = trio.current_time()
                await one.stop(signal.SIGKILL)
            for other in (bob, cid):
                assert (await other.expect("leave"))["user"] == "ann"
            assert trio.current_time() - began < PATIENCE  # the lease of 2 s and a look each second, when it is quiet
            await until([two, three], {"bob": 1, "cid": 1})
            await two.publish(ROOM, "on")
            for other in (bob, cid):
                assert await other.events(1) == ["on"]  # nobody went twice


async def test_a_node_that_hangs_past_its_lease_says_its_members_again(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis) as nodes:
        one, two = nodes
        async with AsyncExitStack() as stack:
            ann = await stack.enter_async_context(one.socket(ROOM, token=await token(one, "ann")))
            await ann.expect("welcome")
            bob = await stack.enter_async_context(two.socket(ROOM, token=await token(two, "bob")))
            await bob.expect("welcome")
            await ann.expect("join")
            assert one.process is not None
            one.process.send_signal(signal.SIGSTOP)
            assert (await bob.expect("leave"))["user"] == "ann"
            await until([two], {"bob": 1})
            one.process.send_signal(signal.SIGCONT)
            assert (await bob.expect("join"))["user"] == "ann"
            await until(nodes, {"ann": 1, "bob": 1})


async def test_members_outlive_redis_and_who_went_meanwhile_is_gone(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis) as nodes:
        one, two = nodes
        async with one.socket(ROOM, token=await token(one, "ann")) as ann, AsyncExitStack() as stack:
            await ann.expect("welcome")
            bob = await stack.enter_async_context(two.socket(ROOM, token=await token(two, "bob")))
            await bob.expect("welcome")
            await ann.expect("join")
            with redis.away():
                await stack.aclose()
                await until([one], {"ann": 1, "bob": 1})  # nobody can say so now
            assert (await ann.expect("leave"))["user"] == "bob"
            await until(nodes, {"ann": 1})


async def test_members_are_said_again_where_redis_lost_them(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis) as nodes:
        one, two = nodes
        async with AsyncExitStack() as stack:
            ann = await stack.enter_async_context(one.socket(ROOM, token=await token(one, "ann")))
            await ann.expect("welcome")
            bob = await stack.enter_async_context(two.socket(ROOM, token=await token(two, "bob")))
            await bob.expect("welcome")
            await ann.expect("join")
            redis.command("FLUSHALL")
            for client in (ann, bob):
                await client.expect("gap")
            await until(nodes, {"ann": 1, "bob": 1})
            await trio.sleep(3)  # the lease: then whoever was not said again would be gone
            await until(nodes, {"ann": 1, "bob": 1})
            async with two.socket(ROOM, token=await token(two, "cid")) as cid:
                assert sorted((await cid.expect("welcome"))["members"]) == ["ann", "bob", "cid"]
                await until(nodes, {"ann": 1, "bob": 1, "cid": 1})
                for client in (ann, bob):
                    assert (await client.expect("join"))["user"] == "cid"


async def test_a_daemon_that_is_stopped_takes_its_members_with_it_at_once(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, lease="30s") as nodes:
        one, two = nodes
        async with two.socket(ROOM, token=await token(two, "bob")) as bob:
            await bob.expect("welcome")
            async with one.socket(ROOM, token=await token(one, "ann")) as ann:
                await ann.expect("welcome")
                await bob.expect("join")
                await one.stop()
            assert (await bob.expect("leave"))["user"] == "ann"
            await until([two], {"bob": 1})
