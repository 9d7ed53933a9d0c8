"""Who is present on a channel, as its log says it.

Rule 1: what clients of this node do is an intent: it is appended to the log, and shows when the log says it.
Rule 2: what the log says is applied on every node in the same order, so every node shows the same.
Rule 3: a connection has an owner here where it is a client of this node. Its grace period runs here.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Hashable, Iterable, Sequence

import msgspec

from sower.cluster.entries import Entered, Entry, Gone, Here, OfMember, TakenOver
from sower.core.message import Appearance
from sower.core.presence import Change, Presence
from sower.errors import TooMany

Key = tuple[str, str]
"""A user and the name of a connection of theirs."""


class Replica(Presence):
    """node: the name of this one. intents: what is to be appended, each with how (see SAY in scripts.py)."""

    __slots__ = ("_away", "_coming", "_going", "_limit", "intents", "node")

    def __init__(self, grace: float, most: int, node: str) -> None:
        super().__init__(grace, sys.maxsize)
        self.node = node
        self.intents: list[tuple[Entry, bytes]] = []
        self._limit = most
        self._coming: dict[Key, Hashable] = {}
        """Clients of this node that the log does not know yet."""
        self._going: set[Key] = set()
        """Those whose end this node has asked for."""
        self._away: dict[str, set[str]] = {}
        """Connections that are clients of other nodes -> their users."""

    @property
    def own(self) -> bool:
        """Whether there are members that are clients of this node, or will be."""
        return bool(self._coming or self.intents) or any(owner is not None for _, owner in self._owners())

    def is_own(self, user: str) -> bool:
        """Whether a user is present with a client of this node."""
        member = self._members.get(user)
        return member is not None and any(one.owner is not None for one in member.connections.values())

    # What clients of this node do

    def enter(self, said: Appearance, owner: Hashable, *, keep: bool = False, most: int | None = None) -> list[Change]:
        """As Presence.enter, to be told when the log says it. Raises TooMany."""
        key = said.user, said.connection
        if said.user not in self._members:
            most = self._limit if most is None else min(most, self._limit)
            if len(self._members) >= most:
                raise TooMany(f"The channel has {len(self)} members; limits.members or its protocol allow {most}.")
        self._remain(key, owner)
        self._going.discard(key)
        self._coming[key] = owner
        self.intents.append((self._entered(said, keep=keep), b"e"))
        return []

    def update(self, said: Appearance, owner: Hashable) -> list[Change]:
        """As Presence.update, to be told when the log says it."""
        if (said.user, said.connection) in self._coming:
            return self.enter(said, owner)
        return super().update(said, owner)

    def leave(
        self,
        user: str,
        connection: str,
        owner: Hashable,
        now: float,
        serial: int,
        *,
        at_once: bool = False,
        grace: float | None = None,
        said: Appearance | None = None,
    ) -> list[Change]:
        """As Presence.leave; the end is told when the log says it."""
        coming = self._coming.get((user, connection)) is owner
        member = self._members.get(user)
        here = member.connections.get(connection) if member is not None else None
        if not coming and (here is None or here.owner is not owner):
            return []
        grace = self.grace if grace is None else grace
        if not coming and not at_once and grace > 0:
            return super().leave(user, connection, owner, now, serial, grace=grace)
        gone = Gone(user, connection, lost=not at_once)
        if said is not None:
            gone = Gone(user, connection, not at_once, True, said.meta, said.id, said.extra)
        self._go(gone)
        return []

    def adopt(self, connection: str, owner: Hashable) -> tuple[str, ...]:
        """As Presence.adopt, also from another node."""
        users = super().adopt(connection, owner)
        away = tuple(self._away.get(connection, ()))
        for user in away:
            self._coming[user, connection] = owner
            self.intents.append((TakenOver(user, connection, self.node), b"a"))
        return users + away

    def expire(self, now: float, serial: int) -> list[Change]:
        """The grace periods that are over end when the log says it."""
        for connection, user, until in self._grace_periods():
            if until <= now:
                self._stay(user, connection, self._members[user].connections[connection])
                self._go(Gone(user, connection))
        return []

    def give_up(self, keys: Collection[Key]) -> None:
        """The comings of these were refused; that others of them went is still to be said."""
        for key in keys:
            self._coming.pop(key, None)
        self.intents = [
            (entry, how)
            for entry, how in self.intents
            if not (isinstance(entry, Entered) and not entry.again and (entry.user, entry.connection) in keys)
        ]

    # What the log says

    def apply(self, entry: OfMember, serial: int) -> list[Change]:
        """The log says this."""
        if isinstance(entry, TakenOver):
            self._take_over(entry)
            return []
        changes = self._enter(entry, serial) if isinstance(entry, Entered) else self._leave(entry, serial)
        return [msgspec.structs.replace(change, serial=serial) for change in changes]

    def resume(self, members: Sequence[Here], serial: int, *, trusted: bool) -> list[Change]:
        """Be as Redis says it is now. Clients of this node that it does not know are said again.

        serial:  of this moment
        trusted: False where Redis may have forgotten clients of other nodes, who will be said again too
        """
        changes: list[Change] = []
        known = {(here.entry.user, here.entry.connection): here for here in members}
        for (user, name), owner in self._owners():
            here, connection = known.get((user, name)), self._members[user].connections[name]
            if owner is None:
                if here is None and trusted:
                    changes += self._leave(Gone(user, name), serial)
            elif here is not None and here.node != self.node and connection.until is not None:
                self._take_over(TakenOver(user, name, here.node))
            elif here is None or here.node != self.node:
                self.intents.append((self._entered(connection.appearance, keep=True, again=True), b"r"))
        for key, here in known.items():
            member = self._members.get(key[0])
            connection = member.connections.get(key[1]) if member is not None else None
            if connection is None or connection.appearance.serial < here.serial:
                changes += self._enter(here.entry, here.serial, node=here.node)
        return changes

    def _go(self, gone: Gone) -> None:
        self._going.add((gone.user, gone.connection))
        self.intents.append((gone, b"l"))

    def _owners(self) -> Iterable[tuple[Key, Hashable]]:
        return [
            ((user, name), connection.owner)
            for user, member in self._members.items()
            for name, connection in member.connections.items()
        ]

    def _entered(self, said: Appearance, *, keep: bool, again: bool = False) -> Entered:
        return Entered(
            int(said.did), said.user, said.connection, said.meta, said.id, said.extra, self.node, keep, again
        )

    def _enter(self, entry: Entered, serial: int, node: str | None = None) -> list[Change]:
        key = entry.user, entry.connection
        member = self._members.get(entry.user)
        before = member.connections.get(entry.connection) if member is not None else None
        owner: Hashable = None
        if (node or entry.node) == self.node:
            owner = self._coming.pop(key, None) or (before.owner if before is not None else None)
            self._note(key, away=False)
            if owner is None:  # its client is gone, or was told that it is not here
                self._go(Gone(*key))
        else:
            self._note(key, away=True)
        if entry.again and before is not None:
            before.owner = owner
            return []
        until = before.until if before is not None and owner is before.owner else None
        changes = super().enter(entry.appearance(serial), owner, keep=entry.keep)
        if until is not None:  # what was said before it was lost
            self._members[entry.user].connections[entry.connection].until = until
            self._leaving.setdefault(entry.connection, set()).add(entry.user)
        return changes

    def _leave(self, entry: Gone, serial: int) -> list[Change]:
        key = entry.user, entry.connection
        self._note(key, away=False)
        member = self._members.get(entry.user)
        if member is None or entry.connection not in member.connections:
            return []
        there = member.connections[entry.connection]
        if there.owner is not None and key not in self._going:  # others took this node for dead
            self._coming[key] = there.owner
            self.intents.append((self._entered(there.appearance, keep=True), b"e"))
        self._going.discard(key)
        said = entry.appearance(serial) if entry.said else None
        return self._remove(entry.user, entry.connection, serial, lost=entry.lost, said=said)

    def _take_over(self, entry: TakenOver) -> None:
        key = entry.user, entry.connection
        owner = self._coming.pop(key, None) if entry.node == self.node else None
        self._note(key, away=entry.node != self.node)
        self._remain(key, owner)

    def _remain(self, key: Key, owner: Hashable) -> None:
        """Whoever it is now that has this connection: it does not leave."""
        member = self._members.get(key[0])
        connection = member.connections.get(key[1]) if member is not None else None
        if connection is not None:
            self._stay(key[0], key[1], connection)
            connection.owner = owner

    def _note(self, key: Key, *, away: bool) -> None:
        user, connection = key
        if away:
            self._away.setdefault(connection, set()).add(user)
            return
        users = self._away.get(connection)
        if users is not None:
            users.discard(user)
            if not users:
                del self._away[connection]
