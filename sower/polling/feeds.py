"""What channels said lately, kept encoded for whoever comes and fetches it.

    Feed      one channel: a tap on its tree, with a track of messages and one of comings and goings
    Track     a ring of entries, and who waits for the next
    Spring    what a track knows of its channel; it does not know the feed, so that a feed that is let go is freed
    Bundle    a group or a wildcard: several tracks, and who waits for any of them

Rule 1: an entry is encoded once, by the feed, when it is told; every poll's answer is joined from those bytes.
Rule 2: a ring holds everything above its floor. What is not above it is in the journal, where the channel keeps one;
        where it keeps none, it is gone: a client that comes later than that finds what is left.
Rule 3: nothing here waits or reads a clock; whatever arrives is told to `woken`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol

from sower.channel_tree import ChannelTree
from sower.core.channel import Channel
from sower.core.message import Delivery, Joined, Left, Message, Updated
from sower.core.polling import Reach, Source
from sower.dialects.interface import PollWords, Turnover
from sower.errors import SowerError
from sower.inbox import Subscriber

RING = 100
"""Entries that a track keeps. PubNub's own memory holds 100 messages of a channel."""

RING_BYTES = 2 * 1024 * 1024
"""Bytes that a track keeps: 1 MiB of messages, as much as may wait for one slow socket, as they were said and as they
are told."""

OVERHEAD = 256
"""Bytes of an entry and its message besides what they say."""

Waiters = dict[Hashable, None]
Test = Callable[[Message], bool]


class Node(Protocol):
    """What feeds need of those who keep them."""

    def next_serial(self) -> int: ...
    def is_crowd(self, app: str, members: int) -> bool: ...
    def woken(self, waiters: Waiters) -> None: ...
    def grew(self, size: int) -> None: ...
    def crowded(self, feed: Feed) -> None: ...


class Entry:
    """One thing that was told. envelope: open at its end. message: None for a coming or going."""

    __slots__ = ("envelope", "message", "serial")

    def __init__(self, serial: int, envelope: bytes, message: Message | None) -> None:
        self.serial = serial
        self.envelope = envelope
        self.message = message

    @property
    def size(self) -> int:
        """Bytes that it keeps, about."""
        return OVERHEAD + len(self.envelope) + (0 if self.message is None else len(self.message.data))

    def passes(self, test: Test | None, verdicts: Verdicts) -> bool:
        """Whether a poll with this filter gets it; each filter is asked once for the same verdicts."""
        if test is None or self.message is None:
            return True
        verdict = verdicts.get((self, test))
        if verdict is None:
            verdict = verdicts[self, test] = test(self.message)
        return verdict


Verdicts = dict[tuple[Entry, Test], bool]
"""Which entries pass which filters. It is kept for one turn of answers: clients make up filters."""


class Spring:
    """One channel. begun: whether its tracks are filled. used: when a poll last needed them, on trio's clock."""

    __slots__ = ("begun", "name", "node", "tree", "used", "words")

    def __init__(self, tree: ChannelTree, words: PollWords, node: Node) -> None:
        self.tree = tree
        self.name = tree.name
        self.words = words
        self.node = node
        self.begun = False
        self.used = 0.0


class Track:
    """stored: whether the journal has it too. floor: the serial above which the ring is complete.

    newest: the highest serial that was in it. size: bytes
    """

    __slots__ = ("bundles", "end", "floor", "newest", "ring", "size", "spring", "stored", "waiting")

    def __init__(self, spring: Spring, end: bytes, *, stored: bool) -> None:
        self.spring = spring
        self.end = end
        self.stored = stored
        self.ring: deque[Entry] = deque()
        self.floor = 0
        self.newest = 0
        self.waiting: Waiters = {}
        self.bundles: tuple[Bundle, ...] = ()
        self.size = 0

    def add(self, entry: Entry) -> None:
        """Keep one more; the oldest goes when there are too many."""
        if entry.serial <= self.newest:
            return  # a channel that was restarted may repeat itself
        self.newest = entry.serial
        self.ring.append(entry)
        before, self.size = self.size, self.size + entry.size
        while len(self.ring) > RING or (self.size > RING_BYTES and len(self.ring) > 1):
            self._drop_oldest()
        self.spring.node.grew(self.size - before)

    def shorten(self, left: int) -> None:
        """Keep so many at most."""
        before = self.size
        while len(self.ring) > left:
            self._drop_oldest()
        self.spring.node.grew(self.size - before)

    def _drop_oldest(self) -> None:
        oldest = self.ring.popleft()
        self.size -= oldest.size
        self.floor = oldest.serial

    def behind(self, cursor: int) -> bool:
        """Whether the journal has something above the cursor that the ring has not."""
        return self.stored and (not self.spring.begun or cursor < self.floor)

    def after(self, cursor: int, upto: int) -> list[Entry]:
        """What is above the cursor, up to and with a serial, oldest first."""
        if self.newest <= cursor:
            return []
        found: list[Entry] = []
        for entry in reversed(self.ring):
            if entry.serial <= cursor:
                break
            if entry.serial <= upto:
                found.append(entry)
        found.reverse()
        return found

    def forget(self, since: int, before: int) -> None:
        """Drop the messages between two exclusive serials, which were deleted."""
        kept, size = [entry for entry in self.ring if not since < entry.serial < before], self.size
        self.ring = deque(kept)
        self.size = sum(entry.size for entry in kept)
        self.spring.node.grew(self.size - size)

    def tell(self) -> None:
        """Wake whoever waits for this track."""
        for place in (self, *self.bundles):
            if place.waiting:
                self.spring.node.woken(place.waiting)

    @property
    def tracks(self) -> tuple[Track, ...]:
        """Itself, as a bundle's tracks are several."""
        return (self,)


class Bundle:
    """A group's or a wildcard's tracks.

    begun: the serial at which it began to know its channels. end: how an envelope ends that is reached through it.
    """

    __slots__ = ("_tracks", "app", "begun", "end", "source", "used", "waiting", "words")

    def __init__(self, app: str, source: Source, words: PollWords, begun: int) -> None:
        self.app = app
        self.source = source
        self.words = words
        self.end = words.reached(source)
        self.begun = begun
        self.used = 0.0
        self.waiting: Waiters = {}
        self._tracks: dict[str, Track] = {}

    @property
    def tracks(self) -> Iterable[Track]:
        """Those that are in it now."""
        return self._tracks.values()

    def join(self, feed: Feed) -> None:
        """Take a channel in."""
        if feed.name not in self._tracks:
            track = self._tracks[feed.name] = feed.presence if self.source.presence else feed.messages
            track.bundles = (*track.bundles, self)

    def part(self, channel: str) -> None:
        """Let a channel go."""
        track = self._tracks.pop(channel, None)
        if track is not None:
            track.bundles = tuple(bundle for bundle in track.bundles if bundle is not self)

    def clear(self) -> None:
        """Let all go."""
        for channel in list(self._tracks):
            self.part(channel)


class Feed:
    """One channel's tap.

    asked:   whether it is to take what the channel tells
    members: how many are here
    """

    __slots__ = (
        "_latest",
        "_turnover",
        "asked",
        "members",
        "messages",
        "name",
        "node",
        "presence",
        "spring",
        "words",
    )

    def __init__(self, tree: ChannelTree, words: PollWords, node: Node) -> None:
        self.name = tree.name
        self.words = words
        self.node = node
        self.asked = False
        self._latest = 0
        self.members = 0
        self.spring = Spring(tree, words, node)
        direct = words.reached(Source(Reach.CHANNEL, tree.name))
        self.messages = Track(self.spring, direct, stored=tree.rules.history is not None)
        self.presence = Track(self.spring, direct, stored=False)
        self._turnover: tuple[dict[str, None], dict[str, None], dict[str, None]] | None = None

    @property
    def tree(self) -> ChannelTree:
        """The channel's."""
        return self.spring.tree

    # As a tap

    @property
    def followers(self) -> int:
        """How many polls wait for the channel."""
        bundled = sum(len(bundle.waiting) for bundle in self.messages.bundles)
        return len(self.messages.waiting) + bundled

    def begin(self, head: int, members: int) -> None:
        """From here on the ring is complete."""
        self.spring.begun = True
        self.members = members
        self.messages.floor = max(self.messages.floor, head)
        self.messages.tell()
        self.presence.tell()

    def take(self, deliveries: Sequence[Delivery]) -> None:
        """Keep what the channel tells, and wake who waits for it."""
        spoke = changed = False
        for delivery in deliveries:
            if isinstance(delivery, Message):
                if delivery.follows_up:
                    continue
                envelope = self.words.envelope(self.name, delivery)
                self.messages.add(Entry(delivery.serial, envelope, delivery))
                spoke = True
            else:
                changed = self._change(delivery) or changed
        if spoke:
            self.messages.tell()
        if changed:
            self.presence.tell()

    def forget(self, since: int, before: int) -> None:
        """Drop the messages between two exclusive serials, which were deleted."""
        self.messages.forget(since, before)

    def _change(self, change: Delivery) -> bool:
        """Count and keep a coming or going. Whether it is told now: above a crowd, they are told together."""
        if not isinstance(change, Joined | Left | Updated):
            return False
        self.members += isinstance(change, Joined) - isinstance(change, Left)
        self._latest = change.serial
        if self._turnover is not None or self.node.is_crowd(self.tree.app, self.members):
            self._gather(change)
            return False
        serial = self._place()
        envelope = self.words.presence(self.name, change, serial, self.members)
        if envelope:
            self.presence.add(Entry(serial, envelope, None))
        return bool(envelope)

    def _place(self) -> int:
        """Where the latest coming or going stands: in the channel's log, where there is one of them."""
        return max(self._latest, self.presence.newest + 1) if self._latest else self.node.next_serial()

    def _gather(self, change: Delivery) -> None:
        if self._turnover is None:
            self._turnover = ({}, {}, {})
            self.node.crowded(self)
        came, left, lost = self._turnover
        if isinstance(change, Joined):
            for gone in (left, lost):
                gone.pop(change.user, None)
            came[change.user] = None
        elif isinstance(change, Left):
            came.pop(change.user, None)
            (lost if change.lost else left)[change.user] = None

    def announce(self) -> None:
        """Tell together who came and went in a crowd."""
        gathered, self._turnover = self._turnover, None
        if gathered is not None and any(gathered):
            serial = self._place()
            turnover = Turnover(*map(tuple, gathered))
            envelope = self.words.crowd(self.name, serial, self.members, turnover)
            self.presence.add(Entry(serial, envelope, None))
            self.presence.tell()

    @property
    def tracks(self) -> tuple[Track, Track]:
        """Both."""
        return self.messages, self.presence

    def empty(self) -> None:
        """Keep nothing."""
        for track in self.tracks:
            track.shorten(0)

    @property
    def idle(self) -> bool:
        """Whether no poll waits for it, and it is in no bundle."""
        return not any(track.waiting or track.bundles for track in self.tracks)


class Tapping:
    """Has a feed take what its channel tells, in the order of everything else that the channel does."""

    apart, departs = True, False
    __slots__ = ("_feed",)

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def decide(self, state: Channel[Subscriber], now: float) -> Sequence[Delivery]:
        """It begins between what was decided before and what comes after."""
        state.begin_tap(self._feed)
        return ()

    def refuse(self, error: SowerError) -> None:
        """The channel is out of order, and has told nothing since: who needs the feed next asks again, or the sweep."""
        self._feed.asked = False


class Untapping:
    """Has a feed take nothing any more."""

    apart, departs = False, True
    __slots__ = ("_feed",)

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def decide(self, state: Channel[Subscriber], now: float) -> Sequence[Delivery]:
        """Nothing is told of it."""
        state.end_tap(self._feed)
        self._feed.empty()
        return ()

    def refuse(self, error: SowerError) -> None:
        """It is never refused."""
