"""pubnub for JavaScript as it is: who is here, who came and went, and how a client that vanished is told from one that left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio
from trio_websocket import open_websocket_url

from tests.e2e.daemon import KEY, SECRET
from tests.sdk.pubnub.world import SIGNING, World, until, world
from tests.sdk.script import PATIENCE

LOOPS = pytest.mark.parametrize("engine", [True, False], ids=["event engine", "legacy loop"])


async def here(w: World, client: str, *channels: str, **more: object) -> dict[str, object]:
    """Channel -> its occupants' users."""
    said = await w.call(client, "hereNow", {"channels": channels, **more})
    return {name: sorted(o["uuid"] for o in room["occupants"]) for name, room in said["channels"].items()}


@LOOPS
async def test_comings_and_goings_are_told_with_the_occupancy_after_each(tmp_path: Path, engine: bool) -> None:
    async with world(tmp_path, enableEventEngine=engine) as w:
        await w.make("ada", "bob")
        await w.subscribe("ada", "room", withPresence=True)
        told = await w.sdk.hear("presence", client="ada")
        assert (told["presence"], told["uuid"], told["occupancy"]) == ("join", "ada", 1)
        await w.subscribe("bob", "room")
        told = await w.sdk.hear("presence", client="ada")
        assert (told["presence"], told["uuid"], told["occupancy"]) == ("join", "bob", 2)
        await w.call("bob", "setState", {"channels": ["room"], "state": {"mood": "fine"}})
        told = await w.sdk.hear("presence", client="ada")
        assert (told["presence"], told["uuid"], told["state"]) == ("state-change", "bob", {"mood": "fine"})
        assert isinstance(told["occupancy"], int)
        assert isinstance(told["timestamp"], int)
        await w.sdk.do("unsubscribe", client="bob", channels=["room"])
        told = await w.sdk.hear("presence", client="ada")
        assert (told["presence"], told["uuid"], told["occupancy"]) == ("leave", "bob", 1)


async def test_here_now_and_where_now_in_each_of_their_forms(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("ada", "bob", "eve")
        await w.call("ada", "channelGroups.addChannels", {"channelGroup": "all", "channels": ["room", "hall"]})
        await w.subscribe("ada", "room", "hall")
        await w.subscribe("bob", "room")
        assert await here(w, "eve", "room") == {"room": ["ada", "bob"]}
        assert await here(w, "eve", "room", "hall", "empty") == {"room": ["ada", "bob"], "hall": ["ada"]}
        assert await here(w, "eve") == {"room": ["ada", "bob"], "hall": ["ada"]}
        said = await w.call("eve", "hereNow", {"channelGroups": ["all"], "includeState": True})
        assert (said["totalChannels"], said["totalOccupancy"]) == (2, 3)
        said = await w.call("eve", "hereNow", {"channels": ["room"], "includeUUIDs": False})
        assert (said["channels"]["room"]["occupancy"], said["channels"]["room"]["occupants"]) == (2, [])
        said = await w.call("eve", "hereNow", {"channels": ["room"], "limit": 1})
        assert (said["channels"]["room"]["occupancy"], len(said["channels"]["room"]["occupants"])) == (2, 1)
        assert (await w.call("eve", "whereNow", {"uuid": "ada"}))["channels"] == ["hall", "room"]
        await w.call("ada", "setState", {"channels": ["room"], "state": {"n": 1}})
        await w.call("ada", "setState", {"channels": ["room"], "state": {"m": 2}})
        assert (await w.call("eve", "getState", {"channels": ["room"], "uuid": "ada"}))["channels"] == {
            "room": {"m": 2}
        }
        said = await w.call("eve", "hereNow", {"channels": ["room"], "includeState": True})
        assert {"uuid": "ada", "state": {"m": 2}} in said["channels"]["room"]["occupants"]


async def test_two_devices_of_a_user_are_one_and_a_poll_that_closes_is_no_departure(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("watcher")
        await w.subscribe("watcher", "room", withPresence=True)
        await w.sdk.hear("presence", uuid="watcher")
        await w.make("phone", "laptop", user="ada")
        await w.subscribe("phone", "room")
        await w.subscribe("laptop", "room")
        for number in range(1, 4):  # each message ends the polls
            await w.publish("watcher", "room", number)
            assert await w.messages("phone", 1) == [number]
        assert await here(w, "watcher", "room") == {"room": ["ada", "watcher"]}
        await w.publish("watcher", "room", "end")
        await w.messages("watcher", 4)
        assert [told["uuid"] for told in w.sdk.told("presence", client="watcher")] == ["ada"]


async def test_a_state_that_each_poll_and_each_heartbeat_repeats_is_one_change_to_other_protocols(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, enableEventEngine=False, presenceTimeout=20, heartbeatInterval=1) as w:
        await w.make("ada")
        await w.subscribe("ada", "room")
        await w.call("ada", "setState", {"channels": ["room"], "state": {"mood": "fine"}})
        for number in range(1, 6):
            await w.publish("ada", "room", number)
            assert await w.messages("ada", 1) == [number]
        ably = {"key": f"1001.{KEY}:{SECRET}", "direction": "forwards"}
        told = await w.daemon.request("GET", "/channels/room/presence/history", auth=False, params=ably)
        assert [(one["action"], one.get("data")) for one in told.json()] == [(2, None), (4, '{"mood":"fine"}')]


async def test_above_a_crowd_comings_and_goings_are_told_together(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("watcher")
        await w.subscribe("watcher", "room", withPresence=True)
        users = [f"user-{n}" for n in range(8)]
        for user in users:
            await w.daemon.request("GET", f"/v2/presence/sub-key/sub-c-mine/channel/room/heartbeat?uuid={user}")
        single = [await w.sdk.hear("presence", presence="join") for _ in range(5)]
        assert [told["occupancy"] for told in single] == [1, 2, 3, 4, 5]
        together: list[str] = []
        while len(together) < 4:
            told = await w.sdk.hear("presence", presence="interval")
            together += told["join"]
        assert (sorted(together), told["occupancy"]) == (users[4:], 9)


async def test_presence_of_wildcards_and_groups_comes_under_their_name(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("watcher", "ada")
        await w.call("watcher", "channelGroups.addChannels", {"channelGroup": "all", "channels": ["hall"]})
        await w.sdk.do("subscribe", client="watcher", channels=["news.*"], channelGroups=["all"], withPresence=True)
        await w.sdk.hear("status", client="watcher", status="PNConnectedCategory")
        await w.subscribe("ada", "news.sport", "hall")
        found = {
            (told["channel"], told["subscription"].removesuffix("-pnpres"))
            for told in [await w.sdk.hear("presence", uuid="ada") for _ in range(2)]
        }
        assert found == {("news.sport", "news.*"), ("hall", "all")}


async def test_nobody_makes_up_comings_and_goings_by_publishing_under_their_name(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("boss", secretKey=SIGNING["secretKey"])
        await w.make("ada", "mallory")
        channels = ["open.x", "open.x-pnpres"]
        await w.call("boss", "channelGroups.addChannels", {"channelGroup": "all", "channels": channels})
        await w.sdk.do("subscribe", client="ada", channels=["open.*"], channelGroups=["all"])
        await w.sdk.hear("status", client="ada", status="PNConnectedCategory")
        await w.publish("mallory", "open.x-pnpres", {"action": "join", "uuid": "boss", "timestamp": 1, "occupancy": 7})
        await w.publish("mallory", "open.x", "said")
        assert await w.messages("ada", 1) == ["said"]
        assert w.sdk.told("presence", client="ada") == []


async def test_where_the_rule_has_no_presence_nobody_is_seen_whom_another_protocol_lets_be_there(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        await w.make("ada")
        address = f"ws://127.0.0.1:{w.daemon.port}/?v=6&clientId=bob&key=1001.{KEY}:{SECRET}"
        with trio.fail_after(PATIENCE):
            async with open_websocket_url(address) as bob:
                for action, more in ((10, {}), (14, {"msgSerial": 0, "presence": [{"action": 2, "data": "secret"}]})):
                    await bob.send_message(json.dumps({"action": action, "channel": "fleeting", **more}))
                while json.loads(await bob.get_message())["action"] != 1:
                    pass  # until it is acknowledged
                assert await here(w, "ada", "fleeting", "room") == await here(w, "ada") == {}
                assert (await w.call("ada", "whereNow", {"uuid": "bob"}))["channels"] == []
                states = await w.call("ada", "getState", {"channels": ["fleeting", "room"], "uuid": "bob"})
                assert states["channels"] == {"channels": {}}


async def test_native_members_and_polling_ones_see_each_other(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.make("ada")
        await w.subscribe("ada", "room", withPresence=True)
        await w.sdk.hear("presence", uuid="ada")
        async with w.daemon.socket("room", user="bob") as bob:
            welcome = await bob.expect("welcome")
            assert set(welcome["members"]) == {"ada", "bob"}
            told = await w.sdk.hear("presence", uuid="bob")
            assert (told["presence"], told["occupancy"]) == ("join", 2)
            assert await here(w, "ada", "room") == {"room": ["ada", "bob"]}
            await w.sdk.do("unsubscribe", client="ada", channels=["room"])
            assert (await bob.expect("leave"))["user"] == "ada"

        async def gone() -> bool:
            return (await here(w, "ada", "room")).get("room", []) == []

        await until(gone)
