"""What the vendor's SDKs get through: a killed daemon, a cut, a stall, half a frame, a lost acknowledgement."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.daemon import free_port
from tests.sdk.ably.proxy import between
from tests.sdk.ably.world import connected, heard, ok, world
from tests.sdk.script import Script

MESSAGES = 500


async def published(script: Script, count: int) -> list[Any]:
    """Wait until all of a burst are acknowledged. Returns the serials in the order of the messages."""
    told = [await script.hear("acknowledged", client="ada") for _ in range(count)]
    return [one["serials"][0] for one in sorted(told, key=lambda one: one["acknowledged"])]


@pytest.mark.parametrize(("wire", "sdk"), [("json", "sdk.cjs"), ("msgpack", "sdk.cjs"), ("msgpack", "sdk.py")])
async def test_a_daemon_that_is_killed_in_the_middle_of_a_burst_costs_no_message_and_doubles_none(
    tmp_path: Path, wire: str, sdk: str
) -> None:
    retry = {"disconnectedRetryTimeout": 300} if sdk == "sdk.cjs" else {"disconnected_retry_timeout": 300}
    async with world(tmp_path, wire, sdk=sdk) as (daemon, script):
        ids = {client: await connected(script, client, **retry) for client in ("ada", "bob")}
        for client in ids:
            await ok(script, "attach", client=client, channel="room")
        await script.do("burst", client="ada", channel="room", count=MESSAGES)
        for _ in range(50):
            await heard(script, "bob", "room")
        await daemon.stop(signal.SIGKILL)
        for client in ids:
            await script.hear("state", client=client, state="disconnected")
        await daemon.start(keep_config=True)
        for client, connection in ids.items():
            assert (await script.hear("state", client=client, state="connected"))["id"] == connection
        with trio.fail_after(30):
            serials = await published(script, MESSAGES)
            got = [int((await heard(script, "bob", "room"))["data"]) for _ in range(50, MESSAGES)]
        assert got == list(range(50, MESSAGES))
        assert serials == sorted(set(serials))
        for client in ids:
            told = [(await script.hear("change", client=client, change="attached"))["resumed"] for _ in range(2)]
            assert told == [False, True]
        await ok(script, "publish", client="ada", channel="room", messages=[{"name": "last"}])
        assert (await heard(script, "bob", "room"))["name"] == "last"


@pytest.mark.parametrize("fault", ["cut", "half", "stall", "lost ack"])
async def test_a_network_that_fails_costs_no_message_and_doubles_none(tmp_path: Path, fault: str) -> None:
    async with world(tmp_path) as (daemon, script), between(daemon.port) as proxy:
        ada = await connected(script, "ada", port=proxy.port, disconnectedRetryTimeout=300, clientId="ada")
        await connected(script, "bob")
        for client in ("ada", "bob"):
            await ok(script, "attach", client=client, channel="room")
        if fault == "lost ack":
            proxy.drop = b'"action":1,'
        await script.do("burst", client="ada", channel="room", count=20)
        if fault == "lost ack":
            for _ in range(20):
                await heard(script, "bob", "room")
            assert proxy.dropped
            proxy.drop = None
        proxy.stalled = fault == "stall"
        proxy.half = fault == "half"
        await script.do("burst", client="ada", channel="room", **{"from": 20}, count=20)
        if fault != "half":
            proxy.cut()
        await script.hear("state", client="ada", state="disconnected")
        proxy.stalled = False
        assert (await script.hear("state", client="ada", state="connected"))["id"] == ada
        await published(script, 40)
        heard_already = 20 if fault == "lost ack" else 0
        for client, first in (("bob", heard_already), ("ada", 0)):
            got = [int((await heard(script, client, "room"))["data"]) for _ in range(first, 40)]
            assert got == list(range(first, 40))
        assert all(change["resumed"] for change in script.told("change", client="ada", change="attached")[1:])
        pages = await ok(script, "history", client="bob", channel="room", params={"direction": "forwards"})
        assert [int(m["data"]) for page in pages for m in page] == list(range(40))


async def test_where_what_was_missed_is_no_longer_kept_the_client_is_told_so(tmp_path: Path) -> None:
    rules = '[[channels]]\nmatch = "*"\nhistory = {messages = 5, age = "1h"}\n'
    async with world(tmp_path, rules=rules) as (daemon, script), between(daemon.port) as proxy:
        await connected(script, "ada", port=proxy.port, disconnectedRetryTimeout=300)
        await connected(script, "bob")
        await ok(script, "attach", client="ada", channel="room")
        await script.hear("change", client="ada", change="attached")
        await ok(script, "publish", client="bob", channel="room", messages=[{"name": "0"}])
        await heard(script, "ada", "room")
        proxy.to = free_port()  # nobody is there: else the SDK might be back before the burst has begun
        proxy.cut()
        await script.hear("state", client="ada", state="disconnected")
        await script.do("burst", client="bob", channel="room", count=200)
        for _ in range(200):
            await script.hear("acknowledged", client="bob")
        proxy.to = daemon.port
        again = await script.hear("change", client="ada", change="attached")
        assert (again["resumed"], again.get("error", {}).get("code")) == (False, 90003), again


async def test_a_process_that_ended_is_recovered_by_another(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        ada = await connected(script, "ada")
        await connected(script, "bob")
        await ok(script, "attach", client="ada", channel="room")
        await ok(script, "publish", client="bob", channel="room", messages=[{"name": "0"}])
        await heard(script, "ada", "room")
        key = await ok(script, "recovery_key", client="ada")
        await script.do("drop", client="ada")
        await ok(script, "publish", client="bob", channel="room", messages=[{"name": "1"}])
        assert await connected(script, "again", recover=key) == ada
        await ok(script, "attach", client="again", channel="room")
        assert (await heard(script, "again", "room"))["name"] == "1"
        stranger = key.replace(ada, "x" * len(ada))
        assert await connected(script, "stranger", recover=stranger) != ada
        told = script.told("state", client="stranger", state="connected")
        assert told == []
