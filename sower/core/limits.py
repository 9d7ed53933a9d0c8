"""Rates and restarts: token buckets, and how often something may fail before it is given up.

Rule 1: a refusal takes nothing, and the wait that it names is exact.
Rule 2: time is an argument, in seconds of any clock that does not go back.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Hashable
from itertools import islice
from typing import Protocol

from sower.config import Rate

MOST_RESTARTS = 3
"""Restarts within the window. Erlang's default is 1 in 5 s; a channel's children are smaller than a process'."""

FIRST_BACKOFF, LONGEST_BACKOFF = 0.05, 5.0
"""Seconds before the first restart, doubled each time up to the longest."""

OLDEST_LOOKED_AT = 16
"""Buckets that are looked at to find a full one to forget. Redis' eviction samples 5."""


class Bucket:
    """A token bucket: `rate.burst` at once, `rate.per_second` in the long run."""

    __slots__ = ("_at", "_left", "_rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._left = rate.burst
        self._at = now

    def take(self, now: float, n: float = 1) -> float:
        """Take n tokens. Returns 0.0, or the seconds until n are there; what is above the burst never is."""
        rate = self._rate
        left = self._left + (now - self._at) * rate.per_second
        if left > rate.burst:
            left = rate.burst
        if left < n:
            return self._wait(now, n, (n - left) / rate.per_second)
        self._left = left - n
        self._at = now
        return 0.0

    def _wait(self, now: float, n: float, wait: float) -> float:
        """`wait`, lengthened by what rounding swallows: at now + wait, `take` finds n."""
        rate = self._rate
        while n <= rate.burst and self._left + ((now + wait) - self._at) * rate.per_second < n:
            wait += math.ulp(now + wait)
        return wait

    def settle(self, left: float, now: float) -> None:
        """So many are left now, as whoever counts for several buckets says; below 0 where too many were taken."""
        self._left = left
        self._at = now

    def full(self, now: float) -> bool:
        """Whether it is as good as new."""
        return self._left + (now - self._at) * self._rate.per_second >= self._rate.burst


class Rates(Protocol):
    """A rate for each key of an app."""

    def take(self, key: str, now: float, n: float = 1) -> float:
        """As Bucket.take, for one key."""
        ...


class Buckets:
    """One bucket a key. Bounded: past `most` one is forgotten that is full again, else the longest unused."""

    __slots__ = ("_buckets", "_most", "_rate")

    def __init__(self, rate: Rate, most: int = 10_000) -> None:
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def take(self, key: Hashable, now: float, n: float = 1) -> float:
        """As Bucket.take, for one key."""
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._most:
                self._forget_one(now)
            bucket = self._buckets[key] = Bucket(self._rate, now)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now, n)

    def settle(self, key: Hashable, left: float, now: float) -> None:
        """As Bucket.settle, where the key has a bucket."""
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.settle(left, now)

    def _forget_one(self, now: float) -> None:
        """A full bucket is as good as none; forgetting another lets somebody go who was held back."""
        oldest = islice(self._buckets.items(), OLDEST_LOOKED_AT)
        full = next((key for key, bucket in oldest if bucket.full(now)), None)
        if full is not None:
            del self._buckets[full]
        else:
            self._buckets.popitem(last=False)


class RestartIntensity:
    """At most `most` restarts within `within` seconds (Erlang's "Supervisor Behaviour")."""

    __slots__ = ("_crashes", "_most", "_within")

    def __init__(self, most: int = MOST_RESTARTS, within: float = 60.0) -> None:
        self._most = most
        self._within = within
        self._crashes: tuple[float, ...] = ()  # one intensity lives per channel, and most never crash

    def crashed(self, now: float) -> bool:
        """Note a crash. Whether a restart is still allowed."""
        recent = tuple(at for at in self._crashes if at > now - self._within)
        allowed = len(recent) < self._most
        self._crashes = (*recent, now) if allowed else recent
        return allowed

    def backoff(self) -> float:
        """Seconds to wait before the next restart."""
        return min(FIRST_BACKOFF * 2 ** max(len(self._crashes) - 1, 0), LONGEST_BACKOFF)
