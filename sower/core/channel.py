"""The state of one channel: who follows it, who is present, and how far it has spoken.

Rule 1: this file decides and encodes; it sends nothing and reads no clock.
Rule 2: `head` is the serial up to which deliveries were handed out. Whoever subscribes gets what is above it
        live, and what is not above it from the journal: so a replay has no gap and no duplicate at its seam.
Rule 3: an audience is the subscribers that share one encoding; a delivery is encoded once for each audience.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Generic, Protocol, TypeVar

from sower.core import versions
from sower.core.attendance import EVERY_USE, Attendance, Use, Uses
from sower.core.message import Delivery, Message, Revision
from sower.core.presence import Presence
from sower.core.rules import Rules

IDS_REMEMBERED = 1000
"""Publish ids that a channel without history remembers. NATS JetStream bounds its window by time alone."""


class Audience(Protocol):
    """An encoding that many subscribers share."""

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> bytes:
        """The bytes for deliveries, as they go to each socket; empty where this audience is told nothing."""
        ...


class Tap(Protocol):
    """Whoever takes deliveries as they are, on behalf of clients that come and fetch them."""

    @property
    def followers(self) -> int:
        """How many follow the channel through it."""
        ...

    def begin(self, head: int, members: int) -> None:
        """What has a serial above the head is taken from now on. members: how many are here."""
        ...

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """What the channel tells."""
        ...

    def forget(self, since: int, before: int) -> None:
        """The messages between two exclusive serials were deleted."""
        ...


S = TypeVar("S", bound=Hashable)
"""Whatever stands for a subscriber: the core only keeps it and hands it back."""


@dataclass(frozen=True, slots=True)
class Parcel(Generic[S]):
    """The same bytes for many subscribers. The iterator remembers who already has them.

    count: deliveries in it
    """

    data: bytes
    recipients: Iterator[S]
    count: int


class Channel(Generic[S]):
    """One channel's state.

    head:     the serial of the last message handed out, or of the channel's beginning
    presence: its members, None while there never were any and its rule asks for none
    missed:   whether a newcomer has already found no event to begin with
    taps:     those that take what is told
    """

    __slots__ = (
        "_cached",
        "_cached_until",
        "_ids",
        "_most_members",
        "_uses",
        "audiences",
        "head",
        "missed",
        "name",
        "presence",
        "rules",
        "taps",
    )

    def __init__(self, name: str, rules: Rules, *, head: int, most_members: int) -> None:
        self.name = name
        self.rules = rules
        self.head = head
        self.audiences: dict[Audience, set[S]] = {}
        self.presence = Presence(rules.grace, most_members) if rules.presence else None
        self._most_members = most_members
        self.missed = False
        self.taps: tuple[Tap, ...] = ()
        self._cached: Message | None = None
        self._cached_until = 0.0
        self._ids: dict[str, tuple[int, float]] = {}
        self._uses = Uses()

    @property
    def subscribers(self) -> int:
        """How many subscriptions there are."""
        return sum(map(len, self.audiences.values())) + sum(tap.followers for tap in self.taps)

    @property
    def followers(self) -> int:
        """How many there are, also where other daemons have some."""
        return self.subscribers

    @property
    def vacant(self) -> bool:
        """Whether nobody follows the channel, fetches from it, or is still shown as present."""
        return not self.audiences and not self.presence and not any(tap.followers for tap in self.taps)

    def present(self) -> Presence:
        """Its members, also where its rule asks for none and a protocol knows members everywhere."""
        if self.presence is None:
            self.presence = Presence(self.rules.grace, self._most_members)
        return self.presence

    def add(self, subscriber: S, audience: Audience, uses: Use = EVERY_USE) -> None:
        """Let a subscriber in who is not there."""
        self.audiences.setdefault(audience, set()).add(subscriber)
        self._uses.count(uses, 1)

    def remove(self, subscriber: S, audience: Audience, uses: Use = EVERY_USE) -> None:
        """Let a subscriber go that was added so. Harmless for one who is not there."""
        followers = self.audiences.get(audience)
        if followers is not None and subscriber in followers:
            followers.discard(subscriber)
            self._uses.count(uses, -1)
            if not followers:
                del self.audiences[audience]

    def attendance(self, serial: int) -> Attendance:
        """How many there are. serial: of now. Who follows through a tap hears, and sees who is present."""
        tapped, of = sum(tap.followers for tap in self.taps), self._uses.of
        members = 0 if self.presence is None else self.presence.connections
        return Attendance(
            serial,
            self.head,
            connections=of() + tapped,
            hear=of(Use.HEAR) + tapped,
            watch=of(Use.WATCH) + tapped,
            publish=of(Use.PUBLISH),
            appear=of(Use.APPEAR),
            members=members,
        )

    def parcels(self, deliveries: Sequence[Delivery], *, besides: Iterable[S] = ()) -> list[Parcel[S]]:
        """What goes to whom: each delivery encoded once per audience, beside its neighbours of the same sender; each
        message kept from its own sender.

        besides: subscribers that get none of it
        """
        senders = {d.sender for d in deliveries if isinstance(d, Message) and d.sender is not None}
        aside = senders.union(besides)
        runs = [list(run) for _, run in groupby(deliveries, _sender)] if senders else [deliveries]
        parcels: list[Parcel[S]] = []
        for audience, followers in self.audiences.items():
            parts = [audience.encode(self.name, run) for run in runs]
            data = b"".join(parts)
            if not data:
                continue  # a newcomer whom nobody is told of costs no walk through those who are here
            # A copy of the set, because the fan-out yields and the channel's followers may change meanwhile.
            others = [f for f in followers if f not in aside] if aside else list(followers)
            parcels.append(Parcel(data, iter(others), len(deliveries)))
            for sender in followers.intersection(senders):
                own = [(p, run) for p, run in zip(parts, runs, strict=True) if _sender(run[0]) is not sender]
                if data := b"".join(part for part, _ in own):
                    parcels.append(Parcel(data, iter((sender,)), sum(len(run) for _, run in own)))
        return parcels

    def begin_tap(self, tap: Tap) -> None:
        """Let one more take what comes after the head."""
        if tap not in self.taps:
            self.taps = (*self.taps, tap)
            tap.begin(self.head, len(self.presence) if self.presence is not None else 0)

    def end_tap(self, tap: Tap) -> None:
        """Let one go. Harmless for one that is not there."""
        self.taps = tuple(other for other in self.taps if other is not tap)

    def known_id(self, message_id: str, now: float) -> int | None:
        """The serial that a publish with this id got within the window, on a channel without history."""
        known = self._ids.get(message_id)
        return known[0] if known is not None and known[1] > now else None

    def remembers(self, now: float) -> bool:
        """Whether an event is cached, or some publish id is still within its window."""
        if self._cached is not None and self._cached_until > now:
            return True
        return bool(self._ids) and next(reversed(self._ids.values()))[1] > now

    def cache(self, message: Message, until: float) -> None:
        """Keep the last event for newcomers."""
        self._cached, self._cached_until, self.missed = message, until, False

    def revise(self, changes: Iterable[Message]) -> None:
        """Have the last event be as those of these that are about it leave it."""
        if self._cached is not None:
            serial = self._cached.serial
            own = [c for c in changes if isinstance(c.about, Revision) and c.follows_up and c.about.of == serial]
            self._cached = versions.as_of(self._cached, own)

    def pass_on(self, deliveries: Sequence[Delivery]) -> None:
        """Have taps take what is told."""
        for tap in self.taps if deliveries else ():
            tap.take(deliveries)

    def forget(self, since: int, before: int) -> None:
        """Give nobody the messages between two exclusive serials any more: they were deleted."""
        if self._cached is not None and since < self._cached.serial < before:
            self._cached = None
        for tap in self.taps:
            tap.forget(since, before)

    def cached(self, now: float) -> tuple[Message, float] | None:
        """The last event, and for how many seconds it is kept yet."""
        if self._cached is None or self._cached_until <= now:
            return None
        return self._cached, self._cached_until - now

    def forget_ids(self, message_ids: Iterable[str | None]) -> None:
        """These were not told: who says one of them again is no repetition."""
        for message_id in message_ids:
            if message_id is not None:
                self._ids.pop(message_id, None)

    def remember_id(self, message_id: str, serial: int, until: float) -> None:
        """Remember a publish id until `until`; the oldest is forgotten past IDS_REMEMBERED."""
        self._ids.pop(message_id, None)
        self._ids[message_id] = (serial, until)
        if len(self._ids) > IDS_REMEMBERED:
            del self._ids[next(iter(self._ids))]


def _sender(delivery: Delivery) -> Hashable | None:
    return delivery.sender if isinstance(delivery, Message) else None
