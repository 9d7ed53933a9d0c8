"""A daemon that Pusher's SDKs talk to, and sockets that say whatever a test wants."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from tests.e2e.daemon import KEY, PATIENCE, SECRET, Daemon
from tests.e2e.daemon import running as daemon_running
from tests.sdk.script import Script
from tests.sdk.script import running as script_running

HERE = Path(__file__).parent

APP = f"""
[[apps]]
id = "1001"
key = "{KEY}"
secret = "{SECRET}"
"""

RULES = """
[[channels]]
match = "presence-*"
grace = "0s"

[[channels]]
match = "kept-*"
client_events = true
history = {messages = 100, age = "1h"}
"""


@asynccontextmanager
async def world(folder: Path, *, app: str = "", rules: str = RULES) -> AsyncIterator[tuple[Daemon, Script]]:
    """A daemon, and a Node process with pusher-js, Laravel Echo and the Node server SDK. app: more lines of [[apps]]."""
    async with daemon_running(folder, APP + app + rules) as daemon:
        async with script_running(HERE / "sdk.cjs", str(daemon.port), KEY, SECRET) as script:
            yield daemon, script


async def connected(script: Script, client: str, **options: Any) -> None:
    """A pusher-js client, once it is connected."""
    await script.do("connect", client=client, **options)
    await script.hear("state", client=client, state="connected")


async def subscribed(script: Script, client: str, channel: str) -> Any:
    """Subscribe, and return what subscription_succeeded said."""
    await script.do("subscribe", client=client, channel=channel)
    return (await script.hear("event", client=client, channel=channel, event="pusher:subscription_succeeded"))["data"]


async def trigger(script: Script, *args: Any) -> dict[str, Any]:
    """Publish with the Node server SDK. Returns the body of the answer."""
    await script.do("server", call="trigger", args=args)
    told = await script.hear("server")
    assert told["server"] == 200, told
    return told["body"]


def sign(text: str) -> str:
    """HMAC-SHA256 with the app's secret, in hexadecimal digits."""
    return hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()


def signed_path(method: str, path: str, body: bytes = b"", **query: str) -> str:
    """A path with its signature, made by the vendor's written rules."""
    query = {"auth_key": KEY, "auth_timestamp": str(int(time.time())), "auth_version": "1.0", **query}
    if body:
        query["body_md5"] = hashlib.md5(body).hexdigest()
    text = "&".join(f"{name}={value}" for name, value in sorted(query.items()))
    signature = sign("\n".join((method, path, text)))
    return f"{path}?{text}&auth_signature={signature}"


class Socket:
    """A socket that says what a test wants, as a client of this protocol."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection
        self.id = ""

    async def send(self, event: str, data: Any = None, **more: Any) -> None:
        await self.connection.send_message(
            json.dumps({"event": event, "data": data if data is not None else {}, **more})
        )

    async def hear(self) -> dict[str, Any]:
        with trio.fail_after(PATIENCE):
            return json.loads(await self.connection.get_message())

    async def expect(self, event: str) -> dict[str, Any]:
        """The next frame, which must be this event."""
        frame = await self.hear()
        assert frame["event"] == event, frame
        return frame

    async def subscribe(self, channel: str, channel_data: str | None = None) -> dict[str, Any]:
        """Subscribe with a good signature, and return the answer."""
        data = {"channel": channel, "auth": f"{KEY}:{sign(f'{self.id}:{channel}')}"}
        if channel_data is not None:
            data |= {"auth": f"{KEY}:{sign(f'{self.id}:{channel}:{channel_data}')}", "channel_data": channel_data}
        if not channel.startswith(("private-", "presence-")):
            del data["auth"]
        await self.send("pusher:subscribe", data)
        return await self.hear()

    async def closing(self) -> int:
        """Read until the server closes. Returns the close code."""
        try:
            while True:
                await self.hear()
        except ConnectionClosed as closed:
            return closed.reason.code if closed.reason is not None else 1006


@asynccontextmanager
async def socket(daemon: Daemon, query: str = "protocol=7", key: str = KEY) -> AsyncIterator[Socket]:
    """A socket after its handshake; what the server says first is still to be heard."""
    with trio.fail_after(PATIENCE * 3):
        async with open_websocket_url(f"ws://127.0.0.1:{daemon.port}/app/{key}?{query}") as connection:
            yield Socket(connection)


@asynccontextmanager
async def established(daemon: Daemon) -> AsyncIterator[Socket]:
    """A socket that was greeted."""
    async with socket(daemon) as client:
        client.id = json.loads((await client.expect("pusher:connection_established"))["data"])["socket_id"]
        yield client
