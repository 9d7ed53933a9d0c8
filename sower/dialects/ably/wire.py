"""The shapes of Ably's protocol, the same in JSON and in MessagePack, and the two formats.

Absent and null fields mean the same; what a client sends besides is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum, IntFlag
from typing import Any

import msgspec

from sower.dialects.ably.codes import ErrorInfo
from sower.errors import BadFrame


class Action(IntEnum):
    """What a frame is about."""

    HEARTBEAT = 0
    ACK = 1
    NACK = 2
    CONNECTED = 4
    DISCONNECT = 5
    DISCONNECTED = 6
    CLOSE = 7
    CLOSED = 8
    ERROR = 9
    ATTACH = 10
    ATTACHED = 11
    DETACH = 12
    DETACHED = 13
    PRESENCE = 14
    MESSAGE = 15
    SYNC = 16
    AUTH = 17
    OBJECT = 19
    OBJECT_SYNC = 20
    ANNOTATION = 21


class Flag(IntFlag):
    """What ATTACH asks for and ATTACHED tells."""

    HAS_PRESENCE = 1
    HAS_BACKLOG = 2
    RESUMED = 4
    PRESENCE = 1 << 16
    PUBLISH = 1 << 17
    SUBSCRIBE = 1 << 18
    PRESENCE_SUBSCRIBE = 1 << 19


MODES = Flag.PRESENCE | Flag.PUBLISH | Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE
"""What a channel is attached with that names no modes."""

EVERY_MODE = sum(1 << bit for bit in (16, 17, 18, 19, 21, 22, 24, 25))
"""The bits that stand for modes, those of features that are declined too."""


class PresenceAction(IntEnum):
    """What a presence message tells."""

    PRESENT = 1
    ENTER = 2
    LEAVE = 3
    UPDATE = 4


class InMessage(msgspec.Struct):
    """A message as clients send it. data: any JSON value, or bytes."""

    id: str | None = None
    name: str | None = None
    data: Any = None
    encoding: str | None = None
    clientId: str | None = None
    extras: Any = None


class InPresence(msgspec.Struct):
    """A presence message as clients send it."""

    action: int
    id: str | None = None
    clientId: str | None = None
    data: Any = None
    encoding: str | None = None
    extras: Any = None


class Auth(msgspec.Struct):
    accessToken: str | None = None


class InFrame(msgspec.Struct):
    """A frame as clients send it."""

    action: int
    id: str | None = None
    channel: str | None = None
    channelSerial: str | None = None
    msgSerial: int | None = None
    flags: int | None = None
    params: dict[str, str] | None = None
    messages: list[InMessage] | None = None
    presence: list[InPresence] | None = None
    auth: Auth | None = None


class OutMessage(msgspec.Struct, omit_defaults=True):
    """A message as clients get it. timestamp: milliseconds since 1970."""

    id: str
    timestamp: int
    serial: str
    action: int
    name: str | None = None
    data: str | bytes | None = None
    encoding: str | None = None
    clientId: str | None = None
    connectionId: str | None = None
    extras: Any = None
    channel: str | None = None


class Announcement(msgspec.Struct):
    """A message of the daemon's own that is about a channel, and no part of its order."""

    id: str
    timestamp: int
    action: int
    name: str
    data: str
    encoding: str


class OutPresence(msgspec.Struct, omit_defaults=True):
    """A presence message as clients get it."""

    id: str
    action: int
    clientId: str
    connectionId: str
    timestamp: int
    data: str | bytes | None = None
    encoding: str | None = None
    extras: Any = None


class Details(msgspec.Struct, omit_defaults=True):
    """What a client is told of its connection. Durations in milliseconds, sizes in bytes."""

    connectionKey: str
    maxMessageSize: int
    maxFrameSize: int
    maxInboundRate: int
    connectionStateTtl: int
    maxIdleInterval: int
    serverId: str
    clientId: str | None = None


class Result(msgspec.Struct):
    serials: list[str]


class OutFrame(msgspec.Struct, omit_defaults=True):
    """A frame as clients get it."""

    action: int
    id: str | None = None
    channel: str | None = None
    channelSerial: str | None = None
    msgSerial: int | None = None
    count: int | None = None
    flags: int | None = None
    params: Mapping[str, str] | None = None
    error: ErrorInfo | None = None
    connectionId: str | None = None
    connectionDetails: Details | None = None
    messages: list[OutMessage] | list[Announcement] | None = None
    presence: list[OutPresence] | None = None
    res: list[Result] | None = None


class Format:
    """JSON text or MessagePack bytes. content_type: over HTTP."""

    def __init__(self, *, binary: bool) -> None:
        self.binary = binary
        self.content_type = "application/x-msgpack" if binary else "application/json"
        encoder = msgspec.msgpack.Encoder() if binary else msgspec.json.Encoder()
        self.encode: Callable[[Any], bytes] = encoder.encode
        self._decode_frame = self.decoder(InFrame)

    def decoder(self, kind: Any) -> Callable[[bytes], Any]:
        """What reads this kind of thing."""
        decoder = msgspec.msgpack.Decoder(kind) if self.binary else msgspec.json.Decoder(kind)
        return decoder.decode

    def read_frame(self, payload: bytes) -> InFrame:
        """A client's frame. Raises BadFrame."""
        try:
            return self._decode_frame(payload)
        except (ValueError, RecursionError) as error:
            raise BadFrame(f"The frame cannot be read: {error}.") from error

    def extras(self, extras: msgspec.Raw) -> Any:
        """Extras, kept as JSON, as they are written in this format; None where there are none."""
        if not bytes(extras):
            return None
        return msgspec.json.decode(extras) if self.binary else extras


JSON, MSGPACK = Format(binary=False), Format(binary=True)


def format_of(name: str | None) -> Format:
    """The format that a query asks for."""
    return MSGPACK if name == "msgpack" else JSON
