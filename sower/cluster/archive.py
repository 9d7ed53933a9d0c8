"""History, read from Redis. The commands are the journal's, and so are the answers."""

from __future__ import annotations

from typing import Any

from sower.cluster import entries, scripts
from sower.cluster.node import Node
from sower.config import History
from sower.core.rules import PRESENCE_OF
from sower.store.rows import Page


class Archive:
    """What channels said, and what their members did."""

    def __init__(self, node: Node) -> None:
        self._node = node

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
        return await self.page(app, channel, since=serial, before=before, limit=limit, history=history)

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
        """As Journal.page; no message here was ever changed. Raises ClusterFailed."""
        of_members = channel.startswith(PRESENCE_OF)
        keys = self._node.keys(app, channel.removeprefix(PRESENCE_OF))
        args: list[Any] = [_serial(since), _serial(before), limit + 1, int(newest_first), int(history.age * 1000)]
        stream = keys.past if of_members else keys.kept
        answer = await self._node.line.read(scripts.PAGE, (keys.state, stream), (*args, int(not of_members)))
        _, gap, rows = answer
        messages = [message for message in map(entries.stored, rows[:limit]) if message is not None]
        return Page(messages, gap=bool(gap), more=len(rows) > limit)

    async def count(self, app: str, channel: str, since: int, most: int, history: History) -> int:
        """As Journal.count. Raises ClusterFailed."""
        keys = self._node.keys(app, channel)
        args = (f"{since:017d}", most, int(history.age * 1000))
        return await self._node.line.read(scripts.COUNT, (keys.kept,), args)

    async def delete(self, app: str, channel: str, since: int, before: int) -> None:
        """As Journal.delete. Raises ClusterFailed."""
        keys = self._node.keys(app, channel)
        await self._node.line.read(scripts.DELETE, (keys.kept,), (f"{since:017d}", f"{before:017d}"))


def _serial(serial: int | None) -> str:
    return "" if serial is None else f"{serial:017d}"
