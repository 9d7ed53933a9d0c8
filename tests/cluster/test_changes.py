"""Messages that are changed and annotated at one node, as clients of another hear, read and change them: ably-js."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.cluster.conftest import Redis, cluster
from tests.cluster.test_numbers import ably
from tests.e2e.daemon import Daemon
from tests.sdk.ably.proxy import between
from tests.sdk.ably.test_annotations import MODES, clients
from tests.sdk.ably.test_versions import change, published
from tests.sdk.ably.world import APP, RULES, connected, heard, ok, refused
from tests.sdk.script import Script

LIKES = "likes:unique.v1"


@asynccontextmanager
async def two_nodes(folder: Path, redis: Redis) -> AsyncIterator[tuple[list[Daemon], Script, Script]]:
    """Two daemons, and ably-js at each: ada here and bob there, both attached to the channel room."""
    async with cluster(folder, redis, config=APP + RULES) as nodes, ably(*nodes) as (here, there):
        for script, user in ((here, "ada"), (there, "bob")):
            await connected(script, user, clientId=user)
            await ok(script, "rest", client="server")
            await ok(script, "attach", client=user, channel="room", options=MODES)
            await ok(script, "listen", client=user, channel="room")
        yield nodes, here, there


async def read(script: Script, what: str, **more: Any) -> list[Any]:
    """All that is on all pages."""
    return [one for page in await ok(script, what, client="server", channel="room", **more) for one in page]


async def test_what_is_done_to_a_message_at_one_node_is_told_and_read_at_the_other(
    tmp_path: Path, redis: Redis
) -> None:
    async with two_nodes(tmp_path, redis) as (_, here, there):
        serial = await published(here, "room", name="note", data="a")
        made = [
            await change(here, "room", "append", serial=serial, data="b"),
            await change(there, "room", "update", client="server", serial=serial, data="c"),
            await change(there, "room", "append", client="bob", serial=serial, data="d"),
            await change(here, "room", "delete", serial=serial),
        ]
        assert made == sorted(set(made))
        for script, user in ((here, "ada"), (there, "bob")):
            if user == "bob":
                assert (await heard(script, user, "room"))["serial"] == serial
            told = [await heard(script, user, "room") for _ in made]
            assert [(t["action"], t["data"], t["serial"], t["version"]["serial"]) for t in told] == [
                ("message.append", "b", serial, made[0]),
                ("message.update", "c", serial, made[1]),
                ("message.append", "d", serial, made[2]),
                ("message.delete", "cd", serial, made[3]),
            ]
        for user, script in (("ada", here), ("bob", there)):
            about = {"client": user, "channel": "room", "serial": serial}
            await ok(script, "annotate", **about, annotation={"type": LIKES, "name": "up"})
        both = {LIKES: {"up": clients("ada", "bob")}}
        for script, user in ((here, "ada"), (there, "bob")):
            assert [(await heard(script, user, "room"))["summary"] for _ in range(2)] == [
                {LIKES: {"up": clients("ada")}},
                both,
            ]
            assert [(await script.hear("annotation"))["annotation"]["user"] for _ in range(2)] == ["ada", "bob"]
            (now,) = await read(script, "history")
            found = await ok(script, "get_message", client="server", channel="room", serial=serial)
            for message in (now, found):
                assert (message["action"], message["data"], message["summary"]) == ("message.delete", "cd", both)
                assert message["version"]["serial"] == made[3]
            versions = await read(script, "versions", serial=serial, params={"limit": 2})
            assert [v["version"]["serial"] for v in versions] == [serial, *made]
            assert [v["data"] for v in versions] == ["a", "b", "c", "d", "cd"]
            assert [a["user"] for a in await read(script, "annotations", serial=serial)] == ["ada", "bob"]
        unheard = {"serial": "17000000000000000@gone", "data": "x"}
        assert await refused(there, "edit", client="bob", channel="room", how="update", message=unheard) == 40400


async def test_of_what_both_nodes_append_to_one_message_at_once_nothing_is_lost(tmp_path: Path, redis: Redis) -> None:
    count = 40
    async with two_nodes(tmp_path, redis) as (_, here, there):
        serial = await published(here, "room", data="")
        await heard(there, "bob", "room")
        for n in range(count):
            for script, user, mark in ((here, "ada", "a"), (there, "bob", "b")):
                sent = {"serial": serial, "data": f"{mark}{n};"}
                await script.do("edit", client=user, channel="room", how="append", message=sent)
        acknowledged = [(await script.hear("edit"))["edit"] for script in (here, there) for _ in range(count)]
        told = [[await heard(s, user, "room") for _ in range(2 * count)] for s, user in ((here, "ada"), (there, "bob"))]
        assert [t["version"]["serial"] for t in told[0]] == [t["version"]["serial"] for t in told[1]]
        assert [t["version"]["serial"] for t in told[0]] == sorted(acknowledged)
        whole = "".join(t["data"] for t in told[0])
        parts = whole.split(";")[:-1]
        for mark in "ab":
            assert [part for part in parts if part[0] == mark] == [f"{mark}{n}" for n in range(count)]
        for script in (here, there):
            assert [m["data"] for m in await read(script, "history")] == [whole]


async def test_a_node_that_is_killed_loses_nothing_that_was_acknowledged(tmp_path: Path, redis: Redis) -> None:
    async with two_nodes(tmp_path, redis) as (nodes, here, there):
        serial = await published(here, "room", data="first")
        await change(here, "room", "update", serial=serial, data="second")
        version = await change(here, "room", "append", serial=serial, data=", third")
        about = {"client": "ada", "channel": "room", "serial": serial}
        await ok(here, "annotate", **about, annotation={"type": "seen:flag.v1"})
        await nodes[0].stop(signal.SIGKILL)
        found = await ok(there, "get_message", client="server", channel="room", serial=serial)
        assert (found["data"], found["version"]["serial"]) == ("second, third", version)
        assert found["summary"] == {"seen:flag.v1": clients("ada")}
        last = await change(there, "room", "append", client="bob", serial=serial, data=", fourth")
        *_, told = [await heard(there, "bob", "room") for _ in range(5)]
        assert (told["data"], told["version"]["serial"]) == (", fourth", last)


async def test_who_comes_back_to_the_other_node_is_told_what_changed_and_of_what_was_appended_the_whole_once(
    tmp_path: Path, redis: Redis
) -> None:
    async with two_nodes(tmp_path, redis) as (nodes, here, there), between(nodes[0].port) as proxy:
        await connected(here, "eve", port=proxy.port, disconnectedRetryTimeout=200)
        await ok(here, "attach", client="eve", channel="room")
        serial, edited = [await published(here, "room", data=data) for data in ("a", "draft")]
        await change(here, "room", "append", serial=serial, data="b")
        assert [(await heard(here, "eve", "room"))["data"] for _ in range(3)] == ["a", "draft", "b"]
        proxy.to = 1  # where nobody listens
        proxy.cut()
        await change(here, "room", "append", serial=serial, data="c")
        await change(there, "room", "update", client="bob", serial=edited, data="final")
        await change(there, "room", "append", client="bob", serial=serial, data="d")
        proxy.to = nodes[1].port
        told = [await heard(here, "eve", "room") for _ in range(2)]
        assert [(t["action"], t["serial"], t["data"]) for t in told] == [
            ("message.update", edited, "final"),
            ("message.update", serial, "abcd"),
        ]
        await change(here, "room", "append", serial=serial, data="e")
        assert (await heard(here, "eve", "room"))["data"] == "e"
        # History up to where one attached is as it was then, at either node.
        before = {"untilAttach": True}
        (pages,) = await ok(there, "history", client="bob", channel="room", params=before)
        assert pages == []
        await connected(there, "late")
        await ok(there, "attach", client="late", channel="room")
        await change(here, "room", "append", serial=serial, data="f")
        assert (await heard(there, "late", "room"))["data"] == "f"
        ((newest, oldest),) = await ok(there, "history", client="late", channel="room", params=before)
        assert (newest["data"], oldest["data"]) == ("final", "abcde")
        ((_, oldest),) = await ok(there, "history", client="late", channel="room")
        assert oldest["data"] == "abcdef"


async def test_an_append_that_is_sent_again_to_the_other_node_is_appended_once(tmp_path: Path, redis: Redis) -> None:
    async with two_nodes(tmp_path, redis) as (nodes, here, there), between(nodes[0].port) as proxy:
        serial = await published(here, "room", data="once")
        await connected(here, "eve", clientId="eve", port=proxy.port, disconnectedRetryTimeout=200)
        await ok(here, "attach", client="eve", channel="room")
        proxy.drop = b'"action":1,'
        appended = {"serial": serial, "data": ", and again"}
        await here.do("edit", client="eve", channel="room", how="append", message=appended)
        assert [(await heard(there, "bob", "room"))["data"] for _ in range(2)] == ["once", ", and again"]
        proxy.drop, proxy.to = None, nodes[1].port
        proxy.cut()
        version = (await here.hear("edit"))["edit"]
        found = await ok(there, "get_message", client="server", channel="room", serial=serial)
        assert (found["data"], found["version"]["serial"]) == ("once, and again", version)


async def test_who_comes_to_a_cache_channel_at_the_other_node_begins_with_the_last_event_as_it_is_now(
    tmp_path: Path, redis: Redis
) -> None:
    async with two_nodes(tmp_path, redis) as ((_, two), here, _there):
        await ok(here, "attach", client="ada", channel="cache-a")
        serial = await published(here, "cache-a", name="note", data="draft")
        await change(here, "cache-a", "update", serial=serial, data="an")
        await change(here, "cache-a", "append", serial=serial, data="swer")
        async with two.socket("cache-a") as newcomer:
            await newcomer.expect("welcome")
            assert await newcomer.events(1) == ["answer"]
            page = (await two.request("GET", "/history/cache-a")).json()
            assert [event["data"] for event in page["events"]] == ["answer"]
