"""What each node says of itself, for all to read: a hash for each node and app.

Whoever asks puts together what the living say.

Rule 1: what a node says that is gone is read by nobody, and Redis drops it after a few leases.
Rule 2: a change is written first, and then told on a topic, where there is one.
Rule 3: what could not be written is written when Redis is back; what Redis forgot is said again.
Rule 4: what is said of an app is on the master that has the app, and waits for no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import trio

from sower.cluster.keys import said_by
from sower.cluster.line import Line
from sower.errors import ClusterFailed

KEPT_FOR = 3
"""Leases that the words of a silent node stay."""

GATHERED = 0.02
"""Seconds between two times that changes are written: a crowd that comes is told of a few times."""

Told = tuple[bytes, bytes]
"""A topic, and what is broadcast on it."""


class Board:
    """One kind of words. prefix: of all keys. node: the name of this one."""

    def __init__(self, line: Line, prefix: str, kind: str, node: str, lease: float) -> None:
        self.node = node
        self._line = line
        self._prefix = prefix
        self._kind = kind
        self._kept = int(lease * KEPT_FOR * 1000)
        self._own: dict[str, dict[str, bytes]] = {}
        self._changed: dict[str, dict[str, Told | None]] = {}
        """Of each app: fields that are not written yet."""
        self._work = trio.Event()

    def say(self, app: str, field: str, value: bytes | None, told: Told | None = None) -> None:
        """Say this from now on, None for nothing."""
        fields = self._own.setdefault(app, {})
        if value is None:
            fields.pop(field, None)
        else:
            fields[field] = value
        self._changed.setdefault(app, {})[field] = told
        self._work.set()

    def own(self, app: str, field: str) -> bytes | None:
        """What this node says."""
        return self._own.get(app, {}).get(field)

    def own_fields(self, app: str) -> Mapping[str, bytes]:
        """All that it says."""
        return self._own.get(app, {})

    def say_again(self) -> None:
        """Redis may have forgotten it."""
        for app, fields in self._own.items():
            self._changed[app] = dict.fromkeys(fields) | self._changed.get(app, {})
        self._work.set()

    async def run(self) -> None:
        """Write what changed, until cancelled."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            changed, self._changed = self._changed, {}
            async with trio.open_nursery() as nursery:
                for app, fields in changed.items():
                    nursery.start_soon(self._write, app, fields)
            await trio.sleep(GATHERED)

    async def _write(self, app: str, changed: dict[str, Told | None]) -> None:
        try:
            await self._line.ask_all(self._commands(app, changed))
        except ClusterFailed:
            self._changed[app] = changed | self._changed.get(app, {})

    async def renew(self) -> None:
        """Keep it for another while, and write what was refused. Raises ClusterFailed."""
        if self._changed:
            self._work.set()
        await self._line.ask_all([(b"PEXPIRE", self._key(self.node, app), self._kept) for app in self._own])

    async def elsewhere(self, app: str, nodes: Iterable[str]) -> list[Mapping[bytes, bytes]]:
        """All that each other node says. Raises ClusterFailed."""
        return await self._line.ask_all([(b"HGETALL", self._key(node, app)) for node in self._others(nodes)])

    async def elsewhere_on(self, app: str, field: str, nodes: Iterable[str]) -> dict[str, bytes]:
        """What other nodes say of one thing, by node. Raises ClusterFailed."""
        others = self._others(nodes)
        answers = await self._line.ask_all([(b"HGET", self._key(node, app), field) for node in others])
        return {node: value for node, value in zip(others, answers, strict=True) if value is not None}

    def _others(self, nodes: Iterable[str]) -> list[str]:
        return [node for node in nodes if node != self.node]

    def _commands(self, app: str, changed: Mapping[str, Told | None]) -> list[tuple[Any, ...]]:
        commands: list[tuple[Any, ...]] = []
        own, key = self._own[app], self._key(self.node, app)
        kept = [part for field in changed if field in own for part in (field, own[field])]
        gone = [field for field in changed if field not in own]
        if kept:
            commands.append((b"HSET", key, *kept))
        if gone:
            commands.append((b"HDEL", key, *gone))
        commands.append((b"PEXPIRE", key, self._kept))
        return commands + [(b"PUBLISH", *told) for told in changed.values() if told is not None]

    def _key(self, node: str, app: str) -> bytes:
        return said_by(self._prefix, self._kind, node, app)
