"""Keeping the garbage collector's pauses short, however many sessions there are.

A session is some dozen objects that live long and are freed by their reference counts. The collector would walk
all of them again and again, for nothing: 100,000 sessions cost it a good part of a second each time. So what has
lived for a while is frozen: moved out of the collector's sight, where it is still freed by its counts.

Rule 1: what lives long and goes, a session, a channel, a feed, refers to nothing that refers back to it when it goes:
        the collector would not see that it is garbage.
Rule 2: should something do so all the same, the daemon grows by it, and then all is looked at once.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

import trio

NEWCOMERS = 1000
"""Sessions after which the living are frozen: as many as the collector walks in some milliseconds."""

FREEZE_EVERY = 60.0
"""Seconds after which they are frozen anyway."""

THRESHOLDS = (5_000, 20, 1000)
"""Allocations before the young are looked at, and how often the older ones are. Python's own: 700, 10, 10."""


GROWN = 1.25
"""How much more memory is in use than after all was looked at last, when it is again: so the time that it takes, half
a second where there are 100,000 sessions, is spent a few times while they come and not at all while they stay."""


class Collector:
    """Freezes what lives. blocks: how many pieces of memory Python has in use."""

    def __init__(self, blocks: Callable[[], int] = sys.getallocatedblocks) -> None:
        gc.set_threshold(*THRESHOLDS)
        self._newcomers = 0
        self._blocks = blocks
        self._most = 0.0

    def came(self) -> None:
        """A session came."""
        self._newcomers += 1
        if self._newcomers >= NEWCOMERS:
            self.freeze()

    def freeze(self) -> None:
        """Collect what is garbage among the unfrozen, or among all where there is much more, then freeze the rest."""
        self._newcomers = 0
        grown = self._blocks() > self._most
        if grown:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
        if grown:
            self._most = self._blocks() * GROWN

    async def run(self) -> None:
        """Freeze now and then, until cancelled."""
        while True:
            self.freeze()
            await trio.sleep(FREEZE_EVERY)
