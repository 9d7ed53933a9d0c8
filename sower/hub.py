"""(app, channel) -> its task tree: starts, restarts and retires them.

Rule 1: a channel costs a task tree only while something happens on it; a quiet one is a record, and one with
        nobody on it is nothing.
Rule 2: what one channel raises never reaches another: each tree is supervised alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import structlog
import trio

from sower.channel_tree import QUARANTINE, ChannelTree
from sower.config import Config
from sower.core.answer import Receipt
from sower.core.command import Publish
from sower.core.happening import Fact, Happening
from sower.core.message import next_serial
from sower.core.presence import Presence
from sower.core.rules import RESERVED, RuleBook
from sower.errors import JournalFailed, SowerError, TooManyChannels
from sower.inbox import Deletion, Publication
from sower.store.journal import Journal
from sower.store.log import Log
from sower.store.shelf import JournalShelf, Shelf
from sower.supervisor import supervise
from sower.tally import Tally

log = structlog.get_logger(__name__)

BEAT = f"{RESERVED}beat"
"""The channel that shows whether messages go round."""

SWEEP_EVERY = 15.0
"""Seconds between two looks at which channels are quiet; a channel rests after one to two of them."""


LOOK_EVERY = 1.0
"""Seconds between two looks at whether the journal's disk hangs."""


class Hub:
    """All live channels of all apps.

    now: seconds since 1970
    log: where channels' messages are read; shelf: what clients that poll keep here
    tally: what all parts of the node count in
    failed: told of each restart and quarantine: kind of audit record, app, channel, why
    hears: whether an app's webhooks want a fact; happened: told of each that they want
    born: told of each new channel. awaited: whether somebody wants to be told of a channel before there is one
    shared: whether somebody may listen of whom this node does not know
    """

    shared = False

    def __init__(
        self,
        config: Config,
        journal: Journal,
        *,
        now: Callable[[], float],
        failed: Callable[[str, str, str, str], None] | None = None,
    ) -> None:
        self.journal = journal
        self.log: Log = journal
        journal.erased = self.erase
        self.shelf: Shelf = JournalShelf(journal)
        self.tally = Tally()
        self.use(config)
        self.remember_ids = float(config.store.remember_ids)
        self.rules = RuleBook(config.channels)
        self.now = now
        self.failed = failed or _nobody
        self.hears: Callable[[str, Fact], bool] = _deaf
        self.happened: Callable[[str, Happening], None] = _unheard
        self.in_flight: dict[ChannelTree, int] = {}
        self.born: Callable[[ChannelTree], None] = _unseen
        self.awaited: Callable[[str, str], bool] = _unawaited
        self._counting = frozenset(app.id for app in config.apps if app.subscription_count)
        self._last_serial = journal.last_serial
        self._trees: dict[tuple[str, str], ChannelTree] = {}
        self._nursery: trio.Nursery | None = None

    def use(self, config: Config) -> None:
        """Go on with this config's limits."""
        self.queue_limit = config.limits.channel_queue
        self.most_channels = config.limits.channels
        self.most_members = config.limits.members
        self.largest = int(config.limits.message)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the channels' task trees until cancelled."""
        async with trio.open_nursery() as self._nursery:
            self._nursery.start_soon(self._watch_journal, name="hub watches journal")
            task_status.started()
            while True:
                await trio.sleep(SWEEP_EVERY)
                self.sweep()

    async def _watch_journal(self) -> None:
        """Have nobody wait for a disk that hangs."""
        while True:
            await trio.sleep(LOOK_EVERY)
            if self.journal.hangs:
                error = JournalFailed("The journal does not answer: what was published may be stored later, or not.")
                for tree in list(self._trees.values()):
                    if tree.rules.history is not None:
                        tree.refuse_waiting(error)

    def counts(self, app: str) -> bool:
        """Whether subscribers of this app's channels are told how many they are."""
        return app in self._counting

    def next_serial(self) -> int:
        """A serial after every earlier one of this node."""
        self._last_serial = next_serial(self._last_serial, self.now())
        return self._last_serial

    def cursor(self, app: str) -> int:
        """A serial after all that was said in an app, and before all that will be."""
        return self.next_serial()

    def settled(self, app: str) -> int:
        """The serial up to which every message of an app was told here, or never will be."""
        return min(self.in_flight.values()) - 1 if self.in_flight else self._last_serial

    def tree(self, app: str, name: str) -> ChannelTree:
        """The channel's tree, a new record where there is none."""
        tree = self._trees.get((app, name))
        if tree is None:
            tree = self._trees[app, name] = self._plant(app, name)
            self.born(tree)
        return tree

    def open(self, app: str, name: str) -> ChannelTree:
        """The channel's tree for somebody from outside. Raises TooManyChannels."""
        self.demand_room(app, (name,))
        return self.tree(app, name)

    def demand_room(self, app: str, names: Collection[str]) -> None:
        """Whether these channels may be there besides all others: clients make up names. Raises TooManyChannels."""
        if len(self._trees) + len(names) > self.most_channels:  # else nobody looks at each
            new = sum((app, name) not in self._trees for name in names)
            if new and len(self) + new > self.most_channels:
                text = f"{len(self)} channels are there and {new} would come; limits.channels is {self.most_channels}."
                raise TooManyChannels(text, retry_after=SWEEP_EVERY)

    def follow_prefix(self, app: str, prefix: str, *, begun: bool) -> None:
        """Somebody follows all channels that begin so from now on, or nobody does."""

    def _plant(self, app: str, name: str) -> ChannelTree:
        return ChannelTree(app, name, self.rules.of(name), self)

    def publish(self, app: str, publication: Publication) -> None:
        """Post a message to its channel. Where nobody listens and nothing is kept, it is done at once.

        Raises ChannelBusy, ChannelQuarantined, TooManyChannels.
        """
        receipt = self.pass_by(app, publication.command)
        if receipt is not None:
            publication.answer(receipt)
        else:
            self.open(app, publication.command.channel).post(publication)

    def pass_by(self, app: str, publish: Publish) -> Receipt | None:
        """Accept a message that nobody hears and nothing keeps. None for one that has to go to its channel."""
        name = publish.channel
        if (app, name) in self._trees or publish.id is not None or self.shared or self.awaited(app, name):
            return None
        rules = self.rules.of(name)
        if rules.history is not None or rules.cache:
            return None
        self.tally.published += 1
        self.tally.published_bytes += len(publish.data)
        return Receipt(name, self.next_serial())

    def say(self, app: str, channel: str, event: str, data: bytes) -> None:
        """Publish a word of the daemon's own on a channel that somebody follows; nothing where nobody does."""
        tree = self._trees.get((app, channel))
        if tree is not None:
            try:
                tree.post(Publication(Publish(channel, event, data), None, None, None))
            except SowerError as error:
                log.warning("activity_dropped", channel=channel, event_name=event, why=error.message)

    async def beat(self) -> None:
        """Send one message round a channel's task tree, and wait for it. Raises SowerError."""
        ticket = Awaited()
        self.tree("", BEAT).post(Publication(Publish(BEAT, "beat", b"1"), None, None, ticket))
        await ticket.settled()

    def __len__(self) -> int:
        """Channels that are not forgotten, but for the one that beats."""
        return len(self._trees) - (("", BEAT) in self._trees)

    def occupied(self, app: str, prefix: str) -> Iterator[ChannelTree]:
        """The channels of an app that somebody follows."""
        for (owner, name), tree in self._trees.items():
            if owner == app and name.startswith(prefix) and tree.state is not None and not tree.state.vacant:
                yield tree

    async def presence(self, app: str, name: str) -> Presence | None:
        """Who is present on a channel, None where nobody ever was. Raises JournalFailed."""
        tree = self._trees.get((app, name))
        return tree.state.presence if tree is not None and tree.state is not None else None

    async def attended(self, app: str) -> set[str]:
        """The channels of an app on which somebody is present."""
        return {tree.name for tree in self.occupied(app, "") if tree.state is not None and tree.state.presence}

    async def whereabouts(self, app: str, user: str) -> set[str]:
        """Those on which a user is."""
        return {tree.name for tree in self.occupied(app, "") if _has(tree, user)}

    def trees(self, app: str, prefix: str) -> Iterator[ChannelTree]:
        """Every channel of an app that has a tree, and whose name begins with a prefix."""
        return (tree for (owner, name), tree in self._trees.items() if owner == app and name.startswith(prefix))

    def look(self, app: str, name: str) -> ChannelTree | None:
        """The channel's tree where there is one."""
        return self._trees.get((app, name))

    def erase(self, app: str, channel: str, since: int, before: int) -> None:
        """Have a channel give nobody the messages between two exclusive serials: they were deleted."""
        tree = self._trees.get((app, channel))
        if tree is not None:
            tree.post(Deletion(since, before), always=True)

    def start(self, tree: ChannelTree) -> None:
        """Start a channel's tasks under the supervisor."""
        if self._nursery is None:
            raise RuntimeError("the hub does not run")
        tree.running = True
        self._nursery.start_soon(self._supervise, tree, name=f"channel {tree.app}/{tree.name}")

    def sweep(self) -> None:
        """Retire channels on which nothing happened since the last sweep, and forget those that nobody needs."""
        for tree in list(self._trees.values()):
            if tree.vacant:
                self._forget(tree)
            elif tree.running and tree.idle:
                tree.retire()
            elif not tree.running and tree.has_work and not tree.rests:
                self.start(tree)
            tree.idle = True

    def _forget(self, tree: ChannelTree) -> None:
        del self._trees[tree.app, tree.name]

    async def _supervise(self, tree: ChannelTree) -> None:
        def crashed(error: Exception) -> None:
            log.error("channel_restarted", app=tree.app, channel=tree.name, exc_info=error)
            self.tally.restarts += 1
            self.failed("channel_restarted", tree.app, tree.name, repr(error))
            tree.settle_crash(SowerError(f"The channel {tree.name!r} failed while it did this."))

        survived = await supervise(tree.run, tree.intensity, crashed=crashed)
        tree.running = False
        if survived and tree.has_work:
            self.start(tree)  # something came while the tasks were ending
        if not survived:
            tree.quarantine(trio.current_time() + QUARANTINE)
            log.error("channel_quarantined", app=tree.app, channel=tree.name, seconds=QUARANTINE)
            self.tally.quarantines += 1
            self.failed("channel_quarantined", tree.app, tree.name, f"failed too often, rests {QUARANTINE:.0f} s")


def _has(tree: ChannelTree, user: str) -> bool:
    presence = tree.state.presence if tree.state is not None else None
    return presence is not None and presence.find(user) is not None


def _nobody(kind: str, app: str, channel: str, why: str) -> None:
    """Where nobody wants to be told."""


def _deaf(app: str, fact: Fact) -> bool:
    return False


def _unheard(app: str, happening: Happening) -> None:
    """Where no webhook wants to be told."""


def _unseen(tree: ChannelTree) -> None:
    """Where nobody follows channels that are not there yet."""


def _unawaited(app: str, channel: str) -> bool:
    """As _unseen."""
    return False


class Awaited:
    """The ticket of a message that one task waits for."""

    def __init__(self) -> None:
        self._done = trio.Event()
        self._outcome: Receipt | SowerError | None = None

    def settle(self, outcome: Receipt | SowerError) -> None:
        """Note the outcome."""
        self._outcome = outcome
        self._done.set()

    async def settled(self) -> None:
        """Wait for it. Raises the error that it was refused with."""
        await self._done.wait()
        if isinstance(self._outcome, SowerError):
            raise self._outcome
