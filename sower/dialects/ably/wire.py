"""The shapes of Ably's protocol, the same in JSON and in MessagePack, and the two formats.

Absent and null fields mean the same; what a client sends besides is ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum, IntFlag
from typing import Annotated, Any

import msgspec

from sower.dialects.ably.codes import ErrorInfo
from sower.errors import BadFrame

MOST_DIGITS = 13
"""Of a number in milliseconds; Python reads none of over 4300."""

Numbered = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""What a client calls its frames: whole numbers of JavaScript's. Ids are made of them, and they are said again."""


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
    ANNOTATION_PUBLISH = 1 << 21
    ANNOTATION_SUBSCRIBE = 1 << 22


MODES = Flag.PRESENCE | Flag.PUBLISH | Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE
"""What a channel is attached with that names no modes."""

KNOWN_MODES = MODES | Flag.ANNOTATION_PUBLISH | Flag.ANNOTATION_SUBSCRIBE

EVERY_MODE = sum(1 << bit for bit in (16, 17, 18, 19, 21, 22, 24, 25))
"""The bits that stand for modes, those of features that are declined too."""


class PresenceAction(IntEnum):
    """What a presence message tells."""

    PRESENT = 1
    ENTER = 2
    LEAVE = 3
    UPDATE = 4


class InVersion(msgspec.Struct):
    """What a client says of a change."""

    clientId: str | None = None
    description: str | None = None
    metadata: dict[str, Any] | None = None


class InMessage(msgspec.Struct):
    """A message as clients send it, or a change of the one that has this serial. data: any JSON value, or bytes."""

    id: str | None = None
    name: str | None = None
    data: Any = None
    encoding: str | None = None
    clientId: str | None = None
    extras: Any = None
    action: int | None = None
    serial: str | None = None
    version: InVersion | None = None


class InAnnotation(msgspec.Struct):
    """An annotation as clients send it. data: as of InMessage."""

    type: str = ""
    action: int | None = None
    messageSerial: str | None = None
    name: str | None = None
    count: int | None = None
    id: str | None = None
    clientId: str | None = None
    data: Any = None
    encoding: str | None = None
    extras: Any = None


class InPresence(msgspec.Struct):
    """A presence message as clients send it."""

    action: int
    id: str | None = None
    clientId: str | None = None
    data: Any = None
    encoding: str | None = None
    extras: Any = None


class Head(msgspec.Struct):
    """What of a frame says who waits for its answer."""

    action: int
    channel: str | None = None
    msgSerial: Numbered | None = None


class Auth(msgspec.Struct):
    accessToken: str | None = None


class InFrame(msgspec.Struct):
    """A frame as clients send it."""

    action: int
    id: str | None = None
    channel: str | None = None
    channelSerial: str | None = None
    msgSerial: Numbered | None = None
    flags: int | None = None
    params: dict[str, str | int | float | None] | None = None
    messages: list[InMessage] | None = None
    presence: list[InPresence] | None = None
    annotations: list[InAnnotation] | None = None
    auth: Auth | None = None


class OutVersion(msgspec.Struct, omit_defaults=True):
    """A version of a message as clients get it. timestamp: milliseconds since 1970."""

    serial: str
    timestamp: int
    clientId: str | None = None
    description: str | None = None
    metadata: Any = None


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
    version: OutVersion | None = None
    annotations: Mapping[str, Any] | None = None


class OutAnnotation(msgspec.Struct, omit_defaults=True):
    """An annotation as clients get it. timestamp: milliseconds since 1970."""

    id: str
    action: int
    serial: str
    messageSerial: str
    type: str
    timestamp: int
    name: str | None = None
    count: int | None = None
    clientId: str | None = None
    connectionId: str | None = None
    data: str | bytes | None = None
    encoding: str | None = None
    extras: Any = None


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
    annotations: list[OutAnnotation] | None = None
    res: list[Result] | None = None


class Format:
    """JSON text or MessagePack bytes. content_type: over HTTP."""

    def __init__(self, *, binary: bool) -> None:
        self.binary = binary
        self.content_type = "application/x-msgpack" if binary else "application/json"
        encoder = msgspec.msgpack.Encoder() if binary else msgspec.json.Encoder()
        self.encode: Callable[[Any], bytes] = encoder.encode
        self._decoders: dict[Any, Callable[[bytes], Any]] = {}
        self._decode_frame, self._decode_head = self.decoder(InFrame), self.decoder(Head)

    def decoder(self, kind: Any) -> Callable[[bytes], Any]:
        """What reads this kind of thing. It is kept: to make one takes longer than to read with it."""
        decode = self._decoders.get(kind)
        if decode is None:
            decoder = msgspec.msgpack.Decoder(kind) if self.binary else msgspec.json.Decoder(kind)
            decode = self._decoders[kind] = decoder.decode
        return decode

    def read_frame(self, payload: bytes) -> InFrame:
        """A client's frame. Raises BadFrame."""
        try:
            return self._decode_frame(payload)
        except (ValueError, RecursionError) as error:
            raise BadFrame(f"The frame cannot be read: {error}.") from error

    def read_head(self, payload: bytes) -> Head | None:
        """The head of a frame that cannot be read, None where that cannot be read either."""
        try:
            return self._decode_head(payload)
        except (ValueError, RecursionError):
            return None

    def json(self, kept: msgspec.Raw) -> Any:
        """What is kept as JSON, as it is written in this format; None where there is nothing."""
        if not bytes(kept):
            return None
        return msgspec.json.decode(kept) if self.binary else kept


JSON, MSGPACK = Format(binary=False), Format(binary=True)


def seconds_of(text: str | None) -> float | None:
    """A parameter in milliseconds, None where it is none that could be meant."""
    if text is None or not (text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS):
        return None
    return int(text) / 1000


def format_of(name: str | None) -> Format:
    """The format that a query asks for."""
    return MSGPACK if name == "msgpack" else JSON
