"""When those who asked for it are told how many there are on a channel: at once, and then not too often."""

from __future__ import annotations

from collections.abc import Callable

import trio

TOLD_EVERY = 1.0
"""Seconds between two times that a channel's numbers are told."""


class Attending:
    """Of one channel. wake: told when it is due. It costs nothing until somebody asks."""

    __slots__ = ("_changed", "_nursery", "_wake", "due")

    def __init__(self, wake: Callable[[], None]) -> None:
        self.due = False
        self._wake = wake
        self._changed: trio.Event | None = None
        self._nursery: trio.Nursery | None = None

    def begin(self, nursery: trio.Nursery | None) -> None:
        """Somebody wants to be told from now on."""
        if self._changed is None:
            self._changed = trio.Event()
        if nursery is not None:
            self.run(nursery)

    def run(self, nursery: trio.Nursery) -> None:
        """Run the clock in this nursery, where somebody asked."""
        if self._changed is not None and nursery is not self._nursery:
            self._nursery = nursery
            nursery.start_soon(self._clock, self._changed, name="attendance clock")

    def changed(self) -> None:
        """Somebody came or went."""
        if self._changed is not None:
            self._changed.set()

    async def _clock(self, changed: trio.Event) -> None:
        while True:
            await changed.wait()
            self._changed = changed = trio.Event()
            self.due = True
            self._wake()
            await trio.sleep(TOLD_EVERY)
