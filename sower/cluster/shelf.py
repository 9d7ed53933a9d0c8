"""What clients that poll keep on the server, in Redis for all nodes. What it answers is what sower/store/shelf.py does.

{all}:used:... is there for as long as a signed request of this name is used up
{all}:groups   app, group, channel -> when it was added
{SHARD}:names  of an app: channels whose names have a dot -> when they stored something last, in seconds
:a             the actions on a channel's messages, each at its own serial
:b             message, user, kind, value -> the action; message -> how many actions it has
:n             message and action, in the order of messages
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sower.cluster import scripts
from sower.cluster.entries import STATE_OF_HISTORY_KEPT
from sower.cluster.keys import spoke_of
from sower.cluster.node import Node
from sower.cluster.words import GroupChanged, Withdrawn
from sower.core.message import SERIALS_PER_SECOND
from sower.core.polling import Reaction
from sower.errors import NoSuchMessage, RequestRepeated

BETWEEN = "\0"

WRITTEN = BETWEEN
"""A field that says that groups were there: without it, Redis has lost them."""

ACTIONS_KEPT = int(STATE_OF_HISTORY_KEPT * 1000)
"""Milliseconds after the last one that a channel's actions stay at least; and as long as its messages."""


class ClusterShelf:
    """Of all nodes."""

    def __init__(self, node: Node) -> None:
        self.regrouped: Callable[[str, str, Iterable[str], Iterable[str]], None] = _unheard
        self.withdrawn: Callable[[str, float], None] = _unnoted
        self._node = node
        self._groups = f"{node.prefix}:{{all}}:groups".encode()
        node.words.learn(GroupChanged, lambda word: self.regrouped(word.app, word.group, word.came, word.went))
        node.words.learn(Withdrawn, lambda word: self.withdrawn(word.name, word.expires))

    async def groups(self) -> list[tuple[str, str, str]]:
        """As Shelf.groups."""
        kept: dict[bytes, bytes] = await self._node.line.ask(b"HGETALL", self._groups)
        kept.pop(WRITTEN.encode(), None)
        names = [field.decode().split(BETWEEN) for field, _ in sorted(kept.items(), key=lambda one: int(one[1]))]
        return [(app, group, channel) for app, group, channel in names]

    async def lost_groups(self) -> bool:
        """Whether Redis knows of no groups, not even that there were none."""
        return not await self._node.line.ask(b"EXISTS", self._groups)

    async def change_group(self, app: str, group: str, add: Sequence[str], remove: Sequence[str]) -> None:
        """As Shelf.change_group."""
        now = self._node.clock()
        fields: dict[str, Any] = {WRITTEN: 1}
        fields.update({BETWEEN.join((app, group, channel)): now + at for at, channel in enumerate(add)})
        fields.update({BETWEEN.join((app, group, channel)): "" for channel in remove})
        await self._node.words.say(GroupChanged(app, group, tuple(add), tuple(remove)), self._groups, fields)

    async def revoked(self) -> list[tuple[str, float]]:
        """None yet: what is revoked is heard of, and was read before."""
        return []

    async def revoke(self, name: str, expires: float) -> None:
        """As Shelf.revoke."""
        await self._node.words.say(Withdrawn(name, expires))

    async def use_up(self, name: str, seconds: float) -> None:
        """As Shelf.use_up."""
        key = f"{self._node.prefix}:{{all}}:used:{name}".encode()
        if not await self._node.line.ask(b"SET", key, b"1", b"NX", b"PX", int(seconds * 1000)):
            raise RequestRepeated()

    async def names_since(self, app: str, prefix: str, serial: int, most: int) -> list[str]:
        """As Shelf.names_since; a second more, by what several clocks are apart."""
        since = serial / SERIALS_PER_SECOND - 1
        found = await self._node.line.ask(b"ZRANGEBYSCORE", spoke_of(self._node.prefix, app), since, b"+inf")
        names = [name.decode() for name in found]
        return [name for name in names if name.startswith(prefix)][:most]

    async def add_reaction(self, app: str, channel: str, reaction: Reaction, most: int) -> int:
        """As Shelf.add_reaction."""
        message, at = f"{reaction.message:017d}", f"{reaction.at:017d}"
        args = message, at, reaction.user, reaction.kind, reaction.value, most, ACTIONS_KEPT
        keys = self._node.keys(app, channel)
        added = await self._node.line.run(scripts.REACT, (*keys.actions, keys.kept), args, gated=True)
        if added == b"!":
            raise NoSuchMessage(f"The channel {channel[:64]!r} has no message {reaction.message}, or has it no longer.")
        return int(added)

    async def remove_reaction(self, app: str, channel: str, message: int, at: int) -> Reaction | None:
        """As Shelf.remove_reaction."""
        args = f"{message:017d}", f"{at:017d}"
        row = await self._node.line.run(scripts.UNREACT, self._keys(app, channel), args, gated=True)
        return _reaction(row) if row else None

    async def reactions(
        self, app: str, channel: str, since: int, before: int, limit: int
    ) -> tuple[list[Reaction], bool]:
        """As Shelf.reactions."""
        span = f"({max(before, 1)}-0", f"({since}-0"  # Redis takes no end at 0
        rows = await self._node.line.ask(b"XREVRANGE", self._keys(app, channel)[0], *span, b"COUNT", limit + 1)
        return [_reaction(row) for row in rows[:limit]][::-1], len(rows) > limit

    async def reactions_on(self, app: str, channel: str, first: int, last: int) -> list[Reaction]:
        """As Shelf.reactions_on."""
        args = f"{first:017d}", f"{last:017d}"
        rows = await self._node.line.read(scripts.REACTIONS, self._keys(app, channel), args)
        return sorted((_reaction(row) for row in rows), key=lambda reaction: reaction.at)

    def _keys(self, app: str, channel: str) -> tuple[bytes, bytes, bytes]:
        return self._node.keys(app, channel).actions


def _reaction(row: Sequence[Any]) -> Reaction:
    fields = row[1]
    message, user, kind, value = fields[1::2]
    return Reaction(int(message), int(row[0].partition(b"-")[0]), user.decode(), kind.decode(), value.decode())


def _unheard(app: str, group: str, came: Iterable[str], went: Iterable[str]) -> None:
    """Where nobody follows groups."""


def _unnoted(name: str, expires: float) -> None:
    """Where no tokens are checked."""
