"""The task tree of one live channel: its fan-out loop, its presence clock and its replays.

    channel app/name            supervised by the hub, restarted alone when something in it raises
      |- fan-out                the only task that changes the channel's state
      |- presence clock         ends the grace period of members who went
      |- count clock            tells subscribers how many they are, not too often in a crowd
      |- attendance clock       tells those who asked how many there are, and what for
      |- replay SESSION         reads the journal for one subscriber who asked for what was missed

Rule 1: everything goes through one inbox, so a channel has one order.
Rule 2: what is in flight is kept on the tree and not in local variables, so that a restarted loop goes on
        where the crashed one stopped: a commit is repeated (the journal knows its serials), a hand-out goes
        on with the subscriber who is next.
Rule 3: the output gate: where a channel keeps history, nobody is told of a message before its commit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec
import structlog
import trio

from sower.attending import Attending
from sower.core.answer import Receipt, Welcome
from sower.core.channel import Channel, Parcel
from sower.core.happening import Fact, Happening, comings_and_goings
from sower.core.limits import RestartIntensity
from sower.core.message import CacheMiss, Counted, Delivery, Message, Position
from sower.core.rules import RESERVED, Rules, presence_of
from sower.core.versions import numbered
from sower.errors import ChannelBusy, ChannelQuarantined, JournalFailed, SowerError
from sower.inbox import Arrival, Departure, Item, MetaChange, Publication, Subscriber, Subscription, refuse
from sower.membership import Membership
from sower.outcomes import Outcomes
from sower.replays import Replays, skip
from sower.surroundings import Surroundings

log = structlog.get_logger(__name__)

HANDED_OUT_AT_ONCE = 256
"""Writes before the loop lets other tasks run: about a millisecond of system calls."""

QUARANTINE = 60.0
"""Seconds that a channel rests after it failed past its restart intensity; also the window of that intensity."""

CROWD, COUNT_EVERY = 100, 5.0
"""Subscribers above which their count is told once in so many seconds; both are Pusher's numbers."""

LOOK_BACK = 20
"""Stored messages among which the last one that may be cached is looked for."""

CLIENT_EVENT = "client-"
"""What the names of Pusher's client events begin with: they are not cached."""


class ChannelTree:
    """One live channel: its inbox, its state and what is in flight. published: messages since the record was made."""

    def __init__(self, app: str, name: str, rules: Rules, node: Surroundings) -> None:
        self.app = app
        self.name = name
        self.rules = rules
        self.intensity = RestartIntensity(within=QUARANTINE)
        self.running = False
        self.idle = False
        self.published = 0
        self.quarantined_until = 0.0
        self._node = node
        self._state: Channel[Subscriber] | None = None
        self._inbox: deque[Item] = deque()
        self._current: Item | None = None
        self._changes: list[Delivery] = []
        self._newcomers: dict[Subscription, Arrival] = {}
        self._accepted: list[tuple[Publication, Message]] = []
        self._receipts: list[tuple[Publication, Receipt | SowerError]] = []  # the first of them last
        self._parcels: list[Parcel[Subscriber]] = []  # mostly one; a deque is 760 bytes of every channel
        self._attending = Attending()
        self._members = Membership(rules, node.next_serial)
        self._replays = None if rules.history is None else Replays(app, name, rules.history, node)
        self._untold = 0  # up to which serial something may be stored and never told
        self._retiring = False
        self._count_due = False
        self._work = trio.Event()
        self._count_changed = trio.Event()
        self._nursery: trio.Nursery | None = None

    # What others see and ask

    @property
    def state(self) -> Channel[Subscriber] | None:
        """The channel's state, None before it was first loaded."""
        return self._state

    @property
    def vacant(self) -> bool:
        """Whether the record can be forgotten: no tasks, nothing waiting, nobody here."""
        if self.running or self.has_work or self.rests:
            return False
        return self._state is None or (
            self._state.vacant and not self._state.taps and not self._state.remembers(trio.current_time())
        )

    @property
    def rests(self) -> bool:
        """Whether the channel is in quarantine."""
        return self.quarantined_until > trio.current_time()

    @property
    def has_work(self) -> bool:
        """Whether something waits that no task is doing."""
        waiting = self._inbox or self._receipts or self._parcels or self._accepted or self._replays
        return bool(waiting or self._changes or self._newcomers)

    def demand_room(self) -> None:
        """Whether it takes one command more. Raises ChannelBusy, ChannelQuarantined."""
        if self.quarantined_until and self.rests:
            rest = self.quarantined_until - trio.current_time()
            raise ChannelQuarantined(f"The channel {self.name!r} rests: it failed too often.", retry_after=rest)
        if len(self._inbox) >= self._node.queue_limit:
            raise ChannelBusy(f"{len(self._inbox)} commands wait on the channel {self.name!r}.", retry_after=1)

    def post(self, item: Item, *, always: bool = False) -> None:
        """Put a command into the inbox, and start the tree when it sleeps. Raises as demand_room, unless `always`."""
        if not always:
            self.demand_room()
        self._inbox.append(item)
        self.idle = False
        self._retiring = False
        self._work.set()
        if not self.running and not self.rests:
            self._node.start(self)

    def retire(self) -> None:
        """End the tasks of a quiet channel once nothing is in flight; its record stays, the next post wakes it."""
        presence = self._state.presence if self._state is not None else None
        if not self._replays and (presence is None or presence.next_expiry() is None):
            self._retiring = True
            self._work.set()

    def settle_crash(self, error: SowerError) -> None:
        """After a crash: whoever asked for the thing that was being decided is told, and it is not tried again."""
        item, self._current = self._current, None
        if item is not None and item.departs:
            self._inbox.appendleft(item)
        elif item is not None:
            refuse(item, error)

    def quarantine(self, until: float) -> None:
        """After too many crashes: everything that waits is answered with an error; departures stay to be done."""
        self.quarantined_until = until
        self.refuse_waiting(ChannelQuarantined(f"The channel {self.name!r} failed too often.", retry_after=QUARANTINE))
        if self._state is not None and self._accepted:
            self._state.forget_ids(publication.id for publication, _ in self._accepted)
            self._untold = self._accepted[-1][1].serial if self.rules.history is not None else 0
        self._accepted = []
        self._node.in_flight.pop(self, None)

    def refuse_waiting(self, error: SowerError) -> None:
        """Answer all who wait with an error. Departures stay to be done, and what is with the journal already may still
        be stored: then it is told as any other message, so that no follower misses what history has.
        """
        for publication, _ in self._accepted:
            publication.answer(error)
        self._members.refuse(error)
        waiting, self._inbox = self._inbox, deque()
        for item in waiting:
            if item.departs:
                self._inbox.append(item)
            else:
                refuse(item, error)

    def _wake(self) -> None:
        self._work.set()

    # The tasks

    async def run(self) -> None:
        """The tree: load, then loop, clock and replays side by side, until the channel is retired."""
        if self._state is None:
            try:
                self._state = await self._load()
            except JournalFailed as error:
                self.refuse_waiting(error)
                self._inbox.clear()  # nobody is here, so nobody has to depart
                return
        if self._untold > self._state.head:
            await skip(self._node, self.app, self.name, self._state, self._untold)
        async with trio.open_nursery() as self._nursery:
            self._members.run(self._nursery, self._state, self._expired)
            if not self.rules.presence and self._node.counts(self.app):
                self._nursery.start_soon(self._count_clock, self._state, name=f"count clock {self.name}")
            if self._replays is not None:
                self._replays.run(self._nursery)
            self._attending.run(self._nursery, self._wake)
            await self._fan_out(self._state)
            self._nursery.cancel_scope.cancel()
        self._nursery = None  # all that is kept of it would refer to its task, and so to this tree
        self._members.rest()
        self._attending.rest()
        if self._replays is not None:
            self._replays.rest()

    async def _load(self) -> Channel[Subscriber]:
        if self.rules.history is None:
            head = self._node.next_serial()
        else:
            head = await self._node.log.head(self.app, self.name)
        state: Channel[Subscriber] = Channel(self.name, self.rules, head=head, most_members=self._node.most_members)
        if self.rules.cache and self.rules.history is not None:
            page = await self._node.log.page(
                self.app, self.name, limit=LOOK_BACK, newest_first=True, history=self.rules.history
            )
            self._cache(state, page.messages[::-1])
        return state

    async def _fan_out(self, state: Channel[Subscriber]) -> None:
        """Do the first thing that is outstanding, again and again. Each is safe to begin anew after a crash."""
        while True:
            if self._receipts:
                self._acknowledge()
            elif self._parcels:
                await self._hand_out()
            elif self._members.unrecorded:
                await self._record()
            elif self._members.unanswered:
                self._members.answer()
            elif self._changes or self._newcomers or self._count_due or self._attending.due:
                self._announce(state)
            elif self._accepted:
                await self._store(state)
                if not self._accepted:
                    self._node.in_flight.pop(self, None)
            elif self._inbox:
                self._decide(state)
            elif self._retiring:
                return
            else:
                self._work = trio.Event()
                await self._work.wait()

    async def _record(self) -> None:
        """Have the journal keep what members did, before it is told. Where it cannot, who asked may ask again."""
        rows = self._members.unrecorded
        if self.rules.history is not None:
            try:
                await self._node.journal.append(self.app, presence_of(self.name), rows, self.rules.history)
            except JournalFailed as error:
                log.error("presence_unrecorded", channel=self.name, rows=len(rows), why=error.message)
                self._members.refuse(error)
        self._members.unrecorded = self._members.unrecorded[len(rows) :]

    def _decide(self, state: Channel[Subscriber]) -> None:
        """Take all that waits as one batch: who comes and goes first, then the messages in their order."""
        while self._inbox:
            item = self._current = self._inbox.popleft()
            if isinstance(item, Publication):
                self._accept(state, item)
            elif isinstance(item, Arrival | Departure | MetaChange) or not (item.apart and self._changes):
                self._alter(state, item)
            else:
                self._inbox.appendleft(item)
                break
        self._current = None

    def _alter(self, state: Channel[Subscriber], item: Item) -> None:
        """Do what changes who is here, and tell webhooks of it."""
        vacant, before = state.vacant, len(self._changes)
        if isinstance(item, Arrival):
            self._enter(state, item)
        elif isinstance(item, Departure):
            self._depart(state, item)
        elif isinstance(item, MetaChange):
            self._changes += self._members.say(state, item)
        elif not isinstance(item, Publication):
            self._changes += self._members.shown(item.decide(state, trio.current_time()))
        self._attending.changed()
        self._tell(*comings_and_goings(self.name, vacant, state.vacant, self._changes[before:]))

    def _accept(self, state: Channel[Subscriber], item: Publication) -> None:
        command = item.command
        now = trio.current_time()
        if self.rules.history is None and item.id is not None:
            known = state.known_id(item.id, now)
            if known is not None:
                item.answer(Receipt(self.name, known, fresh=False))
                return
        serial = self._node.next_serial()
        if self.rules.history is None and item.id is not None:
            state.remember_id(item.id, serial, now + self._node.remember_ids)
        about = None if item.about is None else numbered(item.about, serial, self._node.next_serial)
        message = Message(
            serial, command.event, command.data, command.kind, item.user, item.id, command.extra, item.sender, about
        )
        self._accepted.append((item, message))
        self._node.in_flight.setdefault(self, serial)

    def _enter(self, state: Channel[Subscriber], item: Arrival) -> None:
        if item.subscription.subscriber.closed:
            return
        try:
            self._changes += self._members.join(state, item)
        except SowerError as error:
            refuse(item, error)
            return
        self._admit(state, item)

    def _admit(self, state: Channel[Subscriber], item: Arrival) -> None:
        """Let a newcomer in, to be welcomed."""
        newcomer, subscriber = item.subscription, item.subscription.subscriber
        state.remove(subscriber, newcomer.audience, newcomer.uses)
        state.add(subscriber, item.audience, item.uses)
        newcomer.audience, newcomer.uses = item.audience, item.uses
        self._count_changed.set()
        if item.command.counts:
            self._attending.begin(self._nursery, self._wake)
        self._newcomers[newcomer] = item

    def _depart(self, state: Channel[Subscriber], item: Departure) -> None:
        leaver, subscriber = item.subscription, item.subscription.subscriber
        self._newcomers.pop(leaver, None)
        if self._replays is not None:
            self._replays.end(leaver)
        state.remove(subscriber, leaver.audience, leaver.uses)
        self._changes += self._members.leave(state, leaver, at_once=item.at_once)
        self._count_changed.set()

    def _expired(self, changes: Sequence[Delivery]) -> None:
        """Members are gone whose grace period was over."""
        self._changes.extend(changes)
        self._attending.changed()
        if self._state is not None:
            self._tell(*comings_and_goings(self.name, False, self._state.vacant, changes))
        self._work.set()

    def _announce(self, state: Channel[Subscriber]) -> None:
        """Changes go to those who were here; newcomers get a snapshot that has them in it."""
        changes, newcomers = self._changes, self._newcomers
        parcels = state.parcels(changes, besides=[newcomer.subscriber for newcomer in newcomers])
        self._changes, self._newcomers = [], {}
        self._parcels.extend(parcels)
        state.pass_on(changes)
        if newcomers:
            self._welcome(state, newcomers)
        if self._count_due:
            self._count_due = False
            self._parcels.extend(state.parcels([Counted(state.followers)]))
            self._tell(Happening(Fact.COUNTED, self.name, count=state.followers))
        if self._attending.due:
            self._attending.due = False
            self._parcels.extend(state.parcels([state.attendance(self._node.next_serial())]))

    def _welcome(self, state: Channel[Subscriber], newcomers: Mapping[Subscription, Arrival]) -> None:
        presence, position = state.presence, Position(self._node.log.epoch, state.head)
        members = tuple(presence.view()) if presence is not None and self.rules.presence else None
        seen = tuple(presence.seen()) if presence is not None else ()
        here = Welcome(self.name, position, members=members, seen=seen, moment=self._node.next_serial())
        for newcomer, arrival in newcomers.items():
            command, since, asks = arrival.command, arrival.command.since, arrival.asks
            welcome = msgspec.structs.replace(here, user=newcomer.user, can=arrival.can, resumed=arrival.again)
            if asks and self._replays is not None:
                self._replays.begin(newcomer, command, welcome, state.head)
                continue
            missing = asks and since is not None and since.serial != state.head
            if asks and since is not None and not missing:
                welcome = msgspec.structs.replace(welcome, resumed=True)
            newcomer.subscriber.answer(command, welcome)
            if missing and since is not None:
                self._node.tally.recover(whole=False)
                newcomer.subscriber.tell_gap(self.name, since, position)
            elif not asks and self.rules.cache:
                self._give_cached(state, newcomer)

    def _give_cached(self, state: Channel[Subscriber], newcomer: Subscription) -> None:
        """Begin with the last event, where there is one."""
        cached = state.cached(trio.current_time())
        word = newcomer.audience.encode(self.name, (cached[0] if cached else CacheMiss(),))
        if word:
            newcomer.subscriber.write(word)
        if cached is None and not state.missed:
            state.missed = True
            self._tell(Happening(Fact.CACHE_MISS, self.name))

    def _cache(self, state: Channel[Subscriber], messages: Sequence[Message]) -> None:
        """Remember the last of these that is no client's, as it is now; messages are as old as their serials say."""
        last = next((m for m in reversed(messages) if not (m.follows_up or m.event.startswith(CLIENT_EVENT))), None)
        if last is not None and self.rules.cache:
            age = max(0.0, self._node.now() - last.time_ms / 1000)
            state.cache(last, trio.current_time() + self.rules.cache - age)
        state.revise(messages)

    def _tell(self, *happenings: Happening) -> None:
        for happening in happenings:
            if self._node.hears(self.app, happening.fact) and not self.name.startswith(RESERVED):
                self._node.happened(self.app, happening)

    async def _store(self, state: Channel[Subscriber]) -> None:
        """Commit what was accepted, then tell publishers and subscribers. The commit may be repeated."""
        accepted = self._accepted
        try:
            outcomes = await Outcomes.stored(self._node, self.app, self.name, accepted, self.rules.history)
        except JournalFailed as error:
            self._accepted = []
            for publication, _ in accepted:
                publication.answer(error)
            return
        fresh = outcomes.told()
        parcels = state.parcels(fresh)
        state.pass_on(fresh)  # may be repeated, as the commit
        self._accepted = []
        if not self.name.startswith(RESERVED):
            self.published += self._node.tally.accept(fresh)
        if fresh:
            state.head = fresh[-1].serial
            self._cache(state, fresh)
        self._parcels.extend(parcels)
        self._receipts = outcomes.receipts()

    def _acknowledge(self) -> None:
        """Tell each publisher where its message is, or why not."""
        while self._receipts:
            publication, outcome = self._receipts.pop()
            publication.answer(outcome)

    async def _hand_out(self) -> None:
        """Write each parcel to its recipients, letting other tasks run now and then."""
        written = 0
        while self._parcels:
            parcel = self._parcels[0]
            data = parcel.data
            self._node.tally.hand_out(parcel)
            for recipient in parcel.recipients:
                recipient.write(data)
                written += 1
                if written >= HANDED_OUT_AT_ONCE:
                    written = 0
                    await trio.lowlevel.checkpoint()
            del self._parcels[0]

    async def _count_clock(self, state: Channel[Subscriber]) -> None:
        """Have the subscribers told how many they are after each change."""
        while True:
            await self._count_changed.wait()
            self._count_changed = trio.Event()
            self._count_due = True
            self._work.set()
            if state.followers > CROWD:
                await trio.sleep(COUNT_EVERY)
