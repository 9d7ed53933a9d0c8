"""Tokens that are no longer good: those of a user, of a group or for a channel that were issued before a moment.

Rule 1: a token that does not say when it was issued counts as issued before every moment.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from sower.core.grants import Grant

MOST = 10_000
"""Revocations that are remembered of one key; the oldest is forgotten past them."""


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
    """All that count."""

    def __init__(self) -> None:
        self._by_key: dict[str, dict[tuple[By, str], Revocation]] = {}

    def add(self, revocation: Revocation) -> None:
        """From now on."""
        of_key = self._by_key.setdefault(revocation.key, {})
        known = of_key.pop((revocation.by, revocation.value), revocation)
        of_key[revocation.by, revocation.value] = max(known, revocation, key=lambda one: one.before)
        if len(of_key) > MOST:
            del of_key[next(iter(of_key))]

    def hit(self, grant: Grant) -> bool:
        """Whether this grant's token is revoked."""
        of_key = self._by_key.get(grant.key)
        return of_key is not None and any(revocation.hits(grant) for revocation in of_key.values())
