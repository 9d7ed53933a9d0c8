"""What of Ably is not spoken: each time ably-js asks for it, it gets an answer that it goes on from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from trio_websocket import ConnectionClosed, open_websocket_url

from tests.sdk.ably.test_auth import NAME
from tests.sdk.ably.world import ABLY_KEY, connected, heard, ok, refused, world
from tests.sdk.script import Script


async def still_works(script: Script, client: str = "ada") -> None:
    """The connection is the one that it was, and a message makes its round."""
    await ok(script, "attach", client=client, channel="still")
    await ok(script, "publish", client=client, channel="still", messages=[{"name": "here"}])
    assert (await heard(script, client, "still"))["name"] == "here"
    assert [told["state"] for told in script.told("state", client=client)] == ["connecting"]


async def test_who_asks_for_deltas_gets_whole_messages(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada")
        told = await ok(script, "attach", client="ada", channel="room", options={"params": {"delta": "vcdiff"}})
        assert told["params"] in ({}, None), "it is not told that it gets deltas"
        for text in ("a long text", "a long text, and more"):
            await ok(script, "publish", client="ada", channel="room", messages=[{"name": "e", "data": text}])
            assert (await heard(script, "ada", "room"))["data"] == text
        await still_works(script)


async def test_filtered_channels_and_metachannels_fail_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada")
        assert await refused(script, "derived", client="ada", channel="room", filter="name == 'e'") == 40010
        for name in ("", "[meta]log", "[meta]channel.lifecycle", "[meta]connection.lifecycle", "[unknown]room"):
            assert await refused(script, "attach", client="ada", channel=name) == 40010
        await still_works(script)


async def test_objects_are_refused_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada", objects=True)
        modes: dict[str, Any] = {"modes": ["OBJECT_SUBSCRIBE", "OBJECT_PUBLISH", "SUBSCRIBE"]}
        assert await refused(script, "objects", client="ada", channel="room", options=modes) == 40024
        await connected(script, "eve")
        attached = await ok(script, "attach", client="eve", channel="room", options=modes)
        assert attached["modes"] == ["subscribe"]
        await still_works(script)


async def test_push_is_not_there_and_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await ok(script, "rest", client="server")
        recipient, payload = {"clientId": "ada"}, {"notification": {"title": "t", "body": "b"}}
        calls: list[tuple[str, list[Any]]] = [
            ("push.admin.publish", [recipient, payload]),
            ("push.admin.deviceRegistrations.list", [{}]),
            ("push.admin.deviceRegistrations.get", ["device"]),
            ("push.admin.channelSubscriptions.list", [{"channel": "room"}]),
            ("push.admin.channelSubscriptions.listChannels", [{}]),
        ]
        for path, args in calls:
            assert await refused(script, "call", client="server", path=path, args=args) == 40400, path


async def test_statistics_are_an_empty_page_and_what_is_not_there_is_told_in_ablys_words(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        await ok(script, "rest", client="server")
        assert await ok(script, "stats", client="server") == []
        for path in ("/nothing", "/channels/a/b/c", "/apps/1/keys"):
            told = await ok(script, "request", client="server", method="get", path=path)
            assert (told["status"], told["errorCode"]) == (404, 40400), path
        # The vendor says so too where the path is one of its own, and only the method is not.
        for method, path in (("delete", "/time"), ("get", f"/keys/{NAME}/requestToken"), ("put", "/channels/a")):
            wrong = await ok(script, "request", client="server", method=method, path=path)
            assert (wrong["status"], wrong["errorCode"]) == (404, 40400), path
        packed = await daemon.request(
            "GET", "/nothing", auth=False, headers={"X-Ably-Version": "6", "Accept": "application/x-msgpack"}
        )
        assert packed.headers["content-type"] == "application/x-msgpack"
        assert packed.headers["x-ably-errorcode"] == "40400"
        for path in ("/comet/connect", "/comet/abc/recv", "/comet/abc/send", "/comet/abc/close"):
            polling = await daemon.request("GET", path, auth=False, params={"key": ABLY_KEY, "v": "6"})
            assert polling.status_code == 404, "the transport without a WebSocket"
        plain = await daemon.request("GET", "/nothing", auth=False)
        assert plain.json()["error"]["code"] == "not_found", "nobody but Ably's SDKs is told so"


async def test_the_socket_at_the_root_is_ablys_and_nothing_else_there_is(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        async with open_websocket_url(f"ws://127.0.0.1:{daemon.port}/?v=6&format=json") as stranger:
            told = json.loads(await stranger.get_message())
            assert (told["action"], told["error"]["code"]) == (9, 40101), "let in, told why, and closed"
            with pytest.raises(ConnectionClosed):
                await stranger.get_message()
        for path, params in (("/", {}), ("/", {"key": ABLY_KEY, "v": "6"})):
            page = await daemon.request("GET", path, auth=False, params=params)
            assert page.status_code == 426, "it is a socket's place"
        async with daemon.socket("room") as native:
            assert (await native.expect("welcome"))["channel"] == "room"
        await connected(script, "ada")
        await still_works(script)
