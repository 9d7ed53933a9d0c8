"""How the native protocol says a delivery, and how it reads and writes the data of an event.

Data is passed on verbatim: the JSON that a publisher sent is the JSON that a subscriber gets, byte for byte.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec

from sower.core.message import Delivery, Joined, Kind, Left, Message, Updated

_encode = msgspec.json.Encoder().encode


class EventFrame(msgspec.Struct, tag_field="type", tag="event", omit_defaults=True):
    """encoding: "base64" where data is a base64 text of bytes. time: milliseconds since 1970. extra: as of Message."""

    event: str
    data: msgspec.Raw
    serial: str
    time: int
    user: str | None = None
    encoding: str | None = None
    extra: msgspec.Raw | None = None


class JoinFrame(msgspec.Struct, tag_field="type", tag="join"):
    user: str
    meta: msgspec.Raw


class UpdateFrame(msgspec.Struct, tag_field="type", tag="update"):
    user: str
    meta: msgspec.Raw


class LeaveFrame(msgspec.Struct, tag_field="type", tag="leave"):
    user: str


def event_frame(message: Message) -> EventFrame:
    """A message as subscribers and readers of history see it."""
    data, encoding = message.data, None
    if message.kind == Kind.TEXT:
        data = _encode(message.data.decode())
    elif message.kind == Kind.BINARY:
        data, encoding = _encode(base64.b64encode(message.data).decode()), "base64"
    serial = str(message.serial)
    extra = None if message.extra is None else msgspec.Raw(message.extra)
    return EventFrame(message.event, msgspec.Raw(data), serial, message.time_ms, message.user, encoding, extra)


def said(delivery: Delivery) -> bytes:
    """The frame for a delivery; empty for what only other protocols say."""
    if isinstance(delivery, Message):
        return b"" if delivery.follows_up else _encode(event_frame(delivery))
    if isinstance(delivery, Joined):
        return _encode(JoinFrame(delivery.user, msgspec.Raw(delivery.meta)))
    if isinstance(delivery, Left):
        return _encode(LeaveFrame(delivery.user))
    if isinstance(delivery, Updated):
        return _encode(UpdateFrame(delivery.user, msgspec.Raw(delivery.meta)))
    return b""


class NativeEncoder:
    """JSON text, one message a delivery. There is one of it."""

    is_text = True

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> list[bytes]:
        """A frame each."""
        return [said(delivery) for delivery in deliveries]


ENCODER = NativeEncoder()
