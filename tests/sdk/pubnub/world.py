"""A daemon with a keyset of PubNub's, and the vendor's SDKs beside it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.e2e.daemon import KEY, SECRET, Daemon, running
from tests.sdk.script import PATIENCE, Script
from tests.sdk.script import running as script

KEYSET = {"publishKey": "pub-c-mine", "subscribeKey": "sub-c-mine"}
SIGNING = {**KEYSET, "secretKey": "sec-c-0123456789abcdef"}

CONFIG = f"""
[[apps]]
id = "1001"
key = "{KEY}"
secret = "{SECRET}"

[apps.pubnub]
publish_key = "{KEYSET["publishKey"]}"
subscribe_key = "{KEYSET["subscribeKey"]}"
secret_key = "{SIGNING["secretKey"]}"
announce_max = 5
announce_every = "1s"

[[channels]]
match = "private-*"
client_events = true
presence = true
grace = "0s"
history = {{messages = 1000, age = "1h"}}

[[channels]]
match = "fleeting*"
client_events = true

[[channels]]
match = "*"
client_events = true
presence = true
grace = "0s"
history = {{messages = 1000, age = "1h"}}
"""

HERE = Path(__file__).parent


class World:
    """A daemon and one script with any number of clients."""

    def __init__(self, daemon: Daemon, sdk: Script) -> None:
        self.daemon = daemon
        self.sdk = sdk
        self._calls = 0

    async def call(self, client: str, method: str, *args: Any) -> Any:
        """What a call of the SDK resolves to."""
        told = await self._ask(client, method, args)
        assert "failed" not in told, told
        return told["result"]

    async def fail(self, client: str, method: str, *args: Any) -> dict[str, Any]:
        """How a call of the SDK fails."""
        told = await self._ask(client, method, args)
        assert "failed" in told, told
        return told["failed"]

    async def _ask(self, client: str, method: str, args: tuple[Any, ...]) -> dict[str, Any]:
        self._calls += 1
        await self.sdk.do("call", client=client, method=method, args=args, id=self._calls)
        return await self.sdk.hear("called", id=self._calls)

    async def make(self, *clients: str, **options: Any) -> None:
        """Make clients of these names, which are their users, too."""
        for client in clients:
            await self.sdk.do("make", client=client, **options)

    async def subscribe(self, client: str, *channels: str, **more: Any) -> None:
        """Subscribe and wait until the client is connected."""
        await self.sdk.do("subscribe", client=client, channels=channels, **more)
        await self.sdk.hear("status", client=client, status=more.pop("expect", "PNConnectedCategory"))

    async def publish(self, client: str, channel: str, message: Any, **more: Any) -> str:
        """Publish. Returns the timetoken."""
        return (await self.call(client, "publish", {"channel": channel, "message": message, **more}))["timetoken"]

    async def messages(self, client: str, count: int) -> list[Any]:
        """The next so many messages that a client gets."""
        return [(await self.sdk.hear("message", client=client))["message"] for _ in range(count)]

    async def fetched(self, client: str, channel: str, **more: Any) -> list[Any]:
        """The messages of a channel's history."""
        page = await self.call(client, "fetchMessages", {"channels": [channel], **more})
        return [item["message"] for item in page["channels"].get(channel, [])]


@asynccontextmanager
async def world(folder: Path, config: str = CONFIG, **options: Any) -> AsyncIterator[World]:
    """A daemon and JavaScript's SDK. options: of every client."""
    async with running(folder, config) as daemon:
        common = json.dumps({**KEYSET, **options})
        async with script(HERE / "client.cjs", str(daemon.port), common) as sdk:
            await sdk.hear("ready")
            yield World(daemon, sdk)


async def until(condition: Any) -> None:
    """Wait until something asked is true. Ends with what it said last."""
    said: Any = None
    with trio.move_on_after(PATIENCE):
        while True:
            said = await condition()
            if said:
                return
    raise AssertionError("it never became true")
