"""Messages, and where they stand in a channel's order.

A serial is a 17-digit count of 100 ns since 1970, strictly increasing on a node: it orders history,
it is PubNub's timetoken as it stands, and other dialects' ids are made from it. It exceeds 2^53, so
in JSON it is always a string.
"""

from __future__ import annotations

from collections.abc import Hashable
from enum import IntEnum
from typing import NamedTuple

import msgspec

from sower.core.attendance import Attendance
from sower.errors import BadChannelName, BadEvent, BadPosition

SERIALS_PER_SECOND = 10_000_000
"""100 ns units, PubNub's timetoken resolution."""

MAX_CHANNEL_NAME = 256
"""Bytes of UTF-8. Pusher allows 200, PubNub 92, Centrifugo 255."""

MAX_EVENT_NAME = 200
"""Bytes of UTF-8. Pusher allows 200."""


class Kind(IntEnum):
    """What the bytes of a message's data are."""

    JSON = 0
    TEXT = 1
    BINARY = 2


class Message(msgspec.Struct, frozen=True, gc=False):
    """One published event as the core keeps it.

    data:   the publisher's bytes, verbatim; `kind` says how to read them
    user:   who published, where a credential or a server says so
    id:     the publisher's idempotency key, unique within the channel's window
    extra:  a JSON object of what the publisher's protocol says besides, for those that can say it too
    sender: the subscriber that is excluded from the delivery; never stored
    """

    serial: int
    event: str
    data: bytes
    kind: Kind = Kind.JSON
    user: str | None = None
    id: str | None = None
    extra: bytes | None = None
    sender: Hashable | None = None

    @property
    def time_ms(self) -> int:
        """Milliseconds since 1970, derived from the serial."""
        return self.serial // 10_000


class Joined(msgspec.Struct, frozen=True):
    """A user's first connection came. meta: JSON bytes."""

    user: str
    meta: bytes = b"null"


class Left(msgspec.Struct, frozen=True):
    """A user's last connection is gone (and its grace period over). meta: JSON bytes, the last known.

    lost: whether it vanished, and did not say that it goes
    """

    user: str
    meta: bytes = b"null"
    lost: bool = False


class Updated(msgspec.Struct, frozen=True):
    """A member's meta changed. meta: JSON bytes."""

    user: str
    meta: bytes = b"null"


class Did(IntEnum):
    """What a connection of a member did."""

    ENTERED = 0
    UPDATED = 1
    LEFT = 2


class Appearance(msgspec.Struct, frozen=True, gc=False):
    """One connection of a member, and what it did last, for protocols in which each connection is a member of its own.

    connection: what the connection is called
    meta:       JSON bytes, what this connection said of itself last
    serial:     when
    id:         what its own protocol calls this; None where the daemon made it
    extra:      as of Message
    """

    did: Did
    user: str
    connection: str
    meta: bytes
    serial: int
    id: str | None = None
    extra: bytes | None = None


class CacheMiss(msgspec.Struct, frozen=True):
    """A newcomer to a channel that remembers its last event found none."""


class Counted(msgspec.Struct, frozen=True):
    """How many follow the channel now."""

    subscribers: int


Delivery = Message | Joined | Left | Updated | Appearance | CacheMiss | Counted | Attendance
"""What a channel tells its subscribers, before a dialect encodes it."""


class Position(NamedTuple):
    """A place in a channel's order. The epoch changes when history was lost.

    epoch is empty where the client sent a bare serial: then no loss of epoch can be seen.
    """

    epoch: str
    serial: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.serial}" if self.epoch else str(self.serial)

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read `EPOCH:SERIAL` or `SERIAL`. Raises BadPosition."""
        epoch, _, serial = text.rpartition(":")
        if not (serial.isascii() and serial.isdigit() and len(serial) <= 17 and len(epoch) <= 32):
            raise BadPosition(f"{text[:64]!r} is not a position.")
        return cls(epoch, int(serial))


def next_serial(last: int, now: float) -> int:
    """The serial after `last` at `now` (seconds since 1970): never behind the clock, never twice."""
    return max(last + 1, int(now * SERIALS_PER_SECOND))


def check_channel_name(name: str) -> str:
    """Return `name`, or raise BadChannelName that shows what is allowed."""
    problem = _problem(name, MAX_CHANNEL_NAME)
    if problem:
        raise BadChannelName(f"The channel name {name[:64]!r} {problem}.")
    return name


def check_event_name(name: str) -> str:
    """Return `name`, or raise BadEvent that shows what is allowed."""
    problem = _problem(name, MAX_EVENT_NAME)
    if problem:
        raise BadEvent(f"The event name {name[:64]!r} {problem}.")
    return name


def _problem(name: str, most: int) -> str:
    if not name:
        return "is empty"
    # isprintable() is false for U+2028 and the like too, so only the C0/C1 controls and surrogates are looked for.
    if not name.isprintable() and any(c < " " or "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" for c in name):
        return "holds a control character or half a surrogate pair"
    if len(name.encode()) > most:
        return f"is longer than {most} bytes of UTF-8"
    return ""
