"""Whether the daemon does its work: one task goes round hub and journal, another feels how late the loop is.

Rule 1: health can fail, and says why: a journal that cannot write or does not answer, a late loop, a drain.
Rule 2: the watchdog is fed by the round alone: who is stuck is restarted. A journal that answers with an error is
        not stuck, and a restart would not mend its disk.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import structlog
import trio
from prometheus_client import Histogram

from sower.errors import JournalFailed, SowerError
from sower.hub import Hub
from sower.store.journal import ANSWERS_WITHIN, Journal
from sower.systemd import Systemd

log = structlog.get_logger(__name__)

ROUND_EVERY = 5.0
"""Seconds between two rounds; a watchdog that wants them sooner gets them sooner."""

FEEL_EVERY = 0.25
"""Seconds between two looks at how late the loop is."""

LATE = 0.5
"""Seconds of lag above which clients feel it. Node's and Go's probes warn at 0.1 to 1."""


LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Seconds."""


class Fault(NamedTuple):
    """What keeps the daemon from being ready."""

    check: str
    detail: str


class Shared(Protocol):
    """What daemons share. fault: what is wrong with it, empty for nothing."""

    @property
    def fault(self) -> str: ...


class Health:
    """lag: how late the loop was, in seconds, at its worst in the time between two rounds."""

    CHECKS = ("draining", "journal", "hub", "cluster", "lag", "stuck")

    def __init__(self, hub: Hub, journal: Journal, systemd: Systemd, shared: Shared | None = None) -> None:
        self.lag = 0.0
        self.lag_seconds = Histogram(
            "sower_loop_lag_seconds", "How late the loop was, four times a second.", registry=None, buckets=LAG_BUCKETS
        )
        self.draining = False
        self._hub = hub
        self._journal = journal
        self._systemd = systemd
        self._shared = shared
        self._round_began: float | None = None
        self._journal_fault = ""
        self._hub_fault = ""

    def faults(self) -> list[Fault]:
        """Why the daemon should get no traffic now; none when it should."""
        found: list[Fault] = []
        if self.draining:
            found.append(Fault("draining", "the daemon is shutting down"))
        journal_fault = self._journal.fault or self._journal_fault
        if journal_fault:
            found.append(Fault("journal", journal_fault))
        if self._hub_fault:
            found.append(Fault("hub", self._hub_fault))
        if self._shared is not None and self._shared.fault:
            found.append(Fault("cluster", self._shared.fault))
        if self.lag > LATE:
            found.append(Fault("lag", f"the loop was {self.lag:.1f} s late"))
        took = 0.0 if self._round_began is None else trio.current_time() - self._round_began
        if took > ANSWERS_WITHIN:
            found.append(Fault("stuck", f"hub and journal have not answered for {took:.0f} s"))
        return found

    async def run(self) -> None:
        """Go round until cancelled."""
        watchdog = self._systemd.watchdog
        pause = ROUND_EVERY if watchdog is None else min(ROUND_EVERY, watchdog / 4)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._feel, name="loop lag")
            while True:
                self._round_began = trio.current_time()
                await self.go_round()
                self._round_began = None
                self._systemd.alive()
                await trio.sleep(pause)

    async def go_round(self) -> None:
        """One message through the hub, one transaction through the journal."""
        hub_fault = journal_fault = ""
        try:
            await self._hub.beat()
        except SowerError as error:
            hub_fault = error.message
        try:
            await self._journal.ping()
        except JournalFailed as error:
            journal_fault = error.message
        for before, fault in ((self._hub_fault, hub_fault), (self._journal_fault, journal_fault)):
            if fault != before:
                log.warning("health_changed", now=fault or "well")
        self._hub_fault, self._journal_fault = hub_fault, journal_fault

    async def _feel(self) -> None:
        worst: list[float] = []
        while True:
            due = trio.current_time() + FEEL_EVERY
            await trio.sleep_until(due)
            self.lag_seconds.observe(trio.current_time() - due)
            worst = [*worst, trio.current_time() - due][-int(ROUND_EVERY / FEEL_EVERY) :]
            self.lag = max(worst)
