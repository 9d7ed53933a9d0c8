"""Messages that are changed after they were published: ably-js and ably-python update, delete and append."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import KEY
from tests.sdk.ably.proxy import between
from tests.sdk.ably.test_auth import token
from tests.sdk.ably.world import connected, heard, ok, refused, world
from tests.sdk.script import Script

BOTH = pytest.mark.parametrize(
    ("sdk", "wire"), [("sdk.cjs", "json"), ("sdk.cjs", "msgpack"), ("sdk.py", "json"), ("sdk.py", "msgpack")]
)


async def published(script: Script, channel: str, *, client: str = "ada", **message: Any) -> str:
    """The serial of a message, once it is published and heard by its own client, which is attached."""
    serials = (await ok(script, "publish", client=client, channel=channel, messages=[message]))["serials"]
    assert (await heard(script, client, channel))["serial"] == serials[0]
    return serials[0]


async def change(script: Script, channel: str, how: str, *, client: str = "ada", **more: Any) -> str:
    """The serial of a version that a change has made."""
    operation = more.pop("operation", None)
    return await ok(script, "edit", client=client, channel=channel, how=how, message=more, operation=operation)


@BOTH
async def test_a_message_is_changed_and_its_versions_are_told_and_kept(tmp_path: Path, sdk: str, wire: str) -> None:
    async with world(tmp_path, wire, sdk=sdk) as (_, script):
        await connected(script, "ada", clientId="ada")
        await ok(script, "rest", client="server")
        await ok(script, "attach", client="ada", channel="room")

        # A change is told with the message's serial, and a version of its own.
        serial = await published(script, "room", name="note", data="hello", extras={"headers": {"a": "b"}})
        said = {"description": "typo", "metadata": {"why": "it was wrong"}}
        version = await change(script, "room", "update", serial=serial, data={"n": 1}, operation=said)
        told = await heard(script, "ada", "room")
        assert (told["action"], told["serial"], told["name"]) == ("message.update", serial, "note")
        assert (told["data"], told["user"], told["extras"]) == ({"n": 1}, "ada", {"headers": {"a": "b"}})
        assert {**told["version"], "serial": version, "clientId": "ada", **said} == told["version"]
        assert version > serial
        assert told["version"]["timestamp"] >= told["timestamp"]
        deleted = await change(script, "room", "delete", client="server", serial=serial)
        told = await heard(script, "ada", "room")
        assert (told["action"], told["data"], told["version"]["serial"]) == ("message.delete", {"n": 1}, deleted)
        assert deleted > version

        # What is appended is told alone, and the message is the whole.
        answer = await published(script, "room", name="answer", data="")
        parts = ["The ", "whole ", "answer"]
        for part in parts:
            last = await change(script, "room", "append", serial=answer, data=part)
        told_parts = [await heard(script, "ada", "room") for _ in parts]
        assert [(t["action"], t["data"], t["serial"]) for t in told_parts] == [
            ("message.append", part, answer) for part in parts
        ]
        found = await ok(script, "get_message", client="server", channel="room", serial=answer)
        assert (found["action"], found["data"], found["name"]) == ("message.update", "The whole answer", "answer")
        binary = await published(script, "room", data={"bytes": "AAE="})
        await change(script, "room", "append", serial=binary, data={"bytes": "AgM="})
        assert (await heard(script, "ada", "room"))["data"] == {"bytes": "AgM="}

        # History has each message once, in its place, as it is now; its versions are there by pages.
        (newest_first,) = await ok(script, "history", client="server", channel="room")
        assert [(m["serial"], m["action"], m["data"]) for m in newest_first] == [
            (binary, "message.update", {"bytes": "AAECAw=="}),
            (answer, "message.update", "The whole answer"),
            (serial, "message.delete", {"n": 1}),
        ]
        assert newest_first[1]["version"]["serial"] == last
        pages = await ok(script, "versions", client="server", channel="room", serial=serial, params={"limit": 2})
        assert [[(v["action"], v["data"], v["version"]["serial"]) for v in page] for page in pages] == [
            [("message.create", "hello", serial), ("message.update", {"n": 1}, version)],
            [("message.delete", {"n": 1}, deleted)],
        ]
        assert await refused(script, "versions", client="server", channel="room", serial="unheard@of") == 40400


async def test_what_a_change_does_not_say_stays(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada", clientId="ada")
        await ok(script, "attach", client="ada", channel="room")
        serial = await published(script, "room", name="note", data={"a": 1}, extras={"headers": {"k": "v"}})
        await change(script, "room", "update", serial=serial, name="other")
        told = await heard(script, "ada", "room")
        assert (told["name"], told["data"], told["extras"]) == ("other", {"a": 1}, {"headers": {"k": "v"}})
        await change(script, "room", "update", serial=serial, data="text", extras={"headers": {}})
        told = await heard(script, "ada", "room")
        assert (told["name"], told["data"], told["extras"]) == ("other", "text", {"headers": {}})
        await change(script, "room", "delete", serial=serial, data={})
        assert (await heard(script, "ada", "room"))["data"] == {}


async def test_a_client_changes_its_own_messages_or_any_as_its_capability_says(tmp_path: Path) -> None:
    def grants(*operations: str, user: str | None) -> str:
        allowed = json.dumps({"room": ["publish", "subscribe", *operations]})
        return token(**{"x-ably-capability": allowed}, **({"x-ably-clientId": user} if user else {}))

    async with world(tmp_path) as (_, script):
        own = ("message-update-own", "message-delete-own")
        await connected(script, "ada", token=grants(*own, user="ada"))
        await connected(script, "eve", token=grants(*own, user="eve"))
        await connected(script, "mod", token=grants("message-update-any", "message-delete-any", user="mod"))
        await connected(script, "nobody", token=grants(*own, user=None))
        await connected(script, "reader", token=grants(user="ada"))
        await ok(script, "attach", client="ada", channel="room")
        serial = await published(script, "room", data="mine")
        sent = {"serial": serial, "data": "changed"}
        for how in ("update", "append", "delete"):
            asked = {"channel": "room", "how": how, "message": sent}
            assert await refused(script, "edit", client="eve", **asked) == 40160
            assert await refused(script, "edit", client="nobody", **asked) == 40166
            assert await refused(script, "edit", client="reader", **asked) == 40160
            await ok(script, "edit", client="ada", **asked)
            await ok(script, "edit", client="mod", **asked)
            by_ada, by_mod = await heard(script, "ada", "room"), await heard(script, "ada", "room")
            assert (by_ada["user"], by_ada["version"]["clientId"]) == ("ada", "ada")
            assert (by_mod["user"], by_mod["version"]["clientId"]) == ("ada", "mod")
        asked = {"channel": "room", "how": "update", "message": sent, "operation": {"clientId": "ada"}}
        assert await refused(script, "edit", client="eve", **asked) == 40012


@pytest.mark.parametrize("client", ["rest", "realtime"])
async def test_what_cannot_be_changed_is_refused_in_the_vendors_words(tmp_path: Path, client: str) -> None:
    async with world(tmp_path) as (_, script):
        await (ok(script, "rest", client="ada") if client == "rest" else connected(script, "ada"))
        asked = {"client": "ada", "channel": "room", "how": "update"}
        for serial in ("01826232498871-001@abcdefghij:001", "17000000000000000@gone", "nonsense"):
            assert await refused(script, "edit", **asked, message={"serial": serial, "data": "x"}) == 40400
        serial = (await ok(script, "publish", client="ada", channel="room", messages=[{"data": "x" * 60000}]))[
            "serials"
        ][0]
        asked["how"] = "append"
        assert await refused(script, "edit", **asked, message={"serial": serial, "data": "x" * 6000}) == 40009
        asked["channel"] = "nothing-is-kept"
        assert await refused(script, "edit", **asked, message={"serial": serial, "data": "x"}) == 93002
        if client == "rest":
            for what in ("get_message", "versions", "annotations"):
                assert await refused(script, what, client="ada", channel="room", serial="nonsense") == 40400


async def test_who_was_cut_off_is_told_what_changed_and_of_what_was_appended_the_whole_once(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script), between(daemon.port) as proxy:
        await connected(script, "ada", clientId="ada")
        await connected(script, "bob", port=proxy.port, disconnectedRetryTimeout=200)
        for client in ("ada", "bob"):
            await ok(script, "attach", client=client, channel="room")
        serial = await published(script, "room", data="a")
        edited = await published(script, "room", data="draft")
        await change(script, "room", "append", serial=serial, data="b")
        assert [(await heard(script, "bob", "room"))["data"] for _ in range(3)] == ["a", "draft", "b"]
        proxy.to = 1  # where nobody listens
        proxy.cut()
        await change(script, "room", "append", serial=serial, data="c")
        await change(script, "room", "update", serial=edited, data="final")
        await change(script, "room", "append", serial=serial, data="d")
        proxy.to = daemon.port
        resumed = [(await script.hear("change", client="bob", change="attached"))["resumed"] for _ in range(2)]
        assert resumed == [False, True]
        told = [await heard(script, "bob", "room") for _ in range(2)]
        assert [(t["action"], t["serial"], t["data"]) for t in told] == [
            ("message.update", edited, "final"),
            ("message.update", serial, "abcd"),
        ]
        await change(script, "room", "append", serial=serial, data="e")
        assert (await heard(script, "bob", "room"))["data"] == "e"

        await connected(script, "eve")
        await ok(script, "attach", client="eve", channel="room", options={"params": {"rewind": "2"}})
        told = [await heard(script, "eve", "room") for _ in range(2)]
        assert [(t["serial"], t["data"]) for t in told] == [(serial, "abcde"), (edited, "final")]


async def test_history_up_to_where_a_client_attached_and_what_it_is_told_live_make_the_message_together(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada", clientId="ada")
        await connected(script, "bob")
        await ok(script, "attach", client="ada", channel="room")
        serial, other = [await published(script, "room", data=data) for data in ("a", "x")]
        await change(script, "room", "append", serial=serial, data="b")
        await ok(script, "attach", client="bob", channel="room")
        await change(script, "room", "append", serial=serial, data="c")
        await change(script, "room", "update", serial=other, data="y")
        live = [await heard(script, "bob", "room") for _ in range(2)]
        assert [(told["action"], told["data"]) for told in live] == [("message.append", "c"), ("message.update", "y")]
        before = {"untilAttach": True, "limit": 1}
        pages = await ok(script, "history", client="bob", channel="room", params=before)
        assert [m["data"] for page in pages for m in page] == ["x", "ab"]
        pages = await ok(script, "history", client="bob", channel="room")
        assert [m["data"] for page in pages for m in page] == ["y", "abc"]


async def test_an_append_whose_acknowledgement_was_lost_is_sent_again_and_appended_once(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script), between(daemon.port) as proxy:
        await connected(script, "ada", clientId="ada", port=proxy.port, disconnectedRetryTimeout=200)
        await connected(script, "bob")
        for client in ("ada", "bob"):
            await ok(script, "attach", client=client, channel="room")
        serial = await published(script, "room", data="once")
        proxy.drop = b'"action":1,'
        appended = {"serial": serial, "data": ", and again"}
        await script.do("edit", client="ada", channel="room", how="append", message=appended)
        assert [(await heard(script, "bob", "room"))["data"] for _ in range(2)] == ["once", ", and again"]
        proxy.drop = None
        proxy.cut()
        version = (await script.hear("edit"))["edit"]
        await ok(script, "rest", client="server")
        found = await ok(script, "get_message", client="server", channel="room", serial=serial)
        assert (found["data"], found["version"]["serial"]) == ("once, and again", version)


async def test_an_update_that_was_acknowledged_survives_a_kill_of_the_daemon(tmp_path: Path) -> None:
    async with world(tmp_path, "msgpack") as (daemon, script):
        await connected(script, "ada", clientId="ada")
        await ok(script, "attach", client="ada", channel="room")
        serial = await published(script, "room", data="first")
        await change(script, "room", "update", serial=serial, data="second")
        version = await change(script, "room", "append", serial=serial, data=", third")
        await ok(script, "annotate", client="ada", channel="room", serial=serial, annotation={"type": "seen:flag.v1"})
        await daemon.stop(signal.SIGKILL)
        await daemon.start(keep_config=True)
        await ok(script, "rest", client="server")
        found = await ok(script, "get_message", client="server", channel="room", serial=serial)
        assert (found["data"], found["version"]["serial"]) == ("second, third", version)
        assert found["summary"]["seen:flag.v1"]["clientIds"] == ["ada"]
        ((*_, last),) = await ok(script, "versions", client="server", channel="room", serial=serial)
        assert last["version"]["serial"] == version


async def test_other_protocols_see_no_event_in_a_change_and_the_message_as_it_is_now_in_their_history(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (daemon, script):
        await connected(script, "ada", clientId="ada")
        await ok(script, "attach", client="ada", channel="room")
        async with daemon.socket("room") as native:
            await native.expect("welcome")
            serial = await published(script, "room", name="note", data="first")
            assert await native.events(1) == ["first"]
            await change(script, "room", "update", serial=serial, data="second")
            await ok(script, "annotate", client="ada", channel="room", serial=serial, annotation={"type": "n:total.v1"})
            assert [(await heard(script, "ada", "room"))["action"] for _ in range(2)] == [
                "message.update",
                "message.summary",
            ]
            await published(script, "room", name="note", data="third")
            assert await native.events(1) == ["third"]
        page = (await daemon.request("GET", "/history/room")).json()
        assert [event["data"] for event in page["events"]] == ["second", "third"]
        polled = await daemon.request(
            "GET", f"/v2/subscribe/sub-{KEY}/room/0", auth=False, params={"tt": int(serial[:17]) - 1}
        )
        assert [m["d"] for m in polled.json()["m"]] == ["second", "third"]


async def test_who_comes_to_a_cache_channel_begins_with_the_last_event_as_it_is_now_over_a_kill_too(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (daemon, script):
        await connected(script, "ada", clientId="ada", disconnectedRetryTimeout=200)
        await ok(script, "attach", client="ada", channel="cache-a")
        await published(script, "cache-a", name="note", data="before")
        serial = await published(script, "cache-a", name="note", data="draft")
        await change(script, "cache-a", "update", serial=serial, data="an")
        await change(script, "cache-a", "append", serial=serial, data="swer")
        await ok(script, "annotate", client="ada", channel="cache-a", serial=serial, annotation={"type": "n:total.v1"})
        for _ in range(3):
            await heard(script, "ada", "cache-a")

        async def begins_with() -> list[str]:
            async with daemon.socket("cache-a") as newcomer:
                await newcomer.expect("welcome")
                return await newcomer.events(1)

        assert await begins_with() == ["answer"]
        await connected(script, "bob")
        await ok(script, "attach", client="bob", channel="cache-a")
        told = await heard(script, "bob", "cache-a")
        assert (told["action"], told["data"], told["serial"]) == ("message.update", "answer", serial)
        assert told["summary"] == {"n:total.v1": {"total": 1}}
        await daemon.stop(signal.SIGKILL)
        await daemon.start(keep_config=True)
        assert await begins_with() == ["answer"]
