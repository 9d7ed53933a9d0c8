"""Who is in a channel: members by user id, each with one or more connections, and what each of those said last.

Rule 1: a user's first connection makes a Joined, the last one that goes makes a Left; what lies between is silent.
Rule 2: whatever a connection does makes an Appearance, for protocols in which each connection is a member.
Rule 3: with a grace period a connection that is gone stays until the period is over, so that a page reload is silent,
        and so is a client that comes back under the same name.
Rule 4: nothing here outlives the process, so a restart leaves no ghosts.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

import msgspec

from sower.core.message import Appearance, Did, Joined, Left, Updated
from sower.errors import TooMany

Change = Joined | Left | Updated | Appearance


class MemberView(NamedTuple):
    """A member as it is shown. meta: JSON bytes."""

    user: str
    meta: bytes
    connections: int


class _Connection:
    """owner: whoever may take it away. until: when it is gone for good, None while it is there."""

    __slots__ = ("appearance", "owner", "until")

    def __init__(self, owner: Hashable, appearance: Appearance) -> None:
        self.owner = owner
        self.appearance = appearance
        self.until: float | None = None


class _Member:
    __slots__ = ("connections", "meta")

    def __init__(self, meta: bytes) -> None:
        self.meta = meta
        self.connections: dict[str, _Connection] = {}


class Presence:
    """The members of one channel.

    grace: seconds that a connection which is gone stays, where it does not say otherwise itself
    most:  members at the same time; one more raises TooMany
    """

    __slots__ = ("_leaving", "_members", "_most", "grace")

    def __init__(self, grace: float, most: int) -> None:
        self.grace = grace
        self._most = most
        self._members: dict[str, _Member] = {}
        self._leaving: dict[str, set[str]] = {}
        """Connection -> its users whose grace period runs."""

    def __len__(self) -> int:
        return len(self._members)

    @property
    def connections(self) -> int:
        """How many connections of members there are."""
        return sum(len(member.connections) for member in self._members.values())

    def enter(self, said: Appearance, owner: Hashable, *, keep: bool = False, most: int | None = None) -> list[Change]:
        """A connection of a user came, or says something new of itself.

        keep: it says nothing of the user, so that what is known already stays. most: its protocol's own limit.
        Raises TooMany.
        """
        member = self._members.get(said.user)
        changes: list[Change] = []
        if member is None:
            most = self._most if most is None else min(most, self._most)
            if len(self._members) >= most:
                count = len(self._members)
                raise TooMany(f"The channel has {count} members; limits.members or its protocol allow {most}.")
            member = self._members[said.user] = _Member(said.meta)
            changes.append(Joined(said.user, said.meta))
        elif not keep and member.meta != said.meta:
            member.meta = said.meta
            changes.append(Updated(said.user, said.meta))
        before = member.connections.get(said.connection)
        if before is None:
            member.connections[said.connection] = _Connection(owner, said)
            changes.append(said)
            return changes
        self._stay(said.user, said.connection, before)
        before.owner = owner
        if not _repeats(said, before.appearance, keep=keep):
            if said.id is None:
                said = msgspec.structs.replace(said, did=Did.UPDATED)  # it is the daemon's word that it entered
            before.appearance = said
            changes.append(said)
        return changes

    def update(self, said: Appearance, owner: Hashable) -> list[Change]:
        """A connection says something new of itself. Nothing where it is not there, or nothing is new."""
        member = self._members.get(said.user)
        connection = member.connections.get(said.connection) if member is not None else None
        if connection is None or (said.id is None and connection.appearance.meta == said.meta):
            return []
        return self.enter(said, owner)

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
        """A connection of `user` went.

        at_once: the client asked for it, so there is no grace period. grace: as of Presence
        said: its last words; where they say nothing of itself, what it said before is repeated
        """
        member = self._members.get(user)
        gone = member.connections.get(connection) if member is not None else None
        if gone is None or gone.owner is not owner:
            return []
        grace = self.grace if grace is None else grace
        if at_once or grace <= 0:
            return self._remove(user, connection, serial, lost=not at_once, said=said)
        gone.until = now + grace
        self._leaving.setdefault(connection, set()).add(user)
        return []

    def adopt(self, connection: str, owner: Hashable) -> tuple[str, ...]:
        """Somebody came back under this name: the users whose grace period that ends, without a word."""
        users = tuple(self._leaving.pop(connection, ()))
        for user in users:
            back = self._members[user].connections[connection]
            back.owner, back.until = owner, None
        return users

    def expire(self, now: float, serial: int) -> list[Change]:
        """Take away the connections whose grace period is over at `now`."""
        over = [(user, name) for name, user, until in self._grace_periods() if until <= now]
        return [change for user, name in over for change in self._remove(user, name, serial, lost=True, said=None)]

    def next_expiry(self) -> float | None:
        """When the first grace period ends."""
        return min((until for _, _, until in self._grace_periods()), default=None)

    def view(self) -> list[MemberView]:
        """Every member, in the order in which they joined."""
        return [MemberView(user, m.meta, len(m.connections)) for user, m in self._members.items()]

    def find(self, user: str) -> MemberView | None:
        """One member, where it is here."""
        member = self._members.get(user)
        return None if member is None else MemberView(user, member.meta, len(member.connections))

    def seen(self) -> list[Appearance]:
        """Every connection of every member, as it appeared last."""
        return [c.appearance for m in self._members.values() for c in m.connections.values()]

    def _grace_periods(self) -> list[tuple[str, str, float]]:
        return [
            (name, user, self._members[user].connections[name].until or 0.0)
            for name, users in self._leaving.items()
            for user in users
        ]

    def _stay(self, user: str, connection: str, stays: _Connection) -> None:
        if stays.until is None:
            return
        stays.until = None
        users = self._leaving[connection]
        users.discard(user)
        if not users:
            del self._leaving[connection]

    def _remove(self, user: str, connection: str, serial: int, *, lost: bool, said: Appearance | None) -> list[Change]:
        member = self._members[user]
        gone = member.connections.pop(connection)
        self._stay(user, connection, gone)
        last = gone.appearance
        if said is None:
            said = Appearance(Did.LEFT, user, connection, last.meta, serial, None, last.extra)
        elif said.meta == b"null" and said.extra is None:
            said = msgspec.structs.replace(said, meta=last.meta, extra=last.extra)
        if member.connections:
            return [said]
        del self._members[user]
        return [said, Left(user, member.meta, lost)]


def _repeats(said: Appearance, last: Appearance, *, keep: bool) -> bool:
    """Whether a connection says nothing that it did not say before: who polls says who it is again and again."""
    if said.id is not None:
        return said.id == last.id
    return keep or (said.meta, said.extra) == (last.meta, last.extra)
