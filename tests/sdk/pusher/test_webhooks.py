"""What a receiver gets, read and validated by the vendor's own server SDKs as its documentation tells users to."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.e2e.daemon import KEY, SECRET
from tests.receiver import Receiver, receiving
from tests.sdk.pusher.world import HERE, connected, subscribed, world
from tests.sdk.script import Script
from tests.sdk.script import running as script_running

EVENTS = '["channel_occupied", "channel_vacated", "member_added", "member_removed", "client_event", "cache_miss"]'


def hook(receiver: Receiver, more: str = "") -> str:
    return f'[[apps.webhooks]]\nurl = "{receiver.url}"\nevents = {EVENTS}\n{more}'


async def validated(script: Script, receiver: Receiver) -> list[dict[str, Any]]:
    """The events of all POSTs, each accepted by the Node SDK's webhook()."""
    events: list[dict[str, Any]] = []
    for post in receiver.posts:
        await script.do("webhook", headers=post.headers, body=post.body.decode())
        told = await script.hear("webhook")
        assert told["webhook"] is True
        assert abs(time.time() * 1000 - told["data"]["time_ms"]) < 60_000
        events += told["data"]["events"]
    return events


async def test_the_node_sdk_accepts_every_webhook_of_a_session_of_pusher_js(tmp_path: Path) -> None:
    async with receiving() as receiver, world(tmp_path, app=hook(receiver)) as (_, script):
        await connected(script, "ada", member={"user_id": "7", "user_info": {"name": "Ada"}})
        socket_id = (await script.ask("socket_id", client="ada"))["socket_id"]
        await subscribed(script, "ada", "presence-cache-room")
        await script.do("trigger", client="ada", channel="presence-cache-room", event="client-wave", data={"to": "é"})
        await receiver.accept(4)
        await script.do("disconnect", client="ada")
        await receiver.accept(6)
        events = await validated(script, receiver)
    room = {"channel": "presence-cache-room"}
    said = {"event": "client-wave", "data": {"to": "é"}, "socket_id": socket_id, "user_id": "7"}
    expected = [
        {"name": "channel_occupied", **room},
        {"name": "member_added", **room, "user_id": "7"},
        {"name": "cache_miss", **room},
        {"name": "client_event", **room, **said},
        {"name": "member_removed", **room, "user_id": "7"},
        {"name": "channel_vacated", **room},
    ]
    assert events == expected


async def test_the_python_sdk_accepts_them_too_also_in_a_batch(tmp_path: Path) -> None:
    async with receiving() as receiver, world(tmp_path, app=hook(receiver, "batch = 10\n")) as (daemon, script):
        await connected(script, "ada")
        for n in range(5):
            await subscribed(script, "ada", f"room-{n}")
        await receiver.accept(5)
        await validated(script, receiver)
        async with script_running(HERE / "server.py", str(daemon.port), KEY, SECRET) as python:
            for post in receiver.posts:
                signature = post.headers["x-pusher-signature"]
                args = [post.headers["x-pusher-key"], signature, post.body.decode()]
                await python.do("call", name="validate_webhook", args=args)
                assert (await python.hear("call"))["answer"] == json.loads(post.body)
                forged = [args[0], signature, post.body.decode().replace("room", "doom")]
                await python.do("call", name="validate_webhook", args=forged)
                assert (await python.hear("call"))["answer"] is None


async def test_the_node_sdk_refuses_what_was_changed_on_its_way(tmp_path: Path) -> None:
    async with receiving() as receiver, world(tmp_path, app=hook(receiver)) as (_, script):
        await connected(script, "ada")
        await subscribed(script, "ada", "room")
        await receiver.accept(1)
        [post] = receiver.posts
        for headers, body in (
            (post.headers, post.body.decode() + " "),
            ({**post.headers, "x-pusher-key": "another"}, post.body.decode()),
            ({**post.headers, "content-type": "application/json; charset=utf-8"}, post.body.decode()),
        ):
            await script.do("webhook", headers=headers, body=body)
            assert (await script.hear("webhook"))["webhook"] is False
