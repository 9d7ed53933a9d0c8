"""What clients that poll read of the journal and change in it: pages of several channels, counts, actions on messages.

Each method is (grant, address, command) -> answer, or a SowerError, as in sower/api.py.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from sower.config import History
from sower.core.answer import Acknowledged, HistoryPage
from sower.core.command import Publish, ReadHistory
from sower.core.grants import Can, Grant
from sower.core.message import Position
from sower.core.polling import (
    Clock,
    CountMessages,
    Counts,
    DeleteHistory,
    Histories,
    React,
    Reacted,
    Reaction,
    Reactions,
    ReadClock,
    ReadHistories,
    ReadReacted,
    ReadReactions,
)
from sower.errors import AlreadyThere, HistoryOff, NotFound, TooLarge
from sower.hub import Hub
from sower.inbox import Publication
from sower.polling.allowing import Allowing

MOST_COUNTED = 10_000
"""Messages of one channel that are counted, PubNub's limit."""

MOST_REACTIONS = 25_000
"""Actions on one message, PubNub's limit."""


MOST_READ = 32 * 1024 * 1024
"""Bytes of messages that one request reads: 25 of each of 500 channels may be far more, and anybody may ask."""


class Archive:
    """count: counts so many messages that somebody publishes, or raises RateLimited."""

    def __init__(self, hub: Hub, allowing: Allowing, count: Callable[[Grant, int], None]) -> None:
        self._count = count
        self._hub = hub
        self._allowing = allowing

    def clock(self, grant: Grant, address: str, command: ReadClock) -> Clock:
        """The time."""
        return Clock(self._hub.next_serial())

    async def read(self, grant: Grant, address: str, command: ReadHistories) -> Histories:
        """Pages of several channels. Raises NamesForbidden, HistoryOff, TooLarge, JournalFailed."""
        self._allowing.demand(grant, Can.HISTORY, [asked.channel for asked in command.asked])
        kept = [(asked, history) for asked in command.asked if (history := self._history(asked.channel)) is not None]
        if not kept and command.asked:
            raise HistoryOff(f"The channel {command.asked[0].channel!r} keeps no history.")
        pages: list[HistoryPage] = []
        left = MOST_READ
        for asked, history in kept:
            pages.append(await self._page(grant.app, asked, history))
            left -= sum(len(message.data) for message in pages[-1].messages)
            if left < 0:
                raise TooLarge(f"The messages have over {MOST_READ} bytes: ask for fewer, or for fewer channels.")
        return Histories(tuple(pages))

    async def count(self, grant: Grant, address: str, command: CountMessages) -> Counts:
        """How many messages there are after a serial. Raises NamesForbidden, JournalFailed."""
        self._allowing.demand(grant, Can.HISTORY, [channel for channel, _ in command.since])
        counts: list[tuple[str, int]] = []
        for channel, since in command.since:
            history = self._history(channel)
            count = self._hub.log.count
            found = await count(grant.app, channel, since, MOST_COUNTED, history) if history is not None else 0
            counts.append((channel, found))
        return Counts(tuple(counts))

    async def delete(self, grant: Grant, address: str, command: DeleteHistory) -> Acknowledged:
        """Delete messages for good. Raises NamesForbidden, HistoryOff, JournalFailed."""
        channel = command.channel
        self._allowing.demand(grant, Can.DELETE, [channel])
        self._kept(channel)
        await self._hub.log.delete(grant.app, channel, command.since, command.before)
        return Acknowledged()

    async def react(self, grant: Grant, address: str, command: React) -> Reactions:
        """Add an action or take one away, and tell the channel.

        Raises AlreadyThere, NotFound, NoSuchMessage, HistoryOff, NamesForbidden, RateLimited, ChannelBusy.
        """
        channel = command.channel
        self._kept(channel)
        adds = command.at is None
        self._allowing.demand(grant, Can.PUBLISH if adds else Can.DELETE, [channel])
        self._count(grant, 1)
        tree, shelf = self._hub.look(grant.app, channel), self._hub.shelf
        if tree is not None:  # before anything is done: who is refused may ask again, and what is done is told
            tree.demand_room()
        if command.at is None:
            reaction = Reaction(command.message, self._hub.next_serial(), command.user, command.kind, command.value)
            at = await shelf.add_reaction(grant.app, channel, reaction, MOST_REACTIONS)
            if not at:
                raise AlreadyThere("This user has added the same action to this message, or it has too many.")
            reaction = msgspec.structs.replace(reaction, at=at)
        else:
            reaction = await shelf.remove_reaction(grant.app, channel, command.message, command.at)
            if reaction is None:
                raise NotFound(f"The message has no action {command.at}.")
        data = command.told(reaction, adds)
        publish = Publish(channel, "action", data, user=command.user, extra=b'{"kind":"action"}', stored=False)
        self._hub.tree(grant.app, channel).post(Publication(publish, command.user, None, None), always=True)
        return Reactions((reaction,))

    async def reactions(self, grant: Grant, address: str, command: ReadReactions) -> Reactions:
        """The newest actions of a range, oldest first. Raises NamesForbidden, JournalFailed."""
        self._allowing.demand(grant, Can.HISTORY, [command.channel])
        found, more = await self._hub.shelf.reactions(
            grant.app, command.channel, command.since, command.before, command.limit
        )
        return Reactions(tuple(found), more)

    async def read_reacted(self, grant: Grant, address: str, command: ReadReacted) -> Reacted:
        """A page with the actions on its messages. Raises NamesForbidden, HistoryOff, JournalFailed."""
        asked = command.asked
        self._allowing.demand(grant, Can.HISTORY, [asked.channel])
        page = await self._page(grant.app, asked, self._kept(asked.channel))
        serials = [message.serial for message in page.messages]
        if not serials:
            return Reacted(page, ())
        first, last = min(serials), max(serials)
        return Reacted(page, tuple(await self._hub.shelf.reactions_on(grant.app, asked.channel, first, last)))

    async def _page(self, app: str, asked: ReadHistory, history: History) -> HistoryPage:
        page = await self._hub.log.page(
            app,
            asked.channel,
            since=asked.since.serial if asked.since is not None else None,
            before=asked.before.serial if asked.before is not None else None,
            limit=asked.limit,
            newest_first=asked.newest_first,
            history=history,
        )
        following = page.messages[-1].serial if page.more else None
        return HistoryPage(asked, Position("", 0), tuple(page.messages), page.gap, following)

    def _history(self, channel: str) -> History | None:
        return self._hub.rules.of(channel).history

    def _kept(self, channel: str) -> History:
        history = self._history(channel)
        if history is None:
            raise HistoryOff(f"The channel {channel!r} keeps no history.")
        return history
