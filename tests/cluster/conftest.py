"""A real Redis for tests, and real daemons that share it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trio

from tests.e2e.daemon import CONFIG, Daemon, free_port

PATIENCE = 10.0


class Redis:
    """`redis-server` on a folder of its own, which keeps what it acknowledged when it is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = shutil.which("redis-server") or "/usr/bin/redis-server"
        log = (self.folder / "redis.log").open("ab")
        self.process = subprocess.Popen(
            [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", "", "--appendonly", "yes"],
            stdout=log,
            stderr=log,
        )  # fmt: skip
        log.close()
        while self.command("PING") != "PONG":
            assert self.process.poll() is None, (self.folder / "redis.log").read_text()

    def command(self, *words: str) -> str:
        """One command, with redis-cli."""
        answer = subprocess.run(
            ["redis-cli", "-p", str(self.port), *words], capture_output=True, text=True, timeout=PATIENCE
        )
        return answer.stdout.strip()

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    """One Redis for the tests of a module."""
    with tempfile.TemporaryDirectory() as folder:
        server = Redis(Path(folder))
        server.start()
        try:
            yield server
        finally:
            with suppress(ProcessLookupError):
                server.send(signal.SIGCONT)
            server.kill()


@pytest.fixture(scope="module")
def nodes(redis: Redis) -> Iterator[list[Daemon]]:
    """Three daemons for the tests of a module, which use channels of their own."""
    with tempfile.TemporaryDirectory() as folder:
        daemons = made(Path(folder), redis, 3, CONFIG + SHORT, "2s", "shared")
        trio.run(start_all, daemons)
        yield daemons
        for daemon in daemons:
            assert daemon.process is not None
            daemon.process.kill()
            daemon.process.wait()


SHORT = """
[[channels]]
match = "short-*"
history = {messages = 5, age = "1h"}
"""


def made(folder: Path, redis: Redis, count: int, config: str, lease: str, prefix: str) -> list[Daemon]:
    """Daemons that share a Redis, not started yet."""
    shared = f'[cluster]\nurl = "{redis.url}"\nlease = "{lease}"\nprefix = "{prefix}"\n'
    daemons: list[Daemon] = []
    for number in range(count):
        home = folder / f"node{number}"
        home.mkdir()
        daemons.append(Daemon(home, shared + config))
    return daemons


async def start_all(daemons: list[Daemon]) -> None:
    """Start them side by side."""
    async with trio.open_nursery() as nursery:
        for daemon in daemons:
            nursery.start_soon(daemon.start)


@asynccontextmanager
async def cluster(
    folder: Path, redis: Redis, count: int = 2, config: str = CONFIG, lease: str = "2s", prefix: str = ""
) -> AsyncIterator[list[Daemon]]:
    """Daemons that share a Redis, for as long as the block runs. Each test has keys of its own."""
    daemons = made(folder, redis, count, config, lease, prefix or os.urandom(4).hex())
    try:
        await start_all(daemons)
        yield daemons
    finally:
        with trio.CancelScope(shield=True):
            for daemon in daemons:
                if daemon.alive:
                    assert daemon.process is not None
                    daemon.process.send_signal(signal.SIGCONT)
                    await daemon.stop(signal.SIGKILL)
