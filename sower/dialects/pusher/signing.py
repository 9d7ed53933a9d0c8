"""How Pusher's server SDKs sign: subscriptions by their socket, and requests by method, path and query (HMAC-SHA256).

Rule 1: what is verified is what was received. The SDKs differ in what they sign (Python's signs the MD5 of an empty
        body, the others none), so nothing is dropped or computed anew.
Rule 2: parameters are signed in the order of their names, and values as they are before the query is encoded, and the
        SDKs encode differently: a query has several readings, and one of them must fit. The likeliest is the query
        as it came, because the SDKs send what they signed; others are made only where that one does not fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from urllib.parse import unquote, unquote_plus

import msgspec

from sower.config import App
from sower.core.command import Signature
from sower.core.grants import sign
from sower.dialects.interface import HttpCall
from sower.errors import BadSignature, NotAuthorised

VERSION = "1.0"
"""auth_version: there is no other."""

SIGNATURE = "auth_signature"


def read_signature(call: HttpCall, app: str | None, skew: float) -> Signature:
    """The signature of a request. app, skew: as of Signature. Raises NotAuthorised, BadSignature."""
    query = call.query
    key, timestamp, signature = query.get("auth_key"), query.get("auth_timestamp"), query.get(SIGNATURE)
    if not (key and timestamp and signature):
        name = SIGNATURE if key and timestamp else "auth_timestamp" if key else "auth_key"
        raise NotAuthorised(f"The query has no {name}: requests are signed with the app's key and secret.")
    if query.get("auth_version", VERSION) != VERSION:
        raise BadSignature(f"auth_version is {query['auth_version'][:16]!r}; only {VERSION} is known.")
    if call.body and query.get("body_md5") != hashlib.md5(call.body, usedforsecurity=False).hexdigest():
        raise BadSignature("body_md5 is not the MD5 of the body that arrived, in lower-case hexadecimal digits.")
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise BadSignature(f"auth_timestamp is {timestamp[:32]!r}, not seconds since 1970.")
    return Signature(key, signature, _readings(call), float(timestamp), skew, app)


def authorise(app: App, socket_id: str, channel: str, member: tuple[str, object] | None = None) -> dict[str, str]:
    """What an app's own server answers to pusher-js that asks to follow a channel.

    member: user id and info, where the client joins a presence channel
    """
    text = f"{socket_id}:{channel}"
    if member is None:
        return {"auth": f"{app.key}:{sign(app.secret.encode(), text)}"}
    user, info = member
    channel_data = msgspec.json.encode({"user_id": user, "user_info": info}).decode()
    return {"auth": f"{app.key}:{sign(app.secret.encode(), f'{text}:{channel_data}')}", "channel_data": channel_data}


def _readings(call: HttpCall) -> Iterator[str]:
    """The texts that may have been signed, the likeliest first."""
    search = call.search
    head = f"{call.method}\n{call.path}\n"
    escaped = "%" in search or "+" in search
    before, _, behind = search.partition(f"&{SIGNATURE}=")
    if not escaped and "&" not in behind:
        yield head + before
    for reading in (unquote_plus, unquote, str) if escaped else (str,):
        yield head + _parameters(search, reading)


def _parameters(search: str, reading: Callable[[str], str]) -> str:
    """All parameters but the signature, their names in lower case and in order."""
    pairs = (pair.partition("=") for pair in search.split("&") if pair)
    read = [(reading(name).lower(), reading(value)) for name, _, value in pairs]
    read.sort(key=_name)
    return "&".join([f"{name}={value}" for name, value in read if name != SIGNATURE])


def _name(pair: tuple[str, str]) -> str:
    return pair[0]
