"""Who is let in, for how long, and how fast: over sockets and HTTP, against a real daemon, with the audit to show it."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jwt
import trio

from sower.core.grants import LEEWAY
from sower.store.audit import Record, read
from tests.e2e.daemon import CONFIG, KEY, PATIENCE, SECRET, Daemon, running
from tests.e2e.raw import connection


def token(
    channel: str = "private-a", *, lives: float = 3600.0, secret: str = SECRET, can: Any = ("*",), **claims: Any
) -> str:
    claims = {"exp": time.time() + lives, "channels": {channel: list(can)}, **claims}
    return jwt.encode(claims, secret, "HS256", headers={"kid": KEY})


async def audited(daemon: Daemon, kind: str, count: int = 1) -> list[Record]:
    """The audit's records of a kind, once there are so many."""
    path = daemon.folder / "sower.db"
    with trio.fail_after(PATIENCE):
        while True:
            found = [record for record in read(str(path)) if record.kind == kind]
            if len(found) >= count:
                return found
            await daemon.request("GET", "/channels")  # something that takes time


async def test_private_channels_need_a_credential_and_take_it_in_every_place(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        async with daemon.socket("private-a") as client:
            assert (await client.expect("error"))["code"] == "not_authorised"
            assert await client.closing() == (4510, "not_authorised")
        async with daemon.socket("private-a", token=token()) as client:
            await client.expect("welcome")
        async with daemon.socket("private-a", headers={"Authorization": f"Bearer {token(sub='ada')}"}) as client:
            assert (await client.expect("welcome"))["channel"] == "private-a"
        async with daemon.socket("private-xyz", token=token("private-x*")) as client:
            await client.expect("welcome")
        minted = await daemon.request(
            "POST", "/channels/private-a/auth", json={"user": "ada", "ttl": "1m", "can": ["subscribe"]}
        )
        body = minted.json()
        assert abs(body["expires"] - time.time() - 60) < 30
        async with daemon.socket("private-a", token=body["token"]) as client:
            await client.expect("welcome")
            await client.send(type="publish", event="e", data=1, id="1")
            assert (await client.expect("error"))["code"] == "forbidden"
        refused = await daemon.request(
            "POST", "/channels/private-a/auth", auth=False, headers={"Authorization": f"Bearer {token()}"}
        )
        assert refused.status_code == 403
        bad = await daemon.request("POST", "/channels/private-a/auth", json={"can": ["fly"]})
        assert "subscribe, publish, presence, history" in bad.json()["error"]["message"]
        records = await audited(daemon, "refused", 2)
        assert {record.code for record in records} >= {"not_authorised", "forbidden"}
        assert [r.channel for r in await audited(daemon, "token_minted")] == ["private-a"]


async def test_a_user_of_a_token_cannot_be_another_one(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as daemon,
        daemon.socket("presence-a", token=token("presence-a", sub="ada"), user="bob") as client,
    ):
        assert (await client.expect("error"))["code"] == "user_mismatch"


async def test_a_token_for_nobody_gives_nobody_a_user_and_large_meta_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        async with daemon.socket("presence-a", token=token("presence-a"), user="bob") as client:
            assert (await client.expect("error"))["code"] == "user_mismatch"
        async with daemon.socket("presence-a", token=token("presence-a", sub="ada", meta="x" * 5000)) as client:
            assert (await client.expect("error"))["code"] == "too_large"


async def test_no_token_for_a_pattern_is_minted_over_http(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        answer = await daemon.request("POST", "/channels/private-*/auth", json={"user": "eve"})
        assert (answer.status_code, "pattern" in answer.json()["error"]["message"]) == (400, True)


async def test_a_batch_that_no_wait_lets_through_is_too_large(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + LIMITS) as daemon:
        answer = await daemon.request("POST", "/events/publish", json={"channels": ["room"] * 6, "event": "e"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


async def test_an_observer_without_the_presence_capability_is_no_member(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        watching = token("presence-a", sub="eve", can=["subscribe"])
        async with daemon.socket("presence-a", token=watching) as client:
            assert (await client.expect("welcome"))["members"] == {}


async def test_a_socket_whose_token_expires_is_closed_with_4001(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("private-a", token=token(lives=5 - LEEWAY)) as client:
        await client.expect("welcome")
        assert (await client.expect("error"))["code"] == "token_expired"
        assert await client.closing() == (4001, "token_expired")


async def test_a_socket_that_shows_a_new_token_in_time_goes_on(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as daemon,
        daemon.socket("private-a", token=token(lives=8 - LEEWAY, sub="ada")) as client,
    ):
        await client.expect("welcome")
        for bad, code in (
            (token(sub="bob"), "user_mismatch"),
            (token("private-b", sub="ada"), "forbidden"),
            (token(secret="x" * 32, sub="ada"), "bad_token"),
        ):
            await client.send(type="token", token=bad, id="1")
            assert (await client.expect("error"))["code"] == code
        async with daemon.socket("private-a", token=token(lives=8 - LEEWAY, sub="ada")) as witness:
            await witness.expect("welcome")
            await client.send(type="token", token=token(sub="ada"), id="2")
            assert await client.expect("ack") == {"type": "ack", "id": "2"}
            assert await witness.closing() == (4001, "token_expired")
        await daemon.publish("private-a", "still here")
        assert await client.events(1) == ["still here"]


async def test_two_secrets_overlap_while_an_app_rotates(tmp_path: Path) -> None:
    def key(*words: str) -> str:
        command = [sys.executable, "-m", "sower", "key", *words, "--config", str(tmp_path / "sower.toml")]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    async def welcome(daemon: Daemon, made: str) -> str:
        async with daemon.socket("private-a", token=made) as client:
            return (await client.hear())["type"]

    async with running(tmp_path) as daemon:
        assert await welcome(daemon, token()) == "welcome"
        fresh = key("rotate", "1001")
        await daemon.stop()
        await daemon.start(keep_config=True)
        assert await welcome(daemon, token()) == "welcome"
        assert await welcome(daemon, token(secret=fresh)) == "welcome"
        key("retire", "1001")
        await daemon.stop()
        await daemon.start(keep_config=True)
        assert await welcome(daemon, token()) == "error"
        assert await welcome(daemon, token(secret=fresh)) == "welcome"
        kinds = {record.kind for record in read(str(tmp_path / "sower.db"))}
        assert {
            "key_rotated",
            "key_retired",
            "config_changed",
            "started",
            "stopped",
            "connected",
            "disconnected",
        } <= kinds


LIMITS = """
[limits]
refusals = "1/m burst 3"
frames = "1/m burst 20"
client_events = "1/m burst 3"
publishes = "1/m burst 5"
violations = 4
connections_per_address = 6
"""


async def test_past_its_rates_a_client_is_told_to_wait_and_then_closed(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + LIMITS) as daemon:
        async with daemon.socket("open-a") as client:
            await client.expect("welcome")
            for n in range(3):
                await client.send(type="publish", event="e", data=n, id=str(n))
                await client.expect("ack")
            await client.send(type="publish", event="e", data=3, id="3")
            error = await client.expect("error")
            assert (error["code"], error["retry"], error["id"]) == ("events_too_fast", True, "3")
            assert error["retry_after"] > 1
            for n in range(25):  # limits.frames lets 20 through
                await client.send(type="publish", event="e", data=n)
            code, reason = await client.closing()
            assert (code, reason) == (4031, "rate_limited")
        for n in range(5):
            await daemon.publish("room", n)
        slow = await daemon.request("POST", "/events/publish", json={"channel": "room", "event": "e"})
        assert slow.status_code == 429
        assert int(slow.headers["Retry-After"]) > 1
        statuses = [
            (
                await daemon.request("GET", "/channels", auth=False, headers={"Authorization": "Basic bm86bm8="})
            ).status_code
            for _ in range(5)
        ]
        assert statuses == [401, 401, 401, 429, 429]
        assert (await daemon.request("GET", "/channels")).status_code == 200, "who shows the right secret is let in"


async def test_connections_of_one_address_have_a_cap(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + LIMITS) as daemon, trio.open_nursery() as nursery:
        held = []
        for _ in range(6):
            raw = connection(daemon)
            held.append(raw)
            client = await raw.__aenter__()
            await client.send(b"GET ")
        async with connection(daemon) as refused:
            heard = await refused.rest()
            assert heard.startswith(b"HTTP/1.1 503 ")
            assert b"too_many_connections" in heard
            assert b"Retry-After" in heard
        for raw in held:
            await raw.__aexit__(None, None, None)
        nursery.cancel_scope.cancel()


async def test_the_activity_feed_shows_who_comes_goes_publishes_and_is_refused_and_servers_alone_read_it(
    tmp_path: Path,
) -> None:
    from base64 import b64encode

    basic = {"Authorization": "Basic " + b64encode(f"{KEY}:{SECRET}".encode()).decode()}
    async with running(tmp_path) as daemon:
        async with daemon.socket("%5Bmeta%5Dactivity", token=token("*")) as client:
            assert (await client.expect("error"))["code"] in ("forbidden", "not_authorised")
        async with daemon.socket("%5Bmeta%5Dactivity", headers=basic) as feed:
            await feed.expect("welcome")
            async with daemon.socket("room") as client:
                await client.expect("welcome")
                await daemon.publish("room", 1, event="tick")
            async with daemon.socket("private-a") as refused:
                await refused.closing()
            seen: dict[str, Any] = {}
            while not {"connected", "disconnected", "published", "refused"} <= set(seen):
                event = await feed.expect("event")
                seen[event["event"]] = event["data"]
        assert (seen["published"]["channel"], seen["published"]["name"]) == ("room", "tick")
        assert seen["refused"]["code"] == "not_authorised"
        assert "reason" in seen["disconnected"]


async def test_publishes_are_counted_in_the_audit_by_key(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        for n in range(7):
            await daemon.publish("room", n)
        await daemon.stop()
        assert [(r.who, r.count) for r in read(str(tmp_path / "sower.db")) if r.kind == "published"] == [(KEY, 7)]
