"""How many follow each channel, on all nodes. Each node writes its own numbers; whoever asks adds those of the living.

Rule 1: the numbers of a node that is gone are read by nobody, and Redis drops them after a few leases.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

import trio

from sower.cluster.line import Line
from sower.errors import ClusterFailed

KEPT_FOR = 3
"""Leases that the numbers of a silent node stay."""


class Counts:
    """The numbers of one node. node: its name."""

    def __init__(self, line: Line, prefix: str, node: str, lease: float) -> None:
        self._line = line
        self._prefix = prefix
        self._node = node
        self._lease = lease
        self._own: dict[str, dict[str, int]] = {}
        self._changed: dict[tuple[str, str], None] = {}
        self._work = trio.Event()

    def set(self, app: str, channel: str, followers: int) -> None:
        """So many follow a channel here now."""
        channels = self._own.setdefault(app, {})
        if followers:
            channels[channel] = followers
        else:
            channels.pop(channel, None)
        self._changed[app, channel] = None
        self._work.set()

    def say_again(self) -> None:
        """Redis may have forgotten them."""
        self._changed.update({(app, channel): None for app, channels in self._own.items() for channel in channels})
        self._work.set()

    async def run(self) -> None:
        """Write what changed, until cancelled."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            changed, self._changed = self._changed, {}
            with suppress(ClusterFailed):  # all is said again when Redis is back
                for app in {app for app, _ in changed}:
                    await self._write(app, [channel for of, channel in changed if of == app])

    async def renew(self) -> None:
        """Keep them for another while. Raises ClusterFailed."""
        for app in self._own:
            await self._line.ask(b"PEXPIRE", self._key(self._node, app), int(self._lease * KEPT_FOR * 1000))

    async def elsewhere(self, app: str, nodes: Iterable[str]) -> Counter[str]:
        """How many follow each channel on other nodes. Raises ClusterFailed."""
        found: Counter[str] = Counter()
        for node in nodes:
            if node != self._node:
                answer = await self._line.ask(b"HGETALL", self._key(node, app))
                found.update({channel.decode(): int(count) for channel, count in answer.items()})
        return found

    async def elsewhere_on(self, app: str, channel: str, nodes: Iterable[str]) -> int:
        """How many follow one channel on other nodes. Raises ClusterFailed."""
        count = 0
        for node in nodes:
            if node != self._node:
                count += int(await self._line.ask(b"HGET", self._key(node, app), channel) or 0)
        return count

    async def _write(self, app: str, channels: Iterable[str]) -> None:
        own, key = self._own[app], self._key(self._node, app)
        kept = [part for channel in channels if channel in own for part in (channel, own[channel])]
        gone = [channel for channel in channels if channel not in own]
        if kept:
            await self._line.ask(b"HSET", key, *kept)
        if gone:
            await self._line.ask(b"HDEL", key, *gone)
        await self._line.ask(b"PEXPIRE", key, int(self._lease * KEPT_FOR * 1000))

    def _key(self, node: str, app: str) -> bytes:
        return f"{self._prefix}:followed:{node}:{app}".encode()
