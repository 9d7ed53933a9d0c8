"""Which channels there are on all nodes, for who follows them by a prefix, as PubNub's clients can: `news.*`.

    {SHARD}:names:APP    channels with a dot in their names -> when they stored something last, in seconds
    {all}:wildcards      a topic: which prefixes are followed where
    {SHARD}:wildcards    a topic: which channels speak, heard where a prefix of an app of the shard is followed

Rule 1: a channel that is about to speak for the first time at a node is named to the nodes where its prefix is
        followed, before it speaks: they follow it from before that.
Rule 2: a node that begins to follow a prefix is named all channels of it that others know.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress

import trio

from sower.cluster.board import GATHERED
from sower.cluster.entries import NODE, SERIAL, STATE_OF_HISTORY_KEPT
from sower.cluster.keys import shard_of, spoke_of
from sower.cluster.node import Node
from sower.errors import ClusterFailed

BEGUN, ENDED = b"+", b"-"

BETWEEN = "\0"

NAMED_AT_ONCE = 500
"""Channels in one broadcast."""

DOT = "."


class Wildcards:
    """Those of one node, and the prefixes of others.

    known: the channels of an app and a prefix that this node knows. named: told of a channel that may be new here, and
    of a serial from before it speaks
    """

    def __init__(
        self,
        node: Node,
        known: Callable[[str, str], Iterable[str]],
        named: Callable[[str, str, int], None],
        cursor: Callable[[str], int],
    ) -> None:
        self._node = node
        self._known = known
        self._named = named
        self._cursor = cursor
        self._topic = f"{node.prefix}:{{all}}:wildcards".encode()
        self._followed: Counter[int] = Counter()
        """By shard: prefixes that are followed here."""
        self._elsewhere: dict[tuple[str, str], set[str]] = {}
        """By app and prefix: the other nodes where it is followed."""
        self._spoke: dict[str, dict[str, float]] = defaultdict(dict)
        self._work = trio.Event()
        self._stale = True
        node.listen(self._topic, self._hear)
        node.moved.append(self._look)

    async def run(self) -> None:
        """Write which channels spoke, and know what other nodes follow, until cancelled."""
        while True:
            with suppress(ClusterFailed):  # it is read when Redis is back
                if self._stale:
                    await self._read()
            await self._write()
            await self._work.wait()
            self._work = trio.Event()
            await trio.sleep(GATHERED)

    # What is so here

    def follow(self, app: str, prefix: str, *, begun: bool) -> None:
        """Somebody here follows a prefix from now on, or nobody does."""
        shard, field = shard_of(app), BETWEEN.join((app, prefix))
        self._followed[shard] += 1 if begun else -1
        if begun and self._followed[shard] == 1:
            self._node.listen(self._names_topic(app), self._hear_names)
        elif not self._followed[shard]:
            self._node.unlisten(self._names_topic(app))
        word = (BEGUN if begun else ENDED) + self._node.name.encode() + field.encode()
        self._node.wildcards.say("", field, b"1" if begun else None, (self._topic, word))

    def born(self, app: str, name: str) -> None:
        """A channel is about to speak here."""
        if self._elsewhere and DOT in name and any(key in self._elsewhere for key in _prefixes(app, name)):
            self._name(app, [name])

    def spoke(self, app: str, name: str) -> None:
        """A channel stored something."""
        if DOT in name:
            self._spoke[app][name] = self._node.clock() / 1e7
            self._work.set()

    # What others say

    def _hear(self, payload: bytes) -> None:
        node = payload[1 : 1 + NODE].decode()
        if node == self._node.name:
            return
        app, prefix = payload[1 + NODE :].decode().split(BETWEEN)
        if payload[:1] == BEGUN:
            self._elsewhere.setdefault((app, prefix), set()).add(node)
            self._name(app, [name for name in self._known(app, prefix) if DOT in name])
        else:
            self._forget((app, prefix), node)

    def _hear_names(self, payload: bytes) -> None:
        app, *names = payload[SERIAL:].decode().split(BETWEEN)
        for name in names:
            self._named(app, name, int(payload[:SERIAL]))

    def _forget(self, key: tuple[str, str], node: str) -> None:
        nodes = self._elsewhere.get(key, set())
        nodes.discard(node)
        if not nodes:
            self._elsewhere.pop(key, None)

    def _name(self, app: str, names: list[str]) -> None:
        head = f"{self._cursor(app):017d}".encode()
        for at in range(0, len(names), NAMED_AT_ONCE):
            named = BETWEEN.join((app, *names[at : at + NAMED_AT_ONCE])).encode()
            self._node.line.tell(self._names_topic(app), head + named)

    def _names_topic(self, app: str) -> bytes:
        """By the server that has the app's channels, so that it comes before what they say."""
        return f"{self._node.prefix}:{{{shard_of(app)}}}:wildcards".encode()

    # What stands in Redis

    def _look(self) -> None:
        """Nodes came or went, or something was not heard."""
        self._stale = True
        self._work.set()

    async def _read(self) -> None:
        living = [node for node in self._node.living if node != self._node.name]
        found: dict[tuple[str, str], set[str]] = {}
        for node, fields in zip(living, await self._node.wildcards.elsewhere("", living), strict=True):
            for field in fields:
                app, prefix = field.decode().split(BETWEEN)
                found.setdefault((app, prefix), set()).add(node)
        self._elsewhere, self._stale = found, False

    async def _write(self) -> None:
        spoke, self._spoke = self._spoke, defaultdict[str, dict[str, float]](dict)
        for app, names in spoke.items():
            key, oldest = spoke_of(self._node.prefix, app), self._node.clock() / 1e7 - STATE_OF_HISTORY_KEPT
            scored = [part for name, at in names.items() for part in (at, name)]
            try:
                await self._node.line.ask_all([(b"ZADD", key, *scored), (b"ZREMRANGEBYSCORE", key, b"-inf", oldest)])
            except ClusterFailed:
                self._spoke[app] = names | self._spoke[app]


def _prefixes(app: str, name: str) -> Iterable[tuple[str, str]]:
    at = name.find(DOT)
    while at >= 0:
        yield app, name[: at + 1]
        at = name.find(DOT, at + 1)
