"""What publishers of one node say on a channel, as it goes to Redis: in turns, each of which is one script.

Rule 1: a change is a turn of its own, so that it stands among the messages where its publisher put it.
"""

from __future__ import annotations

from collections.abc import Sequence

from sower.cluster.entries import Spoken
from sower.core.message import Message
from sower.inbox import Publication

SAID_AT_ONCE = 500
"""Entries in one script: some milliseconds in which Redis does nothing else."""

BYTES_AT_ONCE = 1024 * 1024
"""Bytes of data in one script, but for a single message that is longer."""

Accepted = Sequence[tuple[Publication, Message]]


def turn(accepted: Accepted) -> Accepted:
    """As many messages as go into one script, up to the first change."""
    size = count = 0
    for _, message in accepted[:SAID_AT_ONCE]:
        size += len(message.data)
        if message.about is not None or (count and size > BYTES_AT_ONCE):
            break
        count += 1
    return accepted[:count]


def excluded(publication: Publication) -> str | None:
    """The session that is not told."""
    sender = publication.sender
    return sender.id if sender is not None else publication.command.exclude


def spoken(publication: Publication, message: Message, *, speaker: bool) -> Spoken:
    """A message as it stands in the log. speaker: whether webhooks are told who published it."""
    m, by = message, publication.speaker if speaker else None
    told, without = publication.command.told, excluded(publication)
    return Spoken(m.event, m.data, int(m.kind), m.user, m.id, m.extra, told, without, None if by is None else by.id)
