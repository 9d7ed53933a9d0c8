"""Where the native protocol carries credentials: HTTP Basic and Bearer (RFC 7617, RFC 6750), or the query."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from sower.core.command import Credentials
from sower.core.message import check_event_name
from sower.errors import BadEvent, BadRequest, NotAuthorised

MAX_USER = 200
"""Bytes of a user id. Pusher allows 128 characters, PubNub 92."""


def read_credentials(headers: Mapping[str, str], query: Mapping[str, str]) -> Credentials:
    """What was shown. Raises NotAuthorised for an Authorization header that cannot be read."""
    key = query.get("key")
    token = query.get("token")
    user = query.get("user")
    secret = None
    authorization = headers.get("authorization")
    if authorization is not None:
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "basic":
            key, secret = _basic(value.strip())
        elif scheme.lower() == "bearer":
            token = value.strip()
        else:
            raise NotAuthorised(f"The Authorization scheme {scheme[:20]!r} is not known here.")
    return Credentials(key or None, secret, token or None, check_user(user) if user else None)


def check_user(user: str) -> str:
    """Return a user id that may be shown to others. Raises BadRequest."""
    try:
        return check_event_name(user)  # the same rule: short, and without control characters
    except BadEvent as error:
        raise BadRequest(f"The user id is not allowed: 1 to {MAX_USER} bytes without control characters.") from error


def _basic(value: str) -> tuple[str, str]:
    try:
        key, colon, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except ValueError as error:  # no base64, no ASCII or no UTF-8
        raise NotAuthorised("The Basic credentials are not base64 of key:secret.") from error
    if not colon:
        raise NotAuthorised("The Basic credentials hold no colon between key and secret.")
    return key, secret
