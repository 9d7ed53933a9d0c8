"""What is asked over HTTP is done here: check the grant, then ask the hub or the journal.

Each command is one method of the same shape: (grant, address, command) -> answer, or a SowerError.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, cast

import trio

from sower.access import Access
from sower.activity import Activity
from sower.clients import Clients
from sower.config import History, Limits, Rate
from sower.core import versions
from sower.core.answer import (
    Acknowledged,
    Answers,
    ChannelList,
    HistoryPage,
    HttpAnswer,
    Issued,
    Members,
    Minted,
    Occupancy,
    Published,
    Receipt,
    Time,
)
from sower.core.command import (
    Batch,
    Complain,
    HttpCommand,
    Issue,
    ListChannels,
    Mint,
    OperatorCommand,
    Publish,
    PublishAll,
    ReadHistory,
    ReadOccupancy,
    ReadPresence,
    ReadTime,
    Terminate,
)
from sower.core.grants import USUAL, Can, Grant, mint
from sower.core.limits import Buckets, Rates
from sower.core.message import Annotation, Position, Revision
from sower.core.polling import PollingAnswer, PollingCommand
from sower.core.revising import RevisingAnswer, RevisingCommand
from sower.core.rules import presence_of
from sower.dialects.interface import Asked
from sower.errors import (
    BadRequest,
    Forbidden,
    HistoryOff,
    MessageTooLarge,
    NotSpoken,
    PresenceOff,
    RateLimited,
    SowerError,
    TooLarge,
    UserMismatch,
)
from sower.hub import Hub
from sower.inbox import Publication
from sower.operations import Operations

NOBODY = Grant("", "")
"""The grant of who asks for what anybody is told."""

Answer = HttpAnswer | PollingAnswer | RevisingAnswer

Outcome = Answer | Coroutine[Any, Any, Answer]
"""An answer, or what to await for it."""

Doer = Callable[[Grant, str, Any], Outcome]
"""(grant, address, command) -> answer. What it must do in the order of the requests is done before it returns."""


class Api:
    """now: seconds since 1970."""

    def __init__(
        self,
        hub: Hub,
        access: Access,
        clients: Clients,
        activity: Activity,
        limits: Limits,
        operations: Operations,
        *,
        now: Callable[[], float],
    ) -> None:
        self._hub = hub
        self._access = access
        self._clients = clients
        self._activity = activity
        self._operations = operations
        self._learned: dict[type, Doer] = {}
        self._now = now
        self._rates: Callable[[Rate], Rates] = Buckets
        self.use(limits)

    def count_by(self, rates: Callable[[Rate], Rates]) -> None:
        """Count what is published with each key elsewhere too."""
        self._rates = rates
        self.use(self._limits)

    def use(self, limits: Limits) -> None:
        """Go on with these limits."""
        self._limits = limits
        self._publishes = self._rates(limits.publishes)
        self._most = min(limits.batch, int(limits.publishes.burst))

    def ask(self, asked: Asked, address: str) -> Outcome:
        """Do what was asked. A publish is posted before this returns; its commit is what is awaited.

        Raises SowerError, now or when awaited.
        """
        grant: Grant | None = None
        try:
            if asked.credentials is not None:
                grant = self._access.authorise(asked.credentials)
            return self._do(grant or NOBODY, address, asked.command)
        except SowerError as error:
            told = self._access.refusal(address, error)
            if told.status in (401, 403, 429):
                where = getattr(asked.command, "channel", "")
                self._activity.refused(grant.app if grant else None, address, where, told)
            raise told from error

    def learn(self, kind: type, do: Doer) -> None:
        """Have another part do a kind of command."""
        self._learned[kind] = do

    def _do(self, grant: Grant, address: str, command: HttpCommand | PollingCommand | RevisingCommand) -> Outcome:
        learned = self._learned.get(type(command))
        if learned is not None:
            return learned(grant, address, command)
        if isinstance(command, PublishAll):
            return self.publish(grant, command)
        if isinstance(command, ReadHistory):
            return self._history(grant, command)
        if isinstance(command, ReadPresence):
            return self.presence(grant, command)
        if isinstance(command, ListChannels):
            return self.channels(grant, command)
        if isinstance(command, ReadOccupancy):
            return self.occupancy(grant, command.channel)
        if isinstance(command, Terminate):
            return self._terminate(grant, address, command)
        if isinstance(command, Batch):
            return self._batch(grant, address, command)
        if isinstance(command, ReadTime):
            return Time(self._now())
        if isinstance(command, Issue):
            return self._issue(grant, address, command)
        if isinstance(command, Mint):
            return self._mint(grant, address, command)
        if isinstance(command, OperatorCommand):
            return self._operations.perform(grant, address, command)
        if isinstance(command, Complain):
            raise command.error
        raise NotSpoken(f"{type(command).__name__} is nothing that this daemon does.")

    def _batch(self, grant: Grant, address: str, command: Batch) -> Answers | Coroutine[Any, Any, Answers]:
        begun: list[Answered | Coroutine[Any, Any, Answered]] = []
        for one in command.commands:
            try:
                begun.append(cast("Answered | Coroutine[Any, Any, Answered]", self._do(grant, address, one)))
            except SowerError as error:
                begun.append(error)
        return _each(begun)

    def publish(self, grant: Grant, command: PublishAll) -> Published | Coroutine[Any, Any, Published]:
        publishes = command.publishes
        if len(publishes) > self._most:
            size, most = len(publishes), self._most
            raise TooLarge(f"{size} messages in one request; limits.batch and limits.publishes allow {most}.")
        allowed = [self._check(grant, publish) for publish in publishes]
        self.count(grant, len(publishes))
        receipts = [self._hub.pass_by(grant.app, publish) for publish in publishes]
        if None not in receipts:
            return self._published(grant, command, cast("list[Receipt]", receipts))
        gathering = Gathering(receipts)
        for place, publish in enumerate(publishes):
            if receipts[place] is None:
                self._post(grant, publish, Place(gathering, place), allowed[place])
        return self._published_later(grant, command, gathering)

    def count(self, grant: Grant, messages: int) -> None:
        """Count what is published with a key. Raises RateLimited."""
        wait = self._publishes.take(grant.key, trio.current_time(), messages)
        if wait:
            raise RateLimited("This key publishes faster than limits.publishes.", retry_after=wait)

    def _post(self, grant: Grant, publish: Publish, place: Place, about: Revision | Annotation | None) -> None:
        sender = self._clients.find(publish.exclude) if publish.exclude is not None else None
        publication = Publication(publish, publish.user or grant.user, sender, place, about)
        try:
            self._hub.publish(grant.app, publication)
        except SowerError as error:
            publication.answer(error)

    async def _published_later(self, grant: Grant, command: PublishAll, gathering: Gathering) -> Published:
        return self._published(grant, command, await gathering.receipts())

    def _published(self, grant: Grant, command: PublishAll, receipts: Sequence[Receipt]) -> Published:
        publishes = command.publishes
        for publish, receipt in zip(publishes, receipts, strict=True):
            self._activity.published(grant, publish, receipt)
        counted = tuple(self.occupancy(grant, publish.channel) for publish in publishes) if command.counted else ()
        return Published(tuple(receipts), counted)

    def _check(self, grant: Grant, publish: Publish) -> Revision | Annotation | None:
        """Whether this may be published, and what may be done to the message that it is about. Raises SowerError."""
        rules, about = self._hub.rules.of(publish.channel), publish.about
        client_events = self._access.apps[grant.app].client_events
        if about is not None:
            user = publish.user or grant.user
            about = versions.demand(grant, about, user, publish.channel, rules, client_events)
        elif not grant.server:
            grant.demand(Can.PUBLISH, publish.channel, rules, client_events)
        if publish.channel.startswith("[meta]"):
            raise Forbidden(f"{publish.channel!r} is the daemon's own: nobody else publishes on it.")
        if publish.user is not None and not (grant.server or grant.speaks_for(publish.user)):
            raise UserMismatch(f"Only a server may publish in the name of {publish.user[:64]!r}.")
        if len(publish.data) > self._limits.message:
            size, most = len(publish.data), self._limits.message
            raise MessageTooLarge(f"The data has {size} bytes; limits.message is {most}.")
        return about

    def _history(self, grant: Grant, command: ReadHistory) -> Coroutine[Any, Any, HistoryPage]:
        name = command.channel
        rules = self._hub.rules.of(name)
        if rules.history is None:
            raise HistoryOff(f"The channel {name!r} keeps no history.")
        grant.demand(Can.HISTORY, name, rules, self._access.apps[grant.app].client_events)
        return self._read_history(grant.app, command, rules.history)

    async def _read_history(self, app: str, command: ReadHistory, history: History) -> HistoryPage:
        log = self._hub.log
        epoch = log.epoch
        lost = any(p is not None and p.epoch not in ("", epoch) for p in (command.since, command.before))
        channel = presence_of(command.channel) if command.presence else command.channel
        page = await log.page(
            app,
            channel,
            since=command.since.serial if command.since and not lost else None,
            before=command.before.serial if command.before and not lost else None,
            limit=command.limit,
            newest_first=command.newest_first,
            history=history,
            as_of=command.as_of.serial if command.as_of and not lost else None,
        )
        head = await log.head(app, channel)
        following = page.messages[-1].serial if page.more else None
        return HistoryPage(command, Position(epoch, head), tuple(page.messages), page.gap or lost, following)

    def presence(self, grant: Grant, command: ReadPresence) -> Members:
        """Who is on a channel. Raises PresenceOff, Forbidden."""
        rules = self._hub.rules.of(command.channel)
        if not (rules.presence or (command.seen and rules.members)):
            raise PresenceOff(f"The channel {command.channel!r} has no presence.")
        grant.demand(Can.SUBSCRIBE, command.channel, rules, self._access.apps[grant.app].client_events)
        tree = self._hub.look(grant.app, command.channel)
        presence = tree.state.presence if tree is not None and tree.state is not None else None
        if presence is None:
            return Members(command.channel, ())
        return Members(command.channel, tuple(presence.view()), tuple(presence.seen()) if command.seen else ())

    def channels(self, grant: Grant, command: ListChannels) -> ChannelList:
        """The channels that somebody follows. Raises Forbidden."""
        if not (grant.server or (grant.closed and self._may_look(grant, "*"))):
            raise Forbidden("Only a server (Basic key:secret) may list the channels.")
        found: list[Occupancy] = []
        for tree in self._hub.occupied(grant.app, command.prefix):
            if tree.state is not None and not tree.name.startswith("[meta]"):
                presence = tree.state.presence
                members = None if presence is None else len(presence)
                followers, now = tree.state.subscribers, tree.state.attendance(0)
                found.append(Occupancy(tree.name, followers, members, published=tree.published, attendance=now))
        found.sort(key=lambda occupancy: occupancy.channel)
        return ChannelList(tuple(found[: command.limit]))

    def occupancy(self, grant: Grant, channel: str) -> Occupancy:
        """Who follows a channel, in numbers. Raises Forbidden."""
        if not self._may_look(grant, channel):
            raise Forbidden("Only a server may ask how many follow a channel.")
        tree = self._hub.look(grant.app, channel)
        if tree is None or tree.state is None:
            return Occupancy(channel, 0, 0 if self._hub.rules.of(channel).presence else None)
        state = tree.state
        members = None if state.presence is None else len(state.presence)
        cached, now = state.cached(trio.current_time()), state.attendance(0)
        return Occupancy(channel, state.subscribers, members, cached, attendance=now)

    def _may_look(self, grant: Grant, channel: str) -> bool:
        """Whether this grant may see how many follow a channel."""
        app = self._access.apps[grant.app]
        return grant.allows(Can.METADATA, channel, self._hub.rules.of(channel), app.client_events)

    def _terminate(self, grant: Grant, address: str, command: Terminate) -> Acknowledged:
        if not grant.server:
            raise Forbidden("Only a server may end a user's connections.")
        self._activity.terminated(grant, address, command.user, self._clients.users.end(grant.app, command.user))
        return Acknowledged()

    async def _issue(self, grant: Grant, address: str, command: Issue) -> Issued:
        if not grant.keyed:
            raise Forbidden("Only who holds a key's secret may issue tokens.")
        token = command.make(self._access.credential(grant.key), self._now(), secrets.token_hex(8))
        if command.once is not None:
            await self._hub.shelf.use_up(*command.once)
        self._activity.minted(grant, address, "", command.user)
        return Issued(token)

    def _mint(self, grant: Grant, address: str, command: Mint) -> Minted:
        if not grant.server:
            raise Forbidden("Only a server (Basic key:secret) may mint tokens.")
        if "*" in command.channel:
            # A backend passes on the name that its client asked for, and a pattern would open every channel it fits.
            raise BadRequest("A token for a pattern is not minted over HTTP; `sower token` mints one.")
        try:
            can = list(USUAL) if command.can is None else [Can(name) for name in command.can]
        except ValueError as error:
            raise BadRequest(f"{error}; a capability is one of {', '.join(Can)}.") from error
        now = self._now()
        token = mint(
            self._access.credential(grant.key),
            channels={command.channel: can},
            user=command.user,
            issued=now,
            expires=now + command.ttl,
            meta=command.meta,
            token_id=secrets.token_hex(8),
        )
        self._activity.minted(grant, address, command.channel, command.user)
        return Minted(command.channel, token, now + command.ttl)


Answered = Published | Members | SowerError
"""What one command of a batch is answered."""


def _each(begun: Sequence[Answered | Coroutine[Any, Any, Answered]]) -> Answers | Coroutine[Any, Any, Answers]:
    """The outcome of each."""
    at_once = [one for one in begun if isinstance(one, Published | Members | SowerError)]
    return Answers(tuple(at_once)) if len(at_once) == len(begun) else _await_each(begun)


async def _await_each(begun: Sequence[Answered | Coroutine[Any, Any, Answered]]) -> Answers:
    answers: list[Answered] = []
    for one in begun:
        try:
            answers.append(one if isinstance(one, Published | Members | SowerError) else await one)
        except SowerError as error:
            answers.append(error)
    return Answers(tuple(answers))


class Gathering:
    """The outcomes of several publishes, in the order of the request. outcomes: those that are known already."""

    __slots__ = ("_done", "_left", "_outcomes")

    def __init__(self, outcomes: Sequence[Receipt | None]) -> None:
        self._outcomes: list[Receipt | SowerError | None] = [*outcomes]
        self._left = self._outcomes.count(None)
        self._done: trio.Event | None = None

    def put(self, place: int, outcome: Receipt | SowerError) -> None:
        """Note one outcome."""
        if self._outcomes[place] is None:
            self._outcomes[place] = outcome
            self._left -= 1
            if not self._left and self._done is not None:
                self._done.set()

    async def receipts(self) -> list[Receipt]:
        """Wait for all. Raises the first error among them: the request can be sent again with the same ids."""
        if self._left:
            self._done = trio.Event()
            await self._done.wait()
        receipts: list[Receipt] = []
        for outcome in self._outcomes:
            if isinstance(outcome, SowerError):
                raise outcome
            if outcome is not None:
                receipts.append(outcome)
        return receipts


class Place:
    """The ticket of one publish among several."""

    __slots__ = ("_gathering", "_place")

    def __init__(self, gathering: Gathering, place: int) -> None:
        self._gathering = gathering
        self._place = place

    def settle(self, outcome: Receipt | SowerError) -> None:
        """Note the outcome."""
        self._gathering.put(self._place, outcome)
