"""An order for each lane and none between lanes: what is in several lanes waits for its turn in all of them.

Rule 1: only what is first in all its lanes can be taken; until it is done, nothing behind it is.
Rule 2: what is tried again later holds back its own lanes and no other.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Hashable
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


class Place(Generic[T]):
    """One item. ahead: the lanes in which another is before it."""

    __slots__ = ("ahead", "due", "item", "lanes")

    def __init__(self, item: T, lanes: Collection[Hashable], due: float) -> None:
        self.item = item
        self.lanes = lanes
        self.due = due
        self.ahead = 0


class Lanes(Generic[T]):
    """Items in the order in which they were added. Times are seconds of whatever clock the caller has."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, deque[Place[T]]] = {}
        self._ready: list[tuple[float, int, Place[T]]] = []
        self._numbers = count()

    def add(self, item: T, lanes: Collection[Hashable], due: float) -> None:
        """Put an item at the end of its lanes; it is not taken before `due`. No lane is named twice."""
        place = Place(item, lanes, due)
        for lane in lanes:
            queue = self._lanes.setdefault(lane, deque())
            place.ahead += bool(queue)
            queue.append(place)
        if not place.ahead:
            self._get_ready(place)

    def take(self, now: float) -> Place[T] | None:
        """The item that has been due for longest, to be given back with `again` or `done`."""
        if self._ready and self._ready[0][0] <= now:
            return heapq.heappop(self._ready)[2]
        return None

    def next_due(self) -> float | None:
        """When the next item can be taken."""
        return self._ready[0][0] if self._ready else None

    def again(self, place: Place[T], due: float) -> None:
        """It is to be taken once more, at `due`."""
        place.due = due
        self._get_ready(place)

    def done(self, place: Place[T]) -> None:
        """It is over: those behind it move up."""
        for lane in place.lanes:
            queue = self._lanes[lane]
            queue.popleft()
            if not queue:
                del self._lanes[lane]
                continue
            queue[0].ahead -= 1
            if not queue[0].ahead:
                self._get_ready(queue[0])

    def _get_ready(self, place: Place[T]) -> None:
        heapq.heappush(self._ready, (place.due, next(self._numbers), place))
