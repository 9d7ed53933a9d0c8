"""PubNub's tokens (Access Manager v3): a CBOR map in URL-safe base64, signed by whoever holds the secret key.

    v 2, t seconds, ttl minutes, res and pat {chan, grp, uuid: {name: bits}}, meta {}, uuid?, sig

Rule 1: structural keys are byte strings and names are texts, in this order, as the SDKs' parsers want them.
Rule 2: the signature is over the URL-safe base64 of the same map without `sig`. It is the issuer's own affair.
Rule 3: a pattern is a regular expression that matches anywhere in a name, run by RE2 in linear time.
Rule 4: anybody may send one. Until its signature is proved nothing of it is kept, compiled or can grow: tags of CBOR,
        with which 300 bytes stand for gigabytes, are refused.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, NoReturn, cast

import cbor2
import re2  # pyright: ignore[reportMissingTypeStubs]

from sower.core.grants import Can, Claims, Credential, Grant, Names, check_signature
from sower.core.rules import RESERVED
from sower.dialects.pubnub.signing import SKEW
from sower.errors import BadGrant, BadToken, TokenExpired, UnknownKey

READ, WRITE, MANAGE, DELETE = 1, 2, 4, 8
"""Bits. The others (create, get, update, join) are about App Context, which is not spoken here."""

CAPABILITIES = {
    READ: (Can.SUBSCRIBE, Can.PRESENCE, Can.HISTORY),
    WRITE: (Can.PUBLISH,),
    MANAGE: (Can.MANAGE,),
    DELETE: (Can.DELETE,),
}

KINDS = {"channels": b"chan", "groups": b"grp", "uuids": b"uuid"}
"""A grant's words -> a token's."""

MAX_TOKEN = 32 * 1024
"""Characters of a token, PubNub's limit."""

SIGNATURE = 52
"""Characters by which a token is longer than the text that is signed, at most."""

MAX_TTL = 43_200
"""Minutes: 30 days, PubNub's limit."""

LATEST = 10**12
"""Seconds since 1970: what is later is no time that anybody means."""

MAX_PATTERN = 512
"""Characters of one pattern."""

REMEMBERED = 1000
"""Tokens and patterns that are read once: a client sends its token with every request."""

# re2's own types are not known to the checker.
_compile = cast(Any, re2).compile
_options = cast(Any, re2).Options()
_options.log_errors = False
_options.max_mem = 1 << 20


def _refuse(*_: object) -> NoReturn:
    raise ValueError("a token has no tags")


class _Tags(Mapping[int, Callable[..., Any]]):
    """How the tags of CBOR are read: those of large numbers (2, 3) as ever, all others not at all."""

    def __getitem__(self, tag: int) -> Callable[..., Any]:
        if tag in (2, 3):
            raise KeyError(tag)
        return _refuse

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 0


_TAGS = _Tags()


class Exactly:
    """One name and no other."""

    __slots__ = ("text",)

    def __init__(self, name: str) -> None:
        self.text = name

    def matches(self, name: str) -> bool:
        """Whether it is this name."""
        return name == self.text


class Expression:
    """Names that a regular expression finds something in, but for the daemon's own. Raises BadGrant."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > MAX_PATTERN:
            raise BadGrant(f"A pattern has at most {MAX_PATTERN} characters.", where="patterns")
        try:
            self._compiled = _compile(text, _options)
        except cast(Any, re2).error as error:
            raise BadGrant(f"The pattern {text[:64]!r} is no regular expression: {error}.", where="patterns") from error

    def matches(self, name: str) -> bool:
        """Whether the expression is found in a name."""
        return self._compiled.search(name) is not None and not name.startswith(RESERVED)


class Voucher(NamedTuple):
    """What a token says. signature, signed: as of Proof. expires: seconds since 1970. user: None for anybody."""

    signature: str
    signed: str
    expires: float
    user: str | None
    content: Mapping[Any, Any]


_NO_SENSE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, BadGrant)
"""What reading raises of a map that does not hold what a token holds."""


def verify_token(token: str, key: str, credentials: Mapping[str, Credential], now: float) -> Grant:
    """What a token allows its bearer, and no more. Raises BadToken, BadSignature, TokenExpired, UnknownKey."""
    credential = credentials.get(key)
    if credential is None:
        raise UnknownKey(f"No app has the key {key[:64]!r}.")
    grant = _proved(token, credential)
    if grant.expires is None or grant.expires <= now:
        raise TokenExpired()
    if grant.issued is None or grant.issued > now + SKEW:
        raise BadToken("The token was issued in the future: nobody could revoke it.")
    return grant


@lru_cache(REMEMBERED)
def _proved(token: str, credential: Credential) -> Grant:
    """What a token allows until it expires. What raises is not remembered, so only the secret's holder fills this."""
    voucher = read_token(token)
    if voucher is None:
        raise BadToken("The token cannot be read.")
    check_signature(credential, (voucher.signed,), voucher.signature)
    try:
        resources, patterns = voucher.content[b"res"], voucher.content[b"pat"]
        claims = _claims(resources[b"chan"], patterns[b"chan"])
        groups = _claims(resources[b"grp"], patterns[b"grp"])
        issued = float(voucher.content[b"t"])
    except _NO_SENSE as error:
        raise BadToken("The token does not hold what a token holds.") from error
    return Grant(
        credential.app,
        credential.key,
        voucher.user,
        voucher.expires,
        claims=claims,
        closed=True,
        any_user=voucher.user is None,
        issued=issued,
        group=voucher.signature,
        groups=groups,
    )


def is_token(text: str) -> bool:
    """Whether a text is a token of this kind, good or bad."""
    return inspect(text) is not None


def read_token(token: str) -> Voucher | None:
    """A token, unproven. None for what is none at all. Raises BadToken for one that makes no sense."""
    content = inspect(token)
    if content is None:
        return None
    signature = content.pop(b"sig", None)
    try:
        user = content.get(b"uuid")
        if not isinstance(signature, bytes) or not (user is None or isinstance(user, str)):
            raise BadToken("The token lacks a signature, or its uuid is no text.")
        expires = _expiry(content[b"t"], content[b"ttl"])
        signed = text_of(content)
    except _NO_SENSE as error:
        raise BadToken("The token does not hold what a token holds.") from error
    return Voucher(signature.hex(), signed, expires, user, content)


def _expiry(issued: object, minutes: object) -> float:
    """When a token ends. Only whole numbers say it: nothing is later than NaN, and text times 60 is longer text."""
    if type(issued) is not int or type(minutes) is not int or not (0 <= issued < LATEST and 0 < minutes <= MAX_TTL):
        raise BadToken("The token does not say when it expires: t is whole seconds since 1970, ttl whole minutes.")
    return float(issued + minutes * 60)


def inspect(token: str) -> dict[Any, Any] | None:
    """What a token says, unproven; None for what is no token."""
    if len(token) > MAX_TOKEN:
        return None
    bare = token.rstrip("=")
    try:
        raw = base64.b64decode(bare + "=" * (-len(bare) % 4), altchars=b"-_", validate=True)
        content = cbor2.loads(raw, semantic_decoders=_TAGS, tag_hook=_refuse, strict_hashable_types=True)
    except (binascii.Error, cbor2.CBORError, ValueError, OverflowError, RecursionError, MemoryError):
        return None
    if not isinstance(content, dict):
        return None
    found = cast(dict[Any, Any], content)
    return found if found.get(b"v") == 2 else None


def text_of(content: Mapping[Any, Any]) -> str:
    """The text of a map, which is what is signed."""
    return base64.urlsafe_b64encode(cbor2.dumps(content)).decode()


def seal(signed: str, signature: str) -> str:
    """The token for a signed text. signature: in hexadecimal digits."""
    content = cast(dict[Any, Any], cbor2.loads(base64.urlsafe_b64decode(signed)))
    return text_of({**content, b"sig": bytes.fromhex(signature)})


def draft(
    issued: int, minutes: int, resources: Mapping[str, Any], patterns: Mapping[str, Any], meta: Any, user: str | None
) -> str:
    """The text to sign for a new token. resources, patterns: kind -> name -> bits. Raises BadGrant."""
    content: dict[Any, Any] = {
        b"v": 2,
        b"t": issued,
        b"ttl": minutes,
        b"res": _permissions(resources, "resources"),
        b"pat": _permissions(patterns, "patterns"),
        b"meta": meta if meta is not None else {},
    }
    if user is not None:
        content[b"uuid"] = user
    text = text_of(content)
    if len(text) + SIGNATURE > MAX_TOKEN or not is_token(text):
        raise BadGrant(
            f"The token could not be read: it has over {MAX_TOKEN} characters, or nests too deep.", where="permissions"
        )
    return text


def _permissions(given: Mapping[str, Any], where: str) -> dict[bytes, dict[str, int]]:
    made: dict[bytes, dict[str, int]] = {}
    for kind, short in KINDS.items():
        names: object = given.get(kind) or {}
        if not isinstance(names, Mapping):
            raise BadGrant(f"{kind} is an object of name to bits.", where=f"permissions.{where}.{kind}")
        made[short] = {}
        for name, bits in cast(Mapping[str, Any], names).items():
            if isinstance(bits, bool) or not isinstance(bits, int) or not 0 <= bits < 256:
                raise BadGrant(
                    f"The bits of {name[:64]!r} are a number below 256.", where=f"permissions.{where}.{kind}"
                )
            if where == "patterns":
                Expression(name)
            made[short][name] = bits
    return made


def _claims(names: Mapping[str, int], patterns: Mapping[str, int]) -> Claims:
    exact: list[tuple[Names, frozenset[Can]]] = [(Exactly(name), _can(bits)) for name, bits in names.items()]
    return (*exact, *((_expression(text), _can(bits)) for text, bits in patterns.items()))


@lru_cache(REMEMBERED)
def _expression(text: str) -> Expression:
    return Expression(text)


@lru_cache(256)
def _can(bits: int) -> frozenset[Can]:
    return frozenset(can for bit, allowed in CAPABILITIES.items() if bits & bit for can in allowed)
