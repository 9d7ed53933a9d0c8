"""What clients are told unasked of how many there are, and where somebody is: over all nodes, in each protocol."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.cluster.conftest import Redis, cluster
from tests.e2e.daemon import KEY, PATIENCE, SECRET, Daemon
from tests.sdk.ably.test_occupancy import METRICS, until
from tests.sdk.ably.world import ABLY_KEY, HERE, connected, ok
from tests.sdk.pubnub.world import KEYSET
from tests.sdk.pusher.world import established, signed_path
from tests.sdk.script import Script
from tests.sdk.script import running as script

CONFIG = f"""
[[apps]]
id = "1001"
key = "{KEY}"
secret = "{SECRET}"
subscription_count = true

[apps.ably]
key = "{ABLY_KEY}"

[apps.pubnub]
publish_key = "{KEYSET["publishKey"]}"
subscribe_key = "{KEYSET["subscribeKey"]}"

[[channels]]
match = "present-*"
presence = true
grace = "0s"

[[channels]]
match = "*"
"""


@asynccontextmanager
async def ably(*daemons: Daemon) -> AsyncIterator[list[Script]]:
    """One process with ably-js for each daemon."""
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(script(HERE / "sdk.cjs", str(daemon.port), ABLY_KEY, "json"))
            for daemon in daemons
        ]


async def count_becomes(socket: Any, count: int) -> None:
    """Hear subscription counts until it is this one."""
    while True:
        frame = await socket.expect("pusher_internal:subscription_count")
        if json.loads(frame["data"])["subscription_count"] == count:
            return


async def test_pushers_clients_are_told_how_many_follow_on_all_nodes(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, config=CONFIG) as (one, two):
        async with established(one) as here:
            await here.subscribe("news")
            await count_becomes(here, 1)
            async with established(two) as there:
                await there.subscribe("news")
                await count_becomes(here, 2)
                await count_becomes(there, 2)
                body = json.dumps({"name": "e", "channel": "news", "data": "1", "info": "subscription_count"}).encode()
                path = signed_path("POST", "/apps/1001/events", body)
                answer = await two.request("POST", path, auth=False, content=body)
                assert answer.json()["channels"]["news"] == {"subscription_count": 2}
                await here.expect("e")
            await count_becomes(here, 1)
            async with established(two) as there:
                await there.subscribe("news")
                await count_becomes(here, 2)
                await two.stop(signal.SIGKILL)
                await count_becomes(here, 1)  # within the lease


async def test_ablys_clients_are_told_the_numbers_of_all_nodes(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, config=CONFIG) as nodes, ably(*nodes) as (here, there):
        await connected(here, "ada", clientId="ada")
        await ok(here, "attach", client="ada", channel="room", options=METRICS)
        await until(here, "ada", "room", connections=1)
        await connected(there, "bob", clientId="bob")
        await ok(there, "attach", client="bob", channel="room", options={"modes": ["PRESENCE", "PUBLISH"]})
        told = await until(here, "ada", "room", connections=2)
        assert (told["publishers"], told["subscribers"], told["presenceConnections"]) == (2, 1, 2)
        await ok(there, "enter", client="bob", channel="room")
        await until(here, "ada", "room", connections=2, presenceMembers=1)
        for script_ in (here, there):
            await ok(script_, "rest", client="server")
            status = await ok(script_, "status", client="server", channel="room")
            metrics = status["status"]["occupancy"]["metrics"]
            assert metrics == {**told, "presenceMembers": 1}
        await ok(there, "detach", client="bob", channel="room")
        await until(here, "ada", "room", connections=1, presenceMembers=0)


async def test_who_is_where_is_answered_by_any_node(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, config=CONFIG) as nodes, ably(nodes[1]) as (there,):
        one, two = nodes
        presence = f"/v2/presence/sub-key/{KEYSET['subscribeKey']}"
        for channel in ("present-a", "present-b"):
            beat = f"{presence}/channel/{channel}/heartbeat?uuid=eve&heartbeat=60"
            assert (await two.request("GET", beat, auth=False)).status_code == 200
        await connected(there, "ada", clientId="ada")
        await ok(there, "attach", client="ada", channel="present-a")
        await ok(there, "enter", client="ada", channel="present-a")
        for node in nodes:
            await found(node, presence, "eve", ["present-a", "present-b"])
            assert await where(node, presence, "ada") == ["present-a"]
            here = (await node.request("GET", f"{presence}?uuid=eve", auth=False)).json()["payload"]
            assert {name: sorted(room["uuids"]) for name, room in here["channels"].items()} == {
                "present-a": ["ada", "eve"],
                "present-b": ["eve"],
            }
            batch = await node.request(
                "GET", "/presence?channels=present-a,present-b", auth=False, headers={"Authorization": basic()}
            )
            results = batch.json()["results"]
            assert {one["channel"]: sorted(m["clientId"] for m in one["presence"]) for one in results} == {
                "present-a": ["ada", "eve"],
                "present-b": ["eve"],
            }
        gone = f"{presence}/channel/present-b/leave?uuid=eve"
        assert (await two.request("GET", gone, auth=False)).status_code == 200
        await found(one, presence, "eve", ["present-a"])
        await two.stop(signal.SIGKILL)
        await found(one, presence, "eve", [])


async def found(node: Daemon, presence: str, user: str, channels: list[str]) -> None:
    """Wait until a user is exactly there."""
    with trio.fail_after(PATIENCE):
        while True:
            if await where(node, presence, user) == channels:
                return
            await trio.sleep(0.05)


async def where(node: Daemon, presence: str, user: str) -> list[str]:
    answer = await node.request("GET", f"{presence}/uuid/{user}?uuid=asks", auth=False)
    assert answer.status_code == 200, answer.text
    return answer.json()["payload"]["channels"]


def basic() -> str:
    return "Basic " + base64.b64encode(ABLY_KEY.encode()).decode()
