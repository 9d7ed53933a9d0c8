"""Rates that hold for all nodes together: each node takes from what it believes is left, and settles that with Redis.

Rule 1: nothing waits for Redis: what was taken is told SETTLED_EVERY later at the most, and the answer is what is left.
Rule 2: so nodes together may let through more than a burst, by what the others take until it is settled. It is owed: in
        the long run the rate is kept exactly.
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from typing import Self

import trio

from sower.cluster import scripts
from sower.cluster.node import Node
from sower.config import Rate
from sower.core.limits import Buckets
from sower.errors import ClusterFailed

SETTLED_EVERY = 0.02
"""Seconds. Fifty scripts a second of a node that publishes, each a small part of what its publishes take."""


class Budgets:
    """Of the keys of one rate."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._taken: defaultdict[str, float] = defaultdict(float)
        self._work = trio.Event()
        self.of(Rate(1, 1))

    def of(self, rate: Rate) -> Self:
        """Go on with this rate."""
        self._rate = rate
        self._here = Buckets(rate)
        return self

    def take(self, key: str, now: float, n: float = 1) -> float:
        """As Buckets.take. key: of an app."""
        wait = self._here.take(key, now, n)
        if not wait:
            self._taken[key] += n
            self._work.set()
        return wait

    async def run(self) -> None:
        """Settle what was taken, until cancelled."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            with suppress(ClusterFailed):
                await self._settle()
            await trio.sleep(SETTLED_EVERY)

    async def _settle(self) -> None:
        """Raises ClusterFailed, and then it is settled with what is taken next; of more than a burst the rest is there
        again since.
        """
        taken, self._taken = self._taken, defaultdict(float)
        keys = [f"{self._node.prefix}:{{rates}}:{key}".encode() for key in taken]
        args = (self._rate.per_second, self._rate.burst, *taken.values())
        try:
            left = await self._node.line.run(scripts.SPEND, keys, args)
        except ClusterFailed:
            for key, n in taken.items():
                self._taken[key] = min(self._taken[key] + n, self._rate.burst)
            raise
        for key, level in zip(taken, left, strict=True):
            self._here.settle(key, float(level) - self._taken[key], trio.current_time())
