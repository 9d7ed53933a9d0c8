"""What a channel's inbox takes, and who is behind each item.

Items refer to the tree only by what they need of it, so that this file knows nothing of tasks.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Protocol

from sower.core.answer import Receipt, SocketAnswer
from sower.core.attendance import EVERY_USE, Use
from sower.core.channel import Audience, Channel
from sower.core.command import SUBSCRIBING, Appear, Publish, SocketCommand, Subscribe, UpdateMeta
from sower.core.connection import told_apart
from sower.core.grants import Can
from sower.core.message import Annotation, Appearance, Delivery, Position, Revision
from sower.errors import SowerError


class Inbox(Protocol):
    """The channel that an item is posted to."""

    name: str

    def post(self, item: Item, *, always: bool = False) -> None: ...


class Subscriber(Hashable, Protocol):
    """What a channel needs of a connected client. None of these blocks."""

    @property
    def id(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def connection(self) -> str: ...
    def write(self, data: bytes) -> None: ...
    def answer(self, command: SocketCommand, answer: SocketAnswer) -> None: ...
    def refuse(self, command: SocketCommand, error: SowerError) -> None: ...
    def turn_away(self, subscription: Subscription, command: Subscribe, error: SowerError) -> None: ...
    def tell_gap(self, channel: str, since: Position, position: Position) -> None: ...
    def hold(self) -> None: ...
    def write_ahead(self, data: bytes) -> None: ...
    def answer_ahead(self, command: SocketCommand, answer: SocketAnswer) -> None: ...
    async def drained(self) -> None: ...
    def release(self) -> None: ...


class Ticket(Protocol):
    """Whoever waits for a publish."""

    def settle(self, outcome: Receipt | SowerError) -> None: ...


class Subscription:
    """One subscriber on one channel.

    user:    the member that the subscriber is by subscribing, where it is one
    members: all members that its connection is; the channel's to know
    grace:   seconds that they stay when it is lost, None for what the channel's rule says
    uses:    what it was counted for; the channel's to know
    can:     what of what it wants it may do
    """

    __slots__ = ("audience", "can", "grace", "members", "subscriber", "tree", "user", "uses")

    def __init__(self, tree: Inbox, subscriber: Subscriber, audience: Audience, user: str | None) -> None:
        self.tree = tree
        self.subscriber = subscriber
        self.audience = audience
        self.user = user
        self.members: tuple[str, ...] = ()
        self.grace: float | None = None
        self.uses = EVERY_USE
        self.can = SUBSCRIBING

    @property
    def channel(self) -> str:
        """The channel's name."""
        return self.tree.name

    def begin(
        self,
        command: Subscribe,
        meta: bytes | None,
        can: frozenset[Can] = SUBSCRIBING,
        audience: Audience | None = None,
        *,
        uses: Use = EVERY_USE,
        again: bool = False,
    ) -> None:
        """Enter the channel, or follow it in another way. Raises as Inbox.post.

        meta: JSON bytes that the member brings, None for none
        can:  what of what it wants it may do
        uses: what of what it is there for it is allowed
        again: it follows the channel already, so it misses nothing
        """
        self.can = can
        self.tree.post(Arrival(self, command, meta, can, audience or self.audience, uses, again=again))

    def end(self, *, at_once: bool = False) -> None:
        """Leave the channel. at_once: the client asked for it, so its member gets no grace period."""
        self.tree.post(Departure(self, at_once), always=True)


class Arrival:
    departs = False
    __slots__ = ("again", "audience", "can", "command", "meta", "subscription", "uses")

    def __init__(
        self,
        subscription: Subscription,
        command: Subscribe,
        meta: bytes | None,
        can: frozenset[Can],
        audience: Audience,
        uses: Use,
        *,
        again: bool,
    ) -> None:
        self.subscription = subscription
        self.command = command
        self.meta = meta
        self.can = can
        self.audience = audience
        self.uses = uses
        self.again = again

    @property
    def asks(self) -> bool:
        """Whether it is to be given what was said before. Who follows the channel already stands somewhere in it, and
        is rewound alone where it does not know where: its client asked twice before it heard the first answer.
        """
        return self.command.rewind is not None if self.command.since is None else not self.again


class Departure:
    departs = True
    __slots__ = ("at_once", "subscription")

    def __init__(self, subscription: Subscription, at_once: bool) -> None:
        self.subscription = subscription
        self.at_once = at_once


class MetaChange:
    """Something new of a member: of the one that the subscriber is, or of this user. said: None until it is decided."""

    departs = False
    __slots__ = ("command", "said", "subscription", "user")

    def __init__(self, subscription: Subscription, command: UpdateMeta | Appear, user: str) -> None:
        self.subscription = subscription
        self.command = command
        self.user = user
        self.said: Appearance | None = None


class Publication:
    """A message on its way.

    sender:  the client that does not get it, because it published it
    ticket:  None once it was answered
    about:   what it changes or annotates, as it is allowed
    id:      by which it is known again
    speaker: the client that published it over its socket
    """

    departs = False
    __slots__ = ("about", "command", "id", "sender", "speaker", "ticket", "user")

    def __init__(
        self,
        command: Publish,
        user: str | None,
        sender: Subscriber | None,
        ticket: Ticket | None,
        about: Revision | Annotation | None = None,
        speaker: Subscriber | None = None,
    ) -> None:
        self.command = command
        self.user = user
        self.sender = sender
        self.speaker = speaker
        self.ticket = ticket
        self.about = about
        self.id = command.id and told_apart(command.id, speaker)

    def answer(self, outcome: Receipt | SowerError) -> None:
        """Tell who published it, once."""
        ticket, self.ticket = self.ticket, None
        if ticket is not None:
            ticket.settle(outcome)


class Change(Protocol):
    """What changes a channel's state without being anybody's subscription.

    apart:   whether all that was decided before is told first
    departs: whether somebody goes by it: as every departure, it is done however late, and never refused
    """

    apart: bool
    departs: bool

    def decide(self, state: Channel[Subscriber], now: float) -> Sequence[Delivery]:
        """Do it. Returns what is told of it. now: trio's clock."""
        ...

    def refuse(self, error: SowerError) -> None:
        """It was not done."""
        ...


class Deletion:
    """Messages between two exclusive serials were deleted: what was said before them is done first. It is a Change."""

    apart, departs = False, True
    __slots__ = ("_before", "_since")

    def __init__(self, since: int, before: int) -> None:
        self._since = since
        self._before = before

    def decide(self, state: Channel[Subscriber], now: float) -> Sequence[Delivery]:
        """Nothing is told of it."""
        state.forget(self._since, self._before)
        return ()

    def refuse(self, error: SowerError) -> None:
        """It is never refused."""


Item = Arrival | Departure | MetaChange | Publication | Change


def refuse(item: Item, error: SowerError) -> None:
    """Tell whoever is behind an item that it was not done. No departure is refused."""
    if isinstance(item, Publication):
        item.answer(error)
    elif isinstance(item, Arrival):
        item.subscription.subscriber.turn_away(item.subscription, item.command, error)
    elif isinstance(item, MetaChange):
        item.subscription.subscriber.refuse(item.command, error)
    elif not isinstance(item, Departure):
        item.refuse(error)
