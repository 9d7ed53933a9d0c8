"""The dashboard in a real browser: what a person sees and does there."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from trio_websocket import WebSocketConnection, open_websocket_url

from tests.e2e.daemon import CONFIG, KEY, SECRET, Daemon, running
from tests.web.browser import Browser, Page, browsing

EVIL = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"
"""What a script would be injected with, were anything that people say read as markup."""


async def signed_in(browser: Browser, daemon: Daemon, at: str = "#/", **more: object) -> Page:
    """The dashboard, signed in, at one of its views."""
    page = await browser.open(f"{daemon.url}/dashboard{at}", **more)
    await page.fill("input[name=key]", KEY)
    await page.fill("input[name=secret]", SECRET)
    await page.click("form button.primary")
    await page.until("!document.getElementById('nav').hidden")
    return page


async def go(page: Page, at: str) -> None:
    await page.run("(at) => { location.hash = at; return null; }", at)


@asynccontextmanager
async def pusher_client(daemon: Daemon, channels: list[str]) -> AsyncGenerator[WebSocketConnection]:
    """One socket that follows many channels."""
    url = f"ws://127.0.0.1:{daemon.port}/app/{KEY}?protocol=7&client=js&version=8.6.0"
    async with open_websocket_url(url) as socket, trio.open_nursery() as nursery:
        await socket.get_message()
        nursery.start_soon(_subscribe_all, socket, channels)
        for _ in channels:
            await socket.get_message()
        nursery.start_soon(_read_on, socket)
        yield socket
        nursery.cancel_scope.cancel()


async def _subscribe_all(socket: WebSocketConnection, channels: list[str]) -> None:
    for channel in channels:
        await socket.send_message(json.dumps({"event": "pusher:subscribe", "data": {"channel": channel}}))


async def _read_on(socket: WebSocketConnection) -> None:
    while True:
        await socket.get_message()


async def test_a_wrong_secret_is_refused_and_the_right_one_lets_in_until_one_leaves(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, browsing(expected=("401",)) as browser:
        page = await browser.open(daemon.url + "/dashboard")
        await page.check_accessible()
        await page.shot(tmp_path / "sign-in.png")
        await page.fill("input[name=key]", KEY)
        await page.fill("input[name=secret]", "a wrong secret")
        await page.click("form button.primary")
        await page.reads("not the one of the key", ".problem")
        assert await page.run("document.querySelector('input[name=secret]').value") == ""
        await page.fill("input[name=secret]", SECRET)
        await page.act("press", "input[name=secret]", "Enter")
        await page.reads("Busiest channels")
        assert SECRET not in await page.run(
            "location.href + document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage })"
        )
        await page.act("reload")
        await page.reads("Busiest channels")  # the cookie is still there
        await page.click("#leave")
        await page.reads("Sign in")
        await page.act("reload")
        await page.reads("Sign in")


async def test_every_view_is_readable_dark_and_light_wide_and_narrow(tmp_path: Path) -> None:
    views = {
        "overview": "Busiest channels",
        "channels": "Channels",
        "sessions": "Sessions",
        "activity": "Activity",
        "tokens": "Make a token",
        "channel/presence-lobby": "Who is here",
    }
    async with running(tmp_path) as daemon, browsing() as browser:
        token = (
            await daemon.request(
                "POST", "/channels/presence-lobby/auth", json={"user": "ada", "meta": {"role": "editor"}}
            )
        ).json()["token"]
        async with daemon.socket("presence-lobby", token=token) as ours, daemon.socket("kept-orders"):
            await ours.expect("welcome")
            for n in range(5):
                await daemon.publish("kept-orders", {"order": n})
            page = await signed_in(browser, daemon, height=900)
            session = (await daemon.request("GET", "/sessions")).json()["sessions"][0]["session"]
            for scheme, width in (("light", 1280), ("dark", 360)):
                await page.act("emulateMedia", {"colorScheme": scheme})
                await page.act("setViewportSize", {"width": width, "height": 800})
                for view, text in {**views, f"session/{session}": "Debug console"}.items():
                    await go(page, f"#/{'' if view == 'overview' else view}")
                    await page.reads(text, "main")
                    await page.until("!document.body.innerText.includes('Looking…')")
                    assert await page.run("document.documentElement.scrollWidth") == width, view
                    await page.check_accessible()
                    await page.shot(tmp_path / f"{view.partition('/')[0]}-{scheme}-{width}.png")


async def test_a_channel_shows_what_is_said_who_is_there_and_what_was_said(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, browsing() as browser:
        for n in range(60):
            await daemon.publish("kept-orders", {"order": n}, event="created")
        page = await signed_in(browser, daemon, "#/channel/kept-orders")
        await page.reads("this page among them")
        await daemon.publish("kept-orders", {"order": "live"}, event="paid", user="ada")
        await page.reads('{"order":"live"}', ".events")
        await page.fill("[aria-label='Filter events']", "nothing has this")
        await page.until("document.querySelector('.events li').hidden")
        await page.fill("[aria-label='Filter events']", "PAID")
        await page.until("!document.querySelector('.events li').hidden")
        await page.click("text=Pause")
        await daemon.publish("kept-orders", {"order": "held"}, event="paid")
        await page.reads("Resume (1)")
        assert "held" not in await page.run("document.querySelector('.events').innerText")
        await page.click("text=Resume (1)")
        await page.reads('{"order":"held"}', ".events")
        await page.click("role=tab[name=History]")
        await page.until("document.querySelectorAll('.events > li').length === 50")
        await page.click("text=Older")
        await page.until("document.querySelectorAll('.events > li').length === 62")
        await page.reads("That is all that is kept.")
        await page.fill("textarea", "no JSON")
        await page.click("text=Publish >> nth=-1")
        await page.reads("The data is no JSON")
        await page.fill("textarea", '{"from": "the dashboard"}')
        await page.act("press", "label:has-text('Event') input", "Enter")
        await page.reads("Accepted as ")
        assert (await daemon.request("GET", "/history/kept-orders?order=desc&limit=1")).json()["events"][0]["data"] == {
            "from": "the dashboard"
        }


async def test_members_come_and_go_before_one_s_eyes(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, browsing() as browser:
        page = await signed_in(browser, daemon, "#/channel/presence-lobby")
        await page.reads("Nobody is here")
        token = (
            await daemon.request(
                "POST", "/channels/presence-lobby/auth", json={"user": "ada", "meta": {"role": "editor"}}
            )
        ).json()["token"]
        async with daemon.socket("presence-lobby", token=token) as ours:
            await ours.expect("welcome")
            await page.reads('{"role":"editor"}', ".ranking")
            await page.reads("ada: join", ".events")
        await page.reads("ada: leave", ".events")
        await page.reads("Nobody is here")


async def test_five_thousand_channels_are_listed_searched_sorted_and_walked_by_keys(tmp_path: Path) -> None:
    many = '[limits]\nsubscriptions = 6000\nframes = "100000/s"\n' + CONFIG
    names = [f"open-{n:04}" for n in range(5000)]
    async with (
        running(tmp_path, many) as daemon,
        browsing() as browser,
        pusher_client(daemon, names),
        daemon.socket("open-4321"),
    ):
        page = await signed_in(browser, daemon, "#/channels")
        await page.reads("5,000", "[role=status]")
        first = "() => document.querySelector('.line .cell').innerText"
        assert await page.run(first) == "open-4321"  # two follow it
        assert await page.run("document.querySelector('[role=table]').getAttribute('aria-rowcount')") == "5001"
        await page.click("role=button[name=Channel]")
        await page.until(f"({first})() === 'open-0000'")
        assert await page.run("document.querySelectorAll('.line').length") < 60
        took = await page.run(
            "() => Math.min(...['o', 'open-4', 'open-49', 'open', 'open-49'].map((text) => { const began = performance.now(); const field = document.querySelector('input[type=search]'); field.value = text; field.dispatchEvent(new Event('input')); document.body.offsetHeight; return performance.now() - began; }))"
        )
        print(f"a search through 5,000 channels took {took:.1f} ms")
        assert took < 200
        await page.reads("100 of 5,000", "[role=status]")
        await page.fill("input[type=search]", "")
        await page.run("document.querySelector('.scroller').scrollTo(0, 1e9)")
        await page.reads("open-4999", ".line")
        await page.run("document.querySelector('.scroller').scrollTo(0, 0)")
        await page.until(f"({first})() === 'open-0000'")
        await page.act("focus", ".line a")
        for key, name in (
            ("ArrowDown", "open-0001"),
            ("End", "open-4999"),
            ("ArrowUp", "open-4998"),
            ("Home", "open-0000"),
            ("ArrowDown", "open-0001"),
        ):
            await page.act("keyboard.press", key)
            assert await page.run("document.activeElement.innerText") == name
        await page.check_accessible()
        await page.shot(tmp_path / "channels-5000.png")
        await page.act("keyboard.press", "Enter")
        await page.reads("Who is here")
        assert await page.run("location.hash") == "#/channel/open-0001"


async def test_sessions_are_told_by_their_dialect_and_one_is_ended(tmp_path: Path) -> None:
    async with (
        running(tmp_path) as daemon,
        browsing() as browser,
        pusher_client(daemon, ["open-a", "open-b"]),
        daemon.socket("open-c") as ours,
    ):
        await ours.expect("welcome")
        page = await signed_in(browser, daemon, "#/sessions")
        await page.reads("pusher", ".line")
        await page.reads("2 channels", ".line")
        await page.fill("input[type=search]", "open-c")
        await page.until("document.querySelectorAll('.line').length === 1")
        await page.act("focus", ".line a")
        await page.act("keyboard.press", "Enter")
        await page.reads("End this connection")
        await page.click("text=End this connection")
        await page.click("text=End it?")
        assert await ours.closing() == (4002, "kicked")
        await page.reads("It is not connected any more")
        await go(page, "#/activity")
        await page.act("selectOption", "select", "Coming and going")
        await page.reads("kicked", ".records")


async def test_a_token_is_made_and_each_sdk_s_lines_are_shown(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, browsing() as browser:
        page = await signed_in(browser, daemon, "#/tokens/private-orders")
        await page.fill("label:has-text('User') input", "ada")
        await page.click("text=Make the token")
        token = await page.until("document.querySelector('.token')?.innerText")
        async with daemon.socket("private-orders", token=token) as ours:
            assert (await ours.expect("welcome"))["channel"] == "private-orders"
        for name, word in (
            ("sower.js", "subscribe"),
            ("pusher-js", "wsHost"),
            ("ably", "Realtime"),
            ("pubnub", "subscribeKey"),
            ("curl", "events/publish"),
        ):
            await page.click(f"role=tab[name='{name}']")
            await page.reads(word, ".snippet")
            await page.reads("private-orders", ".snippet")
            assert SECRET not in await page.text()


async def test_what_people_say_is_text_everywhere(tmp_path: Path) -> None:
    from urllib.parse import quote

    config = (
        CONFIG
        + f"\n[[channels]]\nmatch = '{'*'}'\npresence = true\nclient_events = true\nhistory = {{messages = 100, age = \"1h\"}}\n"
    )
    async with running(tmp_path, config) as daemon, browsing() as browser:
        channel = EVIL
        token = (
            await daemon.request("POST", f"/channels/{quote(channel, safe='')}/auth", json={"user": EVIL, "meta": EVIL})
        ).json()["token"]
        async with daemon.socket(quote(channel, safe=""), token=token) as ours:
            await ours.expect("welcome")
            page = await signed_in(browser, daemon, "#/channels")
            await page.reads(EVIL, ".line")
            await go(page, f"#/channel/{quote(channel, safe='')}")
            await page.reads("this page among them")
            await daemon.publish(channel, {"said": EVIL}, event=EVIL, user=EVIL)
            await page.reads(EVIL, ".events b")
            await page.reads(EVIL, ".ranking")
            await page.click("role=tab[name=History]")
            await page.reads(EVIL, ".events b")
            await page.click(".events summary")
            session = (await daemon.request("GET", "/sessions")).json()["sessions"]
            one = next(s["session"] for s in session if s["user"] == EVIL)
            for at in ("#/", "#/sessions", f"#/session/{one}", "#/activity", f"#/tokens/{quote(channel, safe='')}"):
                await go(page, at)
                await page.until(
                    "(text) => document.body.innerText.includes(text) || [...document.querySelectorAll('input')].some((field) => field.value.includes(text))",
                    "<img src=x onerror=alert(1)>",
                )
                assert await page.run("document.querySelectorAll('main img, main script').length") == 0
            for name in ("sower.js", "pusher-js", "ably", "pubnub", "curl"):
                await page.click(f"role=tab[name='{name}']")
                await page.reads("<img src=x", ".snippet")


async def test_a_daemon_that_starts_anew_is_found_again(tmp_path: Path) -> None:
    import signal

    async with running(tmp_path) as daemon, browsing(expected=("ERR_", "WebSocket")) as browser:
        page = await signed_in(browser, daemon, "#/channel/kept-a")
        await page.reads("this page among them")
        await daemon.stop(signal.SIGKILL)
        await page.reads("cannot be reached", "#told")
        await daemon.start()
        await daemon.publish("kept-a", "after the restart")
        await page.reads("after the restart", ".events")
