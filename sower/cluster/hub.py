"""The channels of a node, which it has in common with others. The daemon's own channels stay each node's."""

from __future__ import annotations

from collections.abc import Callable

from sower.channel_tree import ChannelTree
from sower.cluster.archive import Archive
from sower.cluster.keys import shard_of
from sower.cluster.node import Node
from sower.cluster.replica import Replica
from sower.cluster.shelf import ClusterShelf
from sower.cluster.tree import ClusterTree
from sower.cluster.wildcards import Wildcards
from sower.config import Config
from sower.core.presence import Presence
from sower.core.rules import RESERVED
from sower.hub import Hub
from sower.inbox import Subscriber
from sower.store.journal import Journal
from sower.store.log import Log

CLOCKS_APART = 50_000
"""100 ns units, 5 ms: how far behind Redis' clock a cursor begins, so that nothing is said before it afterwards."""

SERVERS_APART = 10_000_000
"""1 s: as much where several servers have a clock each."""


class ClusterHub(Hub):
    """session: finds whoever is connected to this node."""

    shared = True

    def __init__(self, config: Config, journal: Journal, node: Node, *, now: Callable[[], float]) -> None:
        super().__init__(config, journal, now=now)
        self.node = node
        self.log: Log = Archive(node)
        self.log.erased = self.erase
        self.shelf = ClusterShelf(node)
        self.session: Callable[[str], Subscriber | None] = _nobody
        self.wildcards = Wildcards(node, self._names, self._named, self.cursor)

    def next_serial(self) -> int:
        """Redis' time, or a serial after every earlier one that was made here."""
        self._last_serial = max(self._last_serial + 1, *self.node.heard, self.node.clock())
        return self._last_serial

    def cursor(self, app: str) -> int:
        """Redis' time, a little late, so that what is said from now on comes after it."""
        apart = SERVERS_APART if self.node.line.scattered else CLOCKS_APART
        return max(self.node.heard[shard_of(app)], self.node.clock() - apart)

    def settled(self, app: str) -> int:
        """The serial up to which all that channels here follow was told: broadcasts come in the order of serials."""
        in_flight = (serial - 1 for tree, serial in self.in_flight.items() if tree.app == app)
        return min((self.node.heard[shard_of(app)], *in_flight))

    async def presence(self, app: str, name: str) -> Presence | None:
        """As of every hub; of a channel that nobody follows here, Redis is asked. Raises ClusterFailed."""
        tree = self.look(app, name)
        if (isinstance(tree, ClusterTree) and tree.following) or name.startswith(RESERVED):
            return await super().presence(app, name)
        snapshot = await self.node.load(self.node.keys(app, name), name)
        replica = Replica(0.0, self.most_members, self.node.name)
        replica.resume(snapshot.members, snapshot.head, trusted=True)
        return replica

    async def _watch_journal(self) -> None:
        """Nothing that is said on these channels waits for this machine's disk."""

    async def attended(self, app: str) -> set[str]:
        """As of every hub, on all nodes. Raises ClusterFailed."""
        return await self.node.whereabouts.all(app, self.node.living)

    async def whereabouts(self, app: str, user: str) -> set[str]:
        """As of every hub, on all nodes. Raises ClusterFailed."""
        return await self.node.whereabouts.of(app, user, self.node.living)

    def follow_prefix(self, app: str, prefix: str, *, begun: bool) -> None:
        """As of every hub; other nodes name the channels that speak there."""
        self.wildcards.follow(app, prefix, begun=begun)

    def _names(self, app: str, prefix: str) -> list[str]:
        return [tree.name for tree in self.trees(app, prefix)]

    def _named(self, app: str, name: str, serial: int) -> None:
        """Another node has a channel, which says something after a serial."""
        if self.look(app, name) is None and self.awaited(app, name):
            tree = self.tree(app, name)
            if isinstance(tree, ClusterTree):
                tree.begin_at(serial)

    def _plant(self, app: str, name: str) -> ChannelTree:
        if not app or name.startswith(RESERVED):
            return super()._plant(app, name)
        self.wildcards.born(app, name)
        return ClusterTree(app, name, self.rules.of(name), self)

    def _forget(self, tree: ChannelTree) -> None:
        super()._forget(tree)
        if isinstance(tree, ClusterTree):
            self.node.unfollow(tree)
            self.node.estate.end(tree.app, tree.name)


def _nobody(session_id: str) -> None:
    """Before clients can connect."""
