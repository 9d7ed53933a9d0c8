"""What comings, goings and words of clients do to who is present on one channel, and the clock of grace periods.

Rule 1: what connections of members do is kept in the journal where the channel keeps history, before it is told.
Rule 2: users as such are shown only where the channel's rule has presence; connections are, wherever a client is
        a member of its own accord.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import trio

from sower.core.answer import Acknowledged
from sower.core.appearances import record
from sower.core.channel import Channel
from sower.core.command import Appear, UpdateMeta
from sower.core.message import Appearance, Delivery, Did, Joined, Left, Message, Updated
from sower.core.presence import Change, Presence
from sower.core.rules import Rules
from sower.errors import SowerError
from sower.inbox import Arrival, MetaChange, Subscriber, Subscription, refuse

Expired = Callable[[Sequence[Delivery]], None]
"""Told of the members whose grace period is over."""


class Membership:
    """The members of one channel.

    next_serial: when something happens
    unrecorded:  what the journal has not got yet
    unanswered:  who is told when it has
    """

    def __init__(self, rules: Rules, next_serial: Callable[[], int]) -> None:
        self._rules = rules
        self._next_serial = next_serial
        self.unrecorded: list[Message] = []
        self.unanswered: list[MetaChange] = []
        self._running: tuple[trio.Nursery, Expired] | None = None
        self._someone_left = trio.Event()

    def run(self, nursery: trio.Nursery, state: Channel[Subscriber], expired: Expired) -> None:
        """Run the clock in this nursery, from when there are members."""
        self._running = (nursery, expired)
        if state.presence is not None:
            nursery.start_soon(self._clock, state.presence, expired, name=f"presence clock {state.name}")

    def rest(self) -> None:
        """The nursery has ended."""
        self._running = None

    def join(self, state: Channel[Subscriber], item: Arrival) -> list[Delivery]:
        """Make a newcomer the member that it is, and the ones that it was a moment ago. Raises TooMany."""
        newcomer, subscriber = item.subscription, item.subscription.subscriber
        changes: list[Delivery] = []
        if newcomer.user is not None and self._rules.presence:
            meta, serial = item.meta or b"null", self._next_serial()
            said = Appearance(Did.ENTERED, newcomer.user, subscriber.connection, meta, serial)
            keep, most = item.meta is None, item.command.most
            changes = self.shown(state.present().enter(said, subscriber, keep=keep, most=most))
            if newcomer.user not in newcomer.members:  # who follows the channel already may ask again and again
                newcomer.members += (newcomer.user,)
        if state.presence is not None:
            newcomer.members += state.presence.adopt(subscriber.connection, subscriber)
        return changes

    def leave(self, state: Channel[Subscriber], leaver: Subscription, *, at_once: bool) -> list[Delivery]:
        """Let the members of a subscription go."""
        members, leaver.members = leaver.members, ()
        if state.presence is None or not members:
            return []
        name, now, serial = leaver.subscriber.connection, trio.current_time(), self._next_serial()
        changes: list[Change] = []
        for user in members:
            leave, grace = state.presence.leave, leaver.grace
            changes += leave(user, name, leaver.subscriber, now, serial, at_once=at_once, grace=grace)
        self._someone_left.set()
        return self.shown(changes)

    def say(self, state: Channel[Subscriber], item: MetaChange) -> list[Delivery]:
        """Do what a member says of itself."""
        item.said = said = self._said(item)
        try:
            changes = self._say(item, said, self.present(state))
        except SowerError as error:
            refuse(item, error)
            return []
        self.unanswered.append(item)
        return self.shown(changes)

    def answer(self) -> None:
        """Answer those who said something of themselves, now that it is kept."""
        items, self.unanswered = self.unanswered, []
        for item in items:
            item.subscription.subscriber.answer(item.command, Acknowledged(item.said))

    def refuse(self, error: SowerError) -> None:
        """Tell those who said something of themselves that it may not be kept."""
        items, self.unanswered = self.unanswered, []
        for item in items:
            refuse(item, error)

    def shown(self, changes: Sequence[Delivery]) -> list[Delivery]:
        """What of these changes is announced."""
        shown = self._rules.presence
        if self._rules.history is not None:
            self.unrecorded += [record(c, self._next_serial()) for c in changes if isinstance(c, Appearance)]
        return [change for change in changes if shown or not isinstance(change, Joined | Left | Updated)]

    def _say(self, item: MetaChange, said: Appearance, presence: Presence) -> Sequence[Change]:
        subscription, subscriber = item.subscription, item.subscription.subscriber
        if said.did is Did.LEFT:
            subscription.members = tuple(member for member in subscription.members if member != item.user)
            now, serial, name = trio.current_time(), said.serial, subscriber.connection
            return presence.leave(item.user, name, subscriber, now, serial, at_once=True, said=said)
        if isinstance(item.command, UpdateMeta):
            return presence.update(said, subscriber)
        changes = presence.enter(said, subscriber)
        if item.user not in subscription.members:
            subscription.members += (item.user,)
        return changes

    def _said(self, item: MetaChange) -> Appearance:
        command, name, serial = item.command, item.subscription.subscriber.connection, self._next_serial()
        if isinstance(command, Appear):
            return Appearance(command.did, item.user, name, command.meta, serial, command.id, command.extra)
        return Appearance(Did.UPDATED, item.user, name, command.meta, serial)

    def present(self, state: Channel[Subscriber]) -> Presence:
        """The channel's members; with the first of them the clock begins."""
        if state.presence is None and self._running is not None:
            state.present()
            nursery, expired = self._running
            self.run(nursery, state, expired)
        return state.present()

    async def _clock(self, presence: Presence, expired: Expired) -> None:
        """End grace periods when they are over."""
        while True:
            self._someone_left = trio.Event()
            expiry = presence.next_expiry()
            with trio.move_on_at(math.inf if expiry is None else expiry) as period:
                await self._someone_left.wait()
            if period.cancelled_caught:
                expired(self.shown(presence.expire(trio.current_time(), self._next_serial())))
