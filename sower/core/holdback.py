"""What webhooks have told and still holds, and the ends of it that are held back for a while.

Rule 1: a begin is told once, and an end only where its begin was told: receivers see pairs.
Rule 2: an end waits; whoever comes back meanwhile was never gone, and neither is told.
Rule 3: what was told and holds outlives the process, so that a restart ends what does not come back.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from itertools import count
from typing import NamedTuple


class Standing(NamedTuple):
    """A channel that is occupied, or with a user, a member of it."""

    app: str
    channel: str
    user: str = ""


class Holdback:
    """Times are seconds of whatever clock the caller has."""

    def __init__(self) -> None:
        self._standing: set[Standing] = set()
        self._ending: dict[Standing, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, Standing]] = []
        self._numbers = count()

    def restore(self, standing: Iterable[Standing], until: float) -> None:
        """Take over what held before a restart: it ends, in this order, unless it begins again by `until`."""
        for one in standing:
            self._standing.add(one)
            self.ends(one, until)

    def begins(self, one: Standing) -> bool:
        """Whether this is news; if not, it goes on as if it had never ended."""
        self._ending.pop(one, None)
        if one in self._standing:
            return False
        self._standing.add(one)
        return True

    def ends(self, one: Standing, until: float) -> None:
        """It may be over, which is certain at `until`, or at an earlier one. Nothing where its begin was not told."""
        if one in self._standing and (one not in self._ending or until < self._ending[one][0]):
            ending = self._ending[one] = until, next(self._numbers)
            heapq.heappush(self._heap, (*ending, one))

    def over(self, now: float) -> list[Standing]:
        """Take away what is over, first what ended first."""
        over: list[Standing] = []
        while self._heap and self._heap[0][0] <= now:
            until, number, one = heapq.heappop(self._heap)
            if self._ending.get(one) == (until, number):  # else it began again
                del self._ending[one]
                self._standing.discard(one)
                over.append(one)
        return over

    def next_end(self) -> float | None:
        """When something may next be over."""
        return self._heap[0][0] if self._heap else None
