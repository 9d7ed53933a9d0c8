"""Keeping the garbage collector's pauses short, however many sessions there are.

A session is some dozen objects that live long and are freed by their reference counts. The collector would walk
all of them again and again, for nothing: 100,000 sessions cost it a good part of a second each time. So what has
lived for a while is frozen: moved out of the collector's sight, where it is still freed by its counts.
"""

from __future__ import annotations

import gc

import trio

NEWCOMERS = 1000
"""Sessions after which the living are frozen: as many as the collector walks in some milliseconds."""

FREEZE_EVERY = 60.0
"""Seconds after which they are frozen anyway."""

THRESHOLDS = (5_000, 20, 1000)
"""Allocations before the young are looked at, and how often the older ones are. Python's own: 700, 10, 10."""


class Collector:
    """Freezes what lives."""

    def __init__(self) -> None:
        gc.set_threshold(*THRESHOLDS)
        self._newcomers = 0

    def came(self) -> None:
        """A session came."""
        self._newcomers += 1
        if self._newcomers >= NEWCOMERS:
            self.freeze()

    def freeze(self) -> None:
        """Collect what is garbage among the unfrozen, then freeze the rest."""
        self._newcomers = 0
        gc.collect()
        gc.freeze()

    async def run(self) -> None:
        """Freeze now and then, until cancelled."""
        while True:
            self.freeze()
            await trio.sleep(FREEZE_EVERY)
