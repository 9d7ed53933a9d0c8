"""`python -m tests.bench.records COUNT`: a daemon with COUNT clients whose sockets are stubs, and all else is real.

The daemon accepts them from a listener that is a stub too, reads a handshake from each, and keeps what it keeps. So
what is counted is its own memory and time, without the kernel's. Prints {"name": [figure, unit]} as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import select
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import trio
from msgspec.structs import replace

import sower.daemon
import sower.net.reader
from sower.config import Duration
from sower.config_file import load
from sower.net.listen import Listener, bind
from tests.bench.dialects import NATIVE, Target, payload
from tests.bench.servers import KEY, SECRET, free_port, write_config

CHANNEL = "bench-records"
FIRST_FILE = 1000
"""The file number of the first stub."""

FIRST = 20
"""Clients that come before memory is looked at, so that what the first one costs is not counted."""


class Stub:
    """A client's socket: it says its handshake, and takes everything. The kernel's part of a socket is missing."""

    __slots__ = ("_fd", "_said", "_world")

    def __init__(self, fd: int, world: World) -> None:
        self._fd = fd
        self._said = False
        self._world = world

    def recv(self, most: int) -> bytes:
        if self._said:
            raise BlockingIOError
        self._said = True
        return self._world.handshake

    def send(self, data: bytes | memoryview) -> int:
        self._world.count_send()
        return len(data)

    def fileno(self) -> int:
        return self._fd

    def setblocking(self, flag: bool) -> None: ...
    def setsockopt(self, *values: int) -> None: ...
    def shutdown(self, how: int) -> None: ...
    def close(self) -> None: ...


class World:
    """What the stubs have in common. wanted: how many are to come; sent: how often something was sent to them."""

    family = socket.AF_INET

    def __init__(self, handshake: bytes) -> None:
        self.handshake = handshake
        self.wanted = 0
        self.came = 0
        self.sent = 0
        self._goal = 0
        self._reached = trio.Event()
        self._rung, self._bell = socket.socketpair()
        self._rung.setblocking(False)

    def count_send(self) -> None:
        self.sent += 1
        if self.sent == self._goal:
            self._reached.set()

    def expect(self, sends: int) -> trio.Event:
        """Set when so many more were sent."""
        self._goal = self.sent + sends
        self._reached = trio.Event()
        return self._reached

    # As a listening socket

    def accept(self) -> tuple[Stub, tuple[str, int]]:
        if self.came == self.wanted:
            self._drain()
            raise BlockingIOError
        number = self.came
        self.came += 1
        return Stub(FIRST_FILE + number, self), (f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1)

    def setsockopt(self, *values: int) -> None: ...
    def fileno(self) -> int:
        return self._rung.fileno()

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    def close(self) -> None:
        self._rung.close()

    def bring(self, count: int) -> None:
        """Let so many more connect."""
        self.wanted += count
        self._bell.send(b"!")

    def _drain(self) -> None:
        try:
            while self._rung.recv(64):
                pass
        except BlockingIOError:
            return


class StubEpoll:
    """An epoll set in which nothing ever happens: the stubs say no more."""

    def __init__(self) -> None:
        self._real = select.epoll()

    def fileno(self) -> int:
        return self._real.fileno()

    def register(self, fd: int, events: int) -> None: ...
    def unregister(self, fd: int) -> None: ...
    def poll(self, timeout: float, most: int) -> list[tuple[int, int]]:
        return []

    def close(self) -> None:
        self._real.close()


class Pauses:
    """How long the garbage collector took, each time."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0
        gc.callbacks.append(self._told)

    def _told(self, phase: str, about: Mapping[str, int]) -> None:
        if phase == "start":
            self._began = time.perf_counter()
        else:
            self.seconds.append(time.perf_counter() - self._began)

    def take(self) -> list[float]:
        """Those since the last time."""
        taken, self.seconds = self.seconds, []
        return taken or [0.0]


def memory() -> int:
    with Path("/proc/self/smaps_rollup").open() as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


async def measure(count: int, target: Target, world: World, pauses: Pauses) -> dict[str, tuple[float, str]]:
    await join(world, FIRST)
    gc.collect()
    base = memory()
    pauses.take()
    began = time.perf_counter()
    await join(world, count)
    joining = time.perf_counter() - began
    joins = pauses.take()
    await trio.sleep(1)
    grown = memory() - base
    broadcasts = [await broadcast(target, world, count + FIRST) for _ in range(5)]
    return {
        "bytes each": (grown / count, "B"),
        "memory in all": (memory() / 1024**2, "MiB"),
        "join": (joining / count * 1e6, "us each"),
        "a broadcast to all": (sorted(broadcasts)[2] * 1000, "ms"),
        "longest collector pause while joining": (max(joins) * 1000, "ms"),
        "collector's share of joining": (100 * sum(joins) / joining, "%"),
        "longest collector pause while broadcasting": (max(pauses.take()) * 1000, "ms"),
    }


async def join(world: World, count: int) -> None:
    """Let so many connect, and wait until each has its 101 and its welcome."""
    done = world.expect(2 * count)
    world.bring(count)
    await done.wait()


async def broadcast(target: Target, world: World, count: int) -> float:
    """Seconds from a publish until the last stub was sent it."""
    (request,) = NATIVE.requests(target, CHANNEL, payload(100))
    done, began = world.expect(count), time.perf_counter()
    async with await trio.open_tcp_stream(target.host, target.port) as stream:
        await stream.send_all(request)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        await done.wait()
    return time.perf_counter() - began


async def main(count: int) -> dict[str, tuple[float, str]]:
    pauses = Pauses()
    target = Target(free_port(), KEY, SECRET)
    world = World(NATIVE.handshake(target, CHANNEL))
    measured: dict[str, tuple[float, str]] = {}

    async def with_stubs(*addresses: Sequence[Any], shared: bool) -> list[Listener]:
        return [*await bind(*addresses, shared=shared), Listener(world)]  # type: ignore[arg-type]

    sower.daemon.bind = with_stubs  # type: ignore[assignment]
    sower.net.reader.select = SimpleNamespace(  # type: ignore[assignment]
        epoll=StubEpoll, EPOLLIN=select.EPOLLIN, EPOLLRDHUP=select.EPOLLRDHUP
    )
    with tempfile.TemporaryDirectory(prefix="sower-records-") as name:
        config = load(write_config(Path(name), target.port)).config
        config = replace(config, session=replace(config.session, ping_every=Duration(3600)))  # stubs answer none
        ready = trio.Event()
        async with trio.open_nursery() as nursery:

            async def serve() -> None:
                await sower.daemon.serve(config, ready=lambda _listeners: ready.set())

            nursery.start_soon(serve)
            await ready.wait()
            measured = await measure(count, target, world, pauses)
            nursery.cancel_scope.cancel()
    return measured


if __name__ == "__main__":
    print(json.dumps(trio.run(main, int(sys.argv[1]))))
    sys.stdout.flush()
    os._exit(0)  # a million records take a while to be freed one by one
