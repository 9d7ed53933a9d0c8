"""How many there are on a channel, and what they are there for."""

from __future__ import annotations

from enum import IntFlag

import msgspec


class Use(IntFlag):
    """What a subscriber does on a channel, or may do."""

    HEAR = 1
    WATCH = 2
    PUBLISH = 4
    APPEAR = 8


EVERY_USE = Use.HEAR | Use.WATCH | Use.PUBLISH | Use.APPEAR
"""WATCH: to be told who is present. APPEAR: to be present."""


class Attendance(msgspec.Struct, frozen=True):
    """The numbers at one moment.

    serial:    when; head: the position of the last message before it
    connections: all subscribers; hear, watch, publish, appear: those of them that do or may
    members:   connections that are present, one for each user
    """

    serial: int
    head: int
    connections: int
    hear: int
    watch: int
    publish: int
    appear: int
    members: int


NOBODY = Attendance(0, 0, 0, 0, 0, 0, 0, 0)


class Uses:
    """The subscribers of a channel by their uses."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}

    def count(self, uses: Use, by: int) -> None:
        """So many more of these."""
        left = self._counts.get(uses, 0) + by
        if left:
            self._counts[uses] = left
        else:
            del self._counts[uses]

    def of(self, use: Use | None = None) -> int:
        """How many there are, or have this use."""
        return sum(count for uses, count in self._counts.items() if use is None or uses & use)
