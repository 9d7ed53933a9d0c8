"""History, read from Redis. The commands are the journal's, and so are the answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from sower.cluster import entries, histories
from sower.cluster.entries import SERIAL, Now
from sower.cluster.keys import Keys
from sower.cluster.node import Node
from sower.cluster.words import Erased
from sower.config import History
from sower.core import versions
from sower.core.message import Act, Message, Revision
from sower.core.rules import PRESENCE_OF
from sower.core.versions import MOST_CHANGES
from sower.store.revisions import Listed
from sower.store.rows import Page

Row = Sequence[Any]

LAST = 10**17 - 1
"""The highest serial: a bound above it would be longer, and stand before others where text is compared."""


class Archive:
    """What channels said, and what their members did."""

    def __init__(self, node: Node) -> None:
        self.erased: Callable[[str, str, int, int], None] = _unheard
        self._node = node
        node.words.learn(Erased, lambda word: self.erased(word.app, word.channel, word.since, word.before))

    @property
    def epoch(self) -> str:
        """Of all positions."""
        return self._node.epoch

    async def head(self, app: str, channel: str) -> int:
        """The serial of the channel's last word, 0 for none. Raises ClusterFailed."""
        keys = self._node.keys(app, channel.removeprefix(PRESENCE_OF))
        return int(await self._node.line.ask(b"HGET", keys.state, b"head") or 0)

    async def since(
        self,
        app: str,
        channel: str,
        serial: int,
        *,
        upto: int | None = None,
        limit: int,
        history: History,
        in_order: bool = False,
        as_of: int | None = None,
    ) -> Page:
        """As Journal.since. Raises ClusterFailed."""
        before = None if upto is None else upto + 1
        return await self.page(
            app, channel, since=serial, before=before, limit=limit, history=history, in_order=in_order, as_of=as_of
        )

    async def page(
        self,
        app: str,
        channel: str,
        *,
        since: int | None = None,
        before: int | None = None,
        limit: int,
        newest_first: bool = False,
        history: History,
        in_order: bool = False,
        as_of: int | None = None,
    ) -> Page:
        """As Journal.page. Raises ClusterFailed."""
        of_members = channel.startswith(PRESENCE_OF)
        keys = self._node.keys(app, channel.removeprefix(PRESENCE_OF))
        args: list[Any] = [_serial(since), _before(before), limit + 1, int(newest_first), int(history.age * 1000)]
        args += [int(not of_members), int(in_order)]
        names = keys.state, keys.past if of_members else keys.kept, keys.changes, keys.revised, keys.index
        head, gap, rows, done, states = await self._node.line.read(histories.PAGE, names, args)
        if in_order:
            high = before if before is not None else int(head) + 1
            changed = {row[0]: state for row, state in zip(done, states, strict=True)}
            rows = sorted([*rows, *done], key=itemgetter(0), reverse=newest_first)
            found = [await self._told(keys, row, changed.get(row[0], b""), high) for row in rows[:limit]]
        else:
            now = zip(rows[:limit], states or [b""] * len(rows), strict=False)
            found = [await self._as_it_is(keys, row, state, as_of) for row, state in now]
        messages, more = [m for m in found if m is not None], len(rows) > limit
        if more and not messages:  # all of it is what only a newer daemon understands: nobody could go on from it
            last = int(rows[limit - 1][0][:SERIAL])
            page = await self.page(
                app,
                channel,
                since=since if newest_first else last,
                before=last if newest_first else before,
                limit=limit,
                newest_first=newest_first,
                history=history,
                in_order=in_order,
                as_of=as_of,
            )
            return page._replace(gap=bool(gap))
        return Page(messages, gap=bool(gap), more=more)

    async def versions(
        self,
        app: str,
        channel: str,
        message: int,
        *,
        annotated: bool,
        since: int,
        before: int,
        limit: int,
        newest_first: bool,
    ) -> Listed:
        """As Journal.versions. Raises ClusterFailed."""
        keys = self._node.keys(app, channel)
        args = (*(message, "a" if annotated else "v"), *(since, before, limit + 1), newest_first)
        found = await self._done(keys, *args)
        return Listed(found[:limit], len(found) > limit)

    async def count(self, app: str, channel: str, since: int, most: int, history: History) -> int:
        """As Journal.count. Raises ClusterFailed."""
        keys = self._node.keys(app, channel)
        args = (_serial(since), most, int(history.age * 1000))
        return await self._node.line.read(histories.COUNT, (keys.kept,), args)

    async def delete(self, app: str, channel: str, since: int, before: int) -> None:
        """As Journal.delete. Raises ClusterFailed."""
        keys = self._node.keys(app, channel)
        names = *keys.actions, keys.kept, keys.changes, keys.revised, keys.index, keys.state
        await self._node.line.read(histories.DELETE, names, (_serial(since), _before(before)))
        await self._node.words.say(Erased(app, channel, since, before))

    async def _as_it_is(self, keys: Keys, row: Row, state: bytes, as_of: int | None) -> Message | None:
        """A message as it is now, or was then."""
        message = entries.stored(row)
        if message is None or not state:
            return message
        now = Now.read(state)
        if as_of is None or now.version <= as_of:
            return now.message(message)
        return await self._at(keys, message.serial, as_of + 1, now) or message

    async def _told(self, keys: Keys, row: Row, state: bytes, before: int) -> Message | None:
        """Something that was done, as who comes back is told of it before a serial: of what was appended, the whole."""
        message = entries.stored(row)
        if message is None or not isinstance(message.about, Revision) or not state:
            return message
        now, about = Now.read(state), message.about
        if about.act is not Act.APPENDED:
            return msgspec.structs.replace(message, about=msgspec.structs.replace(about, summary=now.about.summary))
        if now.version == message.serial:
            return now.message(message)
        whole = await self._at(keys, about.of, before, now)
        return message if whole is None else msgspec.structs.replace(whole, serial=message.serial, id=message.id)

    async def _at(self, keys: Keys, message: int, before: int, now: Now) -> Message | None:
        """A message as it was before a serial, None where the channel has it no more."""
        upto = max(before, message + 1)
        found = await self._done(keys, message, "v", 0, upto, MOST_CHANGES + 1, newest_first=False)
        if not found or found[0].serial != message:
            return None
        return versions.annotated(versions.as_of(found[0], found[1:]), now.about.summary)

    async def _done(
        self, keys: Keys, message: int, kind: str, since: int, before: int, limit: int, newest_first: bool
    ) -> list[Message]:
        """What was done to a message between two exclusive serials. kind: as of VERSIONS in histories.py."""
        args = _serial(message), kind, _serial(since), _serial(before), limit, int(newest_first)
        rows = await self._node.line.read(histories.VERSIONS, (keys.kept, keys.changes, keys.index), args)
        return [message for message in map(entries.stored, rows) if message is not None]


def _serial(serial: int | None) -> str:
    return "" if serial is None else f"{min(serial, LAST):017d}"


def _unheard(app: str, channel: str, since: int, before: int) -> None:
    """Where nobody keeps what was deleted."""


def _before(serial: int | None) -> str:
    """An exclusive end. Redis takes none at 0, and nothing stands before 1 either."""
    return "" if serial is None else _serial(max(serial, 1))
