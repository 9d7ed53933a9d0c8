"""Where Ably's SDKs carry credentials: Basic with a key, Bearer with a token, or the query."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from sower.core.command import Credentials
from sower.core.grants import header_of
from sower.dialects.ably.messages import NOBODY, checked_user
from sower.dialects.ably.tokens import verify
from sower.errors import BadParameter, NotAuthorised, SowerError


def read_credentials(headers: Mapping[str, str], query: Mapping[str, str]) -> Credentials:
    """What was shown. Raises NotAuthorised, BadParameter."""
    user = _user(headers, query)
    token = query.get("access_token") or query.get("accessToken")
    key = query.get("key")
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if token is None and scheme.lower() == "bearer":
        token = _token(value.strip())
    elif key is None and scheme.lower() == "basic":
        key = _text(value.strip())
    if token:
        return Credentials(token=token, user=user, verify=verify)
    if not key:
        raise NotAuthorised("Show a key as Basic or key=, or a token as Bearer or access_token=.")
    name, colon, secret = key.partition(":")
    if not colon or not secret:
        raise NotAuthorised("A key is APPID.KEYID:SECRET; this has no secret.")
    return Credentials(name, secret, user=user)


def key_name(shown: Credentials) -> str | None:
    """The name of the key that is shown, or that a token names; None where it cannot be read."""
    if shown.token is None:
        return shown.key
    try:
        name = header_of(shown.token).get("kid")
    except SowerError:
        return None
    return name if isinstance(name, str) else None


def _user(headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
    user = query.get("clientId")
    encoded = headers.get("x-ably-clientid")
    if user is None and encoded:
        user = _text(encoded)
    return None if not user or user == NOBODY else checked_user(user)


def _token(value: str) -> str:
    """SDKs encode a token as base64, which has no dots; others send a JWT as it is."""
    return value if "." in value else _text(value)


def _text(value: str) -> str:
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode()
    except ValueError as error:  # no base64, no ASCII or no UTF-8
        raise BadParameter("The credential is not base64 of a text.") from error
