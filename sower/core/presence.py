"""Who is in a channel: members by user id, each with one or more connections.

Rule 1: a user's first connection makes a Joined, the last one that goes makes a Left; what lies between is silent.
Rule 2: with a grace period the Left waits, so that a page reload is silent.
Rule 3: nothing here outlives the process, so a restart leaves no ghosts.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from sower.core.message import Joined, Left, Updated
from sower.errors import TooMany


class MemberView(NamedTuple):
    """A member as it is shown. meta: JSON bytes."""

    user: str
    meta: bytes
    connections: int


class _Member:
    __slots__ = ("connections", "meta")

    def __init__(self, meta: bytes) -> None:
        self.meta = meta
        self.connections: set[Hashable] = set()


class Presence:
    """The members of one channel.

    grace: seconds that a member without connections stays
    most:  members at the same time; one more raises TooMany
    """

    __slots__ = ("_leaving", "_members", "_most", "grace")

    def __init__(self, grace: float, most: int) -> None:
        self.grace = grace
        self._most = most
        self._members: dict[str, _Member] = {}
        self._leaving: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._members)

    def enter(
        self, user: str, connection: Hashable, meta: bytes | None = None, most: int | None = None
    ) -> Joined | Updated | None:
        """A connection of `user` came. A meta of None leaves what is there. most: its protocol's own limit.

        Raises TooMany.
        """
        member = self._members.get(user)
        if member is None:
            most = self._most if most is None else min(most, self._most)
            if len(self._members) >= most:
                raise TooMany(
                    f"The channel has {len(self._members)} members; limits.members or its protocol allow {most}."
                )
            member = self._members[user] = _Member(b"null" if meta is None else meta)
            member.connections.add(connection)
            return Joined(user, member.meta)
        member.connections.add(connection)
        self._leaving.pop(user, None)
        return None if meta is None else self.update(user, meta)

    def update(self, user: str, meta: bytes) -> Updated | None:
        """Replace a member's meta. None where nothing changes or nobody is there."""
        member = self._members.get(user)
        if member is None or member.meta == meta:
            return None
        member.meta = meta
        return Updated(user, meta)

    def leave(self, user: str, connection: Hashable, now: float, *, at_once: bool = False) -> Left | None:
        """A connection of `user` went. at_once: the user asked for it, so no grace period."""
        member = self._members.get(user)
        if member is None or connection not in member.connections:
            return None
        member.connections.discard(connection)
        if member.connections:
            return None
        if at_once or self.grace <= 0:
            return self._remove(user, lost=not at_once)
        self._leaving[user] = now + self.grace
        return None

    def expire(self, now: float) -> list[Left]:
        """Take away the members whose grace period is over at `now`."""
        over = [user for user, at in self._leaving.items() if at <= now]
        return [self._remove(user, lost=True) for user in over]

    def next_expiry(self) -> float | None:
        """When the first grace period ends. All have one length, so the oldest ends first."""
        return next(iter(self._leaving.values()), None)

    def view(self) -> list[MemberView]:
        """Every member, in the order in which they joined."""
        return [MemberView(user, m.meta, len(m.connections)) for user, m in self._members.items()]

    def find(self, user: str) -> MemberView | None:
        """One member, where it is here."""
        member = self._members.get(user)
        return None if member is None else MemberView(user, member.meta, len(member.connections))

    def _remove(self, user: str, *, lost: bool) -> Left:
        self._leaving.pop(user, None)
        return Left(user, self._members.pop(user).meta, lost)
