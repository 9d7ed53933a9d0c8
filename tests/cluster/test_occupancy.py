"""How many follow a channel and who is there, asked of a node on which nobody does."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import trio

from tests.cluster.conftest import Redis, cluster
from tests.cluster.test_presence import token, until
from tests.e2e.daemon import Daemon

PATIENCE = 10.0


async def listed(daemon: Daemon, prefix: str) -> dict[str, tuple[int, int | None]]:
    answer = await daemon.request("GET", f"/channels?prefix={prefix}")
    assert answer.status_code == 200, answer.text
    return {one["channel"]: (one["subscribers"], one.get("members")) for one in answer.json()["channels"]}


async def become(daemon: Daemon, prefix: str, there: dict[str, tuple[int, int | None]]) -> None:
    seen: Any = None
    with trio.move_on_after(PATIENCE):
        while True:
            seen = await listed(daemon, prefix)
            if seen == there:
                return
            await trio.sleep(0.05)
    raise AssertionError(f"{seen} and not {there}")


async def test_channels_are_counted_over_all_nodes_by_any_of_them(nodes: list[Daemon]) -> None:
    one, two, three = nodes
    async with one.socket("open-counted") as a, two.socket("open-counted") as b, two.socket("open-counted") as c:
        for client in (a, b, c):
            await client.expect("welcome")
        for node in nodes:
            await become(node, "open-counted", {"open-counted": (3, None)})
    await become(three, "open-counted", {})


async def test_members_are_seen_from_a_node_on_which_nobody_follows(nodes: list[Daemon]) -> None:
    one, two, three = nodes
    room = "presence-counted"
    async with (
        one.socket(room, token=await token(one, "ann", room)) as ann,
        two.socket(room, token=await token(two, "bob", room)) as bob,
    ):
        await ann.expect("welcome")
        await bob.expect("welcome")
        answer = (await three.request("GET", f"/presence/{room}")).json()
        assert sorted(member["user"] for member in answer["members"]) == ["ann", "bob"]
        await become(three, room, {room: (2, 2)})


async def test_subscribers_of_a_killed_node_count_until_its_lease_is_over(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis) as (one, two):
        async with one.socket("open-news") as here, two.socket("open-news") as there:
            await here.expect("welcome")
            await there.expect("welcome")
            await become(two, "open-", {"open-news": (2, None)})
            await one.stop(signal.SIGKILL)
            await become(two, "open-", {"open-news": (1, None)})
            await until([two], {})
