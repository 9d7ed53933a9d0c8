"""What a channel's log is made of, as it lies in Redis and is broadcast: MessagePack, a length before each.

A newer daemon may add fields at the end of an entry, and kinds of messages; an older one beside it reads past them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import msgspec

from sower.core.appearances import record
from sower.core.message import SERIALS_PER_SECOND, Annotation, Appearance, Did, Kind, Message, Revision

SERIAL = 17
"""Digits."""

NODE = 8
"""Characters of a node's name."""

STATE_KEPT = 86400.0
"""Seconds that a silent channel without history is known; with history it is 30 days, as in the journal."""

STATE_OF_HISTORY_KEPT = 30 * 86400.0


class Spoken(msgspec.Struct, frozen=True, array_like=True, tag="m"):
    """A message.

    told:    whether subscribers get it
    sender:  the session that does not get it
    speaker: the client's session that published it, where webhooks are told
    """

    event: str
    data: bytes
    kind: int
    user: str | None
    id: str | None
    extra: bytes | None
    told: bool = True
    sender: str | None = None
    speaker: str | None = None

    def message(self, serial: int, sender: Any = None) -> Message:
        """The message that it is in the log."""
        return Message(serial, self.event, self.data, Kind(self.kind), self.user, self.id, self.extra, sender)


class Changed(Spoken, frozen=True, array_like=True, tag="g"):
    """A change of a message, an annotation or a summary. about: a version of 0 is this entry's own serial."""

    about: Revision | Annotation | None = None

    def message(self, serial: int, sender: Any = None) -> Message:
        """As it is told."""
        about = self.about
        if isinstance(about, Revision) and not about.version:
            about = msgspec.structs.replace(about, version=serial)
        elif isinstance(about, Annotation):
            about = msgspec.structs.replace(about, next=serial + 1)
        return msgspec.structs.replace(super().message(serial, sender), about=about)


class Entered(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """A connection of a member came, or says something new of itself. The fields are Appearance's.

    keep: it says nothing of the user. again: its node says what others may have forgotten
    """

    did: int
    user: str
    connection: str
    meta: bytes
    id: str | None
    extra: bytes | None
    node: str
    keep: bool = False
    again: bool = False

    def appearance(self, serial: int) -> Appearance:
        """What it shows."""
        return Appearance(Did(self.did), self.user, self.connection, self.meta, serial, self.id, self.extra)


class Gone(msgspec.Struct, frozen=True, array_like=True, tag="l"):
    """A connection of a member went. lost: it did not say so. said: whether these are its last words."""

    user: str
    connection: str
    lost: bool = True
    said: bool = False
    meta: bytes = b"null"
    id: str | None = None
    extra: bytes | None = None

    def appearance(self, serial: int) -> Appearance:
        """What it shows."""
        return Appearance(Did.LEFT, self.user, self.connection, self.meta, serial, self.id, self.extra)


class Unknown(msgspec.Struct, frozen=True):
    """What a newer daemon said. It has a serial, and tells nobody anything here."""


class TakenOver(msgspec.Struct, frozen=True, array_like=True, tag="a"):
    """A client came back to another node: from now on its members are that node's."""

    user: str
    connection: str
    node: str


OfMember = Entered | Gone | TakenOver
Entry = Spoken | Changed | OfMember

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode
_decode_now = msgspec.msgpack.Decoder(tuple[int, str, bytes, int, bytes | None, Revision]).decode


def field(entry: OfMember) -> bytes:
    """What a member's connection is called among those who are here."""
    return _encode((entry.user, entry.connection))


class Batch(NamedTuple):
    """Entries that were appended together. before: the channel's head until then."""

    before: int
    first: int
    entries: tuple[Entry | Unknown, ...]

    def follows(self, head: int) -> bool:
        """Whether nothing was said between. Redis has forgotten the head of a channel that was silent for long."""
        return self.before == head or (not self.before and self.first - head > STATE_KEPT * SERIALS_PER_SECOND)


def pack(entry: Entry) -> bytes:
    """The bytes of an entry."""
    return _encode(entry)


def unpack(payload: bytes) -> Batch:
    """What a broadcast says: three serials, and the entries."""
    return Batch(int(payload[:SERIAL]), first_of(payload), tuple(_entries(payload)))


def first_of(payload: bytes) -> int:
    """The serial of a broadcast's first entry."""
    return int(payload[SERIAL : 2 * SERIAL])


def last_of(payload: bytes) -> int:
    """The serial of its last entry."""
    return int(payload[2 * SERIAL : 3 * SERIAL])


def _entries(payload: bytes) -> Iterator[Entry | Unknown]:
    at = 3 * SERIAL
    while at < len(payload):
        end = at + 4 + int.from_bytes(payload[at : at + 4], "big")
        yield _read(payload[at + 4 : end])
        at = end


def _read(entry: bytes) -> Entry | Unknown:
    try:
        return _decode(entry)
    except msgspec.ValidationError:
        return Unknown()


class Here(NamedTuple):
    """A connection of a member, as Redis knows it."""

    node: str
    serial: int
    entry: Entered


class Snapshot(NamedTuple):
    """A channel at one moment. cached: the event that newcomers begin with."""

    head: int
    cached: Message | None
    members: list[Here]


class Missed(NamedTuple):
    """Broadcasts that are still there, and the channel after them."""

    payloads: list[bytes]
    snapshot: Snapshot


def here(members: Sequence[bytes]) -> list[Here]:
    """Who is here, in the order in which they came."""
    found = [_here(value) for value in members[1::2]]
    found.sort(key=lambda one: one.serial)
    return found


def _here(value: bytes) -> Here:
    entry = _decode(value[NODE + SERIAL :])
    assert isinstance(entry, Entered)
    return Here(value[:NODE].decode(), int(value[NODE : NODE + SERIAL]), entry)


class Now(NamedTuple):
    """How a message is now. last: the serial of the last thing that was done to it. changes: how many there were."""

    last: bytes
    version: int
    changes: int
    event: str
    data: bytes
    kind: int
    extra: bytes | None
    about: Revision

    @classmethod
    def read(cls, state: bytes) -> Self:
        """As Redis has it."""
        return cls(state[:SERIAL], int(state[SERIAL : 2 * SERIAL]), *_decode_now(state[3 * SERIAL :]))

    def message(self, of: Message) -> Message:
        """What has become of a message."""
        about = msgspec.structs.replace(self.about, version=self.version or self.about.of)
        return Message(of.serial, self.event, self.data, Kind(self.kind), of.user, of.id, self.extra, None, about)


def pack_now(message: Message, changes: int) -> bytes:
    """How a message is now, but for the serials, which Redis gives."""
    return _encode((changes, message.event, message.data, int(message.kind), message.extra, message.about))


def cached(value: bytes, state: bytes) -> Message | None:
    """The last event that newcomers begin with. state: how it is now, where it was changed."""
    if not value:
        return None
    entry = _decode(value[SERIAL:])
    assert isinstance(entry, Spoken)
    message = entry.message(int(value[:SERIAL]))
    return Now.read(state).message(message) if state else message


def stored(row: Sequence[Any]) -> Message | None:
    """A row of a channel's history, or of what its members did; None for what only a newer daemon understands."""
    serial, fields = int(row[0][:SERIAL]), row[1]
    entry = _read(fields[1])
    if isinstance(entry, Unknown):
        return None
    if isinstance(entry, Spoken):
        return entry.message(serial)
    if isinstance(entry, Gone):
        shown = entry.appearance(serial)
        if fields[3] and not entry.extra and entry.meta == b"null":
            before = _here(fields[3]).entry
            shown = msgspec.structs.replace(shown, meta=before.meta, extra=before.extra)
        return record(shown, serial)
    assert isinstance(entry, Entered)
    return record(entry.appearance(serial), serial)
