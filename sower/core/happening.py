"""What a channel tells the outside world: the facts that webhooks carry, whatever protocol they arose in."""

from __future__ import annotations

from enum import StrEnum

import msgspec


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
    data:    the data of a client's event: JSON bytes
    session: the session that published it
    count:   subscriptions, for Fact.COUNTED
    """

    fact: Fact
    channel: str
    user: str | None = None
    event: str | None = None
    data: bytes | None = None
    session: str | None = None
    count: int | None = None
