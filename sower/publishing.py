"""What clients publish over their sockets: one message, or several that are acknowledged together.

Rule 1: nothing here waits; a ticket answers when the message is accepted.
Rule 2: all messages of one command are checked before the first is posted.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from sower.access import Access
from sower.activity import Activity
from sower.config import Limits
from sower.core import versions
from sower.core.answer import Published, Receipt
from sower.core.command import Publish, PublishAll
from sower.core.grants import Can
from sower.core.happening import Fact, Happening
from sower.core.limits import Bucket
from sower.core.message import Annotation, Revision
from sower.core.rules import RESERVED
from sower.errors import EventsTooFast, Forbidden, MessageTooLarge, SowerError, UserMismatch
from sower.hub import Hub
from sower.inbox import Publication, Ticket
from sower.net.session import Session


class Publishing:
    """Checks what clients publish, and posts it to the hub."""

    def __init__(self, limits: Limits, hub: Hub, access: Access, activity: Activity) -> None:
        self._limits = limits
        self._hub = hub
        self._access = access
        self._activity = activity

    def use(self, limits: Limits) -> None:
        """Go on with these limits."""
        self._limits = limits

    def publish(self, session: Session, command: Publish) -> None:
        """One message of a subscriber. Raises SowerError."""
        subscription = session.subscription(command.channel)
        if subscription is None:
            raise Forbidden(f"Only a subscriber of {command.channel!r} may publish on it over its socket.")
        user = subscription.user or session.grant.user
        self._check_publish(session, command, user)
        self._count_events(session, 1)
        self._post(session, command, user, SocketTicket(session, command, self._told(session, command, user)))

    def publish_all(self, session: Session, command: PublishAll) -> None:
        """Several messages that are acknowledged together. Raises SowerError, and then none is posted."""
        allowed: list[Revision | Annotation | None] = []
        for publish in command.publishes:
            allowed.append(self._check_publish(session, publish, publish.user or session.grant.user))
            if publish.user is not None and not session.grant.speaks_for(publish.user):
                raise UserMismatch(f"This client does not speak for {publish.user[:64]!r}.")
        self._count_events(session, len(command.publishes))
        together = Together(session, command)
        for place, publish in enumerate(command.publishes):
            user = publish.user or session.grant.user
            ticket = OneOf(together, place, self._told(session, publish, user))
            try:
                self._post(session, publish, user, ticket, allowed[place])
            except SowerError as error:
                ticket.settle(error)

    def _check_publish(self, session: Session, command: Publish, user: str | None) -> Revision | Annotation | None:
        """Whether this may be published, and what may be done to the message that it is about. Raises SowerError."""
        grant, rules, about = session.grant, self._hub.rules.of(command.channel), command.about
        client_events = self._access.apps[grant.app].client_events
        if about is not None:
            about = versions.demand(grant, about, user, command.channel, rules, client_events)
        else:
            grant.demand(Can.PUBLISH, command.channel, rules, client_events)
        if command.channel.startswith(RESERVED):
            raise Forbidden(f"{command.channel!r} is the daemon's own: nobody else publishes on it.")
        if len(command.data) > self._limits.message:
            size, most = len(command.data), self._limits.message
            raise MessageTooLarge(f"The data has {size} bytes; limits.message is {most}.")
        return about

    def _post(
        self,
        session: Session,
        command: Publish,
        user: str | None,
        ticket: Ticket,
        about: Revision | Annotation | None = None,
    ) -> None:
        sender = None if command.echo else session
        self._hub.publish(session.grant.app, Publication(command, user, sender, ticket, about, session))

    def _told(self, session: Session, command: Publish, user: str | None) -> Told:
        """What else is told of a publish that was accepted."""

        def tell(receipt: Receipt) -> None:
            if receipt.fresh and command.about is None and self._hub.hears(session.grant.app, Fact.CLIENT_EVENT):
                fact = Happening(
                    Fact.CLIENT_EVENT,
                    command.channel,
                    user=user,
                    event=command.event,
                    data=command.data,
                    session=session.id,
                    kind=command.kind,
                )
                self._hub.happened(session.grant.app, fact)
            self._activity.published(session.grant, command, receipt)

        return tell

    def _count_events(self, session: Session, count: int) -> None:
        speech = session.speak()
        now = trio.current_time()
        if speech.events is None:
            speech.events = Bucket(session.conversation.publishes or self._limits.client_events, now)
        wait = speech.events.take(now, count)
        if wait:
            raise EventsTooFast("Events come faster than this client may publish.", retry_after=wait)


Told = Callable[[Receipt], None]
"""What else is told of a publish once it is accepted."""


class SocketTicket:
    """The ticket of one message."""

    __slots__ = ("_command", "_session", "_told")

    def __init__(self, session: Session, command: Publish, told: Told) -> None:
        self._session = session
        self._command = command
        self._told = told

    def settle(self, outcome: Receipt | SowerError) -> None:
        """Acknowledge, or say why not."""
        if isinstance(outcome, SowerError):
            self._session.refuse(self._command, outcome)
        else:
            self._told(outcome)
            self._session.answer(self._command, outcome)


class Together:
    """Messages of one command: it is answered when all are settled, with the first error where there is one."""

    __slots__ = ("_command", "_left", "_outcomes", "_session")

    def __init__(self, session: Session, command: PublishAll) -> None:
        self._session = session
        self._command = command
        self._outcomes: list[Receipt | SowerError | None] = [None] * len(command.publishes)
        self._left = len(command.publishes)

    def put(self, place: int, outcome: Receipt | SowerError) -> None:
        """Note the outcome of one."""
        self._outcomes[place] = outcome
        self._left -= 1
        if self._left:
            return
        error = next((outcome for outcome in self._outcomes if isinstance(outcome, SowerError)), None)
        if error is not None:
            self._session.refuse(self._command, error)
        else:
            receipts = tuple(outcome for outcome in self._outcomes if isinstance(outcome, Receipt))
            self._session.answer(self._command, Published(receipts))


class OneOf:
    """The ticket of one message among several."""

    __slots__ = ("_place", "_together", "_told")

    def __init__(self, together: Together, place: int, told: Told) -> None:
        self._together = together
        self._place = place
        self._told = told

    def settle(self, outcome: Receipt | SowerError) -> None:
        """Note the outcome."""
        if not isinstance(outcome, SowerError):
            self._told(outcome)
        self._together.put(self._place, outcome)
