"""`GET /sse/{channel}`: the native words as server-sent events, read by curl, Node and Chromium as they are."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import jwt
import pytest
import trio

from sower.core.grants import LEEWAY
from tests.e2e.daemon import KEY, PATIENCE, SECRET, Daemon, running
from tests.e2e.raw import connection
from tests.sdk.script import Script
from tests.sdk.script import running as script

SCRIPT = Path(__file__).parents[1] / "sdk" / "native" / "eventsource.cjs"


class Event(NamedTuple):
    name: str
    data: Any
    id: str | None


class Stream:
    """A reader of server-sent events (WHATWG HTML section 9.2.6), over httpx."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._text = response.aiter_text()
        self._rest = ""
        self.retry = ""

    async def next(self) -> Event:
        """The next event that has data."""
        while True:
            fields: dict[str, list[str]] = {}
            for line in (await self._event()).split("\n"):
                name, _, value = line.partition(":")
                fields.setdefault(name, []).append(value.removeprefix(" "))
            self.retry = fields.get("retry", [self.retry])[-1]
            if "data" in fields:
                data = json.loads("\n".join(fields["data"]))
                return Event(fields.get("event", ["message"])[0], data, fields.get("id", [None])[0])

    async def _event(self) -> str:
        with trio.fail_after(PATIENCE):
            while "\n\n" not in self._rest:
                try:
                    self._rest += await anext(self._text)
                except StopAsyncIteration:
                    raise EOFError from None
        event, _, self._rest = self._rest.partition("\n\n")
        return event

    async def expect(self, name: str) -> Event:
        event = await self.next()
        assert event.name == name == event.data["type"], event
        return event


@asynccontextmanager
async def stream(
    daemon: Daemon, channel: str, *, headers: dict[str, str] | None = None, **query: str
) -> AsyncGenerator[Stream]:
    async with (
        httpx.AsyncClient(base_url=daemon.url, timeout=PATIENCE, trust_env=False) as client,
        client.stream("GET", f"/sse/{channel}", params={"key": KEY, **query}, headers=headers) as response,
    ):
        assert response.status_code == 200
        yield Stream(response)


async def test_a_stream_says_what_a_socket_says(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("kept-room") as socket, stream(daemon, "kept-room") as sse:
        assert sse.response.headers["content-type"] == "text/event-stream"
        assert sse.response.headers["cache-control"] == "no-store"
        assert "content-length" not in sse.response.headers
        epoch = (await socket.expect("welcome"))["position"].partition(":")[0]
        welcome = await sse.expect("welcome")
        assert sse.retry == "2000"
        assert welcome.data["channel"] == "kept-room"
        assert welcome.id == welcome.data["position"]
        for n in range(3):
            await daemon.publish("kept-room", {"n": n, "text": "é\u2028\n"}, event="tick")
            event = await sse.expect("event")
            assert event.data == await socket.expect("event")
            assert event.id == f"{epoch}:{event.data['serial']}"


async def test_presence_comes_too_and_the_follower_is_a_member(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        minted = await daemon.request("POST", "/channels/presence-a/auth", json={"user": "ada", "meta": {"x": 1}})
        other = await daemon.request("POST", "/channels/presence-a/auth", json={"user": "bob"})
        async with stream(daemon, "presence-a", token=minted.json()["token"]) as sse:
            welcome = await sse.expect("welcome")
            assert welcome.data["members"] == {"ada": {"x": 1}}
            async with daemon.socket("presence-a", token=other.json()["token"]) as bob:
                assert set((await bob.expect("welcome"))["members"]) == {"ada", "bob"}
                join = await sse.expect("join")
                assert (join.data["user"], join.id) == ("bob", None)
                await bob.send(type="presence", meta=2)
                assert (await sse.expect("update")).data == {"type": "update", "user": "bob", "meta": 2}
            assert (await sse.expect("leave")).data["user"] == "bob"
        async with daemon.socket("presence-a", token=other.json()["token"]) as bob:
            members = (await bob.expect("welcome"))["members"]
            if "ada" in members:
                assert (await bob.expect("leave"))["user"] == "ada"


async def test_it_goes_on_after_the_last_event_id_and_misses_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        async with stream(daemon, "kept-room") as sse:
            await sse.expect("welcome")
            await daemon.publish("kept-room", 0)
            last = (await sse.expect("event")).id or ""
        for n in range(1, 6):
            await daemon.publish("kept-room", n)
        for more in ({"headers": {"Last-Event-ID": last}, "since": "1"}, {"since": last}):
            async with stream(daemon, "kept-room", **more) as sse:
                welcome = await sse.expect("welcome")
                assert welcome.id == last, "it is no further yet, should it be cut off here"
                assert [(await sse.expect("event")).data["data"] for _ in range(5)] == [1, 2, 3, 4, 5]


async def test_a_gap_is_told_and_told_once(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        async with stream(daemon, "kept-room", since="lost:17") as sse:
            assert (await sse.expect("welcome")).id == "lost:17"
            assert (await sse.expect("gap")).id is None, "what the journal has is yet to come"
        async with stream(daemon, "room", since="lost:17") as sse:
            welcome = await sse.expect("welcome")
            gap = await sse.expect("gap")
            assert gap.id == gap.data["position"] == welcome.id
        async with stream(daemon, "room") as other, stream(daemon, "room", since=gap.id or "") as sse:
            await other.expect("welcome")
            await sse.expect("welcome")
            await daemon.publish("room", 1)
            await sse.expect("event")


async def test_data_with_line_breaks_passes_as_the_json_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, stream(daemon, "room") as sse:
        await sse.expect("welcome")
        body = '{"channel":"room","event":"e","data":{\r\n\n "a":\r1}}'
        await daemon.request("POST", "/events/publish", content=body)
        assert (await sse.expect("event")).data["data"] == {"a": 1}
        await daemon.publish("room", "next")
        assert (await sse.expect("event")).data["data"] == "next"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"/sse/private-a?key={KEY}", 401, "not_authorised"),
        ("/sse/room?key=nobody", 401, "unknown_key"),
        (f"/sse/room?key={KEY}&token=x", 401, "bad_token"),
        (f"/sse/room?key={KEY}&since=x", 400, "bad_position"),
        (f"/sse/{'x' * 300}?key={KEY}", 400, "bad_channel_name"),
        (f"/sse/%00?key={KEY}", 400, "bad_channel_name"),
    ],
)
async def test_what_is_refused_is_an_ordinary_http_error(tmp_path: Path, path: str, status: int, code: str) -> None:
    async with running(tmp_path) as daemon:
        answer = await daemon.request("GET", path, auth=False, headers={"Origin": "https://page.example"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
        assert answer.headers["access-control-allow-origin"] == "https://page.example"
        assert answer.headers["content-length"] == str(len(answer.content)), "and the connection goes on"


async def test_a_stream_that_says_nothing_is_kept_alive_and_an_end_is_told(tmp_path: Path) -> None:
    session = '[session]\nping_every = "1s"\npong_within = "1s"\n'
    async with running(tmp_path, server=session) as daemon, connection(daemon) as raw:
        await raw.send(f"GET /sse/room?key={KEY} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        await raw.until(b"welcome")
        await raw.until(b":\n\n:\n\n:\n\n")
        await raw.send(b"anything at all\r\n" * 1000)
        await daemon.publish("room", "still there")
        await raw.until(b"still there")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.stop, signal.SIGTERM)
            heard = await raw.rest()
        assert b'event: error\ndata: {"type":"error","code":"draining"' in heard
        assert heard.endswith(b"\n\n")


async def test_a_token_that_expires_ends_the_stream(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        claims = {"exp": time.time() - LEEWAY + 5, "channels": {"private-a": ["subscribe"]}}
        token = jwt.encode(claims, SECRET, algorithm="HS256", headers={"kid": KEY})
        async with stream(daemon, "private-a", token=token) as sse:
            await sse.expect("welcome")
            assert (await sse.expect("error")).data["code"] == "token_expired"
            with pytest.raises(EOFError):
                await sse.next()


async def test_a_follower_that_goes_leaves_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        for _ in range(3):
            async with stream(daemon, "room") as sse:
                await sse.expect("welcome")
        with trio.fail_after(PATIENCE):
            while (await daemon.request("GET", "/channels")).json()["count"]:
                pass


async def test_curl_reads_it(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, trio.open_nursery() as nursery:
        url = f"{daemon.url}/sse/room?key={KEY}"
        command = ["curl", "-sN", "--noproxy", "*", "-u", f"{KEY}:{SECRET}", url]
        process = await nursery.start(partial(trio.run_process, command, check=False, stdout=subprocess.PIPE))
        heard = b""
        with trio.fail_after(PATIENCE):
            while b"welcome" not in heard:
                heard += await process.stdout.receive_some()
            await daemon.publish("room", "for curl")
            while b"for curl" not in heard:
                heard += await process.stdout.receive_some()
        process.terminate()


@asynccontextmanager
async def event_source(place: str) -> AsyncGenerator[Script]:
    words = ("chromium", shutil.which("chromium") or "") if place == "chromium" else ("node",)
    async with script(SCRIPT, *words) as running:
        await running.hear("ready")
        yield running
        await running.do("end")
        with trio.move_on_after(PATIENCE):
            await running.process.wait()


@pytest.mark.parametrize("place", ["node", "chromium"])
async def test_an_event_source_reconnects_and_resumes_by_itself(tmp_path: Path, place: str) -> None:
    async with event_source(place) as source, running(tmp_path) as daemon:
        await source.do("open", url=f"{daemon.url}/sse/kept-room?key={KEY}")
        await source.hear(word="welcome")
        await daemon.publish("kept-room", 1)
        assert (await source.hear(word="event"))["data"]["data"] == 1
        await daemon.stop(signal.SIGKILL)
        await source.hear("failed")
        await daemon.start(keep_config=True)
        for n in (2, 3):
            await daemon.publish("kept-room", n)
        heard = [(await source.hear(word="event"))["data"]["data"] for _ in range(2)]
        assert heard == [2, 3]
        assert not source.told("word", word="gap")
        await source.do("close")
        with trio.fail_after(PATIENCE):
            while (await daemon.request("GET", "/channels")).json()["count"]:
                pass


async def test_an_event_source_does_not_come_back_for_what_stays_refused(tmp_path: Path) -> None:
    async with event_source("chromium") as source, running(tmp_path) as daemon:
        await source.do("open", url=f"{daemon.url}/sse/private-a?key={KEY}")
        assert (await source.hear("failed"))["failed"] == 2, "CLOSED"
