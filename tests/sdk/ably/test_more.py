"""Ably beyond the first steps: presence history, revocation, streams, liveness, and what other protocols see."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.cli.shell import sower
from tests.e2e.daemon import Daemon
from tests.sdk.ably.test_auth import token
from tests.sdk.ably.world import ABLY_KEY, RULES, connected, heard, ok, refused, world
from tests.sdk.pusher.world import established


async def test_what_members_did_is_kept_and_survives_a_restart(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        ada = await connected(script, "ada", clientId="ada")
        await ok(script, "attach", client="ada", channel="room")
        await ok(script, "enter", client="ada", channel="room", data={"mood": 1})
        await ok(script, "update", client="ada", channel="room", data={"bytes": "/w=="})
        await ok(script, "leave", client="ada", channel="room")
        await daemon.stop(signal.SIGKILL)
        await daemon.start(keep_config=True)
        await ok(script, "rest", client="server")
        told = await ok(script, "presence_history", client="server", channel="room", params={"direction": "forwards"})
        assert [(m["action"], m["user"], m["connection"], m["data"]) for m in told] == [
            ("enter", "ada", ada, {"mood": 1}),
            ("update", "ada", ada, {"bytes": "/w=="}),
            ("leave", "ada", ada, {"bytes": "/w=="}),
        ]


async def test_what_members_did_before_a_client_attached_is_read_up_to_there(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada", clientId="ada", disconnectedRetryTimeout=200)
        for data in ("before", "after"):
            await ok(script, "attach", client="ada", channel="room")
            await ok(script, "enter", client="ada", channel="room", data=data)
            await ok(script, "leave", client="ada", channel="room")
            if data == "before":
                await ok(script, "detach", client="ada", channel="room")
        asked = {"client": "ada", "channel": "room", "params": {"untilAttach": True}}
        told = await ok(script, "presence_history", **asked)
        assert [(m["action"], m["data"]) for m in told] == [("leave", "before"), ("enter", "before")]
        assert len(await ok(script, "presence_history", client="ada", channel="room")) == 4
        await ok(script, "publish", client="ada", channel="room", messages=[{"name": "e"}])
        assert await ok(script, "history", **asked) == [[]]
        await script.do("drop", client="ada")
        await script.hear("state", client="ada", state="disconnected")
        await script.hear("state", client="ada", state="connected")
        await ok(script, "attach", client="ada", channel="room")
        assert script.told("change", client="ada", change="attached")[-1]["resumed"] is True
        assert await ok(script, "presence_history", **asked) == told


async def test_a_revoked_token_ends_its_clients_and_opens_nothing_more_after_a_restart_either(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        theirs = token(**{"x-ably-clientId": "ada", "x-ably-revocation-key": "team"})
        await connected(script, "ada", token=theirs)
        await connected(script, "bob", token=token(**{"x-ably-clientId": "bob"}))
        await ok(script, "rest", client="server")
        path = f"/keys/{ABLY_KEY.partition(':')[0]}/revokeTokens"
        refusal = await daemon.request(
            "POST", path, auth=False, params={"access_token": theirs}, json={"targets": ["clientId:ada"]}
        )
        assert refusal.json()["error"]["code"] == 40162
        specifiers = [{"type": "revocationKey", "value": "team"}, {"type": "nothing", "value": "x"}]
        report = await ok(script, "revoke", client="server", specifiers=specifiers)
        assert (report["successCount"], report["failureCount"]) == (1, 1)
        assert (report["results"][1]["target"], report["results"][1]["error"]["statusCode"]) == ("nothing:x", 400)
        gone = await script.hear("state", client="ada", state="failed")
        assert gone["error"]["code"] in (40141, 40171)
        assert script.told("state", client="bob", state="disconnected") == []

        async def code() -> int:
            answer = await daemon.request("GET", "/channels/room/messages", auth=False, params={"access_token": theirs})
            return answer.json()["error"]["code"] if answer.status_code != 200 else 200

        assert await code() == 40141
        await daemon.stop()
        await daemon.start(keep_config=True)
        assert await code() == 40141


async def read_events(daemon: Daemon, path: str, count: int, **headers: str) -> list[dict[str, str]]:
    """The first events of a stream."""
    events: list[dict[str, str]] = []
    event: dict[str, str] = {}
    async with httpx.AsyncClient(base_url=daemon.url, timeout=60, trust_env=False) as client:
        async with client.stream("GET", f"{path}&key={ABLY_KEY}", headers=headers) as answer:
            assert answer.status_code == 200
            async for line in answer.aiter_lines():
                name, _, value = line.partition(": ")
                if line == "" and event:
                    events.append(event)
                    event = {}
                elif name in ("id", "event", "data"):
                    event[name] = value
                if len(events) == count:
                    break
    return events


async def test_a_stream_has_several_channels_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        await connected(script, "ada", clientId="ada")
        for channel, name in (("one", "1"), ("two", "2"), ("one", "3")):
            await ok(script, "publish", client="ada", channel=channel, messages=[{"name": name, "data": {"a": 1}}])
        first = await read_events(daemon, "/sse?channels=[?rewind=5]one", 2)
        message = json.loads(first[0]["data"])
        assert (message["channel"], message["name"], message["data"], message["encoding"]) == (
            "one",
            "1",
            '{"a":1}',
            "json",
        )
        rest = await read_events(daemon, "/sse?channels=one,two", 2, **{"Last-Event-ID": first[0]["id"]})
        assert sorted(json.loads(event["data"])["name"] for event in rest) == ["2", "3"]
        await ok(script, "publish", client="ada", channel="käse", messages=[{"name": "4"}, {"name": "5"}])
        [first] = await read_events(daemon, "/sse?channels=[?rewind=2]käse", 1)
        [rest] = await read_events(daemon, "/sse?channels=käse", 1, **{"Last-Event-ID": first["id"].encode()})
        assert json.loads(rest["data"])["name"] == "5", "its place in a channel is exact, whatever that is called"
        bare = await read_events(daemon, "/sse?channel=one&rewind=1&enveloped=false", 1)
        assert bare[0]["data"] == '{"a":1}'
        async with httpx.AsyncClient(base_url=daemon.url, timeout=60, trust_env=False) as client:
            async with client.stream("GET", f"/event-stream?channels=one&rewind=1&key={ABLY_KEY}") as answer:
                async for line in answer.aiter_lines():
                    if line:
                        assert json.loads(line)["name"] == "3"
                        break
        denied = await daemon.request("GET", "/sse", auth=False, params={"channels": "x", "key": "appid.keyid:wrong"})
        assert (denied.status_code, denied.json()["error"]["code"]) == (401, 40101)


async def test_a_silent_client_is_kept_alive_by_heartbeats(tmp_path: Path) -> None:
    # A client hangs up when nothing came for this interval and as long as it waits for answers.
    interval, patience = {"heartbeatInterval": "5000"}, 6000
    for folder in ("js", "py"):
        (tmp_path / folder).mkdir()
    async with world(tmp_path / "js") as (daemon, js), world(tmp_path / "py", sdk="sdk.py") as (_, py):
        await connected(js, "ada", transportParams=interval, realtimeRequestTimeout=patience)
        await connected(py, "ada", transport_params=interval, realtime_request_timeout=patience)
        await trio.sleep(5 + patience / 1000 + 1)
        for script in (js, py):
            assert await ok(script, "ping", client="ada") is not None
            assert script.told("state", client="ada", state="disconnected") == []
        shown = await daemon.request("GET", "/sessions")
        assert shown.json()["sessions"][0]["dialect"] == "ably"


async def test_a_native_client_an_ably_client_and_their_members_meet_on_one_channel(tmp_path: Path) -> None:
    rules = '[[channels]]\nmatch = "presence-*"\nhistory = {messages = 100, age = "1h"}\n' + RULES
    async with world(tmp_path, rules=rules) as (daemon, script):
        await connected(script, "ada", clientId="ada")
        await ok(script, "attach", client="ada", channel="presence-room")
        await script.do("watch", client="ada", channel="presence-room")
        await ok(script, "enter", client="ada", channel="presence-room", data={"from": "ably"})
        minted = await daemon.request(
            "POST", "/channels/presence-room/auth", json={"user": "bob", "meta": {"from": "native"}}
        )
        async with daemon.socket("presence-room", token=minted.json()["token"]) as bob:
            welcome = await bob.expect("welcome")
            assert welcome["members"] == {"ada": {"from": "ably"}, "bob": {"from": "native"}}
            told = [(await script.hear("presence", client="ada"))["presence"] for _ in range(2)]
            assert [(m["user"], m["data"]) for m in told] == [("ada", {"from": "ably"}), ("bob", {"from": "native"})]
            for value in ({"a": [1, 2]}, "text", {"bytes": "AAH/"}):
                await ok(
                    script, "publish", client="ada", channel="presence-room", messages=[{"name": "e", "data": value}]
                )
            events = [await bob.expect("event") for _ in range(3)]
            assert [e["data"] for e in events] == [{"a": [1, 2]}, "text", "AAH/"]
            assert [e["user"] for e in events] == ["ada"] * 3
            await bob.send(type="publish", event="from native", data={"b": 2})
            got = [await heard(script, "ada", "presence-room") for _ in range(4)][-1]
            assert (got["name"], got["data"], got["user"]) == ("from native", {"b": 2}, "bob")
        assert (await script.hear("presence", client="ada"))["presence"]["action"] == "leave"


async def test_what_an_ably_client_sends_and_a_pusher_client_sends_is_in_the_others_shape(tmp_path: Path) -> None:
    async with world(tmp_path, "msgpack") as (daemon, script), established(daemon) as pusher:
        await connected(script, "ada", clientId="ada")
        await ok(script, "attach", client="ada", channel="private-room")
        assert (await pusher.subscribe("private-room"))["event"] == "pusher_internal:subscription_succeeded"
        for value, shape in (
            ({"bytes": "AAH/"}, {"data": "AAH/", "encoding": "base64"}),
            ({"a": 1}, {"data": '{"a":1}'}),
            ("text", {"data": "text"}),
        ):
            await ok(script, "publish", client="ada", channel="private-room", messages=[{"name": "e", "data": value}])
            assert await pusher.hear() == {"event": "e", "channel": "private-room", **shape}
            await heard(script, "ada", "private-room")
        await pusher.send("client-wave", {"b": [2]}, channel="private-room")
        got = await heard(script, "ada", "private-room")
        assert (got["name"], got["data"]) == ("client-wave", {"b": [2]})


async def test_the_command_lines_token_opens_what_it_says(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        words = ("token", "--format", "ably", "chat:*", "--user", "ada", "--can", "subscribe,publish", "--json")
        ended = await sower(tmp_path, *words, "--config", str(daemon.config))
        made = json.loads(ended.out)
        await connected(script, "ada", token=made["token"])
        await ok(script, "attach", client="ada", channel="chat:a")
        assert await refused(script, "attach", client="ada", channel="elsewhere") == 40160
        request: dict[str, Any] = json.loads(made["tokenRequest"])
        answer = await daemon.request("POST", f"/keys/{request['keyName']}/requestToken", auth=False, json=request)
        assert (answer.status_code, answer.json()["clientId"]) == (201, "ada")


async def test_who_shows_an_expired_token_again_and_again_is_told_to_wait(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, _):
        expired = token(lives=-10)
        async with httpx.AsyncClient(base_url=daemon.url, timeout=60, trust_env=False) as client:
            codes: list[int] = []
            while 42911 not in codes:
                answer = await client.get("/channels/room/messages", params={"access_token": expired})
                codes.append(answer.json()["error"]["code"])
                assert len(codes) < 1000
        assert set(codes[:-1]) == {40142}
