"""Credentials: what a key, a secret or a token allows. Tokens are JWTs (RFC 7519) signed with HS256.

Rule 1: the algorithm is pinned; a token does not choose how it is verified.
Rule 2: secrets are compared in `same` and nowhere else (PyJWT compares signatures the same way).
Rule 3: a token allows what its claims say, and besides only what anybody may do without one. With the claim
        `admin` it allows what the secret itself allows, until it expires.
"""

from __future__ import annotations

import hmac
import math
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Any, Protocol, cast

import jwt
import msgspec

from sower.core.message import check_event_name
from sower.core.rules import RESERVED, Pattern, Rules
from sower.errors import (
    BadEvent,
    BadSignature,
    BadToken,
    ClientEventsOff,
    Forbidden,
    NotAuthorised,
    TokenExpired,
    UnknownKey,
    WrongSecret,
)

# Migrating teams keep their vendor's secrets, and Pusher's have 20 characters.
warnings.filterwarnings("ignore", category=jwt.InsecureKeyLengthWarning)

# PyJWT's own types name a type of an optional dependency.
_encode = cast(Any, jwt.encode)  # pyright: ignore[reportUnknownMemberType]
_decode = cast(Any, jwt.decode)  # pyright: ignore[reportUnknownMemberType]

ALGORITHM = "HS256"

LEEWAY = 30.0
"""Seconds by which clocks may differ. PyJWT's users commonly take 10 to 60."""

MAX_TOKEN = 8 * 1024
"""Bytes of a token: what fits into a request's head. PubNub's limit is 32 KiB, nginx' header line 8 KiB."""

SECRETS_AT_HAND = 256
"""Secrets that are kept ready to sign with: OpenSSL takes longer to prepare one than to sign a short text."""

SHARED_CLAIMS = 256
"""Claims that grants share: a grant lives as long as its connection, and most tokens of an app say the same."""


class Can(StrEnum):
    """A capability on a channel.

    metadata:    to see how many follow it
    delete:      to delete its history
    update, delete -own, -any: to change messages, or mark them as deleted, of one's own or anybody's
    annotate:    to annotate messages
    annotations: to be told of each annotation
    """

    SUBSCRIBE = "subscribe"
    PUBLISH = "publish"
    PRESENCE = "presence"
    HISTORY = "history"
    METADATA = "metadata"
    DELETE = "delete"
    MANAGE = "manage"
    UPDATE_OWN = "update-own"
    UPDATE_ANY = "update-any"
    DELETE_OWN = "delete-own"
    DELETE_ANY = "delete-any"
    ANNOTATE = "annotate"
    ANNOTATIONS = "annotations"


USUAL = (Can.SUBSCRIBE, Can.PUBLISH, Can.PRESENCE, Can.HISTORY, Can.METADATA)
"""What a token allows that does not say what it allows."""

ONLY_GRANTED = frozenset(Can).difference(USUAL)
"""What nobody may do on a channel without a claim that names it, however open the channel is."""

HEARING = frozenset((Can.SUBSCRIBE, Can.ANNOTATIONS))
"""What lets a subscriber be told things."""

ALL = frozenset(USUAL)
"""What a `*` stands for."""


class Names(Protocol):
    """A set of channel names. text: how it is written."""

    @property
    def text(self) -> str: ...

    def matches(self, name: str) -> bool: ...


Claims = tuple[tuple[Names, frozenset[Can]], ...]


@dataclass(frozen=True, slots=True)
class Credential:
    """One of an app's keys.

    old_secret: still accepted while an app rotates
    claims:     what the key allows, None for everything
    protocol:   whose key it is where it signs tokens that no other key may sign, else empty
    """

    app: str
    key: str
    secret: bytes
    old_secret: bytes | None = None
    claims: Claims | None = None
    protocol: str = ""


@dataclass(frozen=True, slots=True)
class Grant:
    """What somebody may do.

    user:    who they are, where that is known
    expires: seconds since 1970, None for never
    server:  whether they hold the secret: everything is allowed
    claims:  what a token allows, by pattern
    meta:    JSON bytes that a token gives its member, None where it gives none
    closed:  whether the claims alone decide, on public channels too
    any_user: whether they may speak for anybody, message by message
    keyed:   whether they hold a key's secret, and no token made with it
    issued:  seconds since 1970, when the token was made
    group:   what the token can be revoked by, besides its user
    groups:  what a token allows on groups of channels
    """

    app: str
    key: str
    user: str | None = None
    expires: float | None = None
    server: bool = False
    claims: Claims = ()
    meta: bytes | None = None
    closed: bool = False
    any_user: bool = False
    keyed: bool = False
    issued: float | None = None
    group: str | None = None
    groups: Claims = ()

    def allows(self, can: Can, channel: str, rules: Rules, client_events: bool) -> bool:
        """Whether this is allowed. client_events: whether the app's clients may publish at all."""
        if self.server:
            return True
        if self.closed:
            return self.claimed(can, channel)
        if channel.startswith(RESERVED) or can is Can.METADATA:
            return False
        if can is Can.PUBLISH and not (client_events and rules.client_events):
            return False
        if can in ONLY_GRANTED:
            return self.claimed(can, channel)
        return not rules.private or self.claimed(can, channel)

    def claimed(self, can: Can, channel: str) -> bool:
        """Whether a token allows this, whatever the channel's rule."""
        return _claimed(self.claims, can, channel)

    def allows_group(self, can: Can, group: str) -> bool:
        """Whether this is allowed on a group of channels. Without a token anybody may: what is in it has rules."""
        return self.server or not self.closed or _claimed(self.groups, can, group)

    def proved(self, channel: str, can: frozenset[Can] = ALL) -> Grant:
        """This grant with one channel more. What had to be proved is proved, so it no longer ends."""
        return replace(self, claims=(*self.claims, _claim_on(channel, can)), expires=None)

    def without(self, channel: str) -> Grant:
        """This grant without what was proved for one channel."""
        claims = tuple(claim for claim in self.claims if claim[0].text != channel)
        return self if len(claims) == len(self.claims) else replace(self, claims=claims)

    def demand(self, can: Can, channel: str, rules: Rules, client_events: bool) -> None:
        """Raise what is missing: NotAuthorised without a token, ClientEventsOff, or Forbidden."""
        if self.allows(can, channel, rules, client_events):
            return
        if can is Can.PUBLISH and not (self.closed or (client_events and rules.client_events)):
            raise ClientEventsOff(f"Clients may not publish on {channel!r}.")
        if not self.claims and not self.closed:
            raise NotAuthorised(f"A token that allows {can.value} on {channel!r} is needed.")
        raise Forbidden(f"The credential does not allow {can.value} on {channel!r}.")

    def speaks_for(self, user: str) -> bool:
        """Whether a message may be said to be this user's."""
        return user == self.user or (self.user is None and (self.server or self.any_user))


def _claimed(claims: Claims, can: Can, name: str) -> bool:
    for which, allowed in claims:  # noqa: SIM110 - a generator for `any` costs more than the match
        if can in allowed and which.matches(name):
            return True
    return False


def anonymous(app: str, key: str, user: str | None) -> Grant:
    """The grant of who shows a key alone."""
    return Grant(app, key, user)


@lru_cache(SHARED_CLAIMS)
def server_grant(app: str, key: str, user: str | None = None) -> Grant:
    """The grant of who shows key and secret: one for all requests of a server."""
    return Grant(app, key, user, server=True, keyed=True)


def key_grant(credential: Credential, user: str | None) -> Grant:
    """The grant of who shows a key and its secret, and may say who they are."""
    if credential.claims is None:
        return server_grant(credential.app, credential.key, user)
    app, key, anybody = credential.app, credential.key, user is None
    return Grant(app, key, user, claims=credential.claims, closed=True, any_user=anybody, keyed=True)


def same(a: bytes, b: bytes) -> bool:
    """Whether two secrets are equal, in a time that does not tell where they differ."""
    return hmac.compare_digest(a, b)


def check_secret(credential: Credential, secret: bytes) -> None:
    """Accept the current or the retiring secret; an empty one proves nothing. Raises WrongSecret."""
    current = same(credential.secret, secret)
    old = credential.old_secret is not None and same(credential.old_secret, secret)
    if not secret or not (current or old):
        raise WrongSecret(f"The secret shown is not the one of the key {credential.key!r}.")


def sign(secret: bytes, text: str) -> str:
    """HMAC-SHA256 of a text in lower-case hexadecimal digits, as Pusher signs requests and subscriptions."""
    mac = _keyed(secret).copy()
    mac.update(text.encode())
    return mac.hexdigest()


@lru_cache(SECRETS_AT_HAND)
def _keyed(secret: bytes) -> hmac.HMAC:
    return hmac.new(secret, digestmod="sha256")


def check_signature(credential: Credential, signed: Iterable[str], signature: str) -> None:
    """Accept a signature over one of these texts with the current or the retiring secret. Raises BadSignature."""
    given, tried = signature.encode(), ""
    for text in signed:
        for secret in (credential.secret, credential.old_secret):
            if secret and same(sign(secret, text).encode(), given):
                return
        tried = tried or text
    raise BadSignature(f"The signature is not one of the key {credential.key!r} over {tried[:200]!r}.")


def mint(
    credential: Credential,
    *,
    channels: Mapping[str, Iterable[Can]],
    user: str | None,
    issued: float,
    expires: float,
    token_id: str,
    meta: object = None,
    admin: bool = False,
) -> str:
    """Make a token. issued, expires: seconds since 1970. channels: pattern -> capabilities. admin: as of rule 3."""
    claims: dict[str, object] = {
        "iat": int(issued),
        "exp": math.ceil(expires),
        "jti": token_id,
        "channels": {pattern: sorted(can) for pattern, can in channels.items()},
    }
    if user is not None:
        claims["sub"] = user
    if meta is not None:
        claims["meta"] = meta
    if admin:
        claims["admin"] = True
    return _encode(claims, credential.secret, ALGORITHM, headers={"kid": credential.key})


def verify(token: str, credentials: Mapping[str, Credential], *, now: float, leeway: float = LEEWAY) -> Grant:
    """Read a token. credentials: by key. Raises BadToken, UnknownKey, TokenExpired."""
    header = header_of(token)
    if header.get("alg") != ALGORITHM:
        raise BadToken(f"The token is signed with {str(header.get('alg'))[:16]!r}; only {ALGORITHM} is accepted.")
    key = header.get("kid")
    if not isinstance(key, str):
        raise BadToken("The token's header has no `kid`, which names the key.")
    credential = credentials.get(key)
    if credential is None:
        raise UnknownKey(f"No app has the key {key[:64]!r} that the token names.")
    if credential.claims is not None:
        raise BadToken(
            f"The key {key[:64]!r} may do only some things, and this token could say more: sign with the app's."
        )
    claims = signed_claims(token, credential)
    expires = time_claim(claims, "exp")
    if expires is None:
        raise BadToken("The token has no `exp`: a token must expire.")
    if expires + leeway <= now:
        raise TokenExpired(f"The token expired {now - expires:.0f} s ago.")
    check_begun(claims, now, leeway)
    user, meta = _user(claims), _meta(claims)
    admin = claims.get("admin") is True
    issued = time_claim(claims, "iat")
    app = credential.app
    return Grant(app, credential.key, user, expires + leeway, admin, _patterns(claims), meta, issued=issued)


def inspect(token: str) -> dict[str, dict[str, Any]]:
    """A token's header and claims, unproven. Raises BadToken for what is no token."""
    header = header_of(token)
    try:
        claims = _decode(token, options={"verify_signature": False, "verify_exp": False})
    except jwt.PyJWTError as error:
        raise BadToken(f"The token's claims cannot be read: {error}.") from error
    return {"header": header, "claims": claims}


def header_of(token: str) -> dict[str, Any]:
    """A JWT's header, unproven. Raises BadToken."""
    if len(token) > MAX_TOKEN:
        raise BadToken(f"The token has {len(token)} bytes; at most {MAX_TOKEN} are read.")
    try:
        return jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise BadToken("The token is not a JWT: three base64url parts with dots between them.") from error


def signed_claims(token: str, credential: Credential) -> dict[str, Any]:
    """A JWT's claims, signed with the current or the retiring secret. Raises BadToken."""
    options = {
        "verify_exp": False,
        "verify_nbf": False,
        "verify_iat": False,
        "verify_aud": False,
        "verify_sub": False,
    }
    for secret in (credential.secret, credential.old_secret):
        if not secret:
            continue
        try:
            return _decode(token, secret, algorithms=[ALGORITHM], options=cast(Any, options))
        except jwt.InvalidSignatureError:
            continue
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise BadToken(f"The token cannot be read: {error}.") from error
    raise BadToken(f"The token's signature is not one of the key {credential.key!r}.")


def time_claim(claims: Mapping[str, Any], name: str) -> float | None:
    """A claim in seconds since 1970; NaN, infinity and booleans are no times."""
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -1e12 < value < 1e12:
        raise BadToken(f"The token's `{name}` is not a time in seconds.")
    return float(value)


def check_begun(claims: Mapping[str, Any], now: float, leeway: float) -> None:
    """Whether a token is good already, and was issued before now: else nobody could revoke it. Raises BadToken."""
    for claim in ("iat", "nbf"):
        begins = time_claim(claims, claim)
        if begins is not None and begins - leeway > now:
            raise BadToken(f"The token's `{claim}` is {begins - now:.0f} s in the future.")


def _user(claims: Mapping[str, Any]) -> str | None:
    """Who the token speaks for. The rule is that of every user id: short, and without control characters."""
    user = claims.get("sub")
    if user is None:
        return None
    try:
        if isinstance(user, str):
            return check_event_name(user)
    except BadEvent:
        pass
    raise BadToken("The token's `sub` is not a text of 1 to 200 bytes without control characters.")


def _meta(claims: Mapping[str, Any]) -> bytes | None:
    if "meta" not in claims:
        return None
    try:
        return msgspec.json.encode(claims["meta"])
    except (ValueError, RecursionError) as error:  # half a surrogate pair, or nested too deeply
        raise BadToken("The token's `meta` cannot be written as JSON.") from error


def _patterns(claims: Mapping[str, Any]) -> Claims:
    channels = claims.get("channels", {})
    if not isinstance(channels, dict):
        raise BadToken("The token's `channels` is not an object of pattern -> capabilities.")
    patterns: list[tuple[Names, frozenset[Can]]] = []
    for pattern, named in cast(dict[str, Any], channels).items():
        if not isinstance(named, list):
            raise BadToken(f"The token's capabilities on {pattern[:64]!r} are not a list.")
        names = cast(list[Any], named)
        # What this version does not know is ignored, so that a newer server's tokens still open what they can.
        known = ALL if "*" in names else frozenset(can for can in Can if can.value in names)
        patterns.append(_claim(pattern, known))
    return tuple(patterns)


@lru_cache(SHARED_CLAIMS)
def _claim(pattern: str, can: frozenset[Can]) -> tuple[Names, frozenset[Can]]:
    return Pattern(pattern), _shared(can)


@lru_cache(SHARED_CLAIMS)
def _claim_on(channel: str, can: frozenset[Can]) -> tuple[Pattern, frozenset[Can]]:
    """On one channel. A user may be called *, so this is no pattern: #server-to-user-* would open every user's."""
    return Pattern.exactly(channel), _shared(can)


@lru_cache(2 ** len(Can))
def _shared(can: frozenset[Can]) -> frozenset[Can]:
    """The one object that stands for all sets equal to this one."""
    return can
