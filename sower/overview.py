"""What the daemon does now, for `sower top`, the dashboard and whoever holds a server's credential."""

from __future__ import annotations

import heapq
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import trio

from sower import __version__
from sower.clients import Clients
from sower.core.answer import SessionList, SessionView, Stats, Trend
from sower.core.command import ListSessions
from sower.health import Health
from sower.hub import Hub
from sower.net.session import Session
from sower.tally import TREND_EVERY, Pace

CHANNELS_SHOWN = 10
"""Channels of a session that are named; the others are counted."""

STATM = Path("/proc/self/statm")


class Overview:
    """Reads what others count."""

    def __init__(self, hub: Hub, clients: Clients, health: Health, pace: Pace) -> None:
        self._hub = hub
        self._clients = clients
        self._health = health
        self._pace = pace
        self._began = time.monotonic()

    async def stats(self) -> Stats:
        """Everything in numbers."""
        sessions: dict[str, dict[str, int]] = {}
        for (dialect, state), count in (await self._clients.census()).items():
            sessions.setdefault(dialect, {})[state] = count
        tally = self._hub.tally
        totals = {
            "publishes": tally.published,
            "deliveries": tally.deliveries,
            "bytes": tally.delivered_bytes,
            "connects": tally.connects,
            "refusals": tally.refusals.total(),
            "slow_consumers": tally.slow.total(),
            "recovered": tally.recovered,
            "gaps": tally.gaps,
            "restarts": tally.restarts,
        }
        return Stats(
            version=__version__,
            uptime=time.monotonic() - self._began,
            faults=tuple(self._health.faults()),
            sessions=sessions,
            channels=len(self._hub),
            rates=self._pace.rates()._asdict(),
            totals=totals,
            loop_lag=self._health.lag,
            memory=resident(),
        )

    async def trend(self) -> Trend:
        """What happened in the last quarter of an hour."""
        publishes, deliveries = self._pace.trend()
        return Trend(TREND_EVERY, publishes, deliveries)

    async def sessions(self, app: str, command: ListSessions) -> SessionList:
        """The sessions of an app, those first that an operator would look for."""
        if command.session is not None:
            return self._one(app, command.session)
        now = trio.current_time()
        count = 0

        def of_app() -> Iterator[Session]:
            nonlocal count
            for session in self._clients.reader:
                if session.grant.app == app:
                    count += 1
                    yield session

        def weight(session: Session) -> float:
            return _silence(session, now) if command.by_silence else session.backlog

        found = heapq.nlargest(command.limit, of_app(), key=weight)
        return SessionList(tuple(_view(session, _silence(session, now)) for session in found), count)

    def _one(self, app: str, session_id: str) -> SessionList:
        session = self._clients.find(session_id)
        if session is None or session.grant.app != app:
            return SessionList((), 0)
        return SessionList((_view(session, _silence(session, trio.current_time())),), 1)


def resident() -> int:
    """Bytes of this process in memory."""
    if STATM.exists():
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _silence(session: Session, now: float) -> float:
    return 0.0 if session.heard else now - session.silent_since


def _view(session: Session, silent: float) -> SessionView:
    channels = tuple(subscription.channel for subscription in session.subscriptions[:CHANNELS_SHOWN])
    return SessionView(
        session=session.id,
        dialect=session.audience.dialect,
        user=session.grant.user,
        address=session.address,
        state=session.state,
        backlog=session.backlog,
        silent=round(max(0.0, silent), 3),
        channels=channels,
        subscriptions=len(session.subscriptions),
    )
