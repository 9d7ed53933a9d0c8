"""What clients keep on the server besides messages: groups of channels, revoked tokens, requests that are used up,
actions on messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from sower.core.polling import Reaction
from sower.errors import RequestRepeated
from sower.store import polling as tables
from sower.store.journal import Journal


class Shelf(Protocol):
    """regrouped: told of each change: app, group, channels that came and that went. withdrawn: of each revoked token.

    All raise JournalFailed, or ClusterFailed where it is in Redis.
    """

    regrouped: Callable[[str, str, Iterable[str], Iterable[str]], None]
    withdrawn: Callable[[str, float], None]

    async def groups(self) -> list[tuple[str, str, str]]:
        """Every channel of every group: app, group, channel, in the order in which they were added."""
        ...

    async def change_group(self, app: str, group: str, add: Sequence[str], remove: Sequence[str]) -> None:
        """Add channels to a group, and take others out."""
        ...

    async def revoked(self) -> list[tuple[str, float]]:
        """What revoked tokens are called that have not expired, and when they will, in seconds since 1970."""
        ...

    async def revoke(self, name: str, expires: float) -> None:
        """Remember a revoked token until it expires."""
        ...

    async def use_up(self, name: str, seconds: float) -> None:
        """Something of this name is used, and not again within so many seconds. Raises RequestRepeated."""
        ...

    async def names_since(self, app: str, prefix: str, serial: int, most: int) -> list[str]:
        """The channels whose name begins with `prefix` and that have stored something after a serial."""
        ...

    async def add_reaction(self, app: str, channel: str, reaction: Reaction, most: int) -> int:
        """Add an action to a message that the channel has, until it has it no more. Raises NoSuchMessage.

        Returns the serial that it got, 0 where it was there, or the message has as many as it may.
        """
        ...

    async def remove_reaction(self, app: str, channel: str, message: int, at: int) -> Reaction | None:
        """Take an action away. Returns it, None where it is not there."""
        ...

    async def reactions(
        self, app: str, channel: str, since: int, before: int, limit: int
    ) -> tuple[list[Reaction], bool]:
        """The newest actions between two exclusive serials, oldest first, and whether there are older ones."""
        ...

    async def reactions_on(self, app: str, channel: str, first: int, last: int) -> list[Reaction]:
        """The actions on the messages between two serials, both included."""
        ...


class JournalShelf:
    """In the journal's file."""

    def __init__(self, journal: Journal) -> None:
        self.regrouped: Callable[[str, str, Iterable[str], Iterable[str]], None] = _unheard
        self.withdrawn: Callable[[str, float], None] = _unnoted
        self._journal = journal

    async def groups(self) -> list[tuple[str, str, str]]:
        """As Shelf.groups."""
        return await self._journal.read(tables.groups)

    async def change_group(self, app: str, group: str, add: Sequence[str], remove: Sequence[str]) -> None:
        """As Shelf.change_group."""
        await self._journal.change(partial(tables.change_group, app=app, group=group, add=add, remove=remove))
        self.regrouped(app, group, add, remove)

    async def revoked(self) -> list[tuple[str, float]]:
        """As Shelf.revoked."""
        return await self._journal.read(partial(tables.revoked, now=self._journal.ages()))

    async def revoke(self, name: str, expires: float) -> None:
        """As Shelf.revoke. A clock that is set back must not bring a revoked token to life again."""
        await self._journal.change(partial(tables.revoke, name=name, expires=expires, now=self._journal.ages()))
        self.withdrawn(name, expires)

    async def use_up(self, name: str, seconds: float) -> None:
        """As Shelf.use_up."""
        until, now = self._journal.now() + seconds, self._journal.ages()
        if not await self._journal.change(partial(tables.use_up, name=name, until=until, now=now)):
            raise RequestRepeated()

    async def names_since(self, app: str, prefix: str, serial: int, most: int) -> list[str]:
        """As Shelf.names_since."""
        return await self._journal.read(lambda db: tables.names_since(db, app, prefix, serial, most))

    async def add_reaction(self, app: str, channel: str, reaction: Reaction, most: int) -> int:
        """As Shelf.add_reaction."""
        add = partial(tables.add_reaction, app=app, channel=channel, reaction=reaction, most=most)
        return reaction.at if await self._journal.change(add) else 0

    async def remove_reaction(self, app: str, channel: str, message: int, at: int) -> Reaction | None:
        """As Shelf.remove_reaction."""
        return await self._journal.change(
            partial(tables.remove_reaction, app=app, channel=channel, message=message, at=at)
        )

    async def reactions(
        self, app: str, channel: str, since: int, before: int, limit: int
    ) -> tuple[list[Reaction], bool]:
        """As Shelf.reactions."""
        return await self._journal.read(
            partial(tables.reactions, app=app, channel=channel, since=since, before=before, limit=limit)
        )

    async def reactions_on(self, app: str, channel: str, first: int, last: int) -> list[Reaction]:
        """As Shelf.reactions_on."""
        return await self._journal.read(partial(tables.reactions_on, app=app, channel=channel, first=first, last=last))


def _unheard(app: str, group: str, came: Iterable[str], went: Iterable[str]) -> None:
    """Where nobody follows groups."""


def _unnoted(name: str, expires: float) -> None:
    """Where no tokens are checked."""
