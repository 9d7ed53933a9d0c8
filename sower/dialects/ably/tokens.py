"""Ably's tokens: JWTs, those that TokenRequests are answered with among them, and the requests themselves.

Rule 1: a token is a JWT signed with the key's secret, so that none has to be kept.
Rule 2: a token allows what it claims and its key allows too; nothing is public.
Rule 3: a token of Ably's is signed with a key of Ably's. What says nothing of its capability allows all that its key
        does, and the daemon's own tokens say nothing of it.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from typing import Any

import jwt
import msgspec

from sower.core.command import Credentials, Issue, Signature
from sower.core.grants import (
    ALGORITHM,
    Credential,
    Grant,
    check_begun,
    header_of,
    inspect,
    sign,
    signed_claims,
    time_claim,
)
from sower.dialects.ably import capability as capabilities
from sower.dialects.ably.keys import PROTOCOL
from sower.dialects.ably.messages import NOBODY, checked_user
from sower.errors import BadParameter, BadSignature, BadToken, TokenExpired, UnknownKey

TTL = 3600_000
"""Milliseconds that a token is good for where the request does not say."""

MAX_TTL = 86400_000
"""Milliseconds that a token may be good for."""

LATEST = 10**14
"""Milliseconds since 1970, the year 5138: what is later is no time that anybody means."""

SKEW = 120.0
"""Seconds by which the time of a TokenRequest may be off, and that of a token may be ahead."""

CAPABILITY, CLIENT_ID, GROUP = "x-ably-capability", "x-ably-clientId", "x-ably-revocation-key"


def verify(token: str, credentials: Mapping[str, Credential], now: float) -> Grant:
    """Read a token. Raises BadToken, BadSignature, UnknownKey, TokenExpired, BadParameter, Forbidden."""
    header = header_of(token)
    key = header.get("kid")
    if header.get("alg") != ALGORITHM or not isinstance(key, str):
        raise BadToken("The token is no JWT of HS256 whose `kid` names a key.")
    credential = credentials.get(key)
    if credential is None:
        raise UnknownKey(f"No app has the key {key[:64]!r} that the token names.")
    _check_key(credential)
    try:
        claims = signed_claims(token, credential)
    except BadToken as error:  # SDKs would get the next one from the same place, again and again
        raise BadSignature(error.detail) from error
    expires = time_claim(claims, "exp")
    if expires is None:
        raise BadToken("The token has no `exp`: a token must expire.")
    if expires <= now:
        raise TokenExpired(f"The token expired {now - expires:.0f} s ago.")
    check_begun(claims, now, SKEW)
    asked = capabilities.from_claim(claims.get(CAPABILITY))
    allowed = capabilities.of_claims(credential.claims)
    what = capabilities.claims_of(allowed if asked is None else capabilities.cut(asked, allowed))
    user = claims.get(CLIENT_ID)
    if user is not None and not isinstance(user, str):
        raise BadToken(f"The token's {CLIENT_ID} is no text.")
    anybody = user == NOBODY
    who = None if anybody or not user else checked_user(user)
    return Grant(
        credential.app,
        key,
        who,
        expires,
        claims=what,
        closed=True,
        any_user=anybody,
        issued=time_claim(claims, "iat"),
        group=_group(claims),
    )


def _check_key(credential: Credential) -> None:
    if credential.protocol != PROTOCOL:
        raise UnknownKey(f"The key {credential.key[:64]!r} is none of Ably's, and no token of Ably's is made with it.")


def _group(claims: Mapping[str, Any]) -> str | None:
    group = claims.get(GROUP)
    return group if isinstance(group, str) else None


class TokenRequest(msgspec.Struct, omit_defaults=True):
    """What requestToken is sent. ttl, timestamp: milliseconds, as text where a client's server was sent them as such.
    capability: JSON text.
    """

    keyName: str | None = None
    ttl: int | float | str | None = None
    capability: str | None = None
    clientId: str | None = None
    timestamp: int | float | str | None = None
    nonce: str | None = None
    mac: str | None = None


def signed(request: TokenRequest, key: str) -> Credentials:
    """The credentials that a signed request is. Raises BadSignature, BadParameter."""
    if request.timestamp is None or not request.nonce or request.mac is None:
        raise BadParameter("A signed token request has a timestamp, a nonce and a mac.")
    try:
        timestamp = float(request.timestamp)
    except (ValueError, OverflowError):
        timestamp = -1.0
    if not 0 <= timestamp < LATEST:
        raise BadParameter(f"A timestamp is milliseconds since 1970, below {LATEST}.")
    try:
        digits = base64.b64decode(request.mac, validate=True).hex()
    except ValueError as error:
        raise BadSignature("The mac is not base64.") from error
    signature = Signature(key, digits, (to_sign(request, key),), timestamp / 1000, SKEW, nonce=request.nonce)
    return Credentials(key, signature=signature)


def to_sign(request: TokenRequest, key: str) -> str:
    """The text that a request's mac is of: six lines, each ended, unset ones empty."""
    timestamp = int(request.timestamp) if isinstance(request.timestamp, float) else request.timestamp
    fields = (key, request.ttl, request.capability, request.clientId, timestamp, request.nonce)
    return "".join(f"{'' if field is None else field}\n" for field in fields)


def make_request(
    credential: Credential, capability: capabilities.Capability, user: str | None, now: float, ttl: float, nonce: str
) -> str:
    """A signed request, as JSON: whoever has it gets one token for it, within SKEW. now: seconds since 1970."""
    request = TokenRequest(
        keyName=credential.key,
        ttl=int(ttl * 1000),
        capability=capabilities.write(capability),
        clientId=user,
        timestamp=int(now * 1000),
        nonce=nonce,
    )
    mac = sign(credential.secret, to_sign(request, credential.key))
    request.mac = base64.b64encode(bytes.fromhex(mac)).decode()
    return msgspec.json.encode(request).decode()


def issue(request: TokenRequest, key: str) -> Issue:
    """The command for a request, signed or not. Raises BadParameter, UserMismatch."""
    ttl = _ttl(request.ttl)
    user = None if not request.clientId else request.clientId
    if user is not None and user != NOBODY:
        checked_user(user)
    asked = capabilities.requested(request.capability) if request.capability else None

    def make(credential: Credential, now: float, token_id: str) -> str:
        _check_key(credential)
        allowed = capabilities.of_claims(credential.claims)
        capability = allowed if asked is None else capabilities.cut(asked, allowed)
        return make_token(credential, capability, user, now, ttl / 1000, token_id)

    name = hashlib.sha256(f"{key} {request.nonce}".encode()).hexdigest()[:32]  # however long its nonce is
    return Issue(make, user, (name, 2 * SKEW) if request.mac else None)


def make_token(
    credential: Credential, capability: capabilities.Capability, user: str | None, now: float, ttl: float, token_id: str
) -> str:
    """A token. now: seconds since 1970. ttl: seconds."""
    claims: dict[str, Any] = {
        "iat": now,
        "exp": now + ttl,
        "jti": token_id,
        CAPABILITY: capabilities.write(capability),
    }
    if user is not None:
        claims[CLIENT_ID] = user
    return jwt.encode(claims, credential.secret, ALGORITHM, headers={"kid": credential.key})  # pyright: ignore[reportUnknownMemberType]


def details(token: str) -> dict[str, Any]:
    """A token that was just issued, as SDKs want it: TokenDetails. Times in milliseconds."""
    told = inspect(token)
    claims = told["claims"]
    shown: dict[str, Any] = {
        "token": token,
        "keyName": told["header"]["kid"],
        "issued": math.floor(claims["iat"] * 1000),
        "expires": math.floor(claims["exp"] * 1000),
        "capability": claims[CAPABILITY],
    }
    if CLIENT_ID in claims:
        shown["clientId"] = claims[CLIENT_ID]
    return shown


def _ttl(given: int | float | str | None) -> int:
    if given is None or given == "":
        return TTL
    try:
        ttl = int(given)
    except (ValueError, OverflowError) as error:
        raise BadParameter(f"ttl is a number of milliseconds, not {str(given)[:20]!r}.") from error
    if not 0 < ttl <= MAX_TTL:
        raise BadParameter(f"ttl is above 0 and at most {MAX_TTL} milliseconds, a day; this is {ttl}.")
    return ttl
