"""What clients and servers put down at one node is there at all: groups, actions on messages, tokens revoked, apps."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.cluster.conftest import Redis, cluster, made
from tests.e2e.daemon import PATIENCE, Daemon
from tests.sdk.pubnub.test_access import allowing
from tests.sdk.pubnub.world import CONFIG, HERE, KEYSET, SIGNING, World
from tests.sdk.script import running as script


@asynccontextmanager
async def pubnub(nodes: list[Daemon]) -> AsyncIterator[World]:
    """One process with PubNub's SDK, whose clients are spread over nodes."""
    async with script(HERE / "client.cjs", str(nodes[0].port), json.dumps(KEYSET)) as sdk:
        await sdk.hear("ready")
        yield World(nodes[0], sdk)


def at(node: Daemon) -> dict[str, str]:
    """The options of a client of this node."""
    return {"origin": f"127.0.0.1:{node.port}"}


async def refused(world: World, client: str, channel: str) -> None:
    failed = await world.fail(client, "publish", {"channel": channel, "message": 2})
    assert (failed["statusCode"], failed["errorData"]["message"]) == (403, "Token is revoked")


async def test_groups_actions_and_revoked_tokens_are_those_of_all_nodes_and_of_later_ones(
    tmp_path: Path, redis: Redis
) -> None:
    later = tmp_path / "later"
    later.mkdir()
    (third,) = made(later, redis, 1, CONFIG, "2s", "shelf")
    async with cluster(tmp_path, redis, config=CONFIG, prefix="shelf") as nodes, pubnub(nodes) as w:
        one, two = nodes
        await w.make("ada", **at(one))
        await w.make("bob", **at(two))
        await w.make("boss", secretKey=SIGNING["secretKey"], **at(one))
        # A group that is changed at one node is another one for who follows it at the other.
        await w.call("ada", "channelGroups.addChannels", {"channelGroup": "family", "channels": ["kitchen", "garden"]})
        await w.sdk.do("subscribe", client="bob", channelGroups=["family"])
        await w.sdk.hear("status", client="bob", status="PNConnectedCategory")
        await w.publish("ada", "kitchen", "soup")
        assert await w.messages("bob", 1) == ["soup"]
        await w.call("ada", "channelGroups.addChannels", {"channelGroup": "family", "channels": ["attic"]})
        await w.call("ada", "channelGroups.removeChannels", {"channelGroup": "family", "channels": ["kitchen"]})
        await w.publish("ada", "kitchen", "unheard")
        await w.publish("ada", "attic", "dust")
        assert await w.messages("bob", 1) == ["dust"]
        # Actions on a message.
        about = {"channel": "attic", "messageTimetoken": await w.publish("ada", "attic", "look")}
        assert await w.messages("bob", 1) == ["look"]
        smile = {**about, "action": {"type": "reaction", "value": "smile"}}
        added = await w.call("ada", "addMessageAction", smile)
        assert (await w.sdk.hear("action", client="bob", action="added"))["data"]["value"] == "smile"
        assert (await w.fail("ada", "addMessageAction", smile))["statusCode"] == 409
        await w.call("bob", "addMessageAction", smile)
        for client in ("ada", "bob"):
            found = (await w.call(client, "getMessageActions", {"channel": "attic"}))["data"]
            assert [(one["uuid"], one["value"]) for one in found] == [("ada", "smile"), ("bob", "smile")]
        page = await w.call("bob", "fetchMessages", {"channels": ["attic"], "includeMessageActions": True})
        assert len(page["channels"]["attic"][1]["actions"]["reaction"]["smile"]) == 2
        token = added["data"]["actionTimetoken"]
        await w.make("boss two", secretKey=SIGNING["secretKey"], **at(two))
        await w.call("boss two", "removeMessageAction", {**about, "actionTimetoken": token})
        assert (await w.sdk.hear("action", client="bob", action="removed"))["data"]["actionTimetoken"] == token
        found = (await w.call("ada", "getMessageActions", {"channel": "attic"}))["data"]
        assert [one["uuid"] for one in found] == ["bob"]
        # A token that is revoked at one node is none at the other.
        shown = await w.call("boss", "grantToken", allowing("private-a"))
        for client in ("ada", "bob"):
            await w.sdk.do("token", client=client, token=shown)
            await w.publish(client, "private-a", 1)
        await w.call("boss", "revokeToken", shown)
        for client in ("ada", "bob"):
            await refused(w, client, "private-a")
        # And all of it is so for a daemon that starts later.
        await third.start()
        try:
            await w.make("cid", **at(third))
            found = await w.call("cid", "channelGroups.listChannels", {"channelGroup": "family"})
            assert found["channels"] == ["garden", "attic"]
            assert len((await w.call("cid", "getMessageActions", {"channel": "attic"}))["data"]) == 1
            await w.sdk.do("token", client="cid", token=shown)
            await refused(w, "cid", "private-a")
        finally:
            await third.stop(signal.SIGKILL)


async def ids(node: Daemon) -> list[str]:
    return [app["id"] for app in (await node.request("GET", "/apps")).json()["apps"]]


async def become(node: Daemon, expected: list[str]) -> None:
    seen: Any = None
    with trio.move_on_after(PATIENCE):
        while True:
            seen = await ids(node)
            if seen == expected:
                return
            await trio.sleep(0.05)
    raise AssertionError(f"{seen} and not {expected}")


async def test_an_app_that_is_added_to_one_node_is_one_of_all_also_after_a_restart(
    tmp_path: Path, redis: Redis
) -> None:
    async with cluster(tmp_path, redis) as nodes:
        one, two = nodes
        first = (await one.request("POST", "/apps", json={})).json()
        assert "id" in first, first
        await become(two, ["1001", first["id"]])
        async with two.socket("open-news", key=first["key"]) as client:
            await client.expect("welcome")
            second = (await two.request("POST", "/apps", json={})).json()
            assert second["id"] != first["id"]
            await become(one, ["1001", first["id"], second["id"]])
            await two.request("DELETE", f"/apps/{second['id']}")
            await become(one, ["1001", first["id"]])
            await one.stop()
            await one.start(keep_config=True)
            assert await ids(one) == ["1001", first["id"]]
            third = (await one.request("POST", "/apps", json={})).json()
            assert third["id"] not in (first["id"], second["id"]), "an id is given once"
            await become(two, ["1001", first["id"], third["id"]])
            redis.command("FLUSHALL")
            await client.expect("gap")
            await one.request("DELETE", f"/apps/{first['id']}")
            assert (await client.closing())[1] == "unknown_key"
        await become(two, ["1001", third["id"]])
