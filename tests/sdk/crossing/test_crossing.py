"""The vendors' SDKs and Sower's own client on one channel: one order, each message once, the same members, one history."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from sower.web import files
from tests.e2e.daemon import KEY, SECRET, Daemon, running
from tests.sdk.ably.world import ABLY_KEY
from tests.sdk.pubnub.world import SIGNING
from tests.sdk.script import PATIENCE, Script
from tests.sdk.script import running as script

CHANNEL = "presence-crossing"
EVERYBODY = ["ably", "native", "pubnub", "pusher"]
EACH = 100

CONFIG = f"""
[limits]
client_events = "1000/s burst 1000"

[[apps]]
id = "1001"
key = "{KEY}"
secret = "{SECRET}"

[apps.ably]
key = "{ABLY_KEY}"
publishes = "1000/s burst 5000"

[apps.pubnub]
publish_key = "{SIGNING["publishKey"]}"
subscribe_key = "{SIGNING["subscribeKey"]}"
secret_key = "{SIGNING["secretKey"]}"

[[channels]]
match = "presence-*"
client_events = true
history = {{messages = 1000, age = "1h"}}
"""


@asynccontextmanager
async def crossing(folder: Path) -> AsyncIterator[tuple[Daemon, Script]]:
    """A daemon, and all four clients on one channel."""
    async with running(folder, CONFIG) as daemon, clients_of([daemon]) as sdk:
        yield daemon, sdk


@asynccontextmanager
async def clients_of(daemons: list[Daemon]) -> AsyncIterator[Script]:
    """All four clients on one channel, spread over these daemons."""
    daemon = daemons[0]
    minted = await daemon.request("POST", f"/channels/{CHANNEL}/auth", json={"user": "native"})
    library = str(Path(files.__file__).with_name("files") / "sower.js")
    given = {"app": {"key": KEY, "secret": SECRET}, "ably": ABLY_KEY, "pubnub": SIGNING, "library": library}
    ports = ",".join(str(one.port) for one in daemons)
    words = json.dumps({**given, "token": minted.json()["token"]})
    async with script(Path(__file__).with_name("crossing.cjs"), ports, CHANNEL, words) as sdk:
        await sdk.hear("ready")
        await sdk.do("join")
        await sdk.hear("joined")
        yield sdk


async def agree(sdk: Script, *members: str) -> None:
    """Wait until all who are asked see exactly these members."""
    with trio.fail_after(PATIENCE):
        while True:
            here = (await sdk.ask("here"))["here"]
            if all(seen == sorted(members) for seen in here.values()):
                return


async def history(daemon: Daemon) -> list[str]:
    """What the journal holds, oldest first."""
    page = (await daemon.request("GET", f"/history/{CHANNEL}?limit=1000")).json()
    told = [event["data"] if isinstance(event["data"], dict) else json.loads(event["data"]) for event in page["events"]]
    return [f"{data['from']}-{data['n']}" for data in told]


async def all_heard(sdk: Script, *who: str, count: int) -> dict[str, list[str]]:
    """Wait until these have heard so many messages."""
    with trio.fail_after(PATIENCE * 2):
        while True:
            heard = (await sdk.ask("heard"))["heard"]
            if all(len(heard[one]) >= count for one in who):
                return heard


async def test_four_protocols_on_one_channel_are_one_channel(tmp_path: Path) -> None:
    async with crossing(tmp_path) as (daemon, sdk):
        await agree(sdk, *EVERYBODY)
        await sdk.do("say", count=EACH)
        await sdk.hear("said")
        heard = await all_heard(sdk, *EVERYBODY, count=4 * EACH)
        kept = await history(daemon)
        assert set(kept) == {f"{who}-{n}" for who in EVERYBODY for n in range(EACH)}
        assert len(kept) == 4 * EACH
        for who in EVERYBODY:
            assert heard[who] == kept, who
        left = list(EVERYBODY)
        for who in ("ably", "pusher", "pubnub"):
            await sdk.do("leave", who=who)
            await sdk.hear("left")
            left.remove(who)
            await agree(sdk, *left)


async def test_a_daemon_that_is_killed_in_the_middle_costs_nobody_a_message_who_can_come_back(tmp_path: Path) -> None:
    async with crossing(tmp_path) as (daemon, sdk):
        await sdk.do("say", count=EACH)
        await sdk.hear("half")
        await daemon.stop(signal.SIGKILL)
        await daemon.start()
        await sdk.hear("said")
        kept = await history(daemon)
        assert set(kept) == {f"{who}-{n}" for who in EVERYBODY for n in range(EACH)}
        heard = await all_heard(sdk, "ably", "pubnub", "native", count=len(kept))
        for who in ("ably", "pubnub", "native"):
            assert heard[who] == kept, who
        # Pusher's protocol cannot come back; what its client was told is true, in order, and each once
        rest = iter(kept)
        assert all(word in rest for word in heard["pusher"])
