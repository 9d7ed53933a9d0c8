"""The lines to a Redis Cluster: one to each master. A key's slot says which of them.

Rule 1: all keys and the topic of a script are in one slot (node.py), so that for each channel one line decides.
Rule 2: the node begins when all lines stand, and again when one has come back: what was missed meanwhile is read.
Rule 3: who says that a slot has moved is believed: the masters are asked anew, and whose slots changed begins anew.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog
import trio
from coredis.connection import TCPLocation
from coredis.exceptions import RedisError

from sower.cluster.line import TRY_EVERY, Asked, Line, OneLine
from sower.cluster.places import ANSWERS_WITHIN, Place
from sower.errors import ClusterFailed

log = structlog.get_logger(__name__)

SLOTS = 16384

LOOK_EVERY = 10.0
"""Seconds between two looks at who has which slots, where nobody says that they have moved."""

Owners = tuple[tuple[int, int, TCPLocation], ...]
"""The first and the last slot of each range, and who has it."""


def line_to(url: str, *, replicas: int, heard: Callable[[bytes, bytes], None]) -> Line:
    """The line to what a URL names."""
    place = Place.read(url)
    if place.named and not place.service:
        return Links(place, replicas=replicas, heard=heard)
    return OneLine(place, replicas=replicas, heard=heard)


def slot_of(key: bytes) -> int:
    """As Redis Cluster counts them: of what is between the first { and the next }, where there is something."""
    begin = key.find(b"{") + 1
    end = key.find(b"}", begin)
    return crc_hqx(key[begin:end] if begin and end > begin else key, 0) % SLOTS


class Links(Line):
    """place: names some servers of the cluster."""

    scattered = True

    def __init__(self, place: Place, *, replicas: int, heard: Callable[[bytes, bytes], None]) -> None:
        self.begun = self.partly = _nothing
        self._place = place
        self._replicas = replicas
        self._heard = heard
        self._topics: dict[bytes, None] = {}
        self._lines: dict[TCPLocation, OneLine] = {}
        self._scopes: dict[TCPLocation, trio.CancelScope] = {}
        self._owners: Owners = ()
        self._fault = "no connection yet"
        self._doubt = trio.Event()
        self._whole = trio.Event()

    @property
    def fault(self) -> str:
        """Which master is missing, and why."""
        missing = next((f"{where}: {line.fault}" for where, line in self._lines.items() if line.fault), "")
        return missing or self._fault

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """As Line.open."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._follow, nursery, name="redis cluster")
            with trio.move_on_after(2 * ANSWERS_WITHIN):
                await self._whole.wait()
            failed = self.fault if not self._whole.is_set() else ""
            if not failed:
                yield
            nursery.cancel_scope.cancel()
        if failed:
            raise ClusterFailed(f"Redis cannot be reached: {failed}.")

    def decides(self, key: bytes) -> bool:
        """As Line.decides."""
        line = self._find(key)
        return line is not None and line.up

    def subscribe(self, topic: bytes) -> None:
        """As Line.subscribe."""
        self._topics[topic] = None
        line = self._find(topic)
        if line is not None:
            line.subscribe(topic)

    def unsubscribe(self, topic: bytes) -> None:
        """As Line.unsubscribe."""
        self._topics.pop(topic, None)
        line = self._find(topic)
        if line is not None:
            line.unsubscribe(topic)

    async def run(self, script: str, keys: Sequence[bytes], args: Sequence[Any], *, gated: bool = False) -> Any:
        """As Line.run."""
        return await self._of(keys[0]).run(script, keys, args, gated=gated)

    async def ask(self, command: bytes, *args: Any) -> Any:
        """As Line.ask."""
        return await self._of(args[0]).ask(command, *args)

    async def ask_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """As Line.ask_all. Those whose master is away do not keep the others from being asked."""
        asked: list[Asked] = []
        missing: ClusterFailed | None = None
        for command in commands:
            try:
                asked.append(self._of(command[1]).request(*command))
            except ClusterFailed as error:
                missing = error
        answers = [await one.answer() for one in asked]
        if missing is not None:
            raise missing
        return answers

    def tell(self, topic: bytes, payload: bytes) -> None:
        """As Line.tell."""
        line = self._find(topic)
        if line is not None:
            line.tell(topic, payload)

    async def read(self, script: str, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        """As Line.read."""
        return await self._of(keys[0]).read(script, keys, args)

    def _find(self, key: bytes) -> OneLine | None:
        slot = slot_of(key)
        return next((self._lines[where] for first, last, where in self._owners if first <= slot <= last), None)

    def _of(self, key: bytes) -> OneLine:
        line = self._find(key)
        if line is None:
            self._doubt.set()
            raise ClusterFailed(f"Redis cannot be reached: {self.fault or 'no master has this slot'}.")
        return line

    async def _follow(self, nursery: trio.Nursery) -> None:
        """Know who has which slots, until cancelled."""
        while True:
            self._doubt = trio.Event()
            owners = await self.ask_owners()
            if owners and owners != self._owners:
                self._arrange(owners, nursery)
            with trio.move_on_after(LOOK_EVERY):
                await self._doubt.wait()
                await trio.sleep(TRY_EVERY)

    async def ask_owners(self) -> Owners:
        """What the first server says that answers; nothing where none does."""
        for server in dict.fromkeys((*self._lines, *self._place.named)):
            answer = await self._ask_slots(server)
            if answer is None:
                continue
            owners = tuple(
                (first, last, TCPLocation(primary[0].decode() if primary[0] else server.host, primary[1]))
                for first, last, primary, *_ in sorted(answer, key=lambda row: row[0])
            )
            covered = sum(last - first + 1 for first, last, _ in owners)
            self._fault = "" if covered == SLOTS else f"{SLOTS - covered} slots have no master"
            return owners
        return ()

    async def _ask_slots(self, server: TCPLocation) -> Any:
        """What a server says of CLUSTER SLOTS, None where it does not answer."""
        async with self._place.at(server).pool(1) as pool:
            try:  # in here: what leaves the pool's nursery is a group
                async with pool.acquire() as connection:
                    return await connection.create_request(b"CLUSTER SLOTS")
            except (RedisError, OSError, TimeoutError) as error:
                self._fault = f"{server}: {error}"
                self._doubt.set()
                return None

    def _arrange(self, owners: Owners, nursery: trio.Nursery) -> None:
        """Have a line to each master, and each topic at its own."""
        before, self._owners = self._owners, owners
        masters = dict.fromkeys(where for _, _, where in owners)
        log.info("cluster_masters", masters=[str(where) for where in masters])
        for where in [where for where in self._lines if where not in masters]:
            del self._lines[where]
            self._scopes.pop(where).cancel()
        for where in masters:
            if where not in self._lines:
                line = OneLine(self._place.at(where), replicas=self._replicas, heard=self._heard, sharded=True)
                line.begun, line.lost = self._one_stands, self._doubt_them
                self._lines[where], self._scopes[where] = line, trio.CancelScope()
                nursery.start_soon(self._keep, line, self._scopes[where], name=f"redis {where}")
            elif _ranges(before, where) != _ranges(owners, where):
                self._lines[where].forget("its slots have changed")
        for topic in self._topics:
            line = self._find(topic)
            if line is not None:
                line.subscribe(topic)

    async def _keep(self, line: OneLine, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                try:
                    async with line.open():
                        await self._watch(line)
                except ClusterFailed:
                    self._doubt_them()
                    await trio.sleep(TRY_EVERY)

    async def _watch(self, line: OneLine) -> None:
        """Ask something now and then, so that a master is not silent for long that nobody asks anything."""
        while True:
            await trio.sleep(ANSWERS_WITHIN)
            with suppress(ClusterFailed):
                await line.ask(b"PING")

    async def _one_stands(self) -> None:
        """The last of them to come begins for all. Where others are away, its own channels go on."""
        if all(line.connected for line in self._lines.values()):
            await self.begun()
            self._whole.set()
        else:
            await self.partly()

    def _doubt_them(self) -> None:
        self._doubt.set()


def _ranges(owners: Owners, where: TCPLocation) -> list[tuple[int, int]]:
    return [(first, last) for first, last, owner in owners if owner == where]


async def _nothing() -> None:
    """Where nobody has anything to do."""
