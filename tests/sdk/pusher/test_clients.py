"""pusher-js as it is, against a real daemon: channels of each kind, client events, presence, users, recovery."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import trio

from tests.e2e.daemon import KEY
from tests.sdk.pusher.world import RULES, connected, established, subscribed, trigger, world


async def test_pusher_js_hears_what_the_node_sdk_publishes_verbatim(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada")
        await subscribed(script, "ada", "news")
        for data in ({"b": 1, "a": [None, "é"]}, "plain text", "5", '{"a" : 12345678901234567890 }', ""):
            assert await trigger(script, "news", "App\\Events\\Told", data) == {}
            heard = await script.hear("event", event="App\\Events\\Told")
            if isinstance(data, dict):
                assert heard["data"] == data
        # what pusher-js parsed above, a plain socket sees as it was sent
        assert (heard["channel"], heard["data"]) == ("news", "")


async def test_published_data_passes_byte_for_byte(tmp_path: Path) -> None:
    texts = (
        '{"b":1, "a":  12345678901234567890123, "\\u00e9":"\\/"}',
        "no JSON",
        "5",
        " 5 ",
        "nul\x00",
        '"q"',
        "é☃𝄞",
        "",
    )
    async with world(tmp_path) as (daemon, script), established(daemon) as client:
        await client.subscribe("news")
        for text in texts:
            await trigger(script, "news", "e", text)
            assert (await client.expect("e"))["data"] == text
        await trigger(script, "news", "client-of-the-server", '{"a":1}')
        assert (await client.expect("client-of-the-server"))["data"] == '{"a":1}'


async def test_private_and_encrypted_channels_open_with_a_signature(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada")
        for channel in ("private-a", "private-encrypted-a", "private-cache-a", "private-encrypted-cache-a"):
            await subscribed(script, "ada", channel)
            await trigger(script, channel, "e", {"for": channel})
            assert (await script.hear("event", event="e"))["data"] == {"for": channel}


async def test_a_wrong_signature_is_refused_on_its_channel_and_the_socket_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, _), established(daemon) as client:
        for auth in ("", "nonsense", f"{KEY}:{'0' * 64}", "other-key:" + "0" * 64):
            await client.send("pusher:subscribe", {"channel": "private-a", "auth": auth})
            refused = await client.expect("pusher:subscription_error")
            assert (refused["channel"], refused["data"]["type"], refused["data"]["status"]) == (
                "private-a",
                "AuthError",
                401,
            )
        assert (await client.subscribe("private-a"))["event"] == "pusher_internal:subscription_succeeded"


async def test_client_events_reach_everybody_else_as_they_were_sent(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script), established(daemon) as watcher:
        await connected(script, "ada", member={"user_id": "ada"})
        await connected(script, "bob", member={"user_id": "bob"})
        await subscribed(script, "ada", "presence-room")
        await subscribed(script, "bob", "presence-room")
        await watcher.subscribe("presence-room", '{"user_id":"eve"}')
        await script.do("bind", client="bob", channel="presence-room", event="client-typing")
        for data in ({"b": [1, 2]}, "text", 5, None):
            await script.do("trigger", client="ada", channel="presence-room", event="client-typing", data=data)
            heard = await script.hear("bound", bound="client-typing")
            assert (heard["data"], heard["metadata"]) == (data, {"user_id": "ada"})
            frame = await watcher.expect("client-typing")
            assert frame == {"event": "client-typing", "channel": "presence-room", "data": data, "user_id": "ada"}
        await script.do("trigger", client="bob", channel="presence-room", event="client-done", data=1)
        await script.hear("event", client="ada", event="client-done")
        assert script.told("event", client="ada", event="client-typing") == []


async def test_a_client_event_that_is_not_allowed_is_told_4301_and_goes_to_nobody(tmp_path: Path) -> None:
    async with world(tmp_path, rules=RULES + '\n[limits]\nclient_events = "10/m burst 20"\n') as (_, script):
        for name in ("ada", "bob"):
            await connected(script, name)
            await subscribed(script, name, "open")
            await subscribed(script, name, "private-a")
        await script.do("trigger", client="ada", channel="open", event="client-a", data=1)
        assert (await script.hear("error", client="ada"))["error"]["code"] == 4301
        await script.do("trigger", client="ada", channel="private-a", event="client-big", data="x" * 11_000)
        assert (await script.hear("error", client="ada"))["error"]["code"] == 4301
        for n in range(40):  # 20 at once
            await script.do("trigger", client="ada", channel="private-a", event="client-n", data=n)
        assert (await script.hear("error", client="ada"))["error"]["code"] == 4301
        await trigger(script, "private-a", "after", 1)
        await script.hear("event", client="bob", event="after")
        heard = [told["event"] for told in script.told("event", client="bob", channel="private-a")]
        assert heard
        assert set(heard) == {"client-n"}
        assert script.told("event", client="bob", channel="open") == []


async def test_two_tabs_of_one_user_are_one_member(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        ada: dict[str, Any] = {"user_id": "ada", "user_info": {"name": "Ada"}}
        for tab in ("tab1", "tab2"):
            await connected(script, tab, member=ada)
        await connected(script, "bob", member={"user_id": 10})
        told = await subscribed(script, "bob", "presence-room")
        assert told == {"all": {"10": None}, "count": 1, "me": {"id": 10, "info": None} | told["me"]}
        await subscribed(script, "tab1", "presence-room")
        added = await script.hear("event", client="bob", event="pusher:member_added")
        assert added["data"] == {"id": "ada", "info": {"name": "Ada"}}
        told = await subscribed(script, "tab2", "presence-room")
        assert (told["all"], told["count"]) == ({"10": None, "ada": {"name": "Ada"}}, 2)
        await script.do("disconnect", client="tab1")
        await script.hear("state", client="tab1", state="disconnected")
        await script.do("server", call="get", args=[{"path": "/channels/presence-room/users"}])
        assert (await script.hear("server"))["body"] == {"users": [{"id": "10"}, {"id": "ada"}]}
        await script.do("unsubscribe", client="tab2", channel="presence-room")
        gone = await script.hear("event", client="bob", event="pusher:member_removed")
        assert gone["data"]["id"] == "ada"
        changes = script.told("event", client="bob", channel="presence-room")
        assert [told["event"] for told in changes] == [], "one added and one removed, nothing besides"


async def test_a_cache_channel_gives_its_last_event_to_who_comes_and_who_comes_back(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada", member={"user_id": "ada"})
        for channel in ("private-encrypted-cache-a", "private-cache-a", "presence-cache-a", "cache-a"):
            await script.do("connect", client=channel, member={"user_id": "u"})
            await script.hear("state", client=channel, state="connected")
            await subscribed(script, channel, channel)
            await script.hear("event", client=channel, channel=channel, event="pusher:cache_miss")
            await trigger(script, channel, "price", {"n": 1})
            await trigger(script, channel, "price", {"n": 2})
            await subscribed(script, "ada", channel)
            assert (await script.hear("event", client="ada", event="price"))["data"] == {"n": 2}
        answer = await trigger(script, "cache-a", "price", {"n": 3}, {"info": "cache,subscription_count"})
        assert answer["channels"]["cache-a"]["subscription_count"] == 2
        assert (await script.hear("event", client="ada", event="price"))["data"] == {"n": 3}
        await script.do("server", call="get", args=[{"path": "/channels/cache-a", "params": {"info": "cache"}}])
        body = (await script.hear("server"))["body"]
        assert body["occupied"] is True
        assert body["cache"]["data"] == '{"n":3}'
        assert 1700 < body["cache"]["ttl"] <= 1800


async def test_pusher_js_that_comes_back_after_a_restart_has_its_cached_event_where_history_is_kept(
    tmp_path: Path,
) -> None:
    rules = '[[channels]]\nmatch = "cache-*"\nhistory = {messages = 10, age = "1h"}\n'
    async with world(tmp_path, rules=rules) as (daemon, script):
        await connected(script, "ada")
        await subscribed(script, "ada", "cache-a")
        await trigger(script, "cache-a", "price", {"n": 1})
        assert (await script.hear("event", client="ada", event="price"))["data"] == {"n": 1}
        await daemon.stop(signal.SIGKILL)
        await daemon.start()
        await script.hear("event", client="ada", event="pusher:subscription_succeeded")
        assert (await script.hear("event", client="ada", event="price"))["data"] == {"n": 1}


async def test_a_stopping_daemon_has_its_clients_connect_anew_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script), established(daemon) as client:
        await connected(script, "ada")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.stop)
            assert await client.closing() == 4200
        await script.hear("state", client="ada", state="connecting")


async def test_subscribers_are_told_how_many_they_are_where_the_app_wants_it(tmp_path: Path) -> None:
    async with world(tmp_path, app="subscription_count = true") as (_, script):
        for number, name in enumerate(("ada", "bob", "cy"), 1):
            await connected(script, name)
            await subscribed(script, name, "room")
            for other in ("ada", "bob", "cy")[:number]:
                told = await script.hear("event", client=other, event="pusher:subscription_count", channel="room")
                while told["data"] != {"subscription_count": number}:
                    told = await script.hear("event", client=other, event="pusher:subscription_count", channel="room")


async def test_the_native_protocol_and_pusher_meet_on_the_same_channels(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script), daemon.socket("kept-a") as native:
        await native.expect("welcome")
        await connected(script, "ada")
        await subscribed(script, "ada", "kept-a")
        await trigger(script, "kept-a", "told", {"n": 1})
        assert {k: v for k, v in (await native.expect("event")).items() if k in ("event", "data")} == {
            "event": "told",
            "data": {"n": 1},
        }
        await trigger(script, "kept-a", "told", "no JSON")
        assert (await native.expect("event"))["data"] == "no JSON"
        await native.send(type="publish", event="from-native", data={"x": [1]})
        heard = [await script.hear("event", client="ada") for _ in range(3)]
        assert [(told["event"], told["data"]) for told in heard] == [
            ("told", {"n": 1}),
            ("told", "no JSON"),
            ("from-native", {"x": [1]}),
        ]
        history = (await daemon.request("GET", "/history/kept-a")).json()["events"]
        assert [event["data"] for event in history] == [{"n": 1}, "no JSON", {"x": [1]}]


async def test_presence_is_one_for_all_protocols(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        await connected(script, "ada", member={"user_id": "ada", "user_info": {"of": "pusher"}})
        await subscribed(script, "ada", "presence-room")
        token = (
            await daemon.request("POST", "/channels/presence-room/auth", json={"user": "bob", "meta": {"of": "native"}})
        ).json()["token"]
        async with daemon.socket("presence-room", token=token) as native:
            assert (await native.expect("welcome"))["members"] == {"ada": {"of": "pusher"}, "bob": {"of": "native"}}
            added = await script.hear("event", client="ada", event="pusher:member_added")
            assert added["data"] == {"id": "bob", "info": {"of": "native"}}
        assert (await script.hear("event", client="ada", event="pusher:member_removed"))["data"]["id"] == "bob"
        members = (await daemon.request("GET", "/presence/presence-room")).json()["members"]
        assert [(m["user"], m["meta"]) for m in members] == [("ada", {"of": "pusher"})]
