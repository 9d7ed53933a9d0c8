"""The vendor's server SDKs of Node and Python as they are, against the HTTP API of a real daemon."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.cli.shell import sower
from tests.e2e.daemon import KEY, PATIENCE, SECRET, Daemon
from tests.sdk.pusher.world import HERE, connected, established, signed_path, subscribed, trigger, world
from tests.sdk.script import Script, running


@asynccontextmanager
async def python_sdk(daemon: Daemon) -> AsyncIterator[Script]:
    async with running(HERE / "server.py", str(daemon.port), KEY, SECRET) as script:
        yield script


async def call(script: Script, name: str, *args: Any) -> dict[str, Any]:
    await script.do("call", name=name, args=args)
    return await script.hear("call")


async def ask(script: Script, path: str, **params: str) -> tuple[int, Any]:
    """GET with the Node SDK. Returns status and body."""
    await script.do("server", call="get", args=[{"path": path, "params": params}])
    told = await script.hear("server")
    return told["server"], told["body"]


async def post(daemon: Daemon, path: str, body: Any, **query: str) -> httpx.Response:
    """A signed POST that no SDK would send."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with httpx.AsyncClient(base_url=daemon.url, timeout=PATIENCE, trust_env=False) as client:
        return await client.post(signed_path("POST", path, raw, **query), content=raw)


async def test_the_node_sdk_publishes_to_many_channels_in_batches_and_without_its_own_socket(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        for name in ("ada", "bob"):
            await connected(script, name)
            await subscribed(script, name, "a")
            await subscribed(script, name, "b")
        await trigger(script, ["a", "b"], "e", {"n": 1})
        for name in ("ada", "bob"):
            assert {(await script.hear("event", client=name, event="e"))["channel"] for _ in range(2)} == {"a", "b"}
        own = (await script.ask("socket_id", client="ada"))["socket_id"]
        await trigger(script, "a", "not-for-ada", 1, {"socket_id": own})
        await trigger(script, "a", "for-both", 2, {"socket_id": "1.1"})
        await script.hear("event", client="ada", event="for-both")
        await script.hear("event", client="bob", event="not-for-ada")
        assert script.told("event", client="ada", event="not-for-ada") == []
        batch = [{"channel": "a", "name": f"e{n}", "data": {"n": n}} for n in range(10)]
        await script.do("server", call="triggerBatch", args=[batch])
        assert (await script.hear("server"))["body"] == {}
        heard = [await script.hear("event", client="ada") for _ in range(10)]
        assert [(told["event"], told["data"]) for told in heard] == [(f"e{n}", {"n": n}) for n in range(10)]


async def test_info_tells_counts_in_the_answers(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        for name, user in (("tab1", "ada"), ("tab2", "ada"), ("bob", "bob")):
            await connected(script, name, member={"user_id": user})
            await subscribed(script, name, "presence-room")
            await subscribed(script, name, "open")
        await subscribed(script, "bob", "private-a")
        both = {"info": "user_count,subscription_count"}
        answer = await trigger(script, ["presence-room", "open", "empty"], "e", 1, both)
        assert answer == {
            "channels": {
                "presence-room": {"user_count": 2, "subscription_count": 3},
                "open": {"subscription_count": 3},
                "empty": {"subscription_count": 0},
            }
        }
        batch = [
            {"channel": "open", "name": "e", "data": "1"},
            {"channel": "presence-room", "name": "e", "data": "1", "info": "user_count"},
        ]
        await script.do("server", call="triggerBatch", args=[batch])
        assert (await script.hear("server"))["body"] == {"batch": [{}, {"user_count": 2}]}
        assert await ask(script, "/channels") == (200, {"channels": {"open": {}, "presence-room": {}, "private-a": {}}})
        told = await ask(script, "/channels", filter_by_prefix="presence-", info="user_count")
        assert told == (200, {"channels": {"presence-room": {"user_count": 2}}})
        assert await ask(script, "/channels/open", info="subscription_count") == (
            200,
            {"occupied": True, "subscription_count": 3},
        )
        assert await ask(script, "/channels/nobody-here") == (200, {"occupied": False})
        assert await ask(script, "/channels/presence-room/users") == (200, {"users": [{"id": "ada"}, {"id": "bob"}]})


async def test_each_mistake_has_its_status(tmp_path: Path) -> None:
    events, batches = "/apps/1001/events", "/apps/1001/batch_events"
    good: dict[str, Any] = {"name": "e", "channel": "a", "data": "1"}
    async with world(tmp_path) as (daemon, script):
        assert (await ask(script, "/channels", info="user_count"))[0] == 400
        for path, status in (("/channels/open/users", 400), ("/channels/a%2Fb", 400), ("/nothing", 404)):
            assert (await ask(script, path))[0] == status, path
        assert (await ask(script, "/channels/open", info="user_count"))[0] == 400
        assert (await ask(script, "/channels/open", info="colour"))[0] == 400
        for body, status in (
            (b"no JSON", 400),
            (b"[]", 400),
            (b'{"name":"e","channel":"a"}', 400),
            (b'{"data":"e","channel":"a"}', 400),
            (b'{"data":"e","name":"e"}', 400),
            (b'{"data":"\xff","name":"e","channel":"a"}', 400),
            (b"[" * 100_000, 400),
            (good | {"channel": "not allowed"}, 400),
            (good | {"name": ""}, 400),
            (good | {"name": "x" * 201}, 400),
            (good | {"name": "pusher_internal:member_removed"}, 400),
            (good | {"channels": []}, 400),
            (good | {"channels": [f"c{n}" for n in range(101)]}, 400),
            (good | {"socket_id": "nonsense"}, 400),
            (good | {"data": "x" * 10_241}, 413),
            (good | {"data": "x" * 10_240}, 200),
            (good | {"data": {"not": "a string"}}, 200),
        ):
            answer = await post(daemon, events, body)
            assert answer.status_code == status, (body[:60] if isinstance(body, bytes) else body, answer.text[:200])
        for batch, status in (([], 400), ([good] * 11, 400), ([good] * 10, 200), ([{**good, "channels": ["a"]}], 400)):
            assert (await post(daemon, batches, {"batch": batch})).status_code == status
        assert (await post(daemon, "/apps/9999/events", good)).status_code == 404


async def test_nothing_of_a_batch_is_published_where_one_of_it_is_wrong(tmp_path: Path) -> None:
    good = {"name": "e", "channel": "a", "data": "1"}
    async with world(tmp_path) as (daemon, _), established(daemon) as client:
        await client.subscribe("a")
        answer = await post(daemon, "/apps/1001/batch_events", {"batch": [good, {**good, "data": "x" * 20_000}]})
        assert answer.status_code == 413
        await post(daemon, "/apps/1001/events", {**good, "name": "after"})
        await client.expect("after")


async def test_a_signature_that_proves_nothing_is_refused(tmp_path: Path) -> None:
    body = b'{"name":"e","channel":"a","data":"1"}'
    old = str(int(time.time()) - 700)
    async with world(tmp_path) as (daemon, _):
        path = signed_path("POST", "/apps/1001/events", body)
        async with httpx.AsyncClient(base_url=daemon.url, timeout=PATIENCE, trust_env=False) as client:
            for target, content in (
                (path, body),
                (path.replace("auth_signature=", "auth_signature=0"), body),
                (signed_path("POST", "/apps/1001/batch_events", body).replace("batch_", ""), body),
                (path, body.replace(b"1", b"2")),
                (path.replace(f"auth_key={KEY}", "auth_key=other"), body),
                (path.replace("auth_timestamp=", "auth_timestamp=nan"), body),
                (signed_path("POST", "/apps/1001/events", body, auth_timestamp=old), body),
                ("/apps/1001/events", body),
                ("/apps/1001/events", b"{"),
                (signed_path("POST", "/apps/1001/events", b"{").replace("auth_signature=", "auth_signature=0"), b"{"),
            ):
                answer = await client.post(target, content=content)
                wanted = 200 if (target, content) == (path, body) else 401
                assert answer.status_code == wanted, target
                if wanted == 401:
                    assert answer.json()["error"]["message"]


async def test_an_app_that_is_switched_off_answers_403(tmp_path: Path) -> None:
    async with world(tmp_path, app="enabled = false") as (daemon, script):
        assert (await ask(script, "/channels"))[0] == 403
        await script.do("connect", client="ada")
        assert (await script.hear("error"))["error"]["code"] == 4003
        assert daemon.alive


async def test_the_python_sdk_does_all_that_it_can(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script), python_sdk(daemon) as python:
        await connected(script, "ada", member={"user_id": "ada"}, user={"id": "ada"})
        for channel in ("presence-room", "private-encrypted-a", "plain"):
            await subscribed(script, "ada", channel)
        assert await call(python, "trigger", "plain", "e", {"snow": "☃"}) == {"call": "done", "answer": {}}
        assert (await script.hear("event", event="e"))["data"] == {"snow": "☃"}
        await call(python, "trigger", "private-encrypted-a", "secret", {"n": 1})
        assert (await script.hear("event", event="secret"))["data"] == {"n": 1}
        batch = [{"channel": "plain", "name": "b", "data": {"n": n}} for n in range(3)]
        assert (await call(python, "trigger_batch", batch))["answer"] == {}
        assert [(await script.hear("event", event="b"))["data"]["n"] for _ in range(3)] == [0, 1, 2]
        told = await call(python, "channels_info", "presence-", ["user_count"])
        assert told["answer"] == {"channels": {"presence-room": {"user_count": 1}}}
        told = await call(python, "channel_info", "presence-room", ["user_count", "subscription_count"])
        assert told["answer"] == {"occupied": True, "user_count": 1, "subscription_count": 1}
        assert (await call(python, "users_info", "presence-room"))["answer"] == {"users": [{"id": "ada"}]}
        assert (await call(python, "users_info", "plain"))["call"] == "PusherBadRequest"
        await script.do("signin", client="ada")
        await script.hear("signed_in")
        assert await call(python, "terminate_user_connections", "ada") == {"call": "done", "answer": {}}
        assert (await script.hear("error", client="ada"))["error"]["code"] == 4009


async def test_a_path_prefix_is_no_part_of_what_is_signed(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        await daemon.stop()
        daemon.config.write_text(
            daemon.config.read_text().replace("[server]\n", '[server]\npath_prefix = "/realtime"\n')
        )
        await daemon.start(keep_config=True)
        await connected(script, "ada", wsPath="/realtime")
        await subscribed(script, "ada", "a")
        body = b'{"name":"e","channel":"a","data":"1"}'
        async with httpx.AsyncClient(base_url=daemon.url, timeout=PATIENCE, trust_env=False) as client:
            signed = signed_path("POST", "/apps/1001/events", body)
            assert (await client.post("/realtime" + signed, content=body)).status_code == 200
        await script.hear("event", event="e")


async def test_the_sdks_sign_as_the_protocol_says(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script), python_sdk(daemon) as python:
        for args in (
            ["1234.1234", "private-foobar"],
            ["1.2", "presence-a", {"user_id": "10", "user_info": {"name": "é"}}],
        ):
            node = (await script.ask("authorize", args=args))["authorize"]
            other = (await call(python, "authenticate", args[1], args[0], *args[2:]))["answer"]
            for signed in (node, other):
                async with established(daemon) as client:
                    data = {"channel": args[1], **signed}
                    await client.send("pusher:subscribe", data)  # a signature is good for its own socket only
                    assert (await client.hear())["event"] == "pusher:subscription_error"
        async with established(daemon) as client:
            signed = (await call(python, "authenticate_user", client.id, {"id": "7"}))["answer"]
            await client.send("pusher:signin", signed)
            assert json.loads((await client.expect("pusher:signin_success"))["data"]) == {
                "user_data": signed["user_data"]
            }


LIMITS = """[apps.pusher]
event_data = "20KiB"
channels = 2
batch = 1
members = 1
"""


async def test_each_limit_is_a_setting_of_the_app(tmp_path: Path) -> None:
    good = {"name": "e", "channel": "a", "data": "x" * 15_000}
    async with world(tmp_path, app=LIMITS) as (daemon, _):
        assert (await post(daemon, "/apps/1001/events", good)).status_code == 200
        assert (await post(daemon, "/apps/1001/events", {**good, "channels": ["a", "b", "c"]})).status_code == 400
        assert (await post(daemon, "/apps/1001/batch_events", {"batch": [good, good]})).status_code == 400
        async with established(daemon) as ada, established(daemon) as bob:
            await ada.subscribe("presence-room", '{"user_id":"ada"}')
            refused = await bob.subscribe("presence-room", '{"user_id":"bob"}')
            assert (refused["event"], refused["data"]["type"]) == ("pusher:subscription_error", "LimitReached")
            await bob.send("client-a", 1, channel="presence-room")
            assert (await bob.expect("pusher:error"))["data"]["code"] == 4301, "who was not let in says nothing there"
            await ada.send("pusher:unsubscribe", {"channel": "presence-room"})
            await ada.send("pusher:ping")
            await ada.expect("pusher:pong")
            assert (await bob.subscribe("presence-room", '{"user_id":"bob"}'))[
                "event"
            ] == "pusher_internal:subscription_succeeded"


async def test_sower_token_prints_what_the_node_sdk_would_sign(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        member = {"user_id": "ada", "user_info": {"name": "é"}}
        signed = (await script.ask("authorize", args=["1.2", "private-a"]))["authorize"]
        made = await sower(tmp_path, "token", "--format", "pusher", "private-a", "1.2", "--json")
        assert json.loads(made.out) == signed
        signed = (await script.ask("authorize", args=["1.2", "presence-a", member]))["authorize"]
        words = ("token", "--format", "pusher", "presence-a", "1.2", "--user", "ada", "--meta", '{"name": "é"}')
        made = await sower(tmp_path, *words)
        assert made.out.splitlines() == [signed["auth"], signed["channel_data"]]
        for wrong in (("a b", "1.2"), ("a", "nonsense"), ("a",), ("presence-a", "1.2"), ("a", "1.2", "--user", "x")):
            assert (await sower(tmp_path, "token", "--format", "pusher", *wrong)).code == 2
