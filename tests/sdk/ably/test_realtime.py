"""ably-js and ably-python Realtime, unmodified, in both formats: connect, attach, publish, presence, history, resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio_websocket import open_websocket_url

from tests.sdk.ably.world import ABLY_KEY, LIMITED_KEY, connected, heard, ok, refused, world

WIRES = ["json", "msgpack"]
BOTH = [(wire, sdk) for wire in WIRES for sdk in ("sdk.cjs", "sdk.py")]


@pytest.mark.parametrize(("wire", "sdk"), BOTH)
async def test_what_one_publishes_another_gets_as_it_was(tmp_path: Path, wire: str, sdk: str) -> None:
    async with world(tmp_path, wire, sdk=sdk) as (_, script):
        ada = await connected(script, "ada", clientId="ada")
        await connected(script, "bob")
        await ok(script, "attach", client="bob", channel="room")
        sent = ["text", {"an": ["object"]}, {"bytes": "AAEC/w=="}, None, "[1] is text too"]
        for value in sent:
            result = await ok(script, "publish", client="ada", channel="room", messages=[{"name": "e", "data": value}])
            got = await heard(script, "bob", "room")
            assert (got.get("data"), got["name"], got["user"], got["connection"]) == (value, "e", "ada", ada)
            assert result["serials"] == [got["serial"]]


@pytest.mark.parametrize(("wire", "sdk"), BOTH)
async def test_several_messages_in_one_publish_are_acknowledged_together_and_stay_together(
    tmp_path: Path, wire: str, sdk: str
) -> None:
    async with world(tmp_path, wire, sdk=sdk) as (_, script):
        await connected(script, "ada")
        await ok(script, "attach", client="ada", channel="room")
        messages = [{"name": str(n), "data": n * "x", "extras": {"headers": {"n": n}}} for n in range(5)]
        result = await ok(script, "publish", client="ada", channel="room", messages=messages)
        got = [await heard(script, "ada", "room") for _ in messages]
        assert [m["serial"] for m in got] == result["serials"] == sorted(result["serials"])
        assert [m["extras"] for m in got] == [m["extras"] for m in messages]


@pytest.mark.parametrize(("wire", "sdk"), [("json", "sdk.cjs"), ("msgpack", "sdk.py")])
async def test_messages_that_share_a_frame_come_one_by_one_and_a_client_goes_on_behind_the_last(
    tmp_path: Path, wire: str, sdk: str
) -> None:
    async with world(tmp_path, wire, sdk=sdk) as (_, script):
        ada = await connected(script, "ada", clientId="ada")
        await connected(script, "bob")
        await ok(script, "attach", client="bob", channel="room")
        messages = [{"name": str(n), "data": "x" * 400} for n in range(150)]
        result = await ok(script, "publish", client="ada", channel="room", messages=messages)
        got = [await heard(script, "bob", "room") for _ in messages]
        assert [m["name"] for m in got] == [m["name"] for m in messages]
        assert {(m["user"], m["connection"]) for m in got} == {("ada", ada)}
        assert [m["serial"] for m in got] == result["serials"]
        assert len({m["id"] for m in got}) == len(messages)
        await script.do("drop", client="bob")
        await script.hear("state", client="bob", state="disconnected")
        await ok(script, "publish", client="ada", channel="room", messages=messages)
        got = [await heard(script, "bob", "room") for _ in messages]
        assert [m["name"] for m in got] == [m["name"] for m in messages]
        assert script.told("message", client="bob") == []


async def test_who_wants_no_echo_gets_none_of_its_own(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "quiet", echoMessages=False)
        await connected(script, "other")
        for client in ("quiet", "other"):
            await ok(script, "attach", client=client, channel="room")
        await ok(script, "publish", client="quiet", channel="room", messages=[{"name": "own"}])
        await ok(script, "publish", client="other", channel="room", messages=[{"name": "others"}])
        assert (await heard(script, "other", "room"))["name"] == "own"
        assert (await heard(script, "quiet", "room"))["name"] == "others"


@pytest.mark.parametrize(("wire", "sdk"), BOTH)
async def test_presence_enters_updates_and_leaves_reach_everybody_and_newcomers_get_all_members(
    tmp_path: Path, wire: str, sdk: str
) -> None:
    async with world(tmp_path, wire, sdk=sdk) as (_, script):
        ada = await connected(script, "ada", clientId="ada")
        await connected(script, "bob", clientId="bob")
        for client in ("ada", "bob"):
            await ok(script, "attach", client=client, channel="room")
        await script.do("watch", client="bob", channel="room")
        await ok(script, "enter", client="ada", channel="room", data={"mood": "good"})
        await ok(script, "update", client="ada", channel="room", data="fine")
        told = [(await script.hear("presence", client="bob"))["presence"] for _ in range(2)]
        members = await ok(script, "members", client="bob", channel="room")
        assert [(m["user"], m["connection"], m["data"]) for m in members] == [("ada", ada, "fine")]
        await ok(script, "leave", client="ada", channel="room")
        told.append((await script.hear("presence", client="bob"))["presence"])
        assert [(m["action"], m["user"], m["data"]) for m in told] == [
            ("enter", "ada", {"mood": "good"}),
            ("update", "ada", "fine"),
            ("leave", "ada", "fine"),
        ]


async def test_one_connection_may_enter_for_many_and_a_crowd_is_synced_in_pages(tmp_path: Path) -> None:
    async with world(tmp_path, "msgpack") as (_, script):
        await connected(script, "host")
        await ok(script, "attach", client="host", channel="room")
        for n in range(250):
            await script.do("enter", client="host", channel="room", user=f"user {n}", data={"bytes": "/w=="})
        for _ in range(250):
            assert (await script.hear("enter"))["enter"] is True
        await connected(script, "late")
        await ok(script, "attach", client="late", channel="room")
        members = await ok(script, "members", client="late", channel="room")
        assert {m["user"] for m in members} == {f"user {n}" for n in range(250)}
        assert all(m["data"] == {"bytes": "/w=="} for m in members)
        await script.do("watch", client="late", channel="room")
        await ok(script, "detach", client="host", channel="room")
        gone = {(await script.hear("presence", client="late"))["presence"]["user"] for _ in range(250)}
        assert len(gone) == 250


@pytest.mark.parametrize(("wire", "sdk"), BOTH)
async def test_a_client_whose_socket_is_cut_comes_back_as_the_same_connection_and_misses_nothing(
    tmp_path: Path, wire: str, sdk: str
) -> None:
    async with world(tmp_path, wire, sdk=sdk) as (_, script):
        ada = await connected(script, "ada", clientId="ada")
        await connected(script, "bob", clientId="bob")
        for client in ("ada", "bob"):
            await ok(script, "attach", client=client, channel="room")
        await script.do("watch", client="bob", channel="room")
        await ok(script, "enter", client="ada", channel="room")
        await script.hear("presence", client="bob")
        await script.do("drop", client="ada")
        await script.hear("state", client="ada", state="disconnected")
        for n in range(20):
            await ok(script, "publish", client="bob", channel="room", messages=[{"name": str(n)}])
        assert (await script.hear("state", client="ada", state="connected"))["id"] == ada
        assert [(await heard(script, "ada", "room"))["name"] for _ in range(20)] == [str(n) for n in range(20)]
        members = await ok(script, "members", client="ada", channel="room")
        assert [(m["user"], m["connection"]) for m in members] == [("ada", ada)]
        await ok(script, "publish", client="ada", channel="room", messages=[{"name": "again"}])
        assert (await heard(script, "bob", "room"))["name"] == "0"
        assert script.told("presence", client="bob") == []
        assert [told["resumed"] for told in script.told("change", client="ada", change="attached")][1:] == [True]


async def test_a_client_that_closes_takes_its_members_with_it_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada", clientId="ada")
        await connected(script, "bob")
        for client in ("ada", "bob"):
            await ok(script, "attach", client=client, channel="room")
        await script.do("watch", client="bob", channel="room")
        await ok(script, "enter", client="ada", channel="room")
        await script.do("close", client="ada")
        await script.hear("state", client="ada", state="closed")
        told = [(await script.hear("presence", client="bob"))["presence"]["action"] for _ in range(2)]
        assert told == ["enter", "leave"]


@pytest.mark.parametrize("wire", WIRES)
async def test_history_is_paged_in_both_directions_and_ends_where_the_client_attached(
    tmp_path: Path, wire: str
) -> None:
    async with world(tmp_path, wire) as (_, script):
        await connected(script, "ada", clientId="ada")
        for n in range(25):
            await ok(
                script, "publish", client="ada", channel="a room/of:one", messages=[{"name": str(n), "data": n * "x"}]
            )
        names = [str(n) for n in range(25)]

        async def read(**params: object) -> list[list[str]]:
            pages = await ok(script, "history", client="ada", channel="a room/of:one", params=params)
            return [[item["name"] for item in page] for page in pages]

        assert await read(limit=10) == [names[:14:-1], names[14:4:-1], names[4::-1]]
        assert await read(limit=10, direction="forwards") == [names[:10], names[10:20], names[20:]]
        await ok(script, "attach", client="ada", channel="a room/of:one")
        await ok(script, "publish", client="ada", channel="a room/of:one", messages=[{"name": "later"}])
        assert await read(untilAttach=True) == [names[::-1]]
        (kept,) = await ok(script, "history", client="ada", channel="a room/of:one")
        end = kept[12]["timestamp"]
        earlier = [item["name"] for item in kept if item["timestamp"] <= end]
        assert await read(untilAttach=True, end=end) == [earlier]


async def test_a_newcomer_may_begin_with_the_last_messages_or_those_of_a_period(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada")
        for n in range(5):
            await ok(script, "publish", client="ada", channel="room", messages=[{"name": str(n)}])
        for client, rewind, expected in (("two", "2", "34"), ("all", "1m", "01234")):
            await connected(script, client)
            attached = await ok(script, "attach", client=client, channel="room", options={"params": {"rewind": rewind}})
            assert attached["params"] == {"rewind": rewind}
            assert "".join([(await heard(script, client, "room"))["name"] for _ in expected]) == expected
        await connected(script, "named")
        await ok(script, "attach", client="named", channel="[?rewind=1]room")
        assert (await heard(script, "named", "[?rewind=1]room"))["name"] == "4"
        await ok(script, "detach", client="named", channel="[?rewind=1]room")
        await ok(script, "attach", client="named", channel="room")
        await ok(script, "detach", client="named", channel="room")


@pytest.mark.parametrize("sdk", ["sdk.cjs", "sdk.py"])
async def test_who_rewound_once_and_is_cut_off_goes_on_where_it_was_and_is_not_rewound_again(
    tmp_path: Path, sdk: str
) -> None:
    async with world(tmp_path, sdk=sdk) as (daemon, script):
        await connected(script, "bob")
        await connected(script, "ada")
        await ok(script, "publish", client="bob", channel="room", messages=[{"name": "before"}])
        await ok(script, "attach", client="ada", channel="room", options={"params": {"rewind": "2"}})
        assert (await heard(script, "ada", "room"))["name"] == "before"
        await script.do("drop", client="ada")
        await script.hear("state", client="ada", state="disconnected")
        names = [str(n) for n in range(6)]
        for name in names:
            await daemon.request(
                "POST", "/events/publish", json={"channel": "room", "event": name, "data": "x" * 60_000}
            )
        await script.hear("state", client="ada", state="connected")
        for name in ("6", "7"):
            await ok(script, "publish", client="bob", channel="room", messages=[{"name": name}])
        assert [(await heard(script, "ada", "room"))["name"] for _ in range(8)] == [*names, "6", "7"]
        await connected(script, "late")
        await ok(script, "attach", client="late", channel="room", options={"params": {"rewind": "8"}})
        assert [(await heard(script, "late", "room"))["name"] for _ in range(8)] == [*names, "6", "7"]


async def test_a_channel_is_attached_with_the_modes_that_are_asked_for(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "deaf", clientId="deaf")
        await connected(script, "other", clientId="other")
        got = await ok(script, "attach", client="deaf", channel="room", options={"modes": ["PUBLISH", "PRESENCE"]})
        assert sorted(got["modes"]) == ["presence", "publish"]
        await ok(script, "attach", client="other", channel="room")
        await ok(script, "publish", client="deaf", channel="room", messages=[{"name": "1"}])
        assert (await heard(script, "other", "room"))["name"] == "1"
        await ok(script, "set_options", client="deaf", channel="room", options={"modes": ["SUBSCRIBE"]})
        await ok(script, "publish", client="other", channel="room", messages=[{"name": "2"}])
        assert (await heard(script, "deaf", "room"))["name"] == "2"
        changes = script.told("change", client="deaf")
        assert all(change["resumed"] for change in changes[2:]), changes


async def test_who_was_refused_on_a_channel_that_it_followed_is_not_told_that_it_missed_nothing(
    tmp_path: Path,
) -> None:
    """The SDK takes the channel for failed, and throws away what comes there."""
    async with world(tmp_path) as (_, script):
        await connected(script, "ada", key=LIMITED_KEY, clientId="ada")
        await connected(script, "bob")
        for channel, wrong, right in (
            ("news:a", {"modes": ["PUBLISH"]}, {"modes": ["SUBSCRIBE"]}),
            ("chat", {"params": {"rewind": "x"}}, {"params": {}}),
        ):
            await ok(script, "attach", client="ada", channel=channel)
            await refused(script, "set_options", client="ada", channel=channel, options=wrong)
            await ok(script, "publish", client="bob", channel=channel, messages=[{"name": "missed"}])
            await ok(script, "attach", client="ada", channel=channel, options=right)
            attached = script.told("resumed", client="ada", channel=channel, change="attached")
            assert [told["resumed"] for told in attached] == [False, False]
            await ok(script, "publish", client="bob", channel=channel, messages=[{"name": "heard"}])
            assert (await heard(script, "ada", channel))["name"] == "heard"


async def test_a_ping_is_answered(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada")
        assert await ok(script, "ping", client="ada") < 10_000


async def test_what_a_member_says_besides_its_data_is_held_to_the_same_limit(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, _):
        large = {"headers": {"a": 5000 * "x"}}
        kinds: list[dict[str, Any]] = [{"data": 5000 * "x"}, {"extras": large}, {"id": 300 * "x"}, {"id": "short"}]
        address = f"ws://127.0.0.1:{daemon.port}/?v=6&key={ABLY_KEY}&clientId=ada"
        with trio.fail_after(60):
            async with open_websocket_url(address) as socket:
                await socket.send_message('{"action":10,"channel":"room"}')
                for serial, more in enumerate(kinds):
                    presence = [{"action": 2, **more}]
                    sent = {"action": 14, "channel": "room", "msgSerial": serial, "presence": presence}
                    await socket.send_message(json.dumps(sent))
                answers: list[int | None] = []
                while len(answers) < 4:
                    told = json.loads(await socket.get_message())
                    if told["action"] in (1, 2):
                        answers.append(told.get("error", {}).get("code"))
        assert answers == [40009, 40009, 40003, None]
