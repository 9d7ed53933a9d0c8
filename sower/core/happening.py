"""What a channel tells the outside world: the facts that webhooks carry, whatever protocol they arose in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import StrEnum

import msgspec

from sower.core.message import Delivery, Joined, Kind, Left


class Fact(StrEnum):
    """What happened on a channel. The names are Pusher's."""

    OCCUPIED = "channel_occupied"
    VACATED = "channel_vacated"
    MEMBER_ADDED = "member_added"
    MEMBER_REMOVED = "member_removed"
    CLIENT_EVENT = "client_event"
    CACHE_MISS = "cache_miss"
    COUNTED = "subscription_count"


class Happening(msgspec.Struct, frozen=True, gc=False):
    """One fact.

    user:    the member, or who published where that is known
    event:   the name of a client's event
    data:    the data of a client's event; `kind` says how to read it
    session: the session that published it
    count:   subscriptions, for Fact.COUNTED
    parting: its daemon is ending, so that whoever is gone comes back to another
    """

    fact: Fact
    channel: str
    user: str | None = None
    event: str | None = None
    data: bytes | None = None
    session: str | None = None
    count: int | None = None
    kind: Kind = Kind.JSON
    parting: bool = False


def comings_and_goings(
    channel: str, was_vacant: bool, is_vacant: bool, changes: Sequence[Delivery]
) -> Iterator[Happening]:
    """What changes mean: a channel is occupied before its first member is added, vacated after its last is removed."""
    if was_vacant and not is_vacant:
        yield Happening(Fact.OCCUPIED, channel)
    for change in changes:
        if isinstance(change, Joined):
            yield Happening(Fact.MEMBER_ADDED, channel, user=change.user)
        elif isinstance(change, Left):
            yield Happening(Fact.MEMBER_REMOVED, channel, user=change.user)
    if is_vacant and not was_vacant:
        yield Happening(Fact.VACATED, channel)
