"""The targets of tokens: made up, and signed by somebody who may."""

from __future__ import annotations

import base64
from collections.abc import Callable

import cbor2

from sower.core.grants import LEEWAY, Can, Credential, Grant, sign, verify
from sower.core.rules import RuleBook
from sower.dialects.ably.tokens import SKEW
from sower.dialects.ably.tokens import verify as verify_ably
from sower.dialects.pubnub.tokens import inspect, seal, text_of, verify_token
from sower.errors import SowerError
from tests.fuzz.house import CREDENTIAL, NOW, OF_ABLY, checked

KEY = CREDENTIAL.key
CREDENTIALS = {KEY: CREDENTIAL}
LATEST = 1e12 + LEEWAY
"""Seconds since 1970: a token that ends later ends never."""

HEAD = b'{"alg":"HS256","kid":"key"}'
RULES = RuleBook(()).of("private-room")
PROBES = tuple((can, channel) for can in Can for channel in ("private-room", "[meta]x", "\u2603"))


def tokens(data: bytes) -> None:
    """Nobody makes up a token: it is refused with an error of the table, whichever protocol reads it."""
    text = data.decode("utf-8", "surrogateescape")
    for read in (_native, _ably, _pubnub):
        try:
            read(text, CREDENTIALS)
        except SowerError as error:
            checked(error)
        else:
            raise AssertionError("a token that nobody signed was taken")


def claims(data: bytes) -> None:
    """What somebody signs who may, a JWT's claims or with a line feed its header before them, is a grant or an error of the table."""
    head, line, payload = data.rpartition(b"\n")
    signed = _base64(head if line else HEAD) + "." + _base64(payload)
    token = f"{signed}.{_base64(bytes.fromhex(sign(CREDENTIAL.secret, signed)))}"
    for read in (_native, _ably):
        _granted(read, token)


def cbor(data: bytes) -> None:
    """A map of CBOR that somebody signed who may is a grant or an error of the table."""
    content = inspect(_base64(data))
    if content is None:
        return
    content.pop(b"sig", None)
    try:
        text = text_of(content)
        token = seal(text, sign(CREDENTIAL.secret, text))
    except (ValueError, TypeError, OverflowError, RecursionError, cbor2.CBORError):
        return  # nobody can sign what nobody can write
    _granted(_pubnub, token)


def _native(token: str, credentials: dict[str, Credential]) -> Grant:
    return verify(token, credentials, now=NOW)


def _ably(token: str, credentials: dict[str, Credential]) -> Grant:
    return verify_ably(token, {KEY: OF_ABLY}, NOW)


def _pubnub(token: str, credentials: dict[str, Credential]) -> Grant:
    return verify_token(token, KEY, credentials, NOW)


def _granted(read: Callable[[str, dict[str, Credential]], Grant], token: str) -> None:
    try:
        grant = read(token, CREDENTIALS)
    except SowerError as error:
        checked(error)
        return
    assert grant.expires is not None
    assert NOW < grant.expires <= LATEST
    assert grant.issued is None or -LATEST <= grant.issued <= NOW + SKEW, "nobody could revoke it"
    for can, channel in PROBES:
        grant.allows(can, channel, RULES, True)
        grant.allows_group(can, channel)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
