"""A clock for tests whose database is a real one: it leaves the disk all the time that it takes, and all else none.

Rule 1: while a connection's thread is at work the clock stands, however much else the machine has to do.
Rule 2: where the test has the disk hang, it goes on.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import trio
import trio.testing

from sower.store.sqlite import DatabaseThread

IDLE = 0.002
"""Seconds in which nothing happens before the clock goes on to the next deadline."""

RUN = DatabaseThread.run


class Patient:
    """What has a clock stand. run: what stands for DatabaseThread.run."""

    def __init__(self) -> None:
        self.clock = trio.testing.MockClock(autojump_threshold=IDLE)
        self._calls: Counter[DatabaseThread] = Counter()
        self._threads: dict[DatabaseThread, int] = {}
        self._hanging: set[int] = set()

    async def run(self, thread: DatabaseThread, call: Callable[..., Any], *args: Any, **more: Any) -> Any:
        def known() -> Any:
            self._threads[thread] = threading.get_ident()
            return call(*args, **more)

        self._calls[thread] += 1
        self._look()
        try:
            return await RUN(thread, known)
        finally:
            self._calls[thread] -= 1
            self._look()

    def hang(self, token: trio.lowlevel.TrioToken, until: threading.Event) -> None:
        """Called in a connection's thread: the disk does not answer."""
        thread = threading.get_ident()
        token.run_sync_soon(self._hangs, thread)
        until.wait()
        token.run_sync_soon(self._goes_on, thread)

    def _hangs(self, thread: int) -> None:
        self._hanging.add(thread)
        self._look()

    def _goes_on(self, thread: int) -> None:
        self._hanging.discard(thread)
        self._look()

    def _look(self) -> None:
        at_work = any(calls and self._threads.get(at) not in self._hanging for at, calls in self._calls.items())
        self.clock.autojump_threshold = math.inf if at_work else IDLE
