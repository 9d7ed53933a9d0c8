"""Tokens in a protocol's own format: signing them, and accepting one no longer."""

from __future__ import annotations

from collections.abc import Callable

from sower.access import Access
from sower.activity import Activity
from sower.core.answer import Acknowledged
from sower.core.grants import Grant, check_signature, sign
from sower.core.polling import Vouch, Vouched, Withdraw
from sower.errors import BadRequest, BadSignature, Forbidden, TooManyRevoked
from sower.store.journal import Journal
from sower.store.shelf import Shelf

MOST_WITHDRAWN = 100_000
"""Tokens that are revoked one by one and have not expired: some 20 MB. PubNub's are good for 30 days at most."""


class Vouching:
    """Only whoever holds the secret does either. ended: told of each token that is accepted no longer."""

    def __init__(self, access: Access, activity: Activity, journal: Journal, shelf: Shelf) -> None:
        self._access = access
        self._activity = activity
        self._journal = journal
        self._shelf = shelf
        self.ended: Callable[[str], None] = _unheard
        shelf.withdrawn = self._withdraw

    async def load(self) -> None:
        """Read which tokens are revoked. Raises JournalFailed."""
        self._access.revoked.update(await self._shelf.revoked())

    async def vouch(self, grant: Grant, address: str, command: Vouch) -> Vouched:
        """Sign a token. Raises Forbidden."""
        self._demand_server(grant)
        said = command.said(self._journal.now())
        self._activity.minted(grant, address, "", None)
        return Vouched(said, sign(self._access.credential(grant.key).secret, said))

    async def revoke(self, grant: Grant, address: str, command: Withdraw) -> Acknowledged:
        """Accept a token no longer, over restarts too. Raises Forbidden, BadRequest, TooManyRevoked."""
        self._demand_server(grant)
        now = self._journal.now()
        try:
            check_signature(self._access.credential(grant.key), (command.signed,), command.signature)
        except BadSignature as error:
            raise BadRequest("Invalid token: it is not one of this key.") from error
        if command.expires <= now:
            raise BadRequest("Invalid token: it has expired already.")
        self._forget_expired()
        if len(self._access.revoked) >= MOST_WITHDRAWN:
            raise TooManyRevoked(f"{MOST_WITHDRAWN} tokens are revoked and have not expired.")
        await self._shelf.revoke(command.signature, command.expires)
        return Acknowledged()

    def _withdraw(self, signature: str, expires: float) -> None:
        """From now on."""
        self._forget_expired()
        self._access.revoked[signature] = expires
        self.ended(signature)

    def _forget_expired(self) -> None:
        """Those need no longer be known."""
        revoked, old = self._access.revoked, self._journal.ages()
        for name in [name for name, until in revoked.items() if until <= old]:
            del revoked[name]

    def _demand_server(self, grant: Grant) -> None:
        if not grant.server:
            raise Forbidden("Only a server, which signs with the secret key, grants and revokes tokens.")


def _unheard(token: str) -> None:
    """Before anybody polls."""
