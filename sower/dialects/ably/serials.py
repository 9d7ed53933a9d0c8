"""A channel's positions as Ably writes serials: `SERIAL@EPOCH`, which sorts bytewise within an epoch."""

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


def read(text: str) -> Position:
    """A serial of ours, or NOWHERE."""
    serial, at, epoch = text.partition("@")
    if not (at and serial.isascii() and serial.isdigit() and len(serial) <= 17 and 0 < len(epoch) <= 32):
        return NOWHERE
    return Position(epoch, int(serial))
