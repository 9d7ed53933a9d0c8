"""A real Redis for tests, and real daemons that share it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from tests.e2e.daemon import CONFIG, Daemon, free_port

PATIENCE = 10.0
"""Seconds until a command of Redis is given up, and three times that for what it does by itself."""


def wait_for(condition: Callable[[], bool]) -> None:
    """Until this is so, where nothing else goes on meanwhile."""
    over = time.monotonic() + 3 * PATIENCE
    while not condition():
        assert time.monotonic() < over, "it does not come to be so"
        time.sleep(0.02)


class Redis:
    """`redis-server` on a folder of its own, which keeps what it acknowledged when it is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *more: str) -> None:
        """more: options besides. They are forgotten at the next start."""
        program = shutil.which("redis-server") or "/usr/bin/redis-server"
        log = (self.folder / "redis.log").open("ab")
        options = self.options(*more)
        self.process = subprocess.Popen([program, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        wait_for(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "redis.log").read_text()
        return self.command("PING") == "PONG"

    def options(self, *more: str) -> tuple[str, ...]:
        where = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder))
        return (*where, "--save", "", "--appendonly", "yes", *more)

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

    @contextmanager
    def away(self) -> Iterator[None]:
        """It is killed, and there again at the end of the block with all that it kept."""
        self.kill()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """It does nothing until the end of the block."""
        self.send(signal.SIGSTOP)
        try:
            yield
        finally:
            self.send(signal.SIGCONT)


class Sentinel(Redis):
    """`redis-sentinel`, which looks after one Redis and its replicas."""

    SERVICE = "sower"

    def __init__(self, folder: Path, primary: Redis) -> None:
        super().__init__(folder)
        self._primary = primary

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.port}/{self.SERVICE}"

    def options(self, *more: str) -> tuple[str, ...]:
        file = self.folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {self.folder}\n"
            f"sentinel monitor {self.SERVICE} 127.0.0.1 {self._primary.port} 1\n"
            f"sentinel down-after-milliseconds {self.SERVICE} 600\nsentinel failover-timeout {self.SERVICE} 3000\n"
        )
        return (str(file), "--sentinel")


class Master(Redis):
    """One of a Redis Cluster."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._bus = free_port()

    def options(self, *more: str) -> tuple[str, ...]:
        return super().options(
            "--cluster-enabled", "yes", "--cluster-port", str(self._bus), "--cluster-node-timeout", "1000",
            "--cluster-require-full-coverage", "no", *more,
        )  # fmt: skip


class RedisCluster(NamedTuple):
    """Three masters, each with a third of the slots."""

    masters: list[Master]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{master.port}" for master in self.masters)

    def command(self, *words: str) -> str:
        """On whichever master it is for."""
        return self.masters[0].command("-c", *words)

    def manage(self, *words: str) -> None:
        """`redis-cli --cluster`."""
        subprocess.run(["redis-cli", "--cluster", *words], capture_output=True, check=True, timeout=3 * PATIENCE)

    def master_of(self, key: bytes) -> Master:
        """Who has a key's slot."""
        slot = self.masters[0].command("CLUSTER", "KEYSLOT", key.decode())
        for line in self.masters[0].command("CLUSTER", "NODES").splitlines():
            fields = line.split()
            ranges = [part.split("-") for part in fields[8:] if not part.startswith("[")]
            if any(int(part[0]) <= int(slot) <= int(part[-1]) for part in ranges):
                return next(one for one in self.masters if f":{one.port}@" in fields[1])
        raise AssertionError(f"nobody has slot {slot}")

    def copy(self, folder: Path, master: Master) -> Master:
        """A replica of one of them, which takes over when that dies."""
        replica = Master(folder)
        replica.start("--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0")
        where = (f"127.0.0.1:{replica.port}", f"127.0.0.1:{master.port}")
        master.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        self.manage("add-node", *where, "--cluster-slave", "--cluster-master-id", master.command("CLUSTER", "MYID"))
        wait_for(lambda: "state=online" in master.command("INFO", "replication"))
        return replica

    def is_whole(self) -> bool:
        """Whether each master knows all others to be there."""
        said = [master.command("CLUSTER", what) for what in ("INFO", "NODES") for master in self.masters]
        return sum("cluster_state:ok" in text for text in said) == len(self.masters) and "fail" not in "".join(
            line.split()[2] for text in said[len(self.masters) :] for line in text.splitlines()
        )

    @contextmanager
    def without(self, master: Master) -> Iterator[None]:
        """One is killed, and there again for all of them after the block."""
        with master.away():
            yield
        wait_for(self.is_whole)


@contextmanager
def redis_cluster(folder: Path) -> Iterator[RedisCluster]:
    """Three masters for as long as the block runs."""
    masters: list[Master] = []
    for number in range(3):
        home = folder / f"master{number}"
        home.mkdir()
        masters.append(Master(home))
    with servers(*masters):
        for master in masters:
            master.start()
        whole = RedisCluster(masters)
        whole.manage("create", *(f"127.0.0.1:{master.port}" for master in masters), "--cluster-yes")
        wait_for(whole.is_whole)
        yield whole


@contextmanager
def servers(*some: Redis) -> Iterator[None]:
    """They end with the block."""
    try:
        yield
    finally:
        for server in some:
            if server.process is not None and server.process.poll() is None:
                server.send(signal.SIGCONT)
                server.kill()


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
def masters() -> Iterator[RedisCluster]:
    """One Redis Cluster for the tests of a module."""
    with tempfile.TemporaryDirectory() as folder, redis_cluster(Path(folder)) as whole:
        yield whole


@pytest.fixture(scope="module")
def nodes(redis: Redis) -> Iterator[list[Daemon]]:
    """Three daemons for the tests of a module, which use channels of their own."""
    with tempfile.TemporaryDirectory() as folder:
        with running_all(made(Path(folder), redis, 3, CONFIG + SHORT, "2s", "shared")) as daemons:
            yield daemons


@contextmanager
def running_all(daemons: list[Daemon]) -> Iterator[list[Daemon]]:
    """Daemons for the tests of a module: they are killed at its end."""
    try:
        trio.run(start_all, daemons)
        yield daemons
    finally:
        for daemon in daemons:
            if daemon.process is not None:
                daemon.process.kill()
                daemon.process.wait()


SHORT = """
[[channels]]
match = "short-*"
history = {messages = 5, age = "1h"}
"""


def made(
    folder: Path, redis: Redis | RedisCluster, count: int, config: str, lease: str, prefix: str, more: str = ""
) -> list[Daemon]:
    """Daemons that share a Redis, not started yet. more: lines of their [cluster]."""
    shared = f'[cluster]\nurl = "{redis.url}"\nlease = "{lease}"\nprefix = "{prefix}"\n{more}'
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
    folder: Path,
    redis: Redis | RedisCluster,
    count: int = 2,
    config: str = CONFIG,
    lease: str = "2s",
    prefix: str = "",
    more: str = "",
) -> AsyncIterator[list[Daemon]]:
    """Daemons that share a Redis, for as long as the block runs. Each test has keys of its own."""
    daemons = made(folder, redis, count, config, lease, prefix or os.urandom(4).hex(), more)
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
