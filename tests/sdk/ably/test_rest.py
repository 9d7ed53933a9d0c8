"""Ably's REST, asked by ably-js: publish with idempotency, presence, status, enumeration, batches, errors."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from tests.sdk.ably.world import ABLY_KEY, connected, heard, ok, refused, world

NAME, _, KEY_SECRET = ABLY_KEY.partition(":")
AUTH = (NAME, KEY_SECRET)


@pytest.mark.parametrize("wire", ["json", "msgpack"])
async def test_a_server_publishes_and_a_retry_is_stored_once(tmp_path: Path, wire: str) -> None:
    async with world(tmp_path, wire) as (daemon, script):
        await ok(script, "rest", client="server")
        await connected(script, "ada")
        await ok(script, "attach", client="ada", channel="room")
        await ok(
            script, "publish", client="server", channel="room", messages=[{"name": "a", "data": {"bytes": "/w=="}}]
        )
        assert (await heard(script, "ada", "room"))["data"] == {"bytes": "/w=="}
        body = [{"id": "base:0", "name": "b", "data": {"bare": "object"}}, {"id": "base:1", "name": "c"}]
        answers = [
            await daemon.request("POST", "/channels/room/messages", auth=False, json=body, params={"key": ABLY_KEY})
            for _ in range(2)
        ]
        assert [a.status_code for a in answers] == [201, 201]
        assert answers[0].json() == answers[1].json()
        assert answers[0].json()["messageId"] == "base:0"
        assert (await heard(script, "ada", "room"))["data"] == {"bare": "object"}
        assert (await heard(script, "ada", "room"))["name"] == "c"
        pages = await ok(script, "history", client="ada", channel="room")
        assert [m["name"] for m in pages[0]] == ["c", "b", "a"]


async def test_a_number_that_only_json_can_say_reaches_clients_of_both_formats(tmp_path: Path) -> None:
    async with world(tmp_path, "msgpack") as (daemon, script):
        for client, binary in (("packed", True), ("plain", False)):
            await connected(script, client, useBinaryProtocol=binary)
            await ok(script, "attach", client=client, channel="room")
        text = '{"name":"e","data":[100000000000000000000],"extras":{"headers":{"big":100000000000000000000}}}'
        sent = {"content": text, "headers": {"Content-Type": "application/json"}, "params": {"key": ABLY_KEY}}
        answer = await daemon.request("POST", "/channels/room/messages", auth=False, **sent)
        assert answer.status_code == 201
        for client in ("packed", "plain"):
            got = await heard(script, client, "room")
            assert (got["data"], got["extras"]) == ([1e20], {"headers": {"big": 1e20}})
            assert len((await ok(script, "history", client=client, channel="room"))[0]) == 1


async def test_presence_status_and_enumeration_are_read_over_http(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await ok(script, "rest", client="server")
        ada = await connected(script, "ada", clientId="ada")
        await ok(script, "attach", client="ada", channel="a room")
        await ok(script, "enter", client="ada", channel="a room", data={"a": 1})
        members = await ok(script, "members", client="server", channel="a room")
        assert [(m["user"], m["connection"], m["data"], m["action"]) for m in members] == [
            ("ada", ada, {"a": 1}, "present")
        ]
        assert await ok(script, "members", client="server", channel="a room", params={"clientId": "bob"}) == []
        status = await ok(script, "status", client="server", channel="a room")
        assert status["status"]["isActive"] is True
        assert status["status"]["occupancy"]["metrics"]["presenceMembers"] == 1
        listed = await ok(script, "request", client="server", method="get", path="/channels", params={"prefix": "a"})
        assert listed["items"] == ["a room"]
        assert await ok(script, "stats", client="server") == []
        assert abs(await ok(script, "time", client="server") / 1000 - time.time()) < 60
        both = await ok(script, "batch_presence", client="server", channels=["a room", "empty"])
        assert [len(r["presence"]) for r in both["results"]] == [1, 0]


async def test_a_batch_goes_to_several_channels_and_each_may_fail_alone(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await ok(script, "rest", client="limited", key="appid.second:another-secret-0123456789")
        specs = [{"channels": ["chat", "elsewhere"], "messages": [{"name": "a"}, {"name": "b"}]}]
        (report,) = await ok(script, "batch_publish", client="limited", specs=specs)
        assert (report["successCount"], report["failureCount"]) == (1, 1)
        assert len(report["results"][0]["serials"]) == 2
        assert report["results"][1]["error"]["code"] == 40160
        specs = [{"channels": ["[invalid", "chat", ""], "messages": {"name": "c"}}]
        (report,) = await ok(script, "batch_publish", client="limited", specs=specs)
        told = [(result["channel"], result.get("error", {}).get("code")) for result in report["results"]]
        assert told == [("[invalid", 40010), ("chat", None), ("", 40010)]
        there = await ok(script, "batch_presence", client="limited", channels=["chat", ":nothing"])
        assert [result.get("error", {}).get("code") for result in there["results"]] == [None, 40010]


async def test_errors_have_ablys_codes_in_body_and_headers(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        await ok(script, "rest", client="server")
        assert (
            await refused(script, "publish", client="server", channel="room", messages=[{"data": "x" * 70_000}])
            == 40009
        )
        assert await refused(script, "history", client="server", channel="room", params={"limit": 5000}) == 40003
        assert await refused(script, "history", client="server", channel=":room") == 40010
        nobody = await daemon.request("GET", "/channels/room/messages", auth=False)
        assert (nobody.status_code, nobody.json()["error"]["code"]) == (401, 40101)
        assert nobody.headers["X-Ably-ErrorCode"] == "40101"
        assert nobody.headers["Content-Type"] == "application/json"
        packed = await daemon.request(
            "GET", "/channels/room/messages", auth=False, headers={"Accept": "application/x-msgpack"}
        )
        assert msgspec.msgpack.decode(packed.content)["error"]["statusCode"] == 401


async def test_native_and_ably_share_a_path_and_each_gets_its_own_answer(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        await connected(script, "ada")
        await ok(script, "attach", client="ada", channel="room")
        native = (await daemon.request("GET", "/channels")).json()
        assert [c["channel"] for c in native["channels"]] == ["room"]
        ably = await daemon.request("GET", "/channels", auth=False, params={"key": ABLY_KEY})
        assert ably.json() == ["room"]
