"""The journal as tests need it: it says when it is idle, and its commits can be held up."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import trio
import trio.testing

from sower.store.journal import Journal, Stored


class WatchedJournal(Journal):
    """before, after: what appends wait for on their way to the disk, and on their way back."""

    def __init__(self, *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        self.under_way = 0
        self._ended = trio.Event()
        self.before, self.after = trio.Event(), trio.Event()
        self.go_on()

    def go_on(self) -> None:
        self.before.set()
        self.after.set()

    def hold_up(self, *, committed: bool) -> None:
        if committed:
            self.after = trio.Event()
        else:
            self.before = trio.Event()

    async def append(self, *what: Any, **more: Any) -> list[Stored]:
        await self.before.wait()
        stored = await super().append(*what, **more)
        await self.after.wait()
        return stored

    async def _written(self, job: Any) -> list[Stored]:
        with self._counted():
            return await super()._written(job)

    async def _within(self, *what: Any) -> Any:
        with self._counted():
            return await super()._within(*what)

    async def sweep(self, *what: Any, **more: Any) -> None:
        with self._counted():
            await super().sweep(*what, **more)

    @contextmanager
    def _counted(self) -> Generator[None]:
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1
            self._ended.set()

    async def quiet(self, seconds: float = 0.0) -> None:
        """Wait until nobody can do anything until something happens, and nothing happens for so long."""
        await trio.testing.wait_all_tasks_blocked(seconds)
        while self.under_way:
            self._ended = trio.Event()
            await self._ended.wait()
            await trio.testing.wait_all_tasks_blocked(seconds)
