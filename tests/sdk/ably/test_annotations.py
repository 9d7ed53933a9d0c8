"""Annotations of messages: ably-js and ably-python publish, take back, list and follow them, and see the summaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.sdk.ably.proxy import between
from tests.sdk.ably.test_auth import token
from tests.sdk.ably.test_versions import BOTH, published
from tests.sdk.ably.world import connected, heard, ok, refused, world
from tests.sdk.script import Script

LIKES, STARS = "likes:unique.v1", "stars:multiple.v1"

MODES = {"modes": ["subscribe", "publish", "annotation_publish", "annotation_subscribe"]}


async def annotate(
    script: Script, serial: str, kind: str, *, client: str = "ada", how: str = "publish", **more: Any
) -> None:
    await ok(
        script, "annotate", client=client, channel="room", how=how, serial=serial, annotation={"type": kind, **more}
    )


async def summary(script: Script, client: str = "ada") -> Any:
    """The next summary that is told."""
    told = await heard(script, client, "room")
    assert (told["action"], told["name"]) == ("message.summary", "note"), told
    return told["summary"]


def clients(*users: str) -> dict[str, Any]:
    return {"total": len(users), "clientIds": list(users), "clipped": False}


@BOTH
async def test_annotations_are_told_summed_up_and_listed(tmp_path: Path, sdk: str, wire: str) -> None:
    async with world(tmp_path, wire, sdk=sdk) as (_, script):
        await connected(script, "ada", clientId="ada")
        await ok(script, "rest", client="bob", clientId="bob")
        await ok(script, "attach", client="ada", channel="room", options=MODES)
        await ok(script, "listen", client="ada", channel="room")
        serial = await published(script, "room", name="note", data="hello")

        await annotate(script, serial, LIKES, name="up", data={"why": 1})
        told = (await script.hear("annotation"))["annotation"]
        first = told.pop("serial")
        assert first > serial
        assert {**told, "extras": None, "count": None} == {
            **{"action": "annotation.create", "type": LIKES, "name": "up", "user": "ada", "data": {"why": 1}},
            **{"message": serial, "extras": None, "count": None},
        }
        assert await summary(script) == {LIKES: {"up": clients("ada")}}
        await annotate(script, serial, LIKES, client="bob", name="up")
        assert await summary(script) == {LIKES: {"up": clients("ada", "bob")}}
        await annotate(script, serial, LIKES, name="down")
        assert await summary(script) == {LIKES: {"up": clients("bob"), "down": clients("ada")}}
        await annotate(script, serial, LIKES, client="bob", how="delete", name="up")
        assert await summary(script) == {LIKES: {"down": clients("ada")}}
        await annotate(script, serial, STARS, name="four", count=4)
        counted = {"total": 4, "clientIds": {"ada": 4}, "totalUnidentified": 0, "totalClientIds": 1, "clipped": False}
        whole = {LIKES: {"down": clients("ada")}, STARS: {"four": counted}}
        assert await summary(script) == whole
        await annotate(script, serial, "comments", data="kept, and not summed up")

        heard_all = [(await script.hear("annotation"))["annotation"] for _ in range(5)]
        assert [(a["action"], a["user"]) for a in heard_all[-3:]] == [
            ("annotation.delete", "bob"),
            ("annotation.create", "ada"),
            ("annotation.create", "ada"),
        ]
        pages = await ok(script, "annotations", client="bob", channel="room", serial=serial, params={"limit": 4})
        assert [len(page) for page in pages] == [4, 2]
        assert [a["serial"] for page in pages for a in page] == [first, *(a["serial"] for a in heard_all)]
        assert pages[1][1]["data"] == "kept, and not summed up"

        found = await ok(script, "get_message", client="bob", channel="room", serial=serial)
        ((listed,),) = await ok(script, "history", client="bob", channel="room")
        for message in (found, listed):
            assert (message["action"], message["data"], message["summary"]) == ("message.create", "hello", whole)
        assert [len(page) for page in await ok(script, "versions", client="bob", channel="room", serial=serial)] == [1]


async def test_annotations_need_their_capabilities_and_some_a_client_that_says_who_it_is(tmp_path: Path) -> None:
    def grants(*operations: str) -> str:
        return token(**{"x-ably-capability": json.dumps({"room": ["publish", *operations]}), "x-ably-clientId": "ada"})

    async with world(tmp_path) as (_, script):
        await connected(script, "ada", token=grants("subscribe", "annotation-publish"))
        await connected(script, "eve", token=grants("subscribe", "annotation-subscribe"))
        await connected(script, "spy", token=grants("annotation-subscribe"))
        for client in ("nobody", "mute"):
            await connected(script, client)
        await ok(script, "attach", client="mute", channel="room", options={"modes": ["subscribe"]})
        attached = {
            c: await ok(script, "attach", client=c, channel="room", options=MODES) for c in ("ada", "eve", "spy")
        }
        assert attached["ada"]["modes"] == ["publish", "subscribe", "annotation_publish"]
        assert attached["eve"]["modes"] == ["publish", "subscribe", "annotation_subscribe"]
        assert attached["spy"]["modes"] == ["publish", "annotation_subscribe"]
        assert await refused(script, "listen", client="ada", channel="room") == 93001
        for client in ("eve", "spy"):
            await ok(script, "listen", client=client, channel="room")
        serial = await published(script, "room", name="note")

        about = {"channel": "room", "serial": serial}
        assert await refused(script, "annotate", client="eve", **about, annotation={"type": "n:total.v1"}) == 40160
        assert await refused(script, "annotate", client="nobody", **about, annotation={"type": "n:flag.v1"}) == 40161
        assert await refused(script, "annotate", client="mute", **about, annotation={"type": "n:total.v1"}) == 40165
        assert await refused(script, "annotate", client="ada", **about, annotation={"type": LIKES}) == 40003
        assert await refused(script, "annotate", client="ada", **about, annotation={"type": ""}) == 40003
        unheard = {"channel": "room", "serial": "unheard@of", "annotation": {"type": "n:total.v1"}}
        assert await refused(script, "annotate", client="ada", **unheard) == 40400
        await annotate(script, serial, "n:total.v1", client="nobody")
        await annotate(script, serial, "n:total.v1", client="ada")
        assert [await summary(script) for _ in range(2)] == [{"n:total.v1": {"total": n}} for n in (1, 2)]
        for client in ("eve", "spy"):
            told = [(await script.hear("annotation", client=client))["annotation"].get("user") for _ in range(2)]
            assert told == [None, "ada"]
        # Who may not hear annotations hears none, and who may hear nothing else hears nothing else.
        assert script.told("annotation", client="ada") == script.told("message", client="spy") == []


async def test_who_was_cut_off_is_told_each_annotation_and_the_last_summary(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script), between(daemon.port) as proxy:
        await connected(script, "ada", clientId="ada")
        await connected(script, "bob", port=proxy.port, disconnectedRetryTimeout=200)
        await ok(script, "attach", client="ada", channel="room")
        await ok(script, "attach", client="bob", channel="room", options=MODES)
        await ok(script, "listen", client="bob", channel="room")
        serial = await published(script, "room", name="note")
        await annotate(script, serial, "n:total.v1")
        assert (await heard(script, "bob", "room"))["action"] == "message.create"
        assert await summary(script, "bob") == {"n:total.v1": {"total": 1}}
        await script.hear("annotation", client="bob")
        proxy.to = 1  # where nobody listens
        proxy.cut()
        for _ in range(3):
            await annotate(script, serial, "n:total.v1")
        await annotate(script, serial, "n:total.v1", how="delete")
        proxy.to = daemon.port
        assert await summary(script, "bob") == {"n:total.v1": {"total": 3}}
        told = [(await script.hear("annotation", client="bob"))["annotation"]["action"] for _ in range(4)]
        assert told == ["annotation.create"] * 3 + ["annotation.delete"]
        assert script.told("message", client="bob") == []


async def test_who_loses_the_right_to_annotations_with_a_new_token_is_told_no_more(tmp_path: Path) -> None:
    def grants(*operations: str) -> str:
        return token(**{"x-ably-capability": json.dumps({"room": [*operations]}), "x-ably-clientId": "ada"})

    async with world(tmp_path) as (_, script):
        both = ("subscribe", "annotation-subscribe", "annotation-publish", "publish")
        for client, operations in {"ada": both, "silent": ("publish",)}.items():
            await connected(script, client, token=grants(*operations))
            await ok(script, "attach", client=client, channel="room", options=MODES)
        less = grants("subscribe", "publish")
        for client in ("ada", "silent"):
            await ok(script, "authorize", client=client, options={"token": less})
        gone = await script.hear("change", client="ada", change="failed")
        assert gone["error"]["code"] == 40160
        await ok(script, "publish", client="silent", channel="room", messages=[{"name": "goes on"}])
        assert script.told("change", client="silent", change="failed") == []
