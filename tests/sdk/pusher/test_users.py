"""Signed-in users: their own channel, watchlists, terminate, presence without channel_data, and a crowd that comes and goes."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import trio

from tests.e2e.daemon import KEY, Daemon
from tests.sdk.pusher.world import Socket, connected, established, sign, subscribed, trigger, world
from tests.sdk.script import Script


async def sign_in(script: Script, client: str, **user: Any) -> None:
    await connected(script, client, user=user)
    await script.do("signin", client=client)
    await script.hear("signed_in", signed_in=client)


def signed_user(client: Socket, user_data: str) -> dict[str, str]:
    return {"auth": f"{KEY}:{sign(f'{client.id}::user::{user_data}')}", "user_data": user_data}


async def test_send_to_user_reaches_every_socket_of_that_user_and_nobody_else(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        for client, user in (("tab1", "ada"), ("tab2", "ada"), ("bob", "bob")):
            await sign_in(script, client, id=user)
        await script.do("server", call="get", args=[{"path": "/channels/x"}])
        await script.hear("server")
        for user in ("ada", "bob"):
            await script.do("server", call="sendToUser", args=[user, "note", {"for": user}])
            assert (await script.hear("server"))["body"] == {}
        for client in ("tab1", "tab2", "bob"):
            told = await script.hear("of_user", client=client, of_user="note")
            assert told["data"] == {"for": "bob" if client == "bob" else "ada"}


async def test_only_its_user_follows_a_users_channel_also_where_a_user_is_called_star(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, _), established(daemon) as client:
        # Python's SDK signs this channel as any other, and so a server that does not look at names opens it to everybody.
        signed = f"{KEY}:{sign(f'{client.id}:#server-to-user-ada')}"
        for auth in ("", signed):
            await client.send("pusher:subscribe", {"channel": "#server-to-user-ada", "auth": auth})
            assert (await client.expect("pusher:subscription_error"))["data"]["status"] == 401
        await client.send("pusher:signin", signed_user(client, '{"id":"*"}'))
        await client.expect("pusher:signin_success")
        await client.send("pusher:subscribe", {"channel": "#server-to-user-*", "auth": ""})
        await client.expect("pusher_internal:subscription_succeeded")
        await client.send("pusher:subscribe", {"channel": "#server-to-user-ada", "auth": ""})
        await client.expect("pusher:subscription_error")
        await client.send("client-a", 1, channel="#server-to-user-*")
        assert (await client.expect("pusher:error"))["data"]["code"] == 4301


async def test_a_sign_in_that_proves_nothing_ends_the_socket_with_4009(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, _):
        for make in (
            lambda client: {"auth": f"{KEY}:{'0' * 64}", "user_data": '{"id":"7"}'},
            lambda client: signed_user(client, '{"name":"nobody"}'),
            lambda client: signed_user(client, '{"id":""}'),
            lambda client: signed_user(client, "no JSON"),
            lambda client: {"auth": 5},
        ):
            async with established(daemon) as client:
                await client.send("pusher:signin", make(client))
                assert (await client.expect("pusher:error"))["data"]["code"] == 4009
                assert await client.closing() == 4009
        async with established(daemon) as client:
            for user, event in (
                ("ada", "pusher:signin_success"),
                ("ada", "pusher:signin_success"),
                ("bob", "pusher:error"),
            ):
                await client.send("pusher:signin", signed_user(client, json.dumps({"id": user})))
                await client.expect(event)
            assert await client.closing() == 4009


async def test_a_watchlist_tells_who_is_there_and_each_change(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await sign_in(script, "bob", id="bob")
        await sign_in(script, "ada", id="ada", watchlist=["bob", "cy"])
        assert (await script.hear("watched", client="ada", watched="online"))["user_ids"] == ["bob"]
        assert (await script.hear("watched", client="ada", watched="offline"))["user_ids"] == ["cy"]
        await sign_in(script, "cy", id="cy")
        assert (await script.hear("watched", client="ada", watched="online"))["user_ids"] == ["cy"]
        await sign_in(script, "cy2", id="cy")
        await script.do("disconnect", client="cy")
        await script.hear("state", client="cy", state="disconnected")
        await script.do("disconnect", client="bob")
        assert (await script.hear("watched", client="ada", watched="offline"))["user_ids"] == ["bob"], (
            "cy has another tab"
        )
        await script.do("disconnect", client="cy2")
        assert (await script.hear("watched", client="ada"))["user_ids"] == ["cy"]


async def test_of_a_watchlist_over_the_limit_the_first_hundred_count_and_4302_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, _), established(daemon) as client:
        user_data = json.dumps({"id": "ada", "watchlist": [f"u{n}" for n in range(101)]})
        await client.send("pusher:signin", signed_user(client, user_data))
        await client.expect("pusher:signin_success")
        told = json.loads((await client.expect("pusher_internal:watchlist_events"))["data"])
        assert told == {"events": [{"name": "offline", "user_ids": [f"u{n}" for n in range(100)]}]}
        assert (await client.expect("pusher:error"))["data"]["code"] == 4302


async def test_terminate_ends_every_socket_of_a_user_for_good_and_no_other(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "present", member={"user_id": "ada"})
        await subscribed(script, "present", "presence-room")
        for client, user in (("tab1", "ada"), ("tab2", "ada"), ("bob", "bob")):
            await sign_in(script, client, id=user)
        await script.do("server", call="terminateUserConnections", args=["ada"])
        assert (await script.hear("server"))["body"] == {}
        for client in ("tab1", "tab2"):
            assert (await script.hear("error", client=client))["error"]["code"] == 4009
            await script.hear("state", client=client, state="disconnected")
        await trigger(script, "presence-room", "still-here", 1)
        await script.hear("event", client="present", event="still-here")


async def test_a_signed_in_user_joins_presence_without_channel_data(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script), established(daemon) as nobody:
        await connected(script, "ada", user={"id": "ada", "user_info": {"name": "Ada"}})
        await script.do("signin", client="ada")
        told = await subscribed(script, "ada", "presence-room")
        assert told == {"all": {"ada": {"name": "Ada"}}, "count": 1, "me": {"id": "ada", "info": {"name": "Ada"}}}
        assert (await nobody.subscribe("presence-room"))["event"] == "pusher:subscription_error"


async def test_who_is_in_as_one_member_does_not_become_another_without_proof(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script), established(daemon) as client:
        await client.subscribe("presence-room", '{"user_id":"ada"}')
        await client.send("pusher:subscribe", {"channel": "presence-room", "channel_data": '{"user_id":"root"}'})
        await client.expect("pusher:subscription_error")
        await script.do("server", call="get", args=[{"path": "/channels/presence-room/users"}])
        assert (await script.hear("server"))["body"] == {"users": [{"id": "ada"}]}


async def test_a_client_that_does_not_prove_itself_in_time_is_closed(tmp_path: Path) -> None:
    async with world(tmp_path, app='[apps.pusher]\nauthorised_within = "5s"\n') as (daemon, _):
        async with established(daemon) as idle, established(daemon) as member, established(daemon) as user:
            await idle.subscribe("open")
            await member.subscribe("private-a")
            await user.send("pusher:signin", signed_user(user, '{"id":"ada"}'))
            await user.expect("pusher:signin_success")
            assert (await idle.expect("pusher:error"))["data"]["code"] == 4009
            assert await idle.closing() == 4009
            for client in (member, user):
                await client.send("pusher:ping")
                await client.expect("pusher:pong")


async def test_a_hundred_users_who_come_and_go_at_once_are_neither_lost_nor_doubled(tmp_path: Path) -> None:
    """A watcher's list, kept by added and removed alone, is what the server says, at every point where all rests."""
    order = random.Random(1)
    async with world(tmp_path) as (daemon, script), established(daemon) as watcher:
        present = set(
            json.loads((await watcher.subscribe("presence-room", '{"user_id":"w"}'))["data"])["presence"]["ids"]
        )
        async with trio.open_nursery() as nursery:
            for number in range(99):
                nursery.start_soon(_come_and_go, daemon, f"u{number}", order.choice((1, 2, 3)), number % 2 == 0)
        await script.do("server", call="trigger", args=["presence-room", "end", 1])
        while (frame := await watcher.hear())["event"] != "end":
            user = json.loads(frame["data"])["user_id"]
            if frame["event"] == "pusher_internal:member_added":
                assert user not in present, f"{user} was added twice"
                present.add(user)
            else:
                present.remove(user)
        assert present == {"w"}


async def _come_and_go(daemon: Daemon, user: str, times: int, says_so: bool) -> None:
    for _ in range(times):
        async with established(daemon) as first, established(daemon) as second:
            for client in (first, second):
                frame = await client.subscribe("presence-room", json.dumps({"user_id": user}))
                while frame["event"] != "pusher_internal:subscription_succeeded":
                    frame = await client.hear()
                presence = json.loads(frame["data"])["presence"]
                assert user in presence["ids"]
                assert len(set(presence["ids"])) == presence["count"] == len(presence["hash"])
            if says_so:
                await first.send("pusher:unsubscribe", {"channel": "presence-room"})
                await second.send("pusher:unsubscribe", {"channel": "presence-room"})
