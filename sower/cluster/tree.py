"""A channel's task tree on one node of several: it applies what the channel's log in Redis says, in that order.

Rule 1: what this node's clients publish and do is appended to the log by one script, and told when it comes back.
Rule 2: a broadcast names the head before it. Equal to this tree's head: it is applied. Lower: it is known. Else
        something was missed, and is read before anything goes on.
Rule 3: the log is followed only while somebody here follows the channel; whoever only publishes does not.
Rule 4: the output gate: a publish is acknowledged when Redis has it, and where Redis cannot be asked it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import structlog
import trio

from sower.channel_tree import CLIENT_EVENT, ChannelTree
from sower.cluster.archive import LAST
from sower.cluster.broadcast import Broadcast
from sower.cluster.changes import make
from sower.cluster.copy import Copy
from sower.cluster.counts import Numbers
from sower.cluster.entries import Batch, Entered, Entry, Snapshot, Spoken, Unknown, first_of, unpack
from sower.cluster.facts import HOW, Report, Reports
from sower.cluster.node import Node, Outcome
from sower.cluster.replica import Replica
from sower.cluster.turns import SAID_AT_ONCE, excluded, spoken, turn
from sower.cluster.wildcards import Wildcards
from sower.config import History
from sower.core.answer import Receipt
from sower.core.channel import Channel
from sower.core.happening import Fact, Happening
from sower.core.message import Message, Position
from sower.core.rules import Rules
from sower.errors import ClusterFailed, SowerError
from sower.inbox import Arrival, Departure, Item, Publication, Subscriber, refuse
from sower.membership import Membership
from sower.surroundings import Surroundings

log = structlog.get_logger(__name__)

HEARD_AT_MOST = 1000
"""Broadcasts that wait for a tree; what comes besides is read again."""

READ_AT_ONCE = 200
"""Messages of one page, where more was missed than Redis keeps broadcasts of."""


class Surrounding(Surroundings, Protocol):
    """What a channel has from a node of a cluster. session: whoever is connected here under this id."""

    node: Node
    wildcards: Wildcards
    session: Callable[[str], Subscriber | None]


class ClusterTree(ChannelTree):
    """One channel on this node. keys: what it is called in Redis. following: whether its state is what the log says."""

    def __init__(self, app: str, name: str, rules: Rules, node: Surrounding) -> None:
        super().__init__(app, name, rules, node)
        self._around = node
        self.keys = node.node.keys(app, name)
        self._members = Membership(replace(rules, history=None), node.next_serial)
        self.following = False
        self._behind = False
        self._begins = 0
        self._lost = False
        self._heard = 0
        self._counted = Numbers()
        self._entering: dict[tuple[str, str], Arrival] = {}
        self._reports = Reports()

    # What others see and ask

    @property
    def has_work(self) -> bool:
        """Whether something waits that no task is doing."""
        return super().has_work or self._behind or bool(self._intents or self._reports.due)

    @property
    def _intents(self) -> list[tuple[Entry, bytes]]:
        replica = self._state.replica if isinstance(self._state, Copy) else None
        return replica.intents if replica is not None else []

    def refuse_waiting(self, error: SowerError) -> None:
        """As of every tree; what was broadcast meanwhile is read afterwards."""
        super().refuse_waiting(error)
        self._heard, self._behind = 0, True

    def hear(self, payload: bytes) -> None:
        """Something was broadcast. Where too much waits already, it is read again later."""
        if self._heard >= HEARD_AT_MOST or self.rests:
            self._behind = True
            return
        self._heard += 1
        self._unsettle(first_of(payload))
        self.post(Broadcast(payload), always=True)

    def begin_at(self, serial: int) -> None:
        """Follow the log from this serial on, which is a little before another node speaks."""
        self._begins = serial
        self._node.in_flight.setdefault(self, serial)

    def look_again(self, *, lost: bool) -> None:
        """Something may have been missed. lost: Redis has lost data."""
        self._behind = True
        self._lost = self._lost or lost
        if not self.rests:
            self._unsettle(LAST)
        self.count_again()
        self._work.set()
        if not self.running and not self.rests:
            self._node.start(self)

    def _unsettle(self, serial: int) -> None:
        """Something is told from this serial on, or from after the head where more was missed."""
        head = self._state.head if self.following and self._state is not None else LAST
        self._node.in_flight.setdefault(self, min(serial, head + 1))

    def hear_numbers(self, payload: bytes) -> None:
        """A node says how many follow the channel there."""
        if isinstance(self._state, Copy) and self._state.elsewhere.hear(payload):
            self._recount()

    def count_again(self) -> None:
        """Nodes came or went, and those who follow the channel there."""
        if isinstance(self._state, Copy) and self._state.elsewhere.doubt():
            self._recount()

    def _recount(self) -> None:
        """Have subscribers told how many there are now."""
        self._count_changed.set()
        self._attending.changed()
        if not self.running and not self.rests:
            self._node.start(self)

    # The tasks

    async def _load(self) -> Copy:
        return Copy(self.name, self.rules, most_members=self._node.most_members, node=self._around.node.name)

    async def _fan_out(self, state: Channel[Subscriber]) -> None:
        """Do the first thing that is outstanding, again and again."""
        assert isinstance(state, Copy)
        node = self._around.node
        while True:
            if self._parcels:
                await self._hand_out()
            elif (self._count_due or self._attending.due) and state.elsewhere.due:
                await state.elsewhere.read(node.counts, self.app, self.name, node.living)
            elif self._changes or self._newcomers or self._count_due or self._attending.due:
                self._announce(state)
            elif self._behind and self.following and node.decides(self.keys):
                await self._catch_up(state)
            elif self._accepted or ((self._intents or self._reports.due) and node.decides(self.keys)):
                await self._store(state)
            elif self._members.unanswered:
                self._members.answer()
            elif self._inbox:
                if not self.following and any(not isinstance(item, Publication) for item in self._inbox):
                    await self._follow(state)
                self._decide(state)
            elif self._retiring and not (self._intents or self._reports.due):
                return
            else:
                if not (self._behind and self.following):
                    self._node.in_flight.pop(self, None)
                self._count(state)
                self._work = trio.Event()
                self._tell(Happening(Fact.VACATED if state.vacant else Fact.OCCUPIED, self.name))
                await self._work.wait()

    def _count(self, state: Copy) -> None:
        """Tell other nodes how many follow the channel here."""
        numbers = state.numbers
        if numbers != self._counted:
            self._counted = numbers
            self._around.node.counts.set(self.app, self.name, self.keys.topic, numbers)

    async def _follow(self, state: Copy) -> None:
        """Follow the log from here on. Where that cannot be, whoever came is told so."""
        try:
            snapshot = await self._around.node.follow(self)
        except ClusterFailed as error:
            waiting = list(self._inbox)
            self._inbox.clear()
            for item in waiting:
                if isinstance(item, Publication) or item.departs:
                    self._inbox.append(item)
                else:
                    refuse(item, error)
            return
        self.following, self._behind = True, False
        self._resume(state, snapshot, trusted=True)
        self._changes.clear()  # who is here already is nobody's coming
        if 0 < self._begins < state.head:
            state.head, self._behind = self._begins, True
        else:
            self._begins = 0

    def _resume(self, state: Copy, snapshot: Snapshot, *, trusted: bool) -> None:
        """Be as Redis says it is now."""
        state.head = snapshot.head
        if snapshot.members:
            self._members.present(state)
        replica = state.replica
        if replica is not None:
            self._changes += self._members.shown(replica.resume(snapshot.members, snapshot.head, trusted=trusted))
            self._attending.changed()
            for member in replica.view():
                self._note_whereabouts(replica, member.user)
        if snapshot.cached is not None:
            self._cache(state, (snapshot.cached,))

    def _alter(self, state: Channel[Subscriber], item: Item) -> None:
        if isinstance(item, Broadcast):
            self._heard -= 1
            assert isinstance(state, Copy)
            self._hear(state, item.payload)
        else:
            super()._alter(state, item)

    def _note_whereabouts(self, replica: Replica, user: str) -> None:
        here = replica.is_own(user)
        self._around.node.whereabouts.set(self.app, user, self.name, here=here)

    # What webhooks are told

    def _tell(self, *happenings: Happening) -> None:
        """Report what is so here, where it is not reported already; what members and messages do is in the log."""
        for happening in happenings:
            fact, state = happening.fact, self._state
            if fact not in HOW or state is None or not self._node.hears(self.app, fact):
                continue
            if self._reports.note(Report(fact, state.subscribers if fact is Fact.COUNTED else 0)):
                self._work.set()

    def _report_again(self, state: Copy) -> None:
        """Redis may have forgotten it, or others have taken this node for dead."""
        facts = self._reports.forget()
        if facts:
            self._tell(Happening(Fact.VACATED if state.vacant else Fact.OCCUPIED, self.name))
        if Fact.COUNTED in facts:
            self._tell(Happening(Fact.COUNTED, self.name))

    # What is said

    def _accept(self, state: Channel[Subscriber], item: Publication) -> None:
        command = item.command
        said = command.event, command.data, command.kind, item.user, item.id, command.extra, item.sender, item.about
        self._accepted.append((item, Message(0, *said)))

    def _enter(self, state: Channel[Subscriber], item: Arrival) -> None:
        """Whoever is a member by coming is let in when the log says that it is one."""
        newcomer, subscriber = item.subscription, item.subscription.subscriber
        if newcomer.user is None or not self.rules.presence:
            super()._enter(state, item)
        elif not subscriber.closed:
            try:
                self._members.join(state, item)
            except SowerError as error:
                refuse(item, error)
                return
            self._entering[newcomer.user, subscriber.connection] = item

    def _depart(self, state: Channel[Subscriber], item: Departure) -> None:
        for key, arrival in list(self._entering.items()):
            if arrival.subscription is item.subscription:
                del self._entering[key]
        super()._depart(state, item)

    async def _store(self, state: Channel[Subscriber]) -> None:
        """Append what is to be said, then tell publishers. Members come before messages."""
        assert isinstance(state, Copy)
        reports, intents = self._reports.due[:SAID_AT_ONCE], self._intents[:SAID_AT_ONCE]
        accepted = turn(self._accepted)
        if not (accepted or reports or intents):
            await self._change(state)
            return
        spoken = [self._spoken(publication, message) for publication, message in accepted]
        said: list[tuple[Entry | Report, bytes]] = [*reports, *intents, *spoken]
        outcomes: list[Outcome] = []
        try:
            with trio.CancelScope(shield=True):  # so that nothing is said twice
                outcomes = await self._around.node.say(self.app, self.name, self.keys, said)
        except ClusterFailed as error:
            self._unsaid(state, error)
            if reports or intents:
                await trio.sleep(0.1)  # Redis may be there and refuse
            return
        del self._reports.due[: len(reports)]
        del self._intents[: len(intents)]
        del self._accepted[: len(accepted)]
        self._settle(accepted, outcomes[len(reports) + len(intents) :])

    def _spoken(self, publication: Publication, message: Message) -> tuple[Entry, bytes]:
        command = publication.command
        entry = spoken(publication, message, speaker=self._node.hears(self.app, Fact.CLIENT_EVENT))
        if self.rules.cache and command.told and not message.event.startswith(CLIENT_EVENT):
            return entry, b"c" if command.stored else b"p"
        return entry, b"m" if command.stored else b"n"

    async def _change(self, state: Copy) -> None:
        """Do to a message what is first, then tell who asked for it."""
        publication, message = self._accepted[0]
        node, without, largest = self._around.node, excluded(publication), self._node.largest
        with trio.CancelScope(shield=True):  # so that it is not done twice
            try:
                outcome = await make(node, self.app, self.name, message, without, largest)
            except ClusterFailed as error:
                self._unsaid(state, error)
            except SowerError as error:
                del self._accepted[0]
                publication.answer(error)
            else:
                del self._accepted[0]
                self._settle([(publication, message)], [outcome])

    def _settle(self, accepted: Sequence[tuple[Publication, Message]], outcomes: Sequence[Outcome]) -> None:
        fresh = [message for (_, message), outcome in zip(accepted, outcomes, strict=True) if outcome.fresh]
        self.published += self._node.tally.accept(fresh)
        for (publication, _), outcome in zip(accepted, outcomes, strict=True):
            publication.answer(Receipt(self.name, outcome.serial, fresh=outcome.fresh))
        if fresh and self.rules.history is not None:
            self._around.wildcards.spoke(self.app, self.name)

    def _unsaid(self, state: Copy, error: ClusterFailed) -> None:
        """Whoever waits for it is told; that somebody went is said when it can be said."""
        accepted, self._accepted = self._accepted, []
        for publication, _ in accepted:
            publication.answer(error)
        refused, self._members.unanswered = self._members.unanswered, []
        of_members = {(item.user, item.subscription.subscriber.connection) for item in refused}
        entering, self._entering = self._entering, {}
        for item in (*entering.values(), *refused):
            refuse(item, error)
        for arrival in entering.values():
            arrival.subscription.members = ()
        if state.replica is not None:
            state.replica.give_up(of_members | set(entering))

    # What is heard

    def _hear(self, state: Copy, payload: bytes) -> None:
        """Apply a broadcast, or see that something was missed."""
        batch = unpack(payload)
        if self._behind or batch.first <= state.head:
            return  # what is behind will be read
        if not batch.follows(state.head):
            self._behind = True
            return
        self._apply(state, batch)

    def _apply(self, state: Copy, batch: Batch) -> None:
        told: list[Message] = []
        for serial, entry in enumerate(batch.entries, batch.first):
            state.head = serial
            if isinstance(entry, Spoken):
                if entry.told:
                    sender = self._around.session(entry.sender) if entry.sender is not None else None
                    told.append(entry.message(serial, sender))
                    self._changes.append(told[-1])
                continue
            if isinstance(entry, Unknown):
                continue
            self._members.present(state)
            replica = state.present()
            self._changes += self._members.shown(replica.apply(entry, serial))
            self._note_whereabouts(replica, entry.user)
            self._attending.changed()
            if isinstance(entry, Entered) and entry.node == self._around.node.name:
                arrival = self._entering.pop((entry.user, entry.connection), None)
                if arrival is not None and not arrival.subscription.subscriber.closed:
                    self._admit(state, arrival)
        self._cache(state, told)

    async def _catch_up(self, state: Copy) -> None:
        """Read what was missed. Where that is gone, be as Redis says it is now, and tell of the gap."""
        lost, self._lost, self._behind = self._lost, False, False
        try:
            payloads, snapshot = await self._around.node.missed(self.keys, since := state.head)
            for payload in payloads:
                batch = unpack(payload)
                if (batch.follows(state.head) or self._begins) and not lost:
                    self._begins = 0
                    self._apply(state, batch)
            if self._begins:  # nothing was said since
                self._begins, state.head = 0, snapshot.head
            if snapshot.head == state.head and not lost:
                self._resume(state, snapshot, trusted=self._around.node.whole)
            elif lost:
                await self._start_over(state, payloads, lost=True)
            else:
                with suppress(ClusterFailed):  # the epoch is another master's to say, which may be away
                    await self._around.node.look()  # a broken chain is how lost data is seen first
                if not self._lost:  # a replica that took over may lack what was heard, and was not acknowledged
                    await self._start_over(state, payloads, lost=any(unpack(one).before < since for one in payloads))
            self._report_again(state)
            if state.replica is not None and state.replica.own:
                await self._around.node.estate.note(self.app, self.name)
        except ClusterFailed as error:
            log.warning("channel_behind", channel=self.name, why=error.message)
            self._behind, self._lost = True, lost
            await trio.sleep(0.1)

    async def _start_over(self, state: Copy, payloads: Sequence[bytes], *, lost: bool) -> None:
        """The chain of broadcasts is broken: go on with what there is after this tree's head, and who is here now."""
        before, history = state.head, self.rules.history
        snapshot = await self._around.node.load(self.keys, self.name)
        if history is None:
            self._tell_gap(state, before, snapshot.head)
            for batch in map(unpack, payloads):
                if batch.first > state.head:
                    self._apply(state, batch)
        else:
            await self._read_on(state, history, snapshot.head, lost=lost)
        self._resume(state, snapshot, trusted=self._around.node.whole)

    async def _read_on(self, state: Copy, history: History, upto: int, *, lost: bool) -> None:
        """Tell what the history has, page by page."""
        before, more, gap = state.head, True, lost
        while more:
            page = await self._node.log.since(
                self.app, self.name, state.head, upto=upto, limit=READ_AT_ONCE, history=history, in_order=True
            )
            if (gap or page.gap) and state.head == before:
                self._tell_gap(state, before, upto)
                gap = False
            more = page.more
            if page.messages:
                state.head = page.messages[-1].serial
                self._changes += page.messages
                self._cache(state, page.messages)
                self._announce(state)
                await self._hand_out()

    def _tell_gap(self, state: Copy, since: int, upto: int) -> None:
        """Tell all who follow the channel here that something may be missing."""
        if not since:
            return
        self._node.tally.recover(whole=False)
        position = Position(self._node.log.epoch, upto)
        for followers in state.audiences.values():
            for subscriber in followers:
                subscriber.tell_gap(self.name, Position("", since), position)
