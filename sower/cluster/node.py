"""A node among nodes: its lease, the epoch, which channels it follows, and whose members it takes away.

Rule 1: a node is a process: a daemon that starts again is another node, and the members of the one before go when
        its lease is over. Whoever sees that first takes them away; Redis does it once.
Rule 2: the epoch changes when Redis lost data: when it has none any more, or when what it once acknowledged to this
        node is not there.
Rule 3: while the line is down nothing is decided here: who publishes or comes is told so at once.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, Protocol, Self

import structlog
import trio

from sower.cluster import entries, histories, scripts
from sower.cluster.burials import Burials
from sower.cluster.counts import MARK, Counts, sender_of
from sower.cluster.entries import Entry, Missed, Snapshot, Spoken, TakenOver
from sower.cluster.estate import Estate
from sower.cluster.facts import Facts, Report
from sower.cluster.keys import SHARDS, Keys, names_of
from sower.cluster.links import line_to
from sower.cluster.memory import LATEST_KEPT, Memory
from sower.cluster.upkeep import Upkeep
from sower.cluster.versions import Versions
from sower.cluster.whereabouts import Whereabouts
from sower.cluster.words import Words
from sower.config import Cluster, History
from sower.core.message import SERIALS_PER_SECOND
from sower.errors import ClusterFailed

log = structlog.get_logger(__name__)

BEATS_IN_A_LEASE = 5
"""How often a lease is renewed before it is over."""

SLOWEST_BEAT = 1.0
"""Seconds between two looks at Redis, at most: so soon is it seen that it went, or lost its data."""


class Outcome(NamedTuple):
    """What became of an entry. serial: 0 where it changed nothing. fresh: False for an id that was known."""

    serial: int
    fresh: bool


class Made(NamedTuple):
    """What is done to a message. args: those of CHANGE in histories.py, from the message on."""

    id: str | None
    args: Sequence[Any]


class Follower(Protocol):
    """A channel's tree. app, name: of its channel."""

    app: str
    name: str
    keys: Keys

    def hear(self, payload: bytes) -> None:
        """Something was broadcast."""
        ...

    def look_again(self, *, lost: bool) -> None:
        """Something may have been missed. lost: Redis has lost data."""
        ...

    def hear_numbers(self, payload: bytes) -> None:
        """A node says how many follow the channel there."""
        ...

    def count_again(self) -> None:
        """Nodes came or went, and those who follow the channel there."""
        ...


class Node:
    """name: of this process. epoch: of all positions. heard: for each shard the serial up to which all broadcasts came.

    behind: how far Redis' clock is from trio's, in seconds. history_of: what a channel keeps.
    words: what is told to all nodes. estate: where it has members, and what those who are gone left
    renewed: told when there is another epoch; moved: when nodes came or went, or something was not heard
    facts: what of all this webhooks are told
    """

    def __init__(
        self,
        config: Cluster,
        history_of: Callable[[str], History | None],
        remember_ids: float,
        facts: Facts | None = None,
    ) -> None:
        self.facts = facts or Facts()
        self.name = secrets.token_hex(entries.NODE // 2)
        self.epoch = ""
        self.heard = [0] * SHARDS
        self.living: tuple[str, ...] = ()
        self.renewed: Callable[[], None] = _nobody
        self.moved: list[Callable[[], None]] = []
        self.prefix = config.prefix
        self.line = line_to(config.url, replicas=config.replicas, heard=self._hear)
        self.line.begun, self.line.partly = self._begin, self._begin_partly
        self._lease = float(config.lease)
        self._upkeep = Upkeep(self)
        self.counts = Counts(self._upkeep.board("followed"))
        self.whereabouts = Whereabouts(self._upkeep.board("present"))
        self.signed_in = self._upkeep.board("signed_in")
        self.wildcards = self._upkeep.board("wildcards")
        self.words = Words(self.line, config.prefix)
        self._listeners: dict[bytes, Callable[[bytes], None]] = {self.words.topic: self.words.hear}
        self._history_of = history_of
        self._remember = int(remember_ids * 1000)
        self._offset = 0.0
        self._clock, self._epoch, self._nodes = (
            f"{config.prefix}:{{all}}:{name}".encode() for name in ("clock", "epoch", "nodes")
        )
        self._versions = Versions(self.line, config.prefix, self.name, self._nodes)
        self._followed: dict[bytes, Follower] = {}
        self._memory = Memory(self.line, config.prefix)
        self.estate = Estate(self)
        self._known = False
        self._burials = Burials(self)
        self._refused = ""
        self._whole_at: float | None = None
        """When every node has said its members again, after Redis lost them."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        config: Cluster,
        history_of: Callable[[str], History | None],
        remember_ids: float,
        facts: Facts | None = None,
    ) -> AsyncGenerator[Self]:
        """Be a node until the block ends. Raises ClusterFailed where Redis cannot be reached."""
        node = cls(config, history_of, remember_ids, facts)
        async with node.line.open(), trio.open_nursery() as nursery:
            nursery.start_soon(node._beat, name="cluster heartbeat")
            nursery.start_soon(node._burials.run, name="cluster burials")
            nursery.start_soon(node._upkeep.run, name="cluster upkeep")
            yield node
            nursery.cancel_scope.cancel()
            with trio.move_on_after(scripts_within(config)) as farewell, suppress(ClusterFailed):
                farewell.shield = True
                await node._leave()

    @property
    def fault(self) -> str:
        """Why nothing can be decided now, empty while all is well."""
        why = self.line.fault or self._refused
        return f"Redis: {why}" if why else ""

    def decides(self, keys: Keys) -> bool:
        """Whether it decides on a channel."""
        return self.line.decides(keys.topic)

    @property
    def whole(self) -> bool:
        """Whether who is not in Redis is not here: not while nodes say their members again."""
        return self._whole_at is None

    @property
    def lease(self) -> float:
        """For how many seconds the others take it to be alive without a sign of life."""
        return self._lease

    @property
    def beats_every(self) -> float:
        """Seconds between two signs of life."""
        return min(self._lease / BEATS_IN_A_LEASE, SLOWEST_BEAT)

    def clock(self) -> int:
        """Redis' time as a serial, as well as this node knows it."""
        return int((trio.current_time() + self._offset) * SERIALS_PER_SECOND)

    def keys(self, app: str, channel: str) -> Keys:
        """What a channel's keys are called."""
        return Keys(self.prefix, app, channel)

    # What channels ask

    async def follow(self, tree: Follower) -> Snapshot:
        """Hear what a channel says from here on. Raises ClusterFailed, and then it is not followed."""
        topic = tree.keys.topic
        if topic not in self._followed:
            self._followed[topic] = tree
            self.line.subscribe(topic)
        try:
            return await self.load(tree.keys, tree.name)
        except ClusterFailed:
            self.unfollow(tree)
            raise

    def unfollow(self, tree: Follower) -> None:
        """Hear it no more."""
        if self._followed.pop(tree.keys.topic, None) is not None:
            self.line.unsubscribe(tree.keys.topic)

    async def load(self, keys: Keys, name: str) -> Snapshot:
        """A channel as it is. Raises ClusterFailed."""
        await self._memory.mark(keys)
        args = (self.heard[keys.shard], self._state_kept(self._history_of(name)))
        names = keys.clock, keys.state, keys.here, keys.revised
        clock, head, cached, now, members = await self.line.run(scripts.LOAD, names, args)
        await self._hear_upto(keys, int(clock))
        return Snapshot(int(head), entries.cached(cached, now), entries.here(members))

    async def missed(self, keys: Keys, since: int) -> Missed:
        """What was broadcast after a serial. Raises ClusterFailed."""
        names = keys.state, keys.latest, keys.here
        head, payloads, members = await self.line.run(scripts.MISSED, names, (f"{since:017d}",))
        await self._hear_upto(keys, int(head or 0))
        return Missed(payloads, Snapshot(int(head or 0), None, entries.here(members)))

    async def _hear_upto(self, keys: Keys, serial: int) -> None:
        """An answer says that all up to here was broadcast before it: that is heard a turn later (line.py, rule 1)."""
        await trio.lowlevel.checkpoint()
        self.heard[keys.shard] = max(self.heard[keys.shard], serial)

    async def say(self, app: str, name: str, keys: Keys, said: Sequence[tuple[Entry | Report, bytes]]) -> list[Outcome]:
        """Append entries to a channel's log, all at once. Raises ClusterFailed: then it is not known which are there.

        said: each with how: m a message that is kept, n one that is not, c and p such as greet newcomers; else see SAY
        """
        if any(isinstance(entry, entries.Entered | TakenOver | Report) for entry, _ in said):
            await self.estate.note(app, name)
        return await self.append(app, name, keys, said, self.name)

    async def append(
        self, app: str, name: str, keys: Keys, said: Sequence[tuple[Entry | Report, bytes]], node: str
    ) -> list[Outcome]:
        """Append entries in the name of a node. Raises ClusterFailed."""
        await self._memory.mark(keys)
        history = self._history_of(name)
        most, age = (history.messages, int(history.age * 1000)) if history is not None else (0, 0)
        names = [keys.clock, keys.state, keys.latest, keys.kept, keys.past, keys.here]
        names += [keys.users, keys.nodes, keys.facts, keys.facts + b":lost", keys.changes, keys.revised, keys.index]
        args: list[Any] = [keys.topic, self.heard[keys.shard], node, most, age, self._remember]
        args += [int(LATEST_KEPT * 1000), self._state_kept(history)]
        for entry, how in said:
            fact = self.facts.of(app, name, entry)
            if isinstance(entry, Report):
                args += [how, entry.count, b"", b"", fact]
                continue
            if not isinstance(entry, Spoken):
                args += [how, entries.field(entry), entry.user, entries.pack(entry), fact]
                continue
            index: Any = b""
            if entry.id is not None:
                names.append(keys.ids + entry.id.encode())
                index = len(names)
            kept = b"0" if how in (b"n", b"p") else b"1"
            args += [b"c" if how in (b"c", b"p") else b"m", kept, index, entries.pack(entry), fact]
        answers = await self.line.run(scripts.SAY, names, args, gated=True)
        outcomes = [_outcome(answer) for answer in answers]
        first = min((outcome.serial for outcome in outcomes if outcome.fresh), default=0)
        if first:
            self._memory.note(keys, first)
        return outcomes

    async def change(self, name: str, keys: Keys, made: Made) -> Outcome | None:
        """Do something to a message; None where it is not as that was decided on. Raises ClusterFailed."""
        await self._memory.mark(keys)
        history = self._history_of(name)
        names = [keys.clock, keys.state, keys.latest, keys.kept, keys.changes, keys.revised, keys.index]
        if made.id is not None:
            names.append(keys.ids + made.id.encode())
        age = int(history.age * 1000) if history is not None else 0
        args: list[Any] = [keys.topic, self.heard[keys.shard], age, self._remember]
        args += [int(LATEST_KEPT * 1000), self._state_kept(history), *made.args]
        answer = await self.line.run(histories.CHANGE, names, args, gated=True)
        if answer == b"!":
            return None
        outcome = _outcome(answer)
        if outcome.fresh:
            self._memory.note(keys, outcome.serial)
        return outcome

    def _state_kept(self, history: History | None) -> int:
        return int((entries.STATE_KEPT if history is None else entries.STATE_OF_HISTORY_KEPT) * 1000)

    # Broadcasts

    def listen(self, topic: bytes, hear: Callable[[bytes], None]) -> None:
        """Have this told what is broadcast on a topic that is no channel's."""
        self._listeners[topic] = hear
        self.line.subscribe(topic)

    def unlisten(self, topic: bytes) -> None:
        """Not any more."""
        del self._listeners[topic]
        self.line.unsubscribe(topic)

    def _hear(self, topic: bytes, payload: bytes) -> None:
        listener = self._listeners.get(topic)
        if listener is not None:
            listener(payload)
            return
        tree = self._followed.get(topic)
        if payload[:1] == MARK:
            if tree is not None and sender_of(payload) != self.name:
                tree.hear_numbers(payload)
            return
        if tree is not None:
            tree.hear(payload)
            shard = tree.keys.shard
            self.heard[shard] = max(self.heard[shard], entries.last_of(payload))

    # The lease

    async def _begin(self) -> None:
        """The line stands again."""
        await self._introduce()
        if self.epoch and not await self._memory.is_whole():
            await self._renew_epoch()
        lost = await self._renew()
        self._upkeep.say_again()
        if self.words.reading:
            await self.words.read()
        self._known = True
        self._look_again(lost=lost)  # last, so that the line is up when they look
        self._tell_moved()

    async def _begin_partly(self) -> None:
        """Where keys are on several masters: one is back, while others are away. All goes on that is there."""
        self._upkeep.say_again()
        if self.words.reading:
            with suppress(ClusterFailed):  # they are on one that is away
                await self.words.read()
        self._look_again()
        self._tell_moved()

    async def _introduce(self) -> None:
        """Tell the others what this node is."""
        await self._versions.join()
        await self.line.ask(b"HSET", names_of(self.prefix), self.name, f"{socket.gethostname()}/{os.getpid()}")

    async def _renew_epoch(self) -> None:
        await self.line.run(scripts.RENEW_EPOCH, (self._epoch,), (self.epoch, secrets.token_hex(4)))

    async def _beat(self) -> None:
        while True:
            await trio.sleep(self.beats_every)
            if self.line.decides(self._nodes):
                try:
                    await self._look()
                    self._refused = ""
                except ClusterFailed as error:
                    self._refused = error.message  # a full Redis answers, and decides nothing

    async def look(self) -> None:
        """See whether Redis is as it was. Raises ClusterFailed."""
        await self.see_marks()
        await self._look()

    async def see_marks(self) -> None:
        """See whether a master was emptied. Of one that is away, that is seen when it is back."""
        with suppress(ClusterFailed):
            if not await self._memory.marks_stand():
                await self._renew_epoch()

    async def _look(self) -> None:
        """Renew the lease, and be as Redis says. Raises ClusterFailed."""
        whole_at = self._whole_at
        if await self._renew():
            self._look_again(lost=True)
        elif not self._known:
            log.warning("cluster_lease_lost", node=self.name)
            await self._introduce()
            self._known = True
            self._upkeep.say_again()
            self._look_again()
        elif whole_at is not None and trio.current_time() > whole_at:
            self._whole_at = None
            self._look_again()

    async def _renew(self) -> bool:
        """Renew the lease, and see who is dead. Whether Redis has lost data."""
        before = trio.current_time()
        clock, epoch, known, dead, living = await self.line.run(
            scripts.BEAT,
            (self._clock, self._epoch, self._nodes),
            (self.name, int(self._lease * 1000), secrets.token_hex(4), max(self.heard)),
        )
        self._offset = int(clock) / SERIALS_PER_SECOND - (before + trio.current_time()) / 2
        if not known:
            self._known = False
            self.estate.say_again()
        spared = self._burials.judge(before, [name.decode() for name in dead])
        before_them = self.living
        self.living = (*(name.decode() for name in living), *(name for name in spared if name in before_them))
        if set(before_them) != set(self.living):
            for tree in tuple(self._followed.values()):
                tree.count_again()
            self._tell_moved()
        lost = bool(self.epoch) and self.epoch != epoch.decode()
        if lost:
            log.error("cluster_lost_data", epoch=epoch.decode(), before=self.epoch)
            self.estate.say_again()
            self._upkeep.say_again()
            await self.words.say_again()
            self._whole_at = trio.current_time() + self._lease
        if self.epoch != epoch.decode():
            self.epoch = epoch.decode()
            self.renewed()
        return lost

    def _look_again(self, *, lost: bool = False) -> None:
        for tree in tuple(self._followed.values()):
            tree.look_again(lost=lost)

    def _tell_moved(self) -> None:
        for tell in self.moved:
            tell()

    async def bury(self, name: str) -> None:
        """Take away what a node left. Raises ClusterFailed."""
        await self.estate.bury(name)
        await self._versions.forget(name)
        await self.line.ask(b"HDEL", names_of(self.prefix), name)
        await self.line.ask(b"ZREM", self._nodes, name)

    async def _leave(self) -> None:
        """A daemon that ends takes its own members away."""
        await self.bury(self.name)


def scripts_within(config: Cluster) -> float:
    """Seconds that a node takes to say farewell, at most."""
    return min(2.0, float(config.lease))


def _outcome(answer: bytes) -> Outcome:
    if answer == b"-":
        return Outcome(0, fresh=False)
    return Outcome(int(answer.lstrip(b"=")), fresh=not answer.startswith(b"="))


def _nobody() -> None:
    """Where nobody is told."""
