"""What connections of members did, as rows of the journal: the history of a channel's presence."""

from __future__ import annotations

import msgspec

from sower.core.message import Appearance, Did, Message

NOTHING = msgspec.Raw()


class _Extra(msgspec.Struct, omit_defaults=True):
    connection: str
    id: str | None = None
    extra: msgspec.Raw = NOTHING


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Extra).decode


def record(seen: Appearance, serial: int) -> Message:
    """A row. serial: its own, because two that went at once have the same one."""
    extra = _encode(_Extra(seen.connection, seen.id, NOTHING if seen.extra is None else msgspec.Raw(seen.extra)))
    return Message(serial, seen.did.name, seen.meta, user=seen.user, extra=extra)


def read(row: Message) -> Appearance:
    """What a row is of."""
    said = _decode(row.extra or b"{}")
    extra = bytes(said.extra) or None
    return Appearance(Did[row.event], row.user or "", said.connection, row.data, row.serial, said.id, extra)
