"""pubnub for Python as it is: its threads, its asyncio loop and its event engine, against a real daemon."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Daemon, running
from tests.sdk.pubnub.world import CONFIG, HERE, SIGNING
from tests.sdk.script import Script
from tests.sdk.script import running as script

MODES = pytest.mark.parametrize("mode", ["sync", "asyncio", "engine"])
OPTIONS = {"publish_key": SIGNING["publishKey"], "subscribe_key": SIGNING["subscribeKey"]}
SECRET = {"secret_key": SIGNING["secretKey"]}


class Sdk:
    """One script with any number of clients."""

    def __init__(self, daemon: Daemon, told: Script) -> None:
        self.daemon = daemon
        self.script = told
        self._calls = 0

    async def _ask(self, client: str, method: str, args: dict[str, Any]) -> dict[str, Any]:
        self._calls += 1
        await self.script.do("call", client=client, method=method, args=args, id=self._calls)
        return await self.script.hear("called", called=self._calls)

    async def call(self, client: str, method: str, **args: Any) -> Any:
        told = await self._ask(client, method, args)
        assert "failed" not in told, told
        return told["result"]

    async def fail(self, client: str, method: str, **args: Any) -> dict[str, Any]:
        told = await self._ask(client, method, args)
        assert "failed" in told, told
        return told["failed"]

    async def subscribe(self, client: str, *channels: str, **more: Any) -> None:
        await self.script.do("subscribe", client=client, channels=channels, **more)
        await self.script.hear("status", client=client, status="PNConnectedCategory")

    async def messages(self, client: str, count: int) -> list[Any]:
        return [(await self.script.hear("message", client=client))["message"] for _ in range(count)]


@asynccontextmanager
async def python(folder: Path, mode: str, *clients: str, **options: Any) -> AsyncIterator[Sdk]:
    async with running(folder, CONFIG) as daemon:
        async with script(HERE / "client.py", str(daemon.port), mode, json.dumps({**OPTIONS, **options})) as told:
            await told.hear("ready")
            sdk = Sdk(daemon, told)
            for client in clients:
                await told.do("make", client=client)
            yield sdk


@MODES
async def test_what_is_published_in_any_way_arrives_once_and_in_order(tmp_path: Path, mode: str) -> None:
    async with python(tmp_path, mode, "ada", "bob") as sdk:
        await sdk.subscribe("bob", "room")
        sent: list[Any] = [{"a": [1, None, "é/?&"]}, "text", 0, ""]
        for message in sent:
            await sdk.call("ada", "publish", channel="room", message=message, meta={"n": 1})
            await sdk.call("ada", "publish", channel="room", message=message, use_post=True)
        assert await sdk.messages("bob", 8) == [message for message in sent for _ in range(2)]
        await sdk.call("ada", "signal", channel="room", message="typing")
        assert (await sdk.script.hear("signal"))["publisher"] == "ada"
        await sdk.call("ada", "fire", channel="room", message="nobody hears it")
        await sdk.call("ada", "publish", channel="room", message="last", custom_message_type="chat-line")
        event = await sdk.script.hear("message")
        assert (event["message"], event["type"], event["publisher"]) == ("last", "chat-line", "ada")
        assert isinstance(await sdk.call("ada", "time"), int | dict)


@MODES
async def test_a_client_is_not_stopped_by_a_restart_and_misses_nothing(tmp_path: Path, mode: str) -> None:
    async with python(tmp_path, mode, "ada", "bob") as sdk:
        await sdk.subscribe("bob", "room")
        await sdk.call("ada", "publish", channel="room", message="before")
        assert await sdk.messages("bob", 1) == ["before"]
        for how in (signal.SIGTERM, signal.SIGKILL):
            await sdk.daemon.stop(how)
            await sdk.daemon.start()
            for number in range(3):
                await sdk.daemon.request("GET", f"/publish/pub-c-mine/sub-c-mine/0/room/0/{number}?uuid=x")
            assert await sdk.messages("bob", 3) == [0, 1, 2]


@MODES
async def test_presence_is_told_and_asked_for(tmp_path: Path, mode: str) -> None:
    async with python(tmp_path, mode, "ada", "bob") as sdk:
        await sdk.subscribe("ada", "room", presence=True)
        assert (await sdk.script.hear("presence", uuid="ada"))["presence"] == "join"
        await sdk.subscribe("bob", "room")
        told = await sdk.script.hear("presence", uuid="bob")
        assert (told["presence"], told["occupancy"]) == ("join", 2)
        await sdk.call("bob", "set_state", channels=["room"], state={"mood": "fine"})
        told = await sdk.script.hear("presence", uuid="bob")
        assert (told["presence"], told["state"]) == ("state-change", {"mood": "fine"})
        said = await sdk.call("ada", "here_now", channels=["room"], include_state=True)
        assert said["total_occupancy"] == 2
        said = await sdk.call("ada", "here_now", channels=["room", "other"])
        assert (said["total_channels"], said["total_occupancy"]) == (1, 2)
        assert (await sdk.call("ada", "where_now", uuid="bob"))["channels"] == ["room"]
        assert (await sdk.call("ada", "get_state", channels=["room"], uuid="bob"))["channels"] == {
            "room": {"mood": "fine"}
        }
        said = await sdk.call("ada", "get_state", channels=["room", "other"], uuid="bob")
        assert said["channels"] == {"room": {"mood": "fine"}}


@MODES
async def test_groups_history_and_counts(tmp_path: Path, mode: str) -> None:
    async with python(tmp_path, mode, "ada", **SECRET) as sdk:
        await sdk.call("ada", "add_channel_to_channel_group", channel_group="g", channels=["room", "hall"])
        assert (await sdk.call("ada", "list_channels_in_channel_group", channel_group="g"))["channels"] == [
            "room",
            "hall",
        ]
        await sdk.script.do("subscribe", client="ada", channels=[], groups=["g"])
        await sdk.script.hear("status", client="ada", status="PNConnectedCategory")
        for number in range(3):
            await sdk.call("ada", "publish", channel="hall", message=number, meta={"n": number})
        event = await sdk.script.hear("message")
        assert (event["channel"], event["subscription"]) == ("hall", "g")
        page = await sdk.call("ada", "fetch_messages", channels=["hall"], include_meta=True)
        assert [item["message"] for item in page["channels"]["hall"]] == [0, 1, 2]
        old = await sdk.call("ada", "history", channel="hall", include_timetoken=True)
        assert [item["entry"] for item in old["messages"]] == [0, 1, 2]
        counts = await sdk.call(
            "ada", "message_counts", channel="hall", channel_timetokens=[old["messages"][0]["timetoken"]]
        )
        assert counts["channels"] == {"hall": 2}
        await sdk.call("ada", "delete_messages", channel="hall")
        assert (await sdk.call("ada", "fetch_messages", channels=["hall"]))["channels"] == {}
        await sdk.call("ada", "remove_channel_from_channel_group", channel_group="g", channels=["room"])
        await sdk.call("ada", "remove_channel_group", channel_group="g")


@MODES
async def test_signatures_tokens_and_refusals(tmp_path: Path, mode: str) -> None:
    async with python(tmp_path, mode, "ada") as sdk:
        await sdk.script.do("make", client="boss", **SECRET)
        await sdk.script.do("make", client="thief", secret_key="wrong-0123456789abcdef")
        for args in ({"use_post": True}, {"use_post": False}):
            message = {"channel": "private-ü!'()", "message": {"a": "é/?&=+ !*'()~[]"}, "meta": {"b": "c d"}, **args}
            await sdk.call("boss", "publish", **message)
            assert "403" in str(await sdk.fail("thief", "publish", **message))
            assert "403" in str(await sdk.fail("ada", "publish", **message))
        await sdk.call("boss", "set_state", channels=["private-a"], state={"a": "b c"})
        assert "403" in str(await sdk.fail("thief", "here_now", channels=["private-a"]))
        await sdk.script.do(
            "subscribe", client="boss", channels=["private-a"], groups=["g,h" if mode == "sync" else "g"]
        )
        await sdk.script.hear("status", client="boss", status="PNConnectedCategory")
        token = (await sdk.call("boss", "grant_token", channel="private-a", ttl=15, user="ada"))["token"]
        await sdk.script.do("token", client="ada", token=token)
        await sdk.subscribe("ada", "private-a")
        await sdk.call("ada", "publish", channel="private-a", message="in")
        assert await sdk.messages("ada", 1) == ["in"]
        assert "403" in str(await sdk.fail("ada", "publish", channel="room", message="out"))
        await sdk.call("boss", "revoke_token", token=token)
        failed = await sdk.fail("ada", "publish", channel="private-a", message="late")
        assert "Token is revoked" in str(failed)


@MODES
async def test_errors_of_the_http_layer_can_be_read_too(tmp_path: Path, mode: str) -> None:
    async with python(tmp_path, mode, "ada") as sdk:
        failed = await sdk.fail("ada", "publish", channel="room", message="x" * 45_000)
        assert "uri_too_long" in str(failed)
        failed = await sdk.fail(
            "ada", "publish", channel="room", message="x" * 2_000_000, use_post=True, use_compression=False
        )
        assert "too_large" in str(failed) or "Too Large" in str(failed)
        assert (await sdk.fail("ada", "get_all_channel_metadata"))["message"]
