"""When those who asked for it are told how many there are on a channel: at once, and then not too often."""

from __future__ import annotations

from collections.abc import Callable

import trio

TOLD_EVERY = 1.0
"""Seconds between two times that a channel's numbers are told."""


class Attending:
    """Of one channel. It costs nothing until somebody asks."""

    __slots__ = ("_changed", "_nursery", "due")

    def __init__(self) -> None:
        self.due = False
        self._changed: trio.Event | None = None
        self._nursery: trio.Nursery | None = None

    def begin(self, nursery: trio.Nursery | None, wake: Callable[[], None]) -> None:
        """Somebody wants to be told from now on."""
        if self._changed is None:
            self._changed = trio.Event()
        if nursery is not None:
            self.run(nursery, wake)

    def run(self, nursery: trio.Nursery, wake: Callable[[], None]) -> None:
        """Run the clock in this nursery, where somebody asked. wake: told when it is due."""
        if self._changed is not None and nursery is not self._nursery:
            self._nursery = nursery
            nursery.start_soon(self._clock, self._changed, wake, name="attendance clock")

    def rest(self) -> None:
        """The nursery has ended."""
        self._nursery = None

    def changed(self) -> None:
        """Somebody came or went."""
        if self._changed is not None:
            self._changed.set()

    async def _clock(self, changed: trio.Event, wake: Callable[[], None]) -> None:
        while True:
            await changed.wait()
            self._changed = changed = trio.Event()
            self.due = True
            wake()
            await trio.sleep(TOLD_EVERY)
