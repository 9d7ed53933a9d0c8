"""Several daemons on one port, for all the cores of a machine: the first process starts and watches them.

It is to them what a service manager is to a daemon: they tell it that they are ready and alive in the words of
sower/systemd.py, and it tells its own.

Rule 1: who dies is started again, the later the more often it dies young; whose watchdog starves is killed.
Rule 2: where one cannot even start for the first time, its error is the error of all.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import structlog
import trio

from sower.config import Config
from sower.errors import ConfigError
from sower.net.listen import UNIX, Listener, bind
from sower.net.tls import Certificate
from sower.systemd import Systemd
from sower.worker import NUMBER, SOCKETS

log = structlog.get_logger(__name__)

WATCHDOG = 30.0
"""Seconds within which a worker must say that it is alive."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
"""Seconds before a dead worker is started again, doubled each time that it dies young."""

GROWN_UP = 10.0
"""Seconds of life after which the next pause is the first one again."""

NOT_STARTED = 126
"""The exit code of a shell's command that cannot be run."""

MOST = 256
"""Workers of one machine."""


async def serve_with_workers(
    config: Config,
    count: int,
    command: Sequence[str],
    *,
    ready: Callable[[Sequence[Listener]], None],
    systemd: Systemd | None = None,
    inherited: Sequence[socket.socket] = (),
) -> int:
    """Run so many workers until SIGTERM or SIGINT, then have all drain. SIGHUP has all reload. Returns an exit code.

    command: starts one daemon
    ready:   told of the addresses once all workers serve there
    Raises ConfigError, AddressInUse.
    """
    _check(config, count)
    certificate = Certificate()
    certificate.load(config.server)
    listeners = await bind(config.server.listen, inherited, certificate)
    common = [one for one in listeners if str(one).startswith(UNIX) or one.sock in inherited]
    for listener in listeners:
        if listener not in common:  # each worker has one of its own there (SO_REUSEPORT)
            listener.close()
    workers = Workers(
        count, command, [one.sock.fileno() for one in common], lambda: ready(listeners), systemd or Systemd()
    )
    try:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            return await workers.run(signals)
    finally:
        for listener in common:
            listener.close()


def _check(config: Config, count: int) -> None:
    if not 1 <= count <= MOST:
        raise ConfigError(f"--workers is 1 to {MOST}.")
    if not config.cluster.url:
        raise ConfigError("--workers needs a [cluster]: workers share their channels over a Redis, cluster.url.")
    for address in config.server.listen:
        if address.rpartition(":")[2] == "0" and not address.startswith(UNIX):
            raise ConfigError(f"server.listen: {address} has each worker take another port; --workers needs a number.")


class Child:
    """One worker, through all its lives. heard: when it last said that it is alive."""

    def __init__(self, number: int, folder: str) -> None:
        self.number = number
        self.serves = False
        self.heard = 0.0
        self.process: trio.Process | None = None
        self._address = str(Path(folder) / str(number))
        self._words = trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    async def listen(self, told: Callable[[Child, str], None]) -> None:
        """Hear what it says, until cancelled."""
        with self._words:
            await self._words.bind(self._address)
            while True:
                for word in (await self._words.recv(4096)).decode(errors="replace").splitlines():
                    told(self, word)

    async def live(self, command: Sequence[str], sockets: Sequence[int], ends: trio.Event) -> int:
        """Run it once. ends: whether a signal that ends all came while it was started. Returns its exit code,
        NOT_STARTED where the system has no room for it or no program.
        """
        environment: Mapping[str, str] = {
            **os.environ,
            NUMBER: str(self.number),
            SOCKETS: " ".join(map(str, sockets)),
            "NOTIFY_SOCKET": self._address,
            "WATCHDOG_USEC": str(int(WATCHDOG * 1e6)),
        }
        self.heard = trio.current_time()
        # Signals of a terminal are for the first process alone, which passes them on.
        try:
            self.process = await trio.lowlevel.open_process(
                command, stdin=subprocess.PIPE, env=environment, pass_fds=tuple(sockets), process_group=0
            )
        except OSError as error:
            log.error("worker_not_started", worker=self.number, why=error.strerror)
            return NOT_STARTED
        try:
            if ends.is_set():
                self.send(signal.SIGTERM)
            return await self.process.wait()
        finally:
            self.process, self.serves = None, False

    def send(self, number: int) -> None:
        """Send it a signal, where it lives."""
        if self.process is not None:
            self.process.send_signal(number)


class Workers:
    """sockets: the files of those that all workers accept from. ready: told once all serve."""

    def __init__(
        self,
        count: int,
        command: Sequence[str],
        sockets: Sequence[int],
        ready: Callable[[], None],
        systemd: Systemd,
    ) -> None:
        self._count = count
        self._command = command
        self._sockets = sockets
        self._ready = ready
        self._systemd = systemd
        self._children: list[Child] = []
        self._reloading: set[Child] = set()
        self._served = False
        self._ends = trio.Event()
        self._code = 0

    async def run(self, signals: AsyncIterator[int]) -> int:
        """Until a signal ends all. Returns the exit code of the first that failed, 0 for none."""
        with tempfile.TemporaryDirectory(prefix="sower-") as folder:
            self._children = [Child(number + 1, folder) for number in range(self._count)]
            async with trio.open_nursery() as nursery:
                for child in self._children:
                    nursery.start_soon(child.listen, self._told)
                nursery.start_soon(self._hear, signals)
                nursery.start_soon(self._watch)
                async with trio.open_nursery() as lives:
                    for child in self._children:
                        lives.start_soon(self._keep, child)
                nursery.cancel_scope.cancel()
        return self._code

    async def _keep(self, child: Child) -> None:
        """Have a worker live, and live again."""
        pause = FIRST_PAUSE
        while not self._ends.is_set():
            began = trio.current_time()
            code = await child.live(self._command, self._sockets, self._ends)
            self._reloading.discard(child)
            if self._ends.is_set() or not self._served:
                self._code = self._code or (code if code >= 0 else 128 - code)
                if not self._ends.is_set():
                    self._end(signal.SIGTERM)
                return
            pause = FIRST_PAUSE if trio.current_time() - began > GROWN_UP else min(pause * 2, LONGEST_PAUSE)
            log.error("worker_died", worker=child.number, code=code, again_in=pause)
            with trio.move_on_after(pause):
                await self._ends.wait()

    async def _hear(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                self._systemd.reloading()
                self._reload(self._children)
            else:
                log.info("draining", signal=signal.Signals(number).name)
                self._systemd.stopping(f"{self._count} workers drain")
                self._end(number)

    def _end(self, number: int) -> None:
        """Have all end, and none live again. A second signal is passed on as the first one."""
        self._ends.set()
        for child in self._children:
            child.send(number)

    def _reload(self, children: Sequence[Child]) -> None:
        for child in children:
            if child.serves:
                self._reloading.add(child)
                child.send(signal.SIGHUP)

    def _told(self, child: Child, word: str) -> None:
        """A worker said this."""
        child.heard = trio.current_time()
        if word == "RELOADING=1" and child not in self._reloading:  # an operator asked this one
            self._reload([other for other in self._children if other is not child])
        elif word == "READY=1":
            child.serves = True
            self._reloading.discard(child)
            if all(one.serves for one in self._children):
                self._all_serve()

    def _all_serve(self) -> None:
        if not self._served:
            self._served = True
            self._ready()
        if not self._reloading:
            self._systemd.ready(f"{self._count} workers serve")

    async def _watch(self) -> None:
        """Kill who is stuck, and say that this process is not."""
        pause = min(WATCHDOG, self._systemd.watchdog or WATCHDOG) / 4
        while True:
            slept = trio.current_time()
            await trio.sleep(pause)
            hung = trio.current_time() - slept > pause + WATCHDOG / 4  # and what workers said meanwhile is not read yet
            for child in self._children:
                if not hung and child.serves and trio.current_time() - child.heard > WATCHDOG:
                    log.error("worker_stuck", worker=child.number)
                    child.send(signal.SIGKILL)
            if self._served:
                self._systemd.alive()
