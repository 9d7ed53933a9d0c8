"""What a subscriber of PubNub's is told: one envelope a delivery, encoded once, and the answers made of them.

    {"a", "f", "i", "p": {"t", "r"}, "k", "c", "d", "u", "cmt", "e", "b"}

Rule 1: a plain message has no `e`: JavaScript's SDK knows no zero there, and takes it for a file.
Rule 2: `f` and `k` are always there, and occupancy and timestamp are integers in every event: Python's SDK ends
        without them.
Rule 3: `b` is exactly the group or the wildcard of the request, and absent where the channel itself was asked for.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, cast

import msgspec

from sower.core.message import Delivery, Joined, Kind, Left, Message, Updated
from sower.core.polling import Reach, Source
from sower.dialects.interface import Reply, Turnover
from sower.dialects.pubnub.asking import PRESENCE
from sower.dialects.pubnub.publish import CUSTOM_TYPE, MESSAGE, SIGNAL
from sower.dialects.pubnub.words import JAVASCRIPT, encode

REGION = 1
"""Of this node; the SDKs take any that is above zero."""

KINDS = {"signal": 1, "action": 3}
"""What `extra` says a message is -> what an envelope says."""

MOST_NAMED = 30 * 1024
"""Bytes of an event that names who came and went; past it clients are told to ask. PubNub's bound."""


class _Published(msgspec.Struct):
    t: str
    r: int = REGION


class _Envelope(msgspec.Struct, omit_defaults=True):
    a: str
    f: int
    p: _Published
    k: str
    c: str
    d: msgspec.Raw
    i: str | None = None
    u: Any = None
    cmt: str | None = None
    e: int | None = None


class Envelopes:
    """The words for one keyset's polls."""

    def __init__(self, subscribe_key: str) -> None:
        self._key = subscribe_key

    def envelope(self, channel: str, message: Message) -> bytes:
        """One message, a signal or an action on a message."""
        extra = read_extra(message)
        kind = KINDS.get(str(extra.get("kind")))
        said = _Envelope(
            "1",
            0,
            _Published(str(message.serial)),
            self._key,
            channel,
            payload(message),
            message.user,
            extra.get("meta"),
            custom_type(message),
            kind,
        )
        return encode(said)[:-1]

    def presence(self, channel: str, change: Delivery, serial: int, members: int) -> bytes:
        """join, leave, timeout or state-change."""
        if isinstance(change, Joined):
            action = "join"
        elif isinstance(change, Left):
            action = "timeout" if change.lost else "leave"
        elif isinstance(change, Updated):
            action = "state-change"
        else:
            return b""
        event: dict[str, object] = {
            "action": action,
            "timestamp": serial // 10_000_000,
            "uuid": change.user,
            "occupancy": members,
        }
        if state := read_state(change.meta):
            event["data"] = msgspec.Raw(state)
        return self._event(channel, serial, encode(event))

    def crowd(self, channel: str, serial: int, members: int, turnover: Turnover) -> bytes:
        """An interval event: who came and went, or that there were too many to name."""
        event: dict[str, object] = {"action": "interval", "timestamp": serial // 10_000_000, "occupancy": members}
        named = {"join": turnover.came, "leave": turnover.left, "timeout": turnover.lost}
        body = encode(event | {action: users for action, users in named.items() if users})
        if len(body) > MOST_NAMED:
            body = encode(event | {"here_now_refresh": True})
        return self._event(channel, serial, body)

    def reached(self, source: Source) -> bytes:
        """The end of an envelope: what matched, where that was not the channel itself."""
        if source.reach is Reach.CHANNEL:
            return b"}"
        matched = source.name + ("*" if source.reach is Reach.PREFIX else "") + (PRESENCE if source.presence else "")
        return b',"b":' + encode(matched) + b"}"

    def answer(self, cursor: int, envelopes: Sequence[bytes]) -> Reply:
        """The answer to a poll."""
        head = b'{"t":{"t":"%d","r":%d},"m":[' % (cursor, REGION)
        return Reply(head + b",".join(envelopes) + b"]}", 200, JAVASCRIPT)

    def _event(self, channel: str, serial: int, body: bytes) -> bytes:
        said = _Envelope("1", 0, _Published(str(serial)), self._key, channel + PRESENCE, msgspec.Raw(body))
        return encode(said)[:-1]


def payload(message: Message) -> msgspec.Raw:
    """A message's data as JSON: text as a string, bytes as a string of base64."""
    if message.kind is Kind.JSON:
        return msgspec.Raw(message.data)
    if message.kind is Kind.TEXT:
        return msgspec.Raw(encode(message.data.decode()))
    return msgspec.Raw(encode(base64.b64encode(message.data).decode()))


def custom_type(message: Message) -> str | None:
    """An event's name is its custom type, where it has one that can be."""
    event = message.event
    return event if event not in (MESSAGE, SIGNAL) and CUSTOM_TYPE.fullmatch(event) else None


def read_extra(message: Message) -> dict[str, Any]:
    """What a message says besides its data."""
    if message.extra is None:
        return {}
    try:
        extra = msgspec.json.decode(message.extra)
    except msgspec.DecodeError:
        return {}
    return cast(dict[str, Any], extra) if isinstance(extra, dict) else {}


def read_state(meta: bytes) -> bytes | None:
    """A member's meta as state: only an object is one."""
    return meta if meta[:1] == b"{" and meta != b"{}" else None
