"""Who is let in: credentials -> Grant, or the refusal that says why.

Rule 1: every dialect's credentials end here, so there is one place to read and one to audit.
Rule 2: an address that is refused too often is told to wait, and no longer why.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import trio

from sower.config import App, Limits
from sower.core.command import Credentials, Proof, Signature
from sower.core.grants import Credential, Grant, anonymous, check_secret, check_signature, key_grant, verify
from sower.core.limits import Buckets
from sower.core.revocations import Revocations
from sower.dialects.ably.keys import ably_keys
from sower.dialects.pubnub.keys import pubnub_key
from sower.errors import (
    AppDisabled,
    BadSignature,
    NotAuthorised,
    RateLimited,
    RequestRepeated,
    SowerError,
    StaleRequest,
    TokenRevoked,
    UnknownKey,
    UserMismatch,
    WrongSecret,
)

MOST_NONCES = 100_000
"""Nonces of signed requests that are remembered: four minutes of 400 a second."""


class Access:
    """The apps and their keys. now: seconds since 1970.

    revoked: what tokens are called (Grant.group) that are accepted no longer, and when they expire (seconds since 1970)
    """

    def __init__(self, apps: Sequence[App], limits: Limits, *, now: Callable[[], float]) -> None:
        self.apps: dict[str, App] = {}
        self.revocations = Revocations()
        self._nonces: dict[tuple[str, str], float] = {}
        self.revoked: dict[str, float] = {}
        self._now = now
        self.use(apps, limits)

    def use(self, apps: Sequence[App], limits: Limits) -> None:
        """Go on with these apps. Who is connected to one that is gone stays so."""
        self.apps.update({app.id: app for app in apps})
        self._credentials = {credential.key: credential for app in apps for credential in _credentials(app)}
        self._first = apps[0].key if apps else ""
        self._anonymous = {c.key: anonymous(c.app, c.key, None) for c in self._credentials.values() if c.claims is None}
        self._keyed = {c.key: key_grant(c, None) for c in self._credentials.values()}
        self._refusals = Buckets(limits.refusals)

    def authorise(self, shown: Credentials) -> Grant:
        """The grant for what was shown. No key named: the first app.

        Raises UnknownKey, WrongSecret, BadToken, BadSignature, TokenExpired, TokenRevoked, UserMismatch, AppDisabled.
        """
        grant = self._grant(shown) if shown.signature is None else self._by_signature(shown.signature)
        if not grant.keyed and self.revocations.hit(grant):
            raise TokenRevoked()
        if not self.apps[grant.app].enabled:
            raise AppDisabled(f"The app {grant.app} is switched off.")
        return grant

    def _grant(self, shown: Credentials) -> Grant:
        if shown.token is not None:
            return self._by_token(shown)
        key = self._first if shown.key is None else shown.key
        credential = self._known(key)
        if shown.secret is not None:
            check_secret(credential, shown.secret.encode())
            return self._keyed[key] if shown.user is None else key_grant(credential, shown.user)
        if credential.claims is not None:
            raise WrongSecret(f"The key {key[:64]!r} needs its secret.")
        return self._anonymous[key] if shown.user is None else anonymous(credential.app, key, shown.user)

    def check(self, key: str, proof: Proof) -> None:
        """Accept what was signed with the secret of this key. Raises BadSignature."""
        if proof.key != key:
            raise BadSignature(f"The signature is of the key {proof.key[:64]!r}, this connection of {key!r}.")
        check_signature(self._known(key), (proof.signed,), proof.signature)

    def credential(self, key: str) -> Credential:
        """The credential of a key, to mint with. Raises UnknownKey: a reload may have taken it away."""
        return self._known(key)

    def refusal(self, address: str, error: SowerError) -> SowerError:
        """The error that a refused address is told: its own, or to wait where it is refused too often."""
        if not isinstance(error, NotAuthorised):
            return error
        wait = self._refusals.take(address, trio.current_time())
        if not wait:
            return error
        return RateLimited("This address was refused too often, limits.refusals.", retry_after=wait)

    def _known(self, key: str) -> Credential:
        credential = self._credentials.get(key)
        if credential is None:
            raise UnknownKey(f"No app has the key {key[:64]!r}.")
        return credential

    def _by_signature(self, shown: Signature) -> Grant:
        credential = self._credentials.get(shown.key) or self._known(shown.key)
        if shown.app is not None and shown.app != credential.app:
            raise BadSignature(f"The key {shown.key!r} is not of the app {shown.app!r}.")
        off = self._now() - shown.timestamp
        if not abs(off) <= shown.skew:
            raise StaleRequest(f"The request's time is {off:.0f} s off; at most {shown.skew:.0f} s are allowed.")
        check_signature(credential, shown.signed, shown.signature)
        if shown.nonce is not None:
            self._use(shown.key, shown.nonce, shown.skew)
        return self._keyed[shown.key]

    def _use(self, key: str, nonce: str, skew: float) -> None:
        """Note a nonce for as long as its request can be repeated. Raises RequestRepeated, RateLimited."""
        now = trio.current_time()
        while self._nonces and next(iter(self._nonces.values())) <= now:
            del self._nonces[next(iter(self._nonces))]
        if (key, nonce) in self._nonces:
            raise RequestRepeated(f"The nonce {nonce[:64]!r} was used already.")
        if len(self._nonces) >= MOST_NONCES:
            raise RateLimited(f"{MOST_NONCES} signed requests came within {skew:.0f} s.", retry_after=skew)
        self._nonces[key, nonce] = now + 2 * skew

    def _by_token(self, shown: Credentials) -> Grant:
        if shown.verify is not None:
            grant = shown.verify(shown.token or "", self._credentials, self._now())
        else:
            grant = verify(shown.token or "", self._credentials, now=self._now())
        if grant.group in self.revoked:
            raise TokenRevoked()
        if shown.key is not None and shown.key != grant.key:
            raise UnknownKey("The token was not minted with the key of this request.")
        if shown.user is not None and grant.any_user:
            return replace(grant, user=shown.user, any_user=False)
        if shown.user is not None and shown.user != grant.user:
            whose = f"for {grant.user[:64]!r}" if grant.user is not None else "for nobody in particular"
            raise UserMismatch(f"The token is {whose}, not for {shown.user[:64]!r}.")
        return grant


def key_names(app: App) -> set[str]:
    """What all keys of an app are called."""
    return {credential.key for credential in _credentials(app)}


def _credentials(app: App) -> list[Credential]:
    """All keys of an app: its own, and those that it has for one protocol."""
    old = app.old_secret.encode() if app.old_secret else None
    own = Credential(app=app.id, key=app.key, secret=app.secret.encode(), old_secret=old)
    return [own, pubnub_key(app, own), *ably_keys(app, own)]
