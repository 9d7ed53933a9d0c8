"""A restart under 2,000 sessions: each is closed with the code that says "come back", comes back, and misses nothing."""

from __future__ import annotations

import json
import signal
import socket
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trio
from trio_websocket import CloseReason, ConnectionClosed, WebSocketConnection, open_websocket_url

from sower.errors import Draining
from tests.e2e.daemon import KEY, PATIENCE, SECRET, Daemon, running
from tests.e2e.followers import Follower, connect_all

SESSIONS, CHANNELS = 2000, 20

DRAIN_FOR = 60.0
"""Seconds, more than the default's 10: the clients are 2,000 tasks of this process, on a machine that does much else."""

LIMIT = 300.0
"""Seconds that the whole test may take, on a machine with much else to do."""


class Publisher:
    """Publishes numbers on all channels until told to stop, each until it is accepted, as a careful server does."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/events/publish"
        self.accepted = 0
        self.stopping = False

    async def run(self) -> None:
        channels = [f"kept-{number}" for number in range(CHANNELS)]
        async with httpx.AsyncClient(auth=(KEY, SECRET), timeout=LIMIT, trust_env=False) as client:
            while not self.stopping:
                body = {"channels": channels, "event": "n", "data": self.accepted, "id": str(self.accepted)}
                try:
                    answer = await client.post(self._url, json=body)
                except httpx.TransportError:
                    continue  # the connection ended with the daemon: the same again, with the same id
                if answer.status_code == 200:
                    self.accepted += 1


async def test_2000_sessions_are_closed_in_time_come_back_to_the_new_process_and_miss_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as unit, trio.fail_after(LIMIT):
        daemon = Daemon(tmp_path, server=f'drain_for = "{DRAIN_FOR:.0f}s"')
        daemon.port, daemon.inherits = unit.getsockname()[1], unit
        await daemon.start()
        followers = [Follower(daemon.port, f"kept-{number % CHANNELS}") for number in range(SESSIONS)]
        await connect_all(followers)
        publisher, codes = Publisher(daemon.port), Counter[int]()

        async def come_back(follower: Follower) -> None:
            codes[await follower.follow()] += 1
            await follower.connect()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(publisher.run)
            while publisher.accepted < 3:
                await trio.lowlevel.checkpoint()
            async with trio.open_nursery() as coming_back:
                for follower in followers:
                    coming_back.start_soon(come_back, follower)
                began = trio.current_time()
                assert daemon.process is not None
                daemon.process.send_signal(signal.SIGTERM)
                assert await trio.to_thread.run_sync(daemon.process.wait, abandon_on_cancel=True) == 0
                assert trio.current_time() - began < DRAIN_FOR
                await daemon.start()
            publisher.stopping = True
        assert codes == {Draining.close: SESSIONS}
        async with trio.open_nursery() as reading:
            for follower in followers:
                reading.start_soon(follower.until, publisher.accepted)
        assert publisher.accepted > 3
        assert all(follower.heard == list(range(publisher.accepted)) for follower in followers)
        await daemon.stop(signal.SIGKILL)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once_and_a_reload_meanwhile_does_not(
    tmp_path: Path, second: signal.Signals
) -> None:
    async with running(tmp_path, server='drain_for = "1h"') as daemon:
        follower = Follower(daemon.port, "news")
        await follower.connect()  # and never answers the close frame
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            line = await trio.to_thread.run_sync(daemon.process.stderr.readline, abandon_on_cancel=True)
            assert b'"draining"' in line
        daemon.process.send_signal(signal.SIGHUP)
        assert await daemon.stop(second) == 0


async def test_who_connected_and_says_nothing_does_not_hold_a_stop(tmp_path: Path) -> None:
    async with running(tmp_path, server='drain_for = "1h"\nhead_timeout = "1h"') as daemon:
        async with await trio.open_tcp_stream("127.0.0.1", daemon.port):
            assert (await daemon.request("GET", "/channels")).status_code == 200  # so it was accepted before this
            assert await daemon.stop() == 0


async def test_who_comes_while_the_daemon_drains_is_refused_and_waits_for_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, server='drain_for = "1h"') as daemon:
        follower = Follower(daemon.port, "news")
        await follower.connect()  # and never answers the close frame
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE), pytest.raises(OSError, match="all attempts to connect"):
            await come_again_and_again(daemon.port)
        assert daemon.alive


async def come_again_and_again(port: int) -> None:
    """Connect and wait for the end. Raises OSError when nobody listens."""
    while True:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.receive_some()


async def test_reloads_asked_of_a_daemon_that_ends_do_not_kill_it(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        process = daemon.process
        assert process is not None
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                while process.poll() is None:
                    process.send_signal(signal.SIGHUP)
                    await trio.sleep(0.001)

            nursery.start_soon(ask)
            assert await daemon.stop() == 0


async def test_a_client_of_another_dialect_is_closed_with_the_code_on_which_its_own_sdk_comes_back(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as daemon:
        url = f"ws://127.0.0.1:{daemon.port}/app/{KEY}?protocol=7"
        async with open_websocket_url(url) as pusher:
            await pusher.get_message()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(daemon.stop)
                with trio.fail_after(PATIENCE):
                    reason = await close_reason(pusher)
            assert reason is not None
            assert 4100 <= reason.code < 4300  # pusher-js: come back, with backoff or at once


async def close_reason(connection: WebSocketConnection) -> CloseReason | None:
    """Read to the end."""
    try:
        while True:
            await connection.get_message()
    except ConnectionClosed as closed:
        return closed.reason


async def test_an_ably_client_is_told_that_it_may_come_back(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        url = f"ws://127.0.0.1:{daemon.port}/?key=1001.{KEY}:{SECRET}&v=6&format=json"
        async with open_websocket_url(url) as client:
            assert json.loads(await client.get_message())["action"] == 4, "CONNECTED"
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGTERM)
            said = json.loads(await client.get_message())
            assert (said["action"], said["error"]["code"]) == (6, 80003), "DISCONNECTED, and the SDK reconnects"
            with pytest.raises(ConnectionClosed) as closed:
                await client.get_message()
            assert closed.value.reason is not None
            assert closed.value.reason.code == 1012
