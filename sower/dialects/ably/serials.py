"""A channel's positions as Ably writes serials: `SERIAL@EPOCH`, which sorts bytewise within an epoch.

Where a client attached is `SERIAL@EPOCH~MOMENT`: the position of the last message, and when it attached. Members have
an order of their own: their history up to there is read up to the moment.
"""

from __future__ import annotations

from sower.core.message import Position

TICKS = 10_000
"""Serials in a millisecond."""

NOWHERE = Position("?", 0)
"""For a serial that this daemon never gave: nothing can be continued from it."""


def write(serial: int, epoch: str) -> str:
    """Seventeen digits, enough until the year 5138."""
    return f"{serial:017d}@{epoch}"


def position(where: Position) -> str:
    """A position."""
    return write(where.serial, where.epoch)


def message_id(serial: int) -> str:
    """The id of a message whose publisher gave it none. It has no epoch in it: serials rise over epochs too."""
    return f"{serial:017d}:0"


def attached(where: Position, moment: int) -> str:
    """Where and when a client attached."""
    return f"{position(where)}~{moment:017d}"


def read(text: str) -> Position:
    """A serial of ours, or NOWHERE."""
    text, behind, moment = text.partition("~")
    serial, at, epoch = text.partition("@")
    if not (at and _is_serial(serial) and 0 < len(epoch) <= 32 and (_is_serial(moment) or not behind)):
        return NOWHERE
    return Position(epoch, int(serial))


def read_moment(text: str) -> Position:
    """When a client attached, as a position in the order of members; where no moment is said, its position."""
    where, (_, _, moment) = read(text), text.partition("~")
    return where._replace(serial=int(moment)) if _is_serial(moment) and where is not NOWHERE else where


def _is_serial(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 17
