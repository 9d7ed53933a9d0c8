"""The order of play: a daemon, a round to warm up, the rounds that count, and the look at what is left."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from tests.e2e.daemon import Daemon
from tests.scenarios.crowds import churn, presence_storm, slow_clients
from tests.scenarios.leaks import GROWTH, Held, garbage, growth, settled, slope
from tests.scenarios.ordering import fan_out, mixed_dialects
from tests.scenarios.returning import drain_under_load, recovery_storm
from tests.scenarios.stage import CONFIG, PATIENT, PROGRAM, Stage

SCENARIOS = (fan_out, mixed_dialects, presence_storm, slow_clients, churn, recovery_storm, drain_under_load)
"""The last one has a daemon of its own: meanwhile the other comes to rest."""

WITHIN = 300.0
"""Seconds that one scenario may take, on a machine with much else to do."""


class Report(NamedTuple):
    """seed, rounds, before, after: of what the daemon held. points: seconds and bytes at each round's end."""

    seed: int
    rounds: int
    before: Held
    after: Held
    points: tuple[tuple[float, int], ...]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}, {self.rounds} rounds", f"before: {self.before}", f"after:  {self.after}"]
        if len(self.points) > 2:
            lines.append(f"memory: {slope(self.points) * 3600 / 2**20:+.2f} MiB an hour over {len(self.points)} rounds")
        if (added := growth(self.points)) is not None:
            lines.append(f"        {added / 2**10:+.0f} KiB a round once warm")
        return "\n".join(lines)


async def play(
    folder: Path, seed: int, seconds: float, only: Sequence[str] | None = None, show: Callable[[str], None] = print
) -> Report:
    """Play rounds for so long, one at least, and raise AssertionError for what does not hold or is left behind."""
    scenarios = [scenario for scenario in SCENARIOS if not only or scenario.__name__ in only]
    daemon = Daemon(folder, CONFIG, server=PATIENT)
    daemon.program = PROGRAM
    await daemon.start()
    assert daemon.process is not None
    try:
        async with trio.open_nursery() as reading:
            reading.start_soon(
                partial(trio.to_thread.run_sync, _discard, daemon.process.stderr, abandon_on_cancel=True)
            )
            stage = Stage(daemon, random.Random(seed), folder)
            began, points = time.monotonic(), list[tuple[float, int]]()
            before = after = await settled(stage)
            while not points or time.monotonic() - began < seconds:
                for scenario in scenarios:
                    with trio.fail_after(WITHIN):
                        show(f"{scenario.__name__}: {await scenario(stage)}")
                after = await settled(stage, before if points else None)
                if not points:
                    before = after  # the first round has loaded and cached what it needed
                show(f"at rest: {after}, {await garbage(stage)} objects of garbage")
                points.append((time.monotonic() - began, after.memory))
                stage.round += 1
            await stage.server.close()
            await daemon.stop()
    finally:
        daemon.process.kill()
    added = growth(points)
    assert added is None or added <= GROWTH, f"{added / 2**10:.0f} KiB of memory stay of each round: {points}"
    return Report(seed, stage.round, before, after, tuple(points))


def _discard(stream: object) -> None:
    """Read the daemon's log to its end, lest it waits for a reader."""
    for _ in stream:  # type: ignore[attr-defined]
        pass
