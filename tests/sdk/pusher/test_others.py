"""Laravel Echo and Pysher as they are, against a real daemon."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.daemon import KEY, SECRET
from tests.sdk.pusher.world import HERE, established, trigger, world
from tests.sdk.script import running


@pytest.mark.parametrize("broadcaster", ["pusher", "reverb"])
async def test_laravel_echo_hears_events_whispers_and_who_is_there(tmp_path: Path, broadcaster: str) -> None:
    async with world(tmp_path) as (daemon, script), established(daemon) as other:
        await script.do("echo", client="echo", broadcaster=broadcaster)
        assert (await script.hear("echo", echo="here"))["data"] == [{"name": "Ada"}]
        await script.hear("echo", echo="subscribed")
        await trigger(script, "orders", "App\\Events\\Shipped", {"order": 7})
        assert (await script.hear("echo", echo="Shipped"))["data"] == {"order": 7}
        await other.subscribe("private-orders")
        await other.send("client-typing", {"who": "bob"}, channel="private-orders")
        assert (await script.hear("echo", echo="whisper"))["data"] == {"who": "bob"}
        await script.do("whisper", client="echo", data={"who": "ada"})
        assert (await other.expect("client-typing"))["data"] == {"who": "ada"}
        await other.subscribe("presence-room", '{"user_id":"bob","user_info":{"name":"Bob"}}')
        assert (await script.hear("echo", echo="joining"))["data"] == {"name": "Bob"}
        await other.send("pusher:unsubscribe", {"channel": "presence-room"})
        assert (await script.hear("echo", echo="leaving"))["data"] == {"name": "Bob"}


async def test_pysher_subscribes_hears_and_speaks(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script), established(daemon) as other:
        async with running(HERE / "client.py", str(daemon.port), KEY, SECRET) as pysher:
            await pysher.do("connect")
            await pysher.hear("established")
            await pysher.hear("pong")
            succeeded = "pusher_internal:subscription_succeeded"
            for channel in ("news", "private-a", "presence-room"):
                await pysher.do(
                    "subscribe", channel=channel, events=["e", "client-hi", "pusher_internal:member_added", succeeded]
                )
                told = json.loads((await pysher.hear("event", event=succeeded))["data"])
            assert told == {"presence": {"ids": ["py"], "hash": {"py": {"of": "py"}}, "count": 1}}
            await trigger(script, "news", "e", {"n": 1})
            assert (await pysher.hear("event", event="e"))["data"] == '{"n":1}'
            await other.subscribe("presence-room", '{"user_id":"bob"}')
            added = await pysher.hear("event", event="pusher_internal:member_added")
            assert json.loads(added["data"]) == {"user_id": "bob", "user_info": None}
            await pysher.do("trigger", channel="presence-room", event="client-hi", data={"x": 1})
            heard = await other.expect("client-hi")
            assert (heard["data"], heard["user_id"]) == ({"x": 1}, "py")
            await pysher.do("trigger", channel="presence-room", event="client-hi", data="x" * 11_000)
            assert (await pysher.hear("error"))["error"] == 4301
