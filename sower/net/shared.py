"""What all sessions of a daemon have in common: their bounds, and where what they ask for goes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from sower.config import Config
from sower.core.command import SocketCommand
from sower.tally import Tally

if TYPE_CHECKING:
    from sower.inbox import Subscription
    from sower.net.session import Session

READ = 16 * 1024
"""Bytes read of one socket before others have their turn: a millisecond or two of small frames."""

SECRET_DIGITS = 12
"""Hexadecimal digits of a session's secret, with which its id begins."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one session may use, in bytes, seconds and frames: [session] and [limits] of the config."""

    backlog: int
    backlog_age: float
    ping_every: float
    pong_within: float
    sleep_after: float
    message: int
    message_within: float
    violations: int

    @classmethod
    def of(cls, config: Config) -> Bounds:
        """What this config allows."""
        session, limits = config.session, config.limits
        return cls(
            backlog=session.backlog,
            backlog_age=session.backlog_age,
            ping_every=session.ping_every,
            pong_within=session.pong_within,
            sleep_after=session.sleep_after,
            message=limits.message,
            message_within=session.message_within,
            violations=limits.violations,
        )


class Door(Protocol):
    """Where a session's commands go. now: trio's clock, as it was at the keepalive's last tick."""

    @property
    def now(self) -> float: ...

    def perform(self, session: Session, command: SocketCommand) -> None:
        """Do it, now or later. Raises SowerError."""
        ...

    def count(self, session: Session, frames: int) -> None:
        """Count what it sent against its rate. Raises RateLimited."""
        ...

    def look_again(self, session: Session, after: float) -> None:
        """Have the session tended within so many seconds."""
        ...

    def drop(self, session: Session, subscription: Subscription) -> None:
        """End one of its subscriptions."""
        ...


@dataclass(slots=True)
class Shared:
    """What all sessions of a daemon have in common. nursery: where their writers run. bounds: may be exchanged."""

    door: Door
    bounds: Bounds
    nursery: trio.Nursery
    tally: Tally
