"""A daemon that Ably's SDKs talk to, and the SDKs' processes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.e2e.daemon import KEY, SECRET, Daemon
from tests.e2e.daemon import running as daemon_running
from tests.sdk.script import Script
from tests.sdk.script import running as script_running

HERE = Path(__file__).parent

ABLY_KEY = "appid.keyid:a-secret-of-ably-0123456789"
LIMITED_KEY = "appid.second:another-secret-0123456789"

APP = f"""
[[apps]]
id = "1001"
key = "{KEY}"
secret = "{SECRET}"

[apps.ably]
key = "{ABLY_KEY}"
keys = {{"{LIMITED_KEY}" = {{"news:*" = ["subscribe", "history"], "chat" = ["publish", "subscribe", "presence"]}}}}
publishes = "1000/s burst 5000"
"""

RULES = """
[[channels]]
match = "nothing-*"

[[channels]]
match = "*"
history = {messages = 1000, age = "1h"}
"""


@asynccontextmanager
async def world(
    folder: Path, wire: str = "json", *, sdk: str = "sdk.cjs", rules: str = RULES
) -> AsyncIterator[tuple[Daemon, Script]]:
    """A daemon, and a process with one of the SDKs. wire: json or msgpack."""
    async with daemon_running(folder, APP + rules) as daemon, AsyncExitStack() as stack:
        script = await stack.enter_async_context(script_running(HERE / sdk, str(daemon.port), ABLY_KEY, wire))
        yield daemon, script


async def connected(script: Script, client: str, **options: Any) -> str:
    """A realtime client, once it is connected. Returns its connection's id."""
    await script.do("connect", client=client, **options)
    return (await script.hear("state", client=client, state="connected"))["id"]


async def ok(script: Script, what: str, **more: Any) -> Any:
    """Have something done that must succeed. Returns what it came to."""
    told = await script.ask(what, **more)
    assert "error" not in told, told
    return told[what]


async def refused(script: Script, what: str, **more: Any) -> int:
    """Have something done that must be refused. Returns Ably's code."""
    told = await script.ask(what, **more)
    assert "error" in told, told
    return told["error"]["code"]


async def heard(script: Script, client: str, channel: str) -> dict[str, Any]:
    """The next message of a channel."""
    return (await script.hear("message", client=client, channel=channel))["message"]
