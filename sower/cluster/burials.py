"""Taking away what nodes left whose lease is over.

Rule 1: who could not renew its own lease cannot tell who is dead: the others could not renew theirs either. It gives
        them a lease to come back, in which whom it knew to be alive counts as alive.
Rule 2: what is taken away may be much: the heartbeat goes on beside it, or the living would seem dead meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
import trio

from sower.errors import ClusterFailed

if TYPE_CHECKING:
    from sower.cluster.node import Node

log = structlog.get_logger(__name__)


class Burials:
    """Those that one node does."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._dead: tuple[str, ...] = ()
        self._died = trio.Event()
        self._looked: float | None = None
        self._judges_from = 0.0

    def judge(self, now: float, dead: Sequence[str]) -> Sequence[str]:
        """At each heartbeat: the leases of these are over. Who of them is given time."""
        if self._looked is None or now - self._looked > self._node.lease / 2:
            self._judges_from = now + self._node.lease
        self._looked = now
        if now < self._judges_from:
            return dead
        if dead and not self._dead:
            self._dead = tuple(dead)
            self._died.set()
        return ()

    async def run(self) -> None:
        """Take away what the dead left, until cancelled."""
        while True:
            await self._died.wait()
            for name in self._dead:
                if name not in self._node.living:  # it has not come back meanwhile
                    log.warning("cluster_node_gone", node=name)
                    with suppress(ClusterFailed):  # a later heartbeat finds it dead again
                        await self._node.bury(name)
            self._dead, self._died = (), trio.Event()
