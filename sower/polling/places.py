"""Where polls wait: a feed for each channel that is polled, a bundle for each group and each wildcard.

Rule 1: between two polls of a client its channels are followed on, so that a channel without history loses nothing
        either; for LINGER, and for at most IDLE feeds and IDLE bundles that nobody waits for.
Rule 2: what feeds keep has a bound in all, limits.polled; past it those shrink that were needed longest ago.
Rule 3: a wildcard has every channel of its prefix that spoke since somebody began to follow it; but for those whose
        names are the daemon's own, or stand for who comes and goes: what is said there is no such thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import trio

from sower.channel_tree import ChannelTree
from sower.config import Config, PubnubSettings
from sower.core.polling import Reach, Source
from sower.core.rules import RESERVED
from sower.dialects.interface import PollWords
from sower.hub import Hub
from sower.polling.allowing import PRESENCE
from sower.polling.feeds import Bundle, Feed, Tapping, Track, Untapping, Waiters
from sower.polling.groups import Groups

LINGER = 1200.0
"""Seconds that a channel is followed after its last poll. PubNub keeps messages up to 20 minutes for who comes back."""

IDLE = 10_000
"""Feeds, and bundles, that nobody waits for; past it the longest idle goes first."""

SHRINKS_TO = 0.75
"""Of limits.polled, once it is exceeded: what shrinks is sorted once for so much."""

SWEEP_EVERY = 15.0
"""Seconds between two looks at which are idle."""

TICK = 1.0
"""Seconds between two looks at crowds."""

LOOKED_BACK = 1000
"""Channels that a new wildcard finds in the journal."""

Key = TypeVar("Key")


class Places:
    """wake: told of polls that there is news for."""

    def __init__(self, hub: Hub, groups: Groups, config: Config) -> None:
        self.wake: Callable[[Waiters], None] = _nobody
        self._hub = hub
        self._groups = groups
        self._crowds: dict[str, PubnubSettings] = {}
        self._kept = 0
        self.use(config)
        self._feeds: dict[tuple[str, str], Feed] = {}
        self._bundles: dict[tuple[str, Source], Bundle] = {}
        self._prefixes: dict[str, dict[str, list[Bundle]]] = {}
        """By app, then by prefix."""
        self._crowded: list[tuple[float, Feed]] = []
        self._made = 0
        self._many = trio.Event()
        hub.born, hub.awaited = self._born, self.followed
        groups.changed = self._group_changed

    def use(self, config: Config) -> None:
        """Go on with this config."""
        self._crowds.update({app.id: app.pubnub for app in config.apps})
        self._most = config.limits.polled

    def woken(self, waiters: Waiters) -> None:
        """There is news for these."""
        self.wake(waiters)

    def next_serial(self) -> int:
        """A serial for something that has none yet."""
        return self._hub.next_serial()

    def of(self, app: str, sources: Iterable[Source], words: PollWords) -> tuple[Track | Bundle, ...]:
        """Where a poll waits for these. For all wildcards that are new, the channels are gone through once."""
        new: set[Bundle] = set()
        places = tuple(self._place(app, source, words, new) for source in sources)
        if new:
            for name in [tree.name for tree in self._hub.trees(app, "")]:
                for bundle in new.intersection(self._following(app, name)):
                    bundle.join(self._feed(app, name, words))
        return places

    def _place(self, app: str, source: Source, words: PollWords, new: set[Bundle]) -> Track | Bundle:
        """new: where wildcards are put that do not know their channels yet."""
        if source.reach is Reach.CHANNEL:
            feed = self._feed(app, source.name, words)
            return feed.presence if source.presence else feed.messages
        bundle = self._bundles.get((app, source))
        if bundle is None:
            bundle = Bundle(app, source, words, self._hub.next_serial())
            self._bundles[app, source] = bundle
            self._count_one()
            if source.reach is Reach.GROUP:
                self._fill(app, bundle, self._groups.channels(app, source.name), words)
            else:
                new.add(bundle)
                of_prefix = self._prefixes.setdefault(app, {}).setdefault(source.name, [])
                of_prefix.append(bundle)
                if len(of_prefix) == 1:
                    self._hub.follow_prefix(app, source.name, begun=True)
        bundle.used = trio.current_time()
        return bundle

    def used(self, places: Iterable[Track | Bundle]) -> None:
        """A poll waits for these no longer."""
        now = trio.current_time()
        for place in places:
            (place.spring if isinstance(place, Track) else place).used = now

    async def look_back(self, bundle: Bundle, since: int) -> None:
        """Take in the channels of a wildcard that stored something after a serial. Raises JournalFailed."""
        app, prefix = bundle.app, bundle.source.name
        names = await self._hub.shelf.names_since(app, prefix, since, LOOKED_BACK)
        self._fill(app, bundle, names, bundle.words)

    def waiting(self) -> Waiters:
        """All polls that wait."""
        tracks = [track for feed in self._feeds.values() for track in feed.tracks]
        waiting: Waiters = {}
        for place in (*tracks, *self._bundles.values()):
            waiting.update(place.waiting)
        return waiting

    def is_crowd(self, app: str, members: int) -> bool:
        """Whether comings and goings among so many are told together."""
        return members > self._crowds[app].announce_max

    def grew(self, size: int) -> None:
        """A track grew by so many bytes. Above the bound, those shrink that were needed longest ago."""
        self._kept += size
        if size > 0 and self._kept > self._most:
            self._shrink()

    def _shrink(self) -> None:
        """What the journal has goes first, then what nobody waits for; who is waited for keeps its newest word."""
        tracks = [(track, feed.idle, feed.spring.used) for feed in self._feeds.values() for track in feed.tracks]
        tracks.sort(key=lambda one: (not one[1], not one[0].stored, one[2]))
        for track, idle, _ in tracks:
            if self._kept <= self._most * SHRINKS_TO:
                break
            track.shorten(0 if idle else 1)

    def crowded(self, feed: Feed) -> None:
        """A feed has comings and goings that are to be told together."""
        self._crowded.append((trio.current_time() + self._crowds[feed.tree.app].announce_every, feed))

    async def run(self) -> None:
        """Look after those that are idle, and tell of crowds, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._announce, name="crowds")
            while True:
                with trio.move_on_after(SWEEP_EVERY):
                    await self._many.wait()
                self.sweep(trio.current_time())

    async def _announce(self) -> None:
        while True:
            await trio.sleep(TICK)
            now = trio.current_time()
            due = [feed for at, feed in self._crowded if at <= now]
            self._crowded = [(at, feed) for at, feed in self._crowded if at > now]
            for feed in due:
                feed.announce()

    def sweep(self, now: float) -> None:
        """Let go of what nobody has waited for in a while."""
        self._made, self._many = 0, trio.Event()
        idle_bundles = [(key, bundle.used) for key, bundle in self._bundles.items() if not bundle.waiting]
        for key in _longest_idle(idle_bundles, now):
            self._drop_bundle(*key)
        idle_feeds = [(key, feed.spring.used) for key, feed in self._feeds.items() if feed.idle]
        for key in _longest_idle(idle_feeds, now):
            feed = self._feeds.pop(key)
            if feed.asked:
                feed.tree.post(Untapping(feed), always=True)
        for (app, name), feed in list(self._feeds.items()):
            if not (feed.asked or feed.idle):
                self._feed(app, name, feed.words)

    def _count_one(self) -> None:
        """Past so many new ones somebody looks at once, and not at the next sweep: clients make up names."""
        self._made += 1
        if self._made >= IDLE:
            self._many.set()

    def _drop_bundle(self, app: str, source: Source) -> None:
        bundle = self._bundles.pop((app, source))
        bundle.clear()
        if source.reach is Reach.PREFIX:
            bundles = self._prefixes[app][source.name]
            bundles.remove(bundle)
            if not bundles:
                del self._prefixes[app][source.name]
                self._hub.follow_prefix(app, source.name, begun=False)

    def _feed(self, app: str, name: str, words: PollWords) -> Feed:
        tree = self._hub.tree(app, name)  # before the feed is looked for: one that is born now may be given a feed
        feed = self._feeds.get((app, name))
        if feed is None:
            feed = self._feeds[app, name] = Feed(tree, words, self)
            self._count_one()
        feed.spring.used = trio.current_time()
        if not feed.asked:
            feed.asked = True
            feed.spring.tree = tree  # the one that it asked in vain may be forgotten
            tree.post(Tapping(feed), always=True)
        return feed

    def _fill(self, app: str, bundle: Bundle, channels: Iterable[str], words: PollWords) -> None:
        for channel in channels:
            if not _apart(channel):
                bundle.join(self._feed(app, channel, words))

    def _born(self, tree: ChannelTree) -> None:
        """A channel has a tree from now on: whatever wildcards it belongs to follow it from its first word."""
        for bundle in self._following(tree.app, tree.name):
            bundle.join(self._feed(tree.app, tree.name, bundle.words))

    def followed(self, app: str, name: str) -> bool:
        """Whether a wildcard is followed that has this channel."""
        return app in self._prefixes and bool(self._following(app, name))

    def _following(self, app: str, name: str) -> list[Bundle]:
        prefixes = self._prefixes.get(app)
        if not prefixes or _apart(name):
            return []
        found: list[Bundle] = []
        at = name.find(".")
        while at >= 0:
            found += prefixes.get(name[: at + 1], ())
            at = name.find(".", at + 1)
        return found

    def _group_changed(self, app: str, group: str, came: Iterable[str], went: Iterable[str]) -> None:
        for presence in (False, True):
            bundle = self._bundles.get((app, Source(Reach.GROUP, group, presence)))
            if bundle is not None:
                for channel in went:
                    bundle.part(channel)
                self._fill(app, bundle, came, bundle.words)


def _apart(channel: str) -> bool:
    """Whether a channel is in no group and no wildcard."""
    return channel.startswith(RESERVED) or channel.endswith(PRESENCE)


def _longest_idle(idle: list[tuple[Key, float]], now: float) -> list[Key]:
    """What is to go of what is idle, each with when it was used."""
    idle.sort(key=lambda one: one[1])
    excess = len(idle) - IDLE
    return [key for number, (key, used) in enumerate(idle) if number < excess or used < now - LINGER]


def _nobody(waiters: Waiters) -> None:
    """Before anybody polls."""
