"""`[meta]occupancy`: ably-js and ably-python are told how many are on a channel, right whenever somebody comes or goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.sdk.ably.test_auth import token
from tests.sdk.ably.world import connected, heard, ok, world
from tests.sdk.script import Script

METRICS = {"params": {"occupancy": "metrics"}}


async def until(script: Script, client: str, channel: str, **metrics: int) -> dict[str, int]:
    """The numbers, once they are these."""
    while True:
        told = await heard(script, client, channel)
        assert told["name"] == "[meta]occupancy"
        if metrics.items() <= told["data"]["metrics"].items():
            return told["data"]["metrics"]


@pytest.mark.parametrize("wire", ["json", "msgpack"])
async def test_the_numbers_follow_who_attaches_enters_and_goes(tmp_path: Path, wire: str) -> None:
    async with world(tmp_path, wire) as (daemon, script):
        await connected(script, "ada", clientId="ada")
        attached = await ok(script, "attach", client="ada", channel="room", options=METRICS)
        assert attached["params"] == {"occupancy": "metrics"}
        first = (await script.hear("message", client="ada"))["message"]
        assert (first["name"], first["action"]) == ("[meta]occupancy", "meta")
        alone = {
            "connections": 1,
            "publishers": 1,
            "subscribers": 1,
            "presenceConnections": 1,
            "presenceMembers": 0,
            "presenceSubscribers": 1,
        }
        assert first["data"] == {"metrics": alone}
        # One may only listen by its token, one only wants to publish; the third follows in another protocol.
        await connected(script, "ear", token=token(**{"x-ably-capability": '{"room":["subscribe"]}'}))
        await ok(script, "attach", client="ear", channel="room")
        await connected(script, "mouth")
        await ok(script, "attach", client="mouth", channel="room", options={"modes": ["PUBLISH"]})
        async with daemon.socket("room") as native:
            await native.expect("welcome")
            all_four = await until(script, "ada", "room", connections=4)
            assert all_four == alone | {
                "connections": 4,
                "publishers": 2,
                "subscribers": 3,
                "presenceConnections": 2,
                "presenceSubscribers": 3,
            }
        await ok(script, "enter", client="ada", channel="room")
        await until(script, "ada", "room", connections=3, presenceMembers=1)
        await ok(script, "detach", client="mouth", channel="room")
        await script.do("drop", client="ear")
        await ok(script, "leave", client="ada", channel="room")
        await script.hear("state", client="ear", state="connected")
        await until(script, "ada", "room", connections=2, publishers=1, subscribers=2, presenceMembers=0)
        await ok(script, "rest", client="server")
        status = await ok(script, "status", client="server", channel="room")
        assert status["status"]["occupancy"]["metrics"] == alone | {
            "connections": 2,
            "subscribers": 2,
            "presenceSubscribers": 2,
        }
        assert script.told("message", client="ear") == []


async def test_one_number_is_told_alone_and_the_position_stays_what_it_was(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada")
        one: dict[str, Any] = {"params": {"occupancy": "metrics.subscribers"}}
        await ok(script, "attach", client="ada", channel="room", options=one)
        assert (await heard(script, "ada", "room"))["data"] == {"metrics": {"subscribers": 1}}
        await connected(script, "bob")
        await ok(script, "publish", client="bob", channel="room", messages=[{"name": "1"}])
        assert (await heard(script, "ada", "room"))["name"] == "1"
        await ok(script, "attach", client="bob", channel="room")
        assert (await heard(script, "ada", "room"))["data"] == {"metrics": {"subscribers": 2}}
        # What is told of numbers is no part of the order: who is cut after it misses nothing and hears nothing twice.
        await script.do("drop", client="ada")
        await ok(script, "publish", client="bob", channel="room", messages=[{"name": "2"}])
        told = [await heard(script, "ada", "room")]
        while told[-1]["name"] != "2":
            told.append(await heard(script, "ada", "room"))
        assert {message["name"] for message in told[:-1]} <= {"[meta]occupancy"}
        assert all(c["resumed"] for c in script.told("change", client="ada", change="attached")[1:])
        nonsense = await ok(script, "attach", client="bob", channel="x", options={"params": {"occupancy": "all"}})
        assert nonsense["params"] in ({}, None)


async def test_ably_python_is_told_them_too_and_resumes_behind_them(tmp_path: Path) -> None:
    async with world(tmp_path, sdk="sdk.py") as (daemon, script):
        await connected(script, "ada", disconnected_retry_timeout=100)
        await ok(script, "attach", client="ada", channel="room", options=METRICS)
        assert (await heard(script, "ada", "room"))["data"]["metrics"]["connections"] == 1
        await script.do("drop", client="ada")
        await daemon.publish("room", 1, event="while away")
        told = await heard(script, "ada", "room")
        while told["name"] == "[meta]occupancy":
            told = await heard(script, "ada", "room")
        assert told["name"] == "while away"
