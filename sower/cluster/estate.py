"""What a node leaves behind: the channels on which it has somebody, so that whoever lives can take them away.

Rule 1: a channel is noted before anything of it is said, so that nothing is left that nobody knows of.
Rule 2: it is noted in the slot of the channel, so that no other master of a Redis Cluster is needed for it.
Rule 3: whoever sees first that a node is gone takes away what it left; Redis does each part of that once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from sower.cluster.entries import Entry, Gone
from sower.cluster.facts import LAST_WORDS, Report
from sower.cluster.keys import SHARDS, left_by, shard_of
from sower.errors import ClusterFailed

if TYPE_CHECKING:
    from sower.cluster.node import Node

REMOVED_AT_ONCE = 500
"""Members of a dead node in one script."""


class Estate:
    """Of one node, and of those that it outlives. All that waits raises ClusterFailed."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._noted: set[tuple[str, str]] = set()
        self._over: set[tuple[str, str]] = set()

    async def note(self, app: str, channel: str) -> None:
        """Somebody of this node is going to be on a channel."""
        self._over.discard((app, channel))
        if (app, channel) not in self._noted:
            await self._node.line.ask(b"SADD", self._key(self._node.name, shard_of(app)), _joined(app, channel))
            self._noted.add((app, channel))

    def end(self, app: str, channel: str) -> None:
        """Nobody of this node is there any more."""
        if (app, channel) in self._noted:
            self._over.add((app, channel))

    def say_again(self) -> None:
        """Redis may have forgotten it, or others have taken it away."""
        self._noted.clear()

    async def renew(self) -> None:
        """Have Redis forget what is over."""
        over, self._over = self._over, set()
        self._noted -= over
        of_shards: dict[int, list[bytes]] = {}
        for app, channel in over:
            of_shards.setdefault(shard_of(app), []).append(_joined(app, channel))
        name = self._node.name
        try:
            await self._node.line.ask_all(
                [(b"SREM", self._key(name, shard), *channels) for shard, channels in of_shards.items()]
            )
        except ClusterFailed:
            self._over |= over - self._noted  # but for those where somebody is again
            raise

    async def bury(self, name: str) -> None:
        """Take away what a node left whose lease is over, of all shards at once: a node that ends has little time, and
        a master that is away does not keep the rest.
        """
        missing: list[ClusterFailed] = []
        async with trio.open_nursery() as nursery:
            for shard in range(SHARDS):
                nursery.start_soon(self._try_to_bury, name, self._key(name, shard), missing)
        if missing:
            raise missing[0]

    async def _try_to_bury(self, name: str, left: bytes, missing: list[ClusterFailed]) -> None:
        try:
            await self._bury(name, left)
        except ClusterFailed as error:
            missing.append(error)

    async def _bury(self, name: str, left: bytes) -> None:
        for one in await self._node.line.ask(b"SMEMBERS", left):
            app, _, channel = one.decode().partition("\0")
            keys = self._node.keys(app, channel)
            snapshot = await self._node.load(keys, channel)
            gone: list[tuple[Entry | Report, bytes]] = [
                (Gone(one.entry.user, one.entry.connection), b"l") for one in snapshot.members if one.node == name
            ]
            gone += LAST_WORDS
            for at in range(0, len(gone), REMOVED_AT_ONCE):
                await self._node.append(app, channel, keys, gone[at : at + REMOVED_AT_ONCE], name)
        await self._node.line.ask(b"DEL", left)

    def _key(self, name: str, shard: int) -> bytes:
        return left_by(self._node.prefix, name, shard)


def _joined(app: str, channel: str) -> bytes:
    return f"{app}\0{channel}".encode()
