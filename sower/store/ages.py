"""The clock by which things grow old: the wall clock, but for its jumps, which it follows little by little.

A wall clock is set: by hand, by NTP after a start with a wrong one, by a host that wakes a machine. Were ages measured
by it, an hour forward would delete an hour of history and forget every publish id, and the hour back brings neither.

Rule 1: nothing grows old over a tenth faster than time passes, and nothing grows younger.
Rule 2: stamps are not made of it: serials, records and tokens are of the wall clock.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

SLEW = 0.1
"""By how much faster or slower it runs until it is where the wall clock is. chrony slews by a twelfth at most."""


class Ages:
    """now: the wall clock, seconds since 1970. Read it some times a minute: what it follows is a share of that."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._age = now()
        self._read_at = trio.current_time()

    def __call__(self) -> float:
        """Seconds since 1970, as far as the jumps were followed."""
        read_at = trio.current_time()
        passed, self._read_at = read_at - self._read_at, read_at
        steady, most = self._age + passed, passed * SLEW
        self._age = min(max(self._now(), steady - most), steady + most)
        return self._age
