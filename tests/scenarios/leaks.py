"""What a daemon holds when nobody is there: it must be the same after any scenario as before."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import trio

from tests.scenarios.stage import Stage

SETTLES_WITHIN = 120.0
"""Seconds, on a machine with much else to do: a channel is forgotten at the third look at most, and Ably's members stay for 15 s."""

GRACE = 16 * 1024 * 1024
"""Bytes of memory that may stay: what the allocator keeps in pieces, and what the first rounds load and cache."""

GARBAGE = 200
"""Objects that may refer to each other alone: those of a few closures of the start. A channel would be 35 of them."""

WARM_UP, JUDGED = 3, 6
"""Rounds before memory is looked at for growth, and how many it takes then to tell growth from chance."""

GROWTH = 256 * 1024
"""Bytes that a round may add then: chance, over few rounds. Each of its 300 channels would be 17 KiB."""


class Held(NamedTuple):
    """tasks, sessions, connections, held requests, channels: of /metrics. fds, threads, memory: of /proc; bytes that are its own."""

    tasks: int
    sessions: int
    connections: int
    held: int
    channels: int
    fds: int
    threads: int
    memory: int

    def __str__(self) -> str:
        counts = ", ".join(f"{getattr(self, name)} {name}" for name in self._fields[:-1])
        return f"{counts}, {self.memory / 2**20:.1f} MiB"


async def held(stage: Stage) -> Held:
    """What the daemon holds now."""
    assert stage.daemon.process is not None
    pid = stage.daemon.process.pid
    metrics = await stage.metrics()
    names = ("tasks", "sessions", "connections", "held_requests", "channels")
    counts = (int(metrics.get(f"sower_{name}", 0)) for name in names)
    return Held(*counts, len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task")), memory(pid))


def memory(pid: int) -> int:
    """A process's own memory, in bytes: without what it has of files, which others share now and then."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(rollup.partition("\nPss_Anon:")[2].split()[0]) * 1024


async def settled(stage: Stage, baseline: Held | None = None) -> Held:
    """Wait until no session and no request is left, and the rest is as it was. Raises AssertionError with what stays."""
    now = await held(stage)
    with trio.move_on_after(SETTLES_WITHIN):
        while not _still(now, baseline):
            await trio.sleep(0.5)
            now = await held(stage)
    assert _still(now, baseline), f"left behind: {now}; before: {baseline}"
    return now


def _still(now: Held, baseline: Held | None) -> bool:
    if now.sessions or now.held or now.connections > 1:
        return False
    if baseline is None:
        return now.channels == 0
    tasks, files = now.tasks <= baseline.tasks, now.fds <= baseline.fds + 1  # that of the question may be there or not
    still = tasks and files and now.channels <= baseline.channels and now.threads <= baseline.threads
    return still and now.memory <= baseline.memory + GRACE


async def garbage(stage: Stage) -> int:
    """How many objects the daemon keeps that nothing refers to but each other. Raises AssertionError for many."""
    found = stage.daemon.folder / "garbage"
    found.unlink(missing_ok=True)
    assert stage.daemon.process is not None
    stage.daemon.process.send_signal(signal.SIGUSR1)
    with trio.fail_after(SETTLES_WITHIN):
        while not found.exists():  # noqa: ASYNC110 - it is another process that makes it
            await trio.sleep(0.05)
    count = int(found.read_text())
    assert count <= GARBAGE, f"{count} objects refer to each other and to nothing else"
    return count


def growth(points: Sequence[tuple[float, int]]) -> float | None:
    """Bytes that each round added once warm, None for too few rounds to tell."""
    sizes = [(float(number), size) for number, (_, size) in enumerate(points[WARM_UP:])]
    return slope(sizes) if len(sizes) >= JUDGED else None


def slope(points: Sequence[tuple[float, int]]) -> float:
    """Bytes a second, by least squares. points: seconds and bytes."""
    middle = sum(at for at, _ in points) / len(points)
    level = sum(size for _, size in points) / len(points)
    spread = sum((at - middle) ** 2 for at, _ in points)
    return sum((at - middle) * (size - level) for at, size in points) / spread if spread else 0.0
