"""Messages, and where they stand in a channel's order.

A serial is a 17-digit count of 100 ns since 1970, strictly increasing on a node: it orders history,
it is PubNub's timetoken as it stands, and other dialects' ids are made from it. It exceeds 2^53, so
in JSON it is always a string.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from enum import IntEnum
from typing import NamedTuple, cast

import msgspec

from sower.core.attendance import Attendance
from sower.errors import BadChannelName, BadEvent, BadPosition, TooLarge

SERIALS_PER_SECOND = 10_000_000
"""100 ns units, PubNub's timetoken resolution."""

MAX_CHANNEL_NAME = 256
"""Bytes of UTF-8. Pusher allows 200, PubNub 92, Centrifugo 255."""

MAX_EVENT_NAME = 200
"""Bytes of UTF-8. Pusher allows 200."""


MOST_AT_ONCE = 10_000
"""Messages that one frame or body may come to, each once for each of its channels: a short one may name very many."""

DEEPEST = 64
"""Levels of what a message says besides its data: it is read again wherever it is told, on a stack of any height."""


class Kind(IntEnum):
    """What the bytes of a message's data are."""

    JSON = 0
    TEXT = 1
    BINARY = 2


class Act(IntEnum):
    """What made a version of a message."""

    CREATED = 0
    UPDATED = 1
    DELETED = 2
    SUMMARISED = 3
    APPENDED = 4


class Revision(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="is", tag="revision"):
    """A version of a message (core/versions.py).

    of:      the serial of its first version, which is the message's own
    act:     what made it; APPENDED where the data is only what was added
    version: its serial
    by:      who made it, where that is known
    note:    a JSON object of what was said of it
    summary: a JSON object of how the message is annotated, by type
    own:     whether only who published the message may make it; never stored
    """

    of: int
    act: Act
    version: int = 0
    by: str | None = None
    note: bytes | None = None
    summary: bytes | None = None
    own: bool = False


class Annotation(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="is", tag="annotation"):
    """What makes an event an annotation of a message: of kind `type`, or one of that kind taken back.

    of:    the message's serial
    count: how many it counts for, where its kind counts
    next:  the serial of the version that has it in its summary
    """

    of: int
    type: str
    withdrawn: bool = False
    count: int | None = None
    next: int = 0


class Message(msgspec.Struct, frozen=True, gc=False):
    """One published event as the core keeps it.

    data:   the publisher's bytes, verbatim; `kind` says how to read them
    user:   who published, where a credential or a server says so
    id:     the publisher's idempotency key, unique within the channel's window
    extra:  a JSON object of what the publisher's protocol says besides, for those that can say it too
    sender: the subscriber that is excluded from the delivery; never stored
    about:  which version it is of a message that was changed, or what makes it an annotation
    """

    serial: int
    event: str
    data: bytes
    kind: Kind = Kind.JSON
    user: str | None = None
    id: str | None = None
    extra: bytes | None = None
    sender: Hashable | None = None
    about: Revision | Annotation | None = None

    @property
    def time_ms(self) -> int:
        """Milliseconds since 1970, derived from the serial."""
        return self.serial // 10_000

    @property
    def follows_up(self) -> bool:
        """Whether it is a change or an annotation of an earlier message, for protocols that know such, and no event."""
        return self.about is not None and self.about.of != self.serial


class Joined(msgspec.Struct, frozen=True):
    """A user's first connection came. meta: JSON bytes. serial: of the channel's log, 0 where it has none of this."""

    user: str
    meta: bytes = b"null"
    serial: int = 0


class Left(msgspec.Struct, frozen=True):
    """A user's last connection is gone (and its grace period over). meta: JSON bytes, the last known.

    lost: whether it vanished, and did not say that it goes. serial: as of Joined
    """

    user: str
    meta: bytes = b"null"
    lost: bool = False
    serial: int = 0


class Updated(msgspec.Struct, frozen=True):
    """A member's meta changed. meta: JSON bytes. serial: as of Joined."""

    user: str
    meta: bytes = b"null"
    serial: int = 0


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
        is_epoch = not epoch or (epoch.isascii() and epoch.isalnum() and len(epoch) <= 32)  # it is written into streams
        if not (is_epoch and serial.isascii() and serial.isdigit() and len(serial) <= 17):
            raise BadPosition(f"{text[:64]!r} is not a position.")
        return cls(epoch, int(serial))


def check_count(count: int) -> None:
    """Whether messages are few enough to be looked at, one by one. Raises TooLarge."""
    if count > MOST_AT_ONCE:
        raise TooLarge(f"These come to {count} messages; {MOST_AT_ONCE} are allowed.")


def is_shallow(value: object, levels: int = DEEPEST) -> bool:
    """Whether a JSON value has at most so many levels of arrays and objects."""
    if not isinstance(value, dict | list):
        return True
    inner = cast("Iterable[object]", value.values() if isinstance(value, dict) else value)  # pyright: ignore[reportUnknownMemberType]
    return levels > 0 and all(is_shallow(one, levels - 1) for one in inner)


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
