"""Whether Redis still has what it had: a server may be emptied, start from an older copy, or be replaced by a replica.

Rule 1: a replica copies in order: where the last thing that was acknowledged to this node is there, all before it is.
Rule 2: where keys are on several servers, each shard that is used has a mark, which is missing where its server was
        emptied. Where there is but one, the epoch itself is missing.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

import trio

from sower.cluster import entries, scripts
from sower.cluster.keys import Keys, mark_of
from sower.cluster.line import Line

LATEST_KEPT = 60.0
"""Seconds that broadcasts can be read again."""

LATEST_AT_MOST = 256
"""Broadcasts of a channel that can be read again (SAY in scripts.py)."""


class Acknowledged(NamedTuple):
    """What this node had said last in a shard. first: its first serial. when: by trio's clock."""

    keys: Keys
    first: int
    when: float


class Memory:
    """What one node knows of it."""

    def __init__(self, line: Line, prefix: str) -> None:
        self._line = line
        self._prefix = prefix
        self._acknowledged: dict[int, Acknowledged] = {}
        self._marks: dict[int, bytes] = {}

    def note(self, keys: Keys, first: int) -> None:
        """This was acknowledged."""
        self._acknowledged[keys.shard] = Acknowledged(keys, first, trio.current_time())

    async def mark(self, keys: Keys) -> None:
        """Before something is read or said in a shard. Raises ClusterFailed."""
        if self._line.scattered and keys.shard not in self._marks:
            key = mark_of(self._prefix, keys.shard)
            await self._line.ask(b"SET", key, secrets.token_hex(4), b"NX")
            self._marks[keys.shard] = await self._line.ask(b"GET", key)

    def forget(self) -> None:
        """There is another epoch."""
        self._acknowledged.clear()
        self._marks.clear()

    async def marks_stand(self) -> bool:
        """Whether no server was emptied. Raises ClusterFailed."""
        marks = dict(self._marks)
        found = await self._line.ask_all([(b"GET", mark_of(self._prefix, shard)) for shard in marks])
        return found == list(marks.values())

    async def is_whole(self) -> bool:
        """Whether what was acknowledged is there, or may have been: it is not kept for ever. Raises ClusterFailed."""
        return await self.marks_stand() and all([await self._has(*one) for one in tuple(self._acknowledged.values())])

    async def _has(self, keys: Keys, first: int, when: float) -> bool:
        names, args = (keys.state, keys.latest, keys.here), (f"{first - 1:017d}",)
        head, payloads, _ = await self._line.run(scripts.MISSED, names, args)
        if any(entries.first_of(payload) == first for payload in payloads):
            return True
        age = trio.current_time() - when
        if not head and age > entries.STATE_KEPT:  # a silent channel is forgotten, the clock of its shard is not
            head = await self._line.ask(b"GET", keys.clock)
        gone = len(payloads) >= LATEST_AT_MOST or age > LATEST_KEPT
        return gone and int(head or 0) >= first
