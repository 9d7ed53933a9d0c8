"""The outbox that daemons share, in Redis: as that of one daemon (store/outbox.py), for whichever of them sends.

Rule 1: only the owner changes or reads it. Whoever was the owner and hung finds out at its next command, and sends
        nothing: a body is read before it is sent.
Rule 2: what facts led to is stored together with how far the facts were read, so none is told twice or skipped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from sower.cluster import scripts
from sower.cluster.keys import names_of
from sower.cluster.links import line_to
from sower.cluster.node import Node
from sower.config import Cluster
from sower.core.holdback import Standing
from sower.errors import ClusterFailed
from sower.store.outbox import Notice

LOOKED_UP_AT_ONCE = 500
"""Channels and users in one script: some milliseconds in which Redis does nothing else."""

NOTICES, BODIES, STANDING, READ = range(2, 6)
"""Which of the keys."""

_encode = msgspec.msgpack.Encoder().encode
_notice = msgspec.msgpack.Decoder(Notice).decode
_standing = msgspec.msgpack.Decoder(Standing).decode


class SharedOutbox:
    """As one node sees it. Every method raises ClusterFailed, and then nothing has changed.

    read: up to which fact each stream was read; stored with the next thing that is
    """

    def __init__(self, node: Node) -> None:
        self.read: dict[int, bytes] = {}
        self._node = node
        self._keys = keys_of(node.prefix)

    async def claim(self) -> bool:
        """Be the owner for another lease. Whether this node is."""
        args = (self._node.name, int(self._node.lease * 1000))
        return bool(await self._node.line.run(scripts.CLAIM, self._keys[:1], args))

    async def release(self) -> None:
        """Let another be it at once."""
        await self._node.line.run(scripts.RELEASE, self._keys[:1], (self._node.name,))

    async def load(self) -> tuple[list[Notice], list[Standing]]:
        """As of every outbox."""
        notices = await self._do((b"HGETALL", NOTICES))
        standing = await self._do((b"SMEMBERS", STANDING))
        read = await self._do((b"HGETALL", READ))
        self.read = {int(shard): upto for shard, upto in _pairs(read)}
        return notices_of(notices), sorted(map(_standing, standing), key=_members_first)

    async def over(self, standing: Sequence[Standing]) -> tuple[list[Standing], list[Standing]]:
        """Which of these hold no more, and which are on masters that are away. It does not raise."""
        by_shard: dict[bytes, list[Standing]] = defaultdict(list)
        for one in standing:
            by_shard[self._node.keys(one.app, one.channel).facts].append(one)
        holding: set[Standing] = set()
        unknown: list[Standing] = []
        for some in by_shard.values():
            for at in range(0, len(some), LOOKED_UP_AT_ONCE):
                part = some[at : at + LOOKED_UP_AT_ONCE]
                keys = [self._node.keys(one.app, one.channel) for one in part]
                names = [key.users if one.user else key.nodes for one, key in zip(part, keys, strict=True)]
                try:
                    answers = await self._node.line.run(scripts.STANDS, names, [one.user for one in part])
                except ClusterFailed:
                    unknown += part
                else:
                    holding.update(one for one, holds in zip(part, answers, strict=True) if holds)
        holding.update(unknown)
        return [one for one in standing if one not in holding], unknown

    async def store(
        self, posts: Iterable[tuple[Notice, bytes]], began: Iterable[Standing], ended: Iterable[Standing]
    ) -> None:
        """As of every outbox, and how far facts were read."""
        commands: list[tuple[Any, ...]] = []
        for notice, body in posts:
            commands.append((b"HSET", NOTICES, notice.id, _encode(notice)))
            commands.append((b"HSET", BODIES, notice.id, body))
        commands += [(b"SADD", STANDING, _encode(one)) for one in began]
        commands += [(b"SREM", STANDING, _encode(one)) for one in ended]
        commands += [(b"HSET", READ, shard, upto) for shard, upto in self.read.items()]
        if commands:
            await self._do(*commands)

    async def body(self, notice: Notice) -> bytes:
        """The body to send."""
        body = await self._do((b"HGET", BODIES, notice.id))
        if body is None:
            raise ClusterFailed("Redis has lost what was to be sent.")
        return body

    async def failed(self, notice: Notice) -> None:
        """Keep what an attempt has changed."""
        await self._do((b"HSET", NOTICES, notice.id, _encode(notice)))

    async def delete(self, *notices: Notice) -> None:
        """Forget notices that were accepted or given up."""
        if notices:
            ids = [notice.id for notice in notices]
            await self._do((b"HDEL", NOTICES, *ids), (b"HDEL", BODIES, *ids))

    async def _do(self, *commands: tuple[Any, ...]) -> Any:
        args: list[Any] = [self._node.name]
        for command in commands:
            args += [len(command), *command]
        return await self._node.line.run(scripts.OWNED, self._keys, args)


def keys_of(prefix: str) -> list[bytes]:
    """What the outbox's keys are called: all in one slot."""
    return [f"{prefix}:{{webhooks}}:{name}".encode() for name in ("owner", "notices", "bodies", "standing", "read")]


async def waiting(cluster: Cluster) -> tuple[str, list[Notice]]:
    """Which node sends, if any does, and what waits, oldest first. Raises ClusterFailed."""
    owner, notices, *_ = keys_of(cluster.prefix)
    line = line_to(cluster.url, replicas=0, heard=_deaf)
    async with line.open():
        sender = await line.ask(b"GET", owner) or b""
        name = await line.ask(b"HGET", names_of(cluster.prefix), sender) if sender else None
        return (name or sender).decode(), notices_of(await line.ask(b"HGETALL", notices))


def notices_of(answer: Any) -> list[Notice]:
    """What Redis has of notices, oldest first."""
    return sorted((_notice(value) for _, value in _pairs(answer)), key=lambda notice: notice.id)


def _pairs(answer: Sequence[bytes] | dict[bytes, bytes]) -> Iterable[tuple[bytes, bytes]]:
    """A hash: scripts answer it as a list, commands as a map."""
    return answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)


def _deaf(topic: bytes, payload: bytes) -> None:
    """Nothing is subscribed to."""


def _members_first(one: Standing) -> tuple[str, str, bool]:
    """A channel comes after its members, so that it ends after them."""
    return one.app, one.channel, not one.user
