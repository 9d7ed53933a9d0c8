"""What every request of PubNub's SDKs carries: keys, user, token or signature, and names in its path.

Rule 1: lists are split at `,` before they are percent-decoded, so that an encoded comma stays in its name.
Rule 2: a token is only looked at, not believed: what it is worth is for whoever knows the secret. What is no token
        of ours (old clients send any text) counts as none.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from functools import partial
from urllib.parse import unquote

from sower.core.command import Credentials
from sower.core.grants import Credential, Grant
from sower.core.message import check_channel_name, check_event_name
from sower.core.polling import Names
from sower.dialects.interface import HttpCall
from sower.dialects.pubnub.keys import Keys
from sower.dialects.pubnub.signing import read_signature
from sower.dialects.pubnub.tokens import is_token, verify_token
from sower.errors import BadChannelName, BadEvent, BadRequest, MessageTooLarge, UnknownKey

MAX_USER = 92
"""Bytes of a user id, PubNub's limit."""

MAX_NAMES = 2000
"""Channels and groups in one request. PubNub bounds a URL, which holds about as many."""

PRESENCE = "-pnpres"
"""What the name ends with under which a channel's comings and goings are followed."""

MAX_INFLATED = 1024 * 1024
"""Bytes of an inflated body; a message is held to its own limit afterwards."""

FOREVER = 10**18
"""Above every serial."""

_NO_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")


def read_credentials(keys: Keys, call: HttpCall) -> Credentials:
    """Who asks, and what they show. Raises UnknownKey for a publish key of another keyset, BadRequest."""
    key, publish_key = call.params["sub"], call.params.get("pub")
    if publish_key is not None and keys.get(key, publish_key) != publish_key:
        raise UnknownKey(f"The publish key {publish_key[:64]!r} is not the one of {key[:64]!r}.")
    user = read_user(call)
    signature = call.query.get("signature")
    if signature is not None:
        return Credentials(key, user=user, signature=read_signature(key, keys.get(key, ""), call, signature))
    token = call.query.get("auth")
    if token and is_token(token):
        return Credentials(key, token=token, user=user, verify=partial(_verify, key))
    return Credentials(key, user=user)


def _verify(key: str, token: str, credentials: Mapping[str, Credential], now: float) -> Grant:
    return verify_token(token, key, credentials, now)


def read_user(call: HttpCall) -> str | None:
    """The user id that the client gives itself. Raises BadRequest."""
    user = call.query.get("uuid")
    return check_user(user) if user else None


def known_user(call: HttpCall) -> str:
    """As read_user, where there must be one."""
    user = read_user(call)
    if user is None:
        raise BadRequest("The user id is missing: set userId in the SDK, which sends it as uuid.")
    return user


def check_user(user: str) -> str:
    """Return a user id that may be shown to others. Raises BadRequest."""
    try:
        if len(user.encode()) <= MAX_USER:
            return check_event_name(user)  # the same rule: short, and without control characters
    except (BadEvent, UnicodeEncodeError):
        pass
    raise BadRequest(f"The user id has 1 to {MAX_USER} bytes without control characters.")


def read_names(call: HttpCall, segment: int) -> Names:
    """The channels of a path's segment, counted from its end, and the groups of the query."""
    return Names(read_list(call, segment), split_names(call.query.get("channel-group", "")))


def read_list(call: HttpCall, segment: int) -> tuple[str, ...]:
    """The names in a segment of a path, counted from its end. Raises BadChannelName, BadRequest."""
    return parse_list(raw_segment(call, segment))


def raw_segment(call: HttpCall, segment: int) -> str:
    """A segment of a path as it came, counted from the path's end."""
    return call.path.split("/")[segment]


def parse_list(segment: str) -> tuple[str, ...]:
    """The names in a raw segment. An empty list is a single comma. Raises BadChannelName, BadRequest."""
    return _checked(decode(part) for part in segment.split(",") if part)


def split_names(text: str) -> tuple[str, ...]:
    """The names of a query's value, which is decoded already."""
    return _checked(part for part in text.split(",") if part)


def _checked(names: object) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(check_channel_name(name) for name in names))  # type: ignore[attr-defined]
    if len(found) > MAX_NAMES:
        raise BadRequest(f"The request names {len(found)} channels; at most {MAX_NAMES} are read.")
    return found


def decode(segment: str) -> str:
    """A part of a path, percent-decoded. Raises BadRequest."""
    try:
        if not _NO_ESCAPE.search(segment):
            return unquote(segment, errors="strict")
    except UnicodeDecodeError:
        pass
    raise BadRequest(f"{segment[:64]!r} is not percent-encoded UTF-8.")


def one_channel(call: HttpCall) -> str:
    """The one channel of a path that may be published on. Raises BadChannelName."""
    name = check_channel_name(call.params["channel"])
    if "*" in name or "," in name:
        raise BadChannelName(f"{name[:64]!r} stands for several channels; this takes one.")
    return name


def read_body(call: HttpCall) -> bytes:
    """The body, inflated where it is deflated, whatever its headers say: the SDKs' are wrong. Raises BadRequest."""
    body = call.body
    if "content-encoding" not in call.headers or not body:
        return body
    for bits in (zlib.MAX_WBITS | 32, -zlib.MAX_WBITS):  # gzip or zlib by their heads, then raw deflate
        inflater = zlib.decompressobj(bits)
        try:
            data = inflater.decompress(body, MAX_INFLATED)
        except zlib.error:
            continue
        if inflater.unconsumed_tail:
            raise MessageTooLarge(f"The body has over {MAX_INFLATED} bytes once it is inflated.")
        if not inflater.eof:
            raise BadRequest("The compressed body is cut off.")
        return data
    raise BadRequest("The body is said to be compressed, and is neither gzip, zlib nor deflate.")


def number(call: HttpCall, name: str, default: int, least: int, most: int) -> int:
    """A number of the query, brought between its bounds. Raises BadRequest for what is none."""
    given = call.query.get(name, "")
    if not given:
        return default
    if not (given.isascii() and given.isdecimal() and len(given) <= 17):
        raise BadRequest(f"{name} is a number, not {given[:20]!r}.")
    return min(max(int(given), least), most)


def timetoken(call: HttpCall, name: str) -> int | None:
    """A timetoken of the query, None where it is not there. Raises BadRequest."""
    given = call.query.get(name, "")
    return read_timetoken(name, given) if given else None


def read_timetoken(name: str, given: str) -> int:
    """A timetoken; what is above every serial is brought down to FOREVER. Raises BadRequest."""
    if not (given.isascii() and given.isdecimal() and len(given) <= 19):
        raise BadRequest(f"{name} is a timetoken of 17 digits, not {given[:20]!r}.")
    return min(int(given), FOREVER)


def flag(call: HttpCall, name: str) -> bool:
    """Whether a switch of the query is on; JavaScript's SDK says true, Python's 1."""
    return call.query.get(name, "").lower() in ("true", "1")
