"""One clock for all sessions: pings, pong deadlines, expiring tokens, slow consumers and unanswered closes.

Rule 1: no task and no timer per session; a wheel of one-second slots, so that a tick costs only what is due.
Rule 2: sessions begin at different moments, so their pings are spread and not one burst.
Rule 3: who is gone is let go before its turn comes: who comes and goes all the time is not kept for half a minute.
Rule 4: what looking after one raises is logged and ends no other; it is not looked after again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import structlog
import trio

log = structlog.get_logger(__name__)

TICK = 1.0
"""Seconds between two looks. Deadlines here are in seconds, so they are met within one."""

SLOTS = 64
"""Slots of the wheel; who is due later is looked at once a turn."""

GONE = 1000
"""Of those who are gone, so many may stay in the wheel, each of a KiB or two; to take them out walks through all."""


class Tended(Protocol):
    """due: the slot in which it is tended next, -1 for none."""

    due: int

    def tend(self, now: float, wall: float) -> float | None:
        """Look after it. Returns seconds until the next look, None when it needs none."""
        ...


class Keepalive:
    """wall: seconds since 1970. now: trio's clock at the last tick, one object that many sessions share."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self.now = trio.current_time()
        self._slot = 0
        self._gone = 0
        self._slots: list[list[Tended]] = [[] for _ in range(SLOTS)]

    def look_again(self, tended: Tended, after: float) -> None:
        """Tend it within so many seconds (a tick at least); an earlier appointment stays."""
        ticks = min(max(math.ceil(after / TICK), 1), SLOTS - 1)
        if tended.due >= 0 and (tended.due - self._slot) % SLOTS <= ticks:
            return
        tended.due = (self._slot + ticks) % SLOTS
        self._slots[tended.due].append(tended)

    def forget(self, tended: Tended) -> None:
        """It is gone."""
        if tended.due < 0:
            return
        tended.due = -1
        self._gone += 1
        if self._gone >= GONE:
            self._gone = 0
            self._slots = [[one for one in slot if one.due == number] for number, slot in enumerate(self._slots)]

    async def run(self) -> None:
        """Turn the wheel until cancelled."""
        while True:
            await trio.sleep(TICK)
            self.turn()

    def turn(self) -> None:
        """One tick: tend whoever is due."""
        slot = self._slot = (self._slot + 1) % SLOTS
        waiting, self._slots[slot] = self._slots[slot], []
        now = self.now = trio.current_time()
        wall = self._wall()
        for tended in waiting:
            if tended.due != slot:
                continue  # it was given an earlier look since
            tended.due = -1
            try:
                after = tended.tend(now, wall)
                if after is not None:
                    self.look_again(tended, after)
            except Exception as error:
                log.error("tending_failed", exc_info=error)
