"""The clock by which things grow old: the wall clock, but forward jumps are followed little by little, and none back.

A wall clock is set: by hand, by NTP after a start with a wrong one, by a host that wakes a machine. Were ages measured
by it, an hour forward would delete an hour of history and forget every publish id, and the hour back brings neither.

Rule 1: nothing grows old over a tenth faster than time passes, and nothing grows younger.
Rule 2: stamps are not made of it: serials, records and tokens are of the wall clock.
Rule 3: where the wall clock is set back this one waits for it, as serials do: were it to go on, what is said meanwhile
        would be born old, hidden as soon as it is stored, and its id forgotten.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

SLEW = 0.1
"""By how much faster it runs until it is where the wall clock is. chrony slews by a twelfth at most."""


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
        self._age = min(max(self._now(), self._age), self._age + passed * (1 + SLEW))
        return self._age
