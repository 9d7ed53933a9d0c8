"""The debug console: what passes between one client and the daemon, seen by an operator who is on record for it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from trio_websocket import open_websocket_url

from sower.console import masked
from sower.store.audit import read
from tests.e2e.daemon import KEY, Client, Daemon, running
from tests.e2e.raw import connection, upgraded
from tests.web.browser import browsing
from tests.web.test_dashboard import go, pusher_client, signed_in
from tests.web.test_sign_in import cookie_of, sign_in

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('{"type":"token","token":"anything at all"}', '{"type":"token","token":"(masked)"}'),
        (f'{{"x":"{JWT}"}}', '{"x":"(masked)"}'),
        (r'{"event":"pusher:subscribe","data":{"auth":"key:a1b2","channel":"private-a"}}', r'{"event":"pusher:subscribe","data":{"auth":"(masked)","channel":"private-a"}}'),
        (r'{"data":"{\"shared_secret\":\"YWJj\",\"count\":2}"}', r'{"data":"{\"shared_secret\":\"(masked)\",\"count\":2}"}'),
        (r'{"auth" : {"accessToken":"a\"b"}, "n":1}', r'{"auth" : {"accessToken":"(masked)\"b"}, "n":1}'),
        ('{"type":"event","event":"e","data":"my secret is no field"}', '{"type":"event","event":"e","data":"my secret is no field"}'),
    ],
)  # fmt: skip
def test_what_lets_somebody_in_is_masked_and_nothing_else(said: str, shown: str) -> None:
    assert masked(said) == shown


@asynccontextmanager
async def watching(daemon: Daemon, session: str) -> AsyncGenerator[Client]:
    cookie = cookie_of(await sign_in(daemon))
    headers = [(b"Cookie", cookie.encode()), (b"Origin", daemon.url.encode())]
    url = f"ws://127.0.0.1:{daemon.port}/dashboard/api/frames/{session}"
    async with open_websocket_url(url, extra_headers=headers) as socket:
        yield Client(socket)


async def frames(watcher: Client, count: int) -> list[tuple[str, str, Any]]:
    found: list[tuple[str, str, Any]] = []
    while len(found) < count:
        frame = await watcher.hear()
        if frame["type"] == "frame":
            found.append((frame["from"], frame["kind"], frame["text"]))
    return found


async def test_frames_of_both_directions_are_told_in_their_order_without_secrets(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("open-a") as ours:
        welcome = await ours.expect("welcome")
        async with watching(daemon, welcome["session"]) as watcher:
            await watcher.expect("watching")
            await ours.send(type="ping", id="1")
            await ours.expect("pong")
            await ours.send(type="token", token=JWT)
            await ours.expect("error")
            await daemon.publish("open-a", {"n": 1})
            await ours.expect("event")
            await ours.connection.ping(b"there?")
            told = await frames(watcher, 7)
        assert [(way, kind) for way, kind, _ in told] == [
            ("client", "text"),
            ("daemon", "text"),
            ("client", "text"),
            ("daemon", "text"),
            ("daemon", "text"),
            ("client", "ping"),
            ("daemon", "pong"),
        ]
        assert json.loads(told[0][2]) == {"type": "ping", "id": "1"}
        assert json.loads(told[1][2]) == {"type": "pong", "id": "1"}
        assert json.loads(told[2][2]) == {"type": "token", "token": "(masked)"}
        assert json.loads(told[4][2])["data"] == {"n": 1}
        assert told[5][2] == "there?"
        await daemon.publish("open-a", 2)  # nobody watches any more, and the client goes on
        assert (await ours.expect("event"))["data"] == 2
        await daemon.stop()
        assert [record.detail for record in read(str(tmp_path / "sower.db"), kinds=["frames_watched"])] == [
            welcome["session"]
        ]


async def test_deflated_frames_are_told_as_what_they_say(tmp_path: Path) -> None:
    from tests.e2e.test_node import node

    large = "all work and no play " * 100
    async with running(tmp_path) as daemon, node() as client:
        welcome = await client.open(daemon, "open-a", {"perMessageDeflate": {"threshold": 0}})
        async with watching(daemon, welcome["session"]) as watcher:
            await watcher.expect("watching")
            await daemon.publish("open-a", large)
            await client.hear()
            await client.do("send", frame={"type": "publish", "event": "e", "data": large, "id": "1"})
            told = await frames(watcher, 3)
        assert json.loads(told[0][2])["data"] == large
        assert json.loads(told[1][2])["data"] == large
        assert (told[2][0], json.loads(told[2][2])["type"]) == ("daemon", "ack")


async def test_who_may_not_watch_is_told_why_and_the_watched_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("open-a") as ours:
        session = (await ours.expect("welcome"))["session"]
        async with watching(daemon, "0123456789ab7") as watcher:
            assert (await watcher.expect("error"))["code"] == "not_found"
        async with watching(daemon, session) as first, watching(daemon, session) as second:
            await first.expect("watching")
            assert (await second.expect("error"))["code"] == "too_many"
        url = f"ws://127.0.0.1:{daemon.port}/dashboard/api/frames/{session}"
        async with open_websocket_url(url) as socket:
            assert json.loads(await socket.get_message())["code"] == "not_authorised"
        await daemon.publish("open-a", 1)
        assert (await ours.expect("event"))["data"] == 1


async def test_a_watcher_is_not_watched_itself(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("open-a") as ours:
        session = (await ours.expect("welcome"))["session"]
        async with watching(daemon, session) as first:
            await first.expect("watching")
            told = (await daemon.request("GET", "/sessions")).json()["sessions"]
            watcher = next(s["session"] for s in told if s["dialect"] == "dashboard")
            async with watching(daemon, watcher) as other:
                assert (await other.expect("error"))["code"] == "forbidden"


async def test_a_session_in_the_middle_of_a_frame_is_not_watched(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, upgraded(daemon) as raw:
        await raw.send(b"\x81\xfe\x01")
        session = json.loads(raw.heard[raw.heard.index(b"{") :])["session"]
        async with watching(daemon, session) as watcher:
            assert (await watcher.expect("error"))["code"] == "unavailable"


async def test_a_session_that_is_made_of_requests_is_not_watched(tmp_path: Path) -> None:
    path = f"/app/{KEY}/123/abcdefgh/xhr_streaming?protocol=7"
    async with running(tmp_path) as daemon, connection(daemon) as raw:
        await raw.send(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
        await raw.until(b"connection_established")
        (session,) = (await daemon.request("GET", "/sessions")).json()["sessions"]
        async with watching(daemon, session["session"]) as watcher:
            assert (await watcher.expect("error"))["code"] == "unavailable"


async def test_the_watcher_is_told_when_the_watched_is_gone(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        async with daemon.socket("open-a") as ours:
            session = (await ours.expect("welcome"))["session"]
            async with watching(daemon, session) as watcher:
                await watcher.expect("watching")
                await daemon.request("DELETE", f"/sessions/{session}")
                assert (await ours.closing())[0] == 4002
                assert (await watcher.closing())[0] == 4504


async def test_the_page_shows_frames_as_they_pass(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, browsing() as browser, pusher_client(daemon, ["open-a"]) as client:
        page = await signed_in(browser, daemon)
        session = next(
            s["session"]
            for s in (await daemon.request("GET", "/sessions")).json()["sessions"]
            if s["dialect"] == "pusher"
        )
        await go(page, f"#/session/{session}")
        await page.click("text=Watch its frames")
        await page.reads("Stop watching")
        await page.reads("Nothing has passed yet")
        await client.send_message(
            json.dumps({"event": "pusher:subscribe", "data": {"channel": "private-a", "auth": "test-key:0123456789"}})
        )
        await page.reads('"auth": "(masked)"', ".frames .in")
        await page.reads("pusher:subscription_error", ".frames .out")
        assert "0123456789" not in await page.text()
        await daemon.publish("open-a", "<img src=x onerror=alert(1)>")
        await page.reads("<img src=x onerror=alert(1)>", ".frames .out")
        await page.fill("[aria-label='Filter frames']", "private-a")
        await page.until("[...document.querySelectorAll('.frames li')].some((line) => line.hidden)")
        await page.check_accessible()
        await page.shot(tmp_path / "console.png")
        await page.click("text=Stop watching")
        await page.reads("Watch its frames")
        await go(page, "#/activity")
        await page.reads("frames watched", ".records")
