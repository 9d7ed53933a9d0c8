"""Tokens that are no longer good: those of a user, of a group or for a channel that were issued before a moment.

Rule 1: a token that does not say when it was issued counts as issued before every moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

import msgspec

from sower.core.grants import Grant
from sower.errors import TooManyRevoked

MOST = 10_000
"""Revocations of one key."""


class By(StrEnum):
    """What tokens are revoked by. The names are Ably's."""

    USER = "clientId"
    GROUP = "revocationKey"
    CHANNEL = "channel"


class Revocation(msgspec.Struct, frozen=True):
    """before: seconds since 1970."""

    key: str
    by: By
    value: str
    before: float

    def hits(self, grant: Grant) -> bool:
        """Whether this grant's token is revoked."""
        if grant.key != self.key or grant.keyed or (grant.issued is not None and grant.issued >= self.before):
            return False
        if self.by is By.CHANNEL:
            return any(names.matches(self.value) for names, _ in grant.claims)
        return self.value == (grant.user if self.by is By.USER else grant.group)


class Revocations:
    """All that count: by key, by what tokens are revoked by, by its value."""

    def __init__(self) -> None:
        self._by_key: dict[str, dict[By, dict[str | None, Revocation]]] = {}

    def demand_room(self, key: str, targets: Iterable[tuple[By, str]]) -> None:
        """Whether a key may have these besides. Raises TooManyRevoked: none is forgotten for another."""
        of_key = self._by_key.get(key, {})
        new = {(by, value) for by, value in targets if value not in of_key.get(by, ())}
        if new and sum(map(len, of_key.values())) + len(new) > MOST:
            raise TooManyRevoked(f"The key {key[:64]!r} may have {MOST} revocations, with these it had more.")

    def add(self, revocation: Revocation) -> None:
        """From now on."""
        of_key = self._by_key.setdefault(revocation.key, {by: {} for by in By})
        known = of_key[revocation.by].get(revocation.value, revocation)
        of_key[revocation.by][revocation.value] = max(known, revocation, key=lambda one: one.before)

    def hit(self, grant: Grant) -> bool:
        """Whether this grant's token is revoked."""
        of_key = self._by_key.get(grant.key)
        if of_key is None:
            return False
        named = of_key[By.USER].get(grant.user), of_key[By.GROUP].get(grant.group)
        return any(one is not None and one.hits(grant) for one in (*named, *of_key[By.CHANNEL].values()))
