"""Revoking tokens: at once for whoever shows one, at once or soon for whoever is connected, and over restarts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial

from sower.access import Access
from sower.activity import Activity
from sower.clients import Clients
from sower.core.answer import Revoked
from sower.core.command import Revoke
from sower.core.grants import Grant
from sower.core.revocations import Revocation
from sower.errors import NeedsKey, TokenRevoked
from sower.store import revocations as table
from sower.store.journal import Journal


class Revoking:
    """now: seconds since 1970. spread: has a revocation apply, on every daemon that there is."""

    def __init__(
        self, access: Access, clients: Clients, activity: Activity, journal: Journal, *, now: Callable[[], float]
    ) -> None:
        self._access = access
        self._clients = clients
        self._activity = activity
        self._journal = journal
        self._now = now
        self.spread: Callable[[Revocation, float | None], Awaitable[None]] = self._here

    async def read(self) -> None:
        """Take up what was revoked before this start. Raises JournalFailed."""
        for revocation in await self._journal.read(table.kept):
            self._access.revocations.add(revocation)

    async def do(self, grant: Grant, address: str, command: Revoke) -> Revoked:
        """Revoke tokens. Raises NeedsKey, TooManyRevoked; JournalFailed where they are revoked until the daemon is
        started anew.
        """
        if not grant.keyed or grant.key != command.key:
            raise NeedsKey(f"Tokens of {command.key[:64]!r} are revoked by who shows that key itself.")
        self._access.revocations.demand_room(command.key, command.targets)
        now = self._now()
        before = now if command.before is None else min(command.before, now)
        for by, value in command.targets:
            revocation = Revocation(command.key, by, value, before)
            await self.spread(revocation, now + command.margin if command.margin else None)
            await self._journal.change(partial(table.keep, revocation=revocation))
            self._activity.revoked(grant, address, revocation)
        return Revoked(before, now + command.margin)

    async def _here(self, revocation: Revocation, at: float | None) -> None:
        self.apply(revocation, at)

    def apply(self, revocation: Revocation, at: float | None) -> None:
        """From now on. at: when whoever is connected with such a token ends, seconds since 1970, None for now."""
        self._access.revocations.add(revocation)
        self._end(revocation, at)

    def _end(self, revocation: Revocation, at: float | None) -> None:
        """End who is connected with such a token, at once or at a moment."""
        for session in self._clients.reader:
            if not revocation.hits(session.grant):
                continue
            if at is None:
                session.end(TokenRevoked())
            elif session.grant.expires is None or session.grant.expires > at:
                session.grant = replace(session.grant, expires=at)
                self._clients.look_again(session, at - self._now())
                session.ask()
