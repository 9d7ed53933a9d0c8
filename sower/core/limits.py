"""Rates and restarts: token buckets, and how often something may fail before it is given up.

Rule 1: a refusal takes nothing, and the wait that it names is exact.
Rule 2: time is an argument, in seconds of any clock that does not go back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable

from sower.config import Rate

MOST_RESTARTS = 3
"""Restarts within the window. Erlang's default is 1 in 5 s; a channel's children are smaller than a process'."""

FIRST_BACKOFF, LONGEST_BACKOFF = 0.05, 5.0
"""Seconds before the first restart, doubled each time up to the longest."""


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
        left = min(rate.burst, self._left + (now - self._at) * rate.per_second)
        self._at = now
        if left >= n:
            self._left = left - n
            return 0.0
        self._left = left
        return (n - left) / rate.per_second

    def full(self, now: float) -> bool:
        """Whether it is as good as new."""
        return self._left + (now - self._at) * self._rate.per_second >= self._rate.burst


class Buckets:
    """One bucket a key. Bounded: past `most` the one that was not used for the longest time is forgotten."""

    __slots__ = ("_buckets", "_most", "_rate")

    def __init__(self, rate: Rate, most: int = 10_000) -> None:
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def take(self, key: Hashable, now: float, n: float = 1) -> float:
        """As Bucket.take, for one key."""
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._rate, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.take(now, n)


class RestartIntensity:
    """At most `most` restarts within `within` seconds (Erlang's "Supervisor Behaviour")."""

    __slots__ = ("_crashes", "_most", "_within")

    def __init__(self, most: int = MOST_RESTARTS, within: float = 60.0) -> None:
        self._most = most
        self._within = within
        self._crashes: deque[float] = deque()

    def crashed(self, now: float) -> bool:
        """Note a crash. Whether a restart is still allowed."""
        while self._crashes and self._crashes[0] <= now - self._within:
            self._crashes.popleft()
        if len(self._crashes) >= self._most:
            return False
        self._crashes.append(now)
        return True

    def backoff(self) -> float:
        """Seconds to wait before the next restart."""
        return min(FIRST_BACKOFF * 2 ** max(len(self._crashes) - 1, 0), LONGEST_BACKOFF)
