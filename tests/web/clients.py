"""sower.js where applications run it: in pages of another origin in Chromium, and in Node."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import trio

from sower.web.files import FOLDER
from tests.e2e.daemon import CONFIG, KEY, Daemon
from tests.sdk.script import Script, running
from tests.web.browser import Browser

UNBOUND = '[limits]\nclient_events = "2000/s"\nframes = "2000/s"\n' + CONFIG
"""Clients here say in seconds what others say in minutes."""

FOLLOW = """({ options, channel }) => {
  const heard = (globalThis.heard = []);
  const told = (globalThis.told = []);
  globalThis.sower = new Sower(options);
  globalThis.channel = sower.subscribe(channel);
  globalThis.channel.onAny((event) => heard.push(event));
  for (const what of ["state", "gap", "error", "join", "leave", "update"])
    globalThis.channel.observe(what, (value) => told.push([what, value.code ?? value]));
}"""

PATIENTLY = """async (given) => {
  for (const end = Date.now() + 50000; Date.now() < end; await new Promise((done) => setTimeout(done, 20))) {
    const code = (CODE);
    const value = typeof code === "function" ? await code(given) : await code;
    if (value) return value;
  }
}"""


class Client:
    """A place where sower.js runs, with one channel that is followed."""

    def __init__(self, run: Callable[[str, Any], Awaitable[Any]], url: str) -> None:
        self._run = run
        self._url = url

    async def run(self, code: str, given: Any = None) -> Any:
        """The value of an expression, or of a function that is given something."""
        return await self._run(code, given)

    async def until(self, code: str, given: Any = None) -> Any:
        """The value of an expression, as soon as it is a true one."""
        value = await self._run(PATIENTLY.replace("CODE", code), given)
        assert value, f"never true: {code} {given or ''}; {await self.run('[told, heard.length]')}"
        return value

    async def follow(self, channel: str, **options: Any) -> None:
        """Subscribe, and wait until that is done."""
        await self.begin(channel, **options)
        await self.until("channel.state === 'open'")

    async def begin(self, channel: str, **options: Any) -> None:
        """Subscribe."""
        await self.run(FOLLOW, {"channel": channel, "options": {"url": self._url, "key": KEY, **options}})

    async def hears(self, count: int) -> list[Any]:
        """The data of all events so far, as soon as there are so many."""
        await self.until("(count) => heard.length >= count", count)
        return await self.run("heard.map((event) => event.data)")


@asynccontextmanager
async def in_node(daemon: Daemon, kind: str = "ws") -> AsyncGenerator[Client]:
    """Node, with the WebSocket of the package ws or, for "global", its own."""
    options = "--experimental-websocket" if kind == "global" else ""
    calls = count(1)
    async with running(
        Path(__file__).parent / "node.cjs", str(FOLDER / "sower.js"), kind, NODE_OPTIONS=options
    ) as script:
        yield Client(partial(_run_in, script, calls), daemon.url)


async def _run_in(script: Script, calls: Any, code: str, given: Any) -> Any:
    call = next(calls)
    await script.do("run", call=call, code=code, **{"with": given})
    answer = await script.hear("call", call=call)
    assert "failed" not in answer, answer["failed"]
    return answer["value"]


async def in_page(browser: Browser, site: str, daemon: Daemon) -> Client:
    """A page of an application's own origin that has loaded sower.js from the daemon."""
    page = await browser.open(site)
    assert page.status == 200
    await page.run(
        "(url) => import(url + '/sower.js').then((all) => Object.assign(globalThis, all)).then(() => null)", daemon.url
    )
    return Client(page.run, daemon.url)


@asynccontextmanager
async def a_site(daemon: Daemon) -> AsyncGenerator[str]:
    """An application's own server: an empty page, and /token, which gets ada a token for a channel."""

    async def answer(stream: trio.SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head and (part := await stream.receive_some()):
            head += part
        path = head.split(b" ")[1].decode() if head else "/"
        body, kind = "<!doctype html><title>An application</title><link rel=icon href='data:,'>", "text/html"
        if path.startswith("/token/"):
            got = await daemon.request("POST", f"/channels/{path[7:]}/auth", json={"user": "ada", "ttl": "3s"})
            body, kind = json.dumps(got.json()["token"]), "application/json"
        said = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
        )
        await stream.send_all(said.encode())
        await stream.aclose()

    async def answer_or_break(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, httpx.TransportError):
            await answer(stream)  # the daemon behind it may be killed meanwhile
        await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, answer_or_break, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()
