"""pusher-js where no WebSocket gets through: xhr_streaming and xhr_polling, in Node and in Chromium behind a proxy."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from sower.net.relay import AWAY, RESPONSE_MOST
from tests.e2e.daemon import KEY, PATIENCE, Daemon
from tests.e2e.daemon import running as daemon_running
from tests.e2e.raw import connection
from tests.sdk.pusher.world import APP, RULES, connected, subscribed, trigger, world
from tests.sdk.script import Script
from tests.sdk.script import running as script_running

TRANSPORTS = ["xhr_streaming", "xhr_polling"]


def over(daemon: Daemon, transport: str) -> dict[str, Any]:
    """pusher-js' options."""
    return {"enabledTransports": [transport], "httpHost": "127.0.0.1", "httpPort": daemon.port}


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_pusher_js_does_over_http_what_it_does_over_a_websocket(tmp_path: Path, transport: str) -> None:
    async with world(tmp_path) as (daemon, script):
        await connected(script, "ada", member={"user_id": "ada"}, **over(daemon, transport))
        await connected(script, "bob", member={"user_id": "bob"})
        await subscribed(script, "bob", "presence-room")
        members = await subscribed(script, "ada", "presence-room")
        assert set(members["all"]) == {"ada", "bob"}
        await script.hear("event", client="bob", event="pusher:member_added")
        await trigger(script, "presence-room", "told", {"é": "☃"})
        assert (await script.hear("event", client="ada", event="told"))["data"] == {"é": "☃"}
        await script.do("trigger", client="ada", channel="presence-room", event="client-a", data={"n": 1})
        assert (await script.hear("event", client="bob", event="client-a"))["data"] == {"n": 1}
        await script.do("trigger", client="bob", channel="presence-room", event="client-b", data={"n": 2})
        assert (await script.hear("event", client="ada", event="client-b"))["data"] == {"n": 2}
        await script.do("disconnect", client="ada")
        assert (await script.hear("event", client="bob", event="pusher:member_removed"))["data"]["id"] == "ada"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_nothing_is_lost_or_doubled_between_two_responses(tmp_path: Path, transport: str) -> None:
    async with world(tmp_path) as (daemon, script):
        await connected(script, "ada", **over(daemon, transport))
        await subscribed(script, "ada", "news")
        count, size = 100, 9000
        assert count * size > 3 * RESPONSE_MOST
        for n in range(count):
            await daemon.publish("news", f"{n}:" + "é" * (size // 2), event="large")
        heard = [int((await script.hear("event", event="large"))["data"].partition(":")[0]) for _ in range(count)]
        assert heard == list(range(count))
        assert [told for told in script.told("state") if told["state"] != "connected"] == []


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_restart_loses_the_session_and_pusher_js_begins_another(tmp_path: Path, transport: str) -> None:
    async with world(tmp_path) as (daemon, script):
        await connected(script, "ada", **over(daemon, transport))
        await subscribed(script, "ada", "news")
        await daemon.stop(signal.SIGKILL)
        await daemon.start(keep_config=True)
        await script.hear("state", state="connecting")
        await script.hear("state", state="connected")
        await script.hear("event", event="pusher:subscription_succeeded")
        await trigger(script, "news", "told", "again")
        assert (await script.hear("event", event="told"))["data"] == "again"


async def test_who_is_not_let_in_learns_why(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        await script.do("connect", client="eve", key="no-such-key", **over(daemon, "xhr_streaming"))
        assert (await script.hear("error", client="eve"))["error"]["code"] == 4001
        await script.hear("state", client="eve", state="disconnected")


# What no SDK sends


class Session:
    """A session that polls by hand."""

    def __init__(self, daemon: Daemon, name: str = "042/abcdefgh") -> None:
        self._client = httpx.AsyncClient(base_url=daemon.url, timeout=PATIENCE, trust_env=False)
        self._path = f"/pusher/app/{KEY}/{name}"

    async def poll(self) -> list[str]:
        """The lines of one answer."""
        answer = await self._client.post(f"{self._path}/xhr?protocol=7&client=js&version=8.6.0")
        assert answer.status_code == 200
        assert answer.text.endswith("\n")
        return answer.text.splitlines()

    async def send(self, body: str) -> int:
        return (await self._client.post(f"{self._path}/xhr_send", content=body)).status_code

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()


async def test_clients_that_go_before_they_read_take_nobody_else_with_them(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP + RULES) as daemon:
        for number in range(300):
            stream = await trio.open_tcp_stream("127.0.0.1", daemon.port)
            path = f"/pusher/app/{KEY}/001/gone{number:04}/xhr_streaming?protocol=7&client=js&version=8.6.0"
            await stream.send_all(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
            await stream.aclose()
        async with Session(daemon) as neighbour:
            assert (await neighbour.poll())[0] == "o"
            assert await neighbour.send(subscribe("news")) == 204
            assert said((await neighbour.poll())[0])[0]["event"] == "pusher_internal:subscription_succeeded"


def said(line: str) -> list[dict[str, Any]]:
    assert line[0] == "a"
    return [json.loads(text) for text in json.loads(line[1:])]


def subscribe(channel: str) -> str:
    return json.dumps([json.dumps({"event": "pusher:subscribe", "data": {"channel": channel}})])


async def test_a_session_opens_once_and_a_burst_is_one_answer(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP + RULES) as daemon, Session(daemon) as session:
        first = await session.poll()
        assert first[0] == "o"
        assert said(first[1])[0]["event"] == "pusher:connection_established"
        assert await session.send(subscribe("news")) == 204
        assert said((await session.poll())[0])[0]["event"] == "pusher_internal:subscription_succeeded"
        for n in range(50):
            await daemon.publish("news", n)
        lines = await session.poll()
        while len(lines) < 50:
            lines += await session.poll()
        assert [said(line)[0]["data"] for line in lines] == [str(n) for n in range(50)]
        assert "o" not in lines
        assert await session.send("[]") == 204


async def test_who_comes_when_the_daemon_is_out_of_files_is_told_and_counted_nowhere(tmp_path: Path) -> None:
    asks = f"POST /pusher/app/{KEY}/1/%d/xhr?protocol=7 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n"
    async with daemon_running(tmp_path, APP + RULES + "[limits]\nconnections_per_address = 3\n") as daemon:
        async with connection(daemon) as raw:
            await raw.send(b"GET /health/live HTTP/1.1\r\nHost: h\r\n\r\n")
            await raw.until(b"HTTP/1.1 200 ")
            with no_more_files(daemon):
                for number in range(3):
                    raw.heard = b""
                    await raw.send((asks % number).encode())
                    await raw.until(b"c[4100,")
            async with Session(daemon) as session:
                assert (await session.poll())[1].startswith("a")


@contextmanager
def no_more_files(daemon: Daemon) -> Iterator[None]:
    """The daemon can open none (RLIMIT_NOFILE)."""
    assert daemon.process is not None
    pid = daemon.process.pid
    opened = {int(number) for number in os.listdir(f"/proc/{pid}/fd")}
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(set(range(len(opened) + 1)) - opened), hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


async def test_what_is_malformed_ends_the_session_with_a_reason(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP + RULES) as daemon:
        for n, body in enumerate(("", "{", "{}", "[1]", "null", '["\\ud800"]', "[" * 5000, '["' + "x" * 70_000 + '"]')):
            async with Session(daemon, f"1/s{n}") as session, trio.open_nursery() as nursery:
                await session.poll()
                polled: list[str] = []

                async def poll(session: Session = session, polled: list[str] = polled) -> None:
                    polled += await session.poll()

                nursery.start_soon(poll)
                await trio.testing.wait_all_tasks_blocked(0.05)
                assert await session.send(body) == 400
            assert polled[-1].startswith(("c[1007", "c[1009"))
        for path in ("1/s0/xhr_send", "1/new/xhr_send", "a b/x/xhr", "1/%00/xhr_streaming", f"1/{'x' * 65}/xhr"):
            answer = await daemon.request("POST", f"/pusher/app/{KEY}/{path}?protocol=7", content="[]")
            assert answer.status_code == 404, path


async def test_a_client_that_stays_away_is_gone_and_is_told_so_when_it_comes_back(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP + RULES) as daemon, Session(daemon) as session:
        began = trio.current_time()
        await session.poll()
        await session.send(subscribe("news"))
        with trio.fail_after(AWAY + PATIENCE):
            while (await daemon.request("GET", "/channels")).json()["count"]:
                await trio.testing.wait_all_tasks_blocked(0.2)
        assert trio.current_time() - began >= AWAY - 1
        assert await session.send("[]") == 404
        assert (await session.poll())[0] == "o", "a second o: the session was lost"


async def test_a_silent_poll_is_answered_with_a_sign_of_life_and_a_silent_client_is_closed(tmp_path: Path) -> None:
    config = '[session]\nping_every = "1s"\npong_within = "4s"\n' + APP + RULES
    async with daemon_running(tmp_path, config) as daemon:
        async with Session(daemon) as session:
            await session.poll()
            for _ in range(2):
                assert await session.poll() == ["h"]
        async with connection(daemon) as raw:
            path = f"/pusher/app/{KEY}/1/silent/xhr_streaming?protocol=7"
            await raw.send(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
            await raw.until(b"\no\na[")
            assert b'c[4201,"' in await raw.rest(), "the SDK reconnects"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stopping_daemon_says_so(tmp_path: Path, transport: str) -> None:
    async with world(tmp_path) as (daemon, script):
        await connected(script, "ada", **over(daemon, transport))
        await subscribed(script, "ada", "news")
        assert await daemon.stop(signal.SIGTERM) == 0
        await script.hear("state", state="connecting")


# In a browser, behind a proxy


@asynccontextmanager
async def proxy(daemon: Daemon) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """A proxy that lets no WebSocket through. Yields its port, and the targets of what it refused."""
    refused: list[bytes] = []

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            while data := await source.receive_some():
                if b"\r\nupgrade: websocket" in data.lower():
                    refused.append(data.split(b" ")[1])
                    await source.send_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    break
                await sink.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        await source.aclose()
        await sink.aclose()

    async def handle(client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", daemon.port)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pump, client, server)
            nursery.start_soon(pump, server, client)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1], refused
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def browser() -> AsyncGenerator[Script]:
    path = Path(__file__).parent / "browser.cjs"
    async with script_running(path, shutil.which("chromium") or "", KEY) as script:
        await script.hear("ready")
        yield script
        await script.do("end")
        with trio.move_on_after(PATIENCE):
            await script.process.wait()


async def test_a_browser_behind_a_proxy_that_breaks_websockets_falls_back(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP + RULES) as daemon, proxy(daemon) as (port, refused), browser() as page:
        for transports in (["ws", "xhr_streaming"], ["xhr_polling"]):
            await page.do("connect", port=port, transports=transports)
            assert (await page.hear("state", state="connected"))["transport"] == transports[-1]
            assert refused, "it tried a WebSocket first"
            assert (await page.hear("timeline"))["timeline"] == 200
            await page.do("subscribe", channel="news")
            await page.hear("event", event="pusher:subscription_succeeded")
            for n in range(40):
                await daemon.publish("news", {"n": n, "fill": "☃" * 3000}, event="tick")
            assert [(await page.hear("event", event="tick"))["data"]["n"] for _ in range(40)] == list(range(40))
            await page.do("disconnect")
