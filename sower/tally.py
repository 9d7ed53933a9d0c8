"""What happened since the start, in plain numbers; /metrics, /stats and `sower top` read them.

Rule 1: counting costs the hot path one addition per batch, never one per recipient.
Rule 2: what can be derived when somebody asks (sessions, channels, files) is not counted here.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from itertools import pairwise
from operator import length_hint
from typing import Any, NamedTuple

import trio

from sower.core.channel import Parcel
from sower.core.message import Message

SAMPLE_EVERY = 1.0
"""Seconds between two samples of the tally."""

SAMPLES = 11
"""Samples kept: rates are over the last ten seconds."""

TREND_EVERY = 5.0
"""Seconds between two points of the trend."""

TREND_POINTS = 180
"""Points kept: a quarter of an hour."""


class Tally:
    """Counts that only grow, but for the high water.

    published, published_bytes: messages accepted, and their data
    deliveries, delivered_bytes: messages handed to subscribers, and bytes of frames
    connects:         sessions that came
    recovered, gaps:  subscribers that came back with a position, and got all they had missed or were told of a gap
    backlog_high:     the most bytes that ever waited for one session
    slow:             sessions that were closed because they read too slowly, by what ran out: bytes or age
    refusals:         what was refused, by the error's code
    restarts, quarantines: channels that failed
    """

    __slots__ = (
        "backlog_high",
        "connects",
        "delivered_bytes",
        "deliveries",
        "gaps",
        "published",
        "published_bytes",
        "quarantines",
        "recovered",
        "refusals",
        "restarts",
        "slow",
    )

    def __init__(self) -> None:
        self.published = self.published_bytes = 0
        self.deliveries = self.delivered_bytes = 0
        self.connects = 0
        self.recovered = self.gaps = 0
        self.backlog_high = 0
        self.restarts = self.quarantines = 0
        self.slow: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()

    def accept(self, messages: Sequence[Message]) -> int:
        """Count a batch of messages. Returns how many these are."""
        self.published += len(messages)
        self.published_bytes += sum([len(message.data) for message in messages])
        return len(messages)

    def hand_out(self, parcel: Parcel[Any]) -> None:
        """Count a parcel for all who do not have it yet."""
        recipients = length_hint(parcel.recipients)
        self.deliveries += recipients * parcel.count
        self.delivered_bytes += recipients * len(parcel.data)

    def recover(self, *, whole: bool) -> None:
        """Count a subscriber that came back with a position."""
        if whole:
            self.recovered += 1
        else:
            self.gaps += 1


class Rates(NamedTuple):
    """What happens in a second."""

    publishes: float
    deliveries: float
    bytes: float
    connects: float


class _Sample(NamedTuple):
    at: float
    counts: tuple[int, int, int, int]


class Pace:
    """Samples of a tally, from which its rates are told."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._samples: deque[_Sample] = deque([self._sample()], SAMPLES)
        self._trend: deque[_Sample] = deque([self._samples[0]], TREND_POINTS + 1)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            await trio.sleep(SAMPLE_EVERY)
            sample = self._sample()
            self._samples.append(sample)
            if sample.at - self._trend[-1].at >= TREND_EVERY:
                self._trend.append(sample)

    def rates(self) -> Rates:
        """What happened in a second, over the time of the samples."""
        first, last = self._samples[0], self._sample()
        took = last.at - first.at
        if took <= 0:
            return Rates(0.0, 0.0, 0.0, 0.0)
        return Rates(*((now - then) / took for then, now in zip(first.counts, last.counts, strict=True)))

    def trend(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Publishes and deliveries in a second, between each two points of the trend, the oldest first."""
        publishes: list[float] = []
        deliveries: list[float] = []
        for then, now in pairwise(self._trend):
            took = now.at - then.at
            publishes.append(round((now.counts[0] - then.counts[0]) / took, 1))
            deliveries.append(round((now.counts[1] - then.counts[1]) / took, 1))
        return tuple(publishes), tuple(deliveries)

    def _sample(self) -> _Sample:
        tally = self._tally
        counts = (tally.published, tally.deliveries, tally.delivered_bytes, tally.connects)
        return _Sample(trio.current_time(), counts)
