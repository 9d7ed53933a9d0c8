"""What a service manager sees of a real daemon: its words, its watchdog, and a socket that outlives it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import trio
import trio.testing

from tests.e2e.daemon import KEY, PATIENCE, SECRET, Daemon, running


class Manager:
    """The socket that systemd reads."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(self.path)
        self._sock.setblocking(False)

    async def word(self) -> str:
        """The first line of the next datagram."""
        await trio.lowlevel.wait_readable(self._sock)
        return self._sock.recv(4096).decode().partition("\n")[0]

    async def until(self, word: str) -> None:
        with trio.fail_after(PATIENCE):
            while await self.word() != word:
                pass

    def drop(self) -> None:
        """Forget what came."""
        try:
            while self._sock.recv(4096):
                pass
        except BlockingIOError:
            return


@asynccontextmanager
async def managed(folder: Path) -> AsyncGenerator[tuple[Daemon, Manager]]:
    manager = Manager(folder)
    daemon = Daemon(folder)
    daemon.environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"}
    await daemon.start()
    try:
        yield daemon, manager
    finally:
        if daemon.alive:
            with trio.CancelScope(shield=True):
                await daemon.stop(signal.SIGKILL)


async def test_it_says_when_it_serves_reloads_and_stops_and_feeds_the_watchdog_meanwhile(tmp_path: Path) -> None:
    async with managed(tmp_path) as (daemon, manager):
        await manager.until("READY=1")
        await daemon.publish("news", "served")
        await manager.until("WATCHDOG=1")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGHUP)
        await manager.until("RELOADING=1")
        await manager.until("READY=1")
        assert await daemon.stop(signal.SIGTERM) == 0
        await manager.until("STOPPING=1")


async def test_the_watchdog_starves_while_the_daemon_is_stopped_and_is_fed_when_it_goes_on(tmp_path: Path) -> None:
    async with managed(tmp_path) as (daemon, manager):
        await manager.until("WATCHDOG=1")
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGSTOP)
        await trio.to_thread.run_sync(os.waitid, os.P_PID, daemon.process.pid, os.WSTOPPED)
        manager.drop()
        with trio.move_on_after(0.5):  # more than the 0.4 s after which systemd would restart it
            raise AssertionError(await manager.word())
        daemon.process.send_signal(signal.SIGCONT)
        await manager.until("WATCHDOG=1")


async def test_a_connect_between_two_daemons_waits_and_is_not_refused_with_a_socket_unit(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unit:
        daemon = Daemon(tmp_path)
        daemon.port, daemon.inherits = unit.getsockname()[1], unit
        await daemon.start()
        assert await daemon.stop() == 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.publish, "news", "while nobody accepts")
            await trio.testing.wait_all_tasks_blocked(0.05)
            await daemon.start()
        assert await daemon.stop() == 0


async def test_it_serves_at_a_unix_socket_beside_its_port(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        await daemon.stop()
        path = tmp_path / "sower.sock"
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace(f'127.0.0.1:{daemon.port}"', f'127.0.0.1:{daemon.port}", "unix:{path}"'))
        await daemon.start(keep_config=True)
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        async with httpx.AsyncClient(transport=transport, base_url="http://sower", timeout=PATIENCE) as client:
            assert (await client.get("/channels", auth=(KEY, SECRET))).json()["count"] == 0
