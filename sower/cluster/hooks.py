"""Webhooks of several daemons: one of them sends, from an outbox in Redis that another takes over.

    a channel's script -> facts, as streams in Redis -> the owner forms notices -> the outbox in Redis -> POSTs

Rule 1: the owner holds a lease. When it ends, or its lease does, whoever asks first is the next one.
Rule 2: the next one goes on where the last one stopped: with the facts that were not read, the notices that were not
        accepted, and what was told and holds no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import structlog
import trio

from sower.cluster import facts, scripts
from sower.cluster.keys import facts_of, shard_of
from sower.cluster.node import Node
from sower.cluster.outbox import SharedOutbox
from sower.config import App
from sower.core.happening import Fact, Happening
from sower.core.holdback import Standing
from sower.core.message import SERIALS_PER_SECOND
from sower.errors import ClusterFailed, JournalFailed
from sower.store.audit import Audit
from sower.webhook_sender import STORE_AGAIN, Sender
from sower.webhooks import BACK_WITHIN, FORMED_AT_ONCE, Webhooks

log = structlog.get_logger(__name__)

READ_AT_ONCE = 100
"""Facts of one stream that are read at a time: 6 MiB where each has the data of a client's event."""

GRACE = 2.0
"""Seconds that a daemon which ends has to say so."""


class Hooks:
    """The webhooks of one node. now: seconds since 1970."""

    def __init__(self, apps: Sequence[App], node: Node, audit: Audit, *, now: Callable[[], float]) -> None:
        self._apps = apps
        self._node = node
        self._audit = audit
        self._now = now
        self._desk: Desk | None = None
        self._dropped = 0
        self._ending = trio.Event()

    @property
    def senders(self) -> Mapping[tuple[str, str], Sender]:
        """One for each URL, where this node sends."""
        return self._desk.senders if self._desk is not None else {}

    @property
    def dropped(self) -> int:
        """Events that a full queue had no room for, while this node sent."""
        return self._dropped + (self._desk.dropped if self._desk is not None else 0)

    def hears(self, app: str, fact: Fact) -> bool:
        """Whether some webhook of an app may want to know a fact."""
        return self._node.facts.hears(app, fact)

    def happened(self, app: str, happening: Happening) -> None:
        """The script that did it has noted it."""

    def use(self, apps: Sequence[App]) -> None:
        """Sign with these apps' secrets from now on."""
        self._apps = apps
        if self._desk is not None:
            self._desk.use(apps)

    def drain(self) -> None:
        """From now on another sends, and waits longer for the clients of this node."""
        self._node.facts.parting = True
        self._ending.set()

    async def run(self) -> None:
        """Send whenever nobody else does, until cancelled."""
        if not any(app.webhooks for app in self._apps):
            return
        while not self._ending.is_set():
            outbox = SharedOutbox(self._node)
            with suppress(ClusterFailed):
                if await outbox.claim():
                    await self._send(outbox)
            with trio.move_on_after(self._node.beats_every):
                await self._ending.wait()

    async def _send(self, outbox: SharedOutbox) -> None:
        """Send for as long as this node is the owner."""
        log.info("webhooks_sent_here", node=self._node.name)
        desk = self._desk = Desk(self._apps, self._node, outbox, self._audit, now=self._now)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(desk.run)
                await self._hold(outbox)
                nursery.cancel_scope.cancel()
        except* JournalFailed as error:
            log.warning("webhooks_not_sent_here", why=str(error.exceptions[0]))
        finally:
            self._dropped += desk.dropped
            self._desk = None
            with trio.move_on_after(GRACE) as farewell, suppress(ClusterFailed):
                farewell.shield = True
                await outbox.release()

    async def _hold(self, outbox: SharedOutbox) -> None:
        """Renew the lease until it is another's, or Redis has lost what was to be sent."""
        over, epoch = trio.current_time() + self._node.lease, self._node.epoch
        while trio.current_time() < over and self._node.epoch == epoch and not self._ending.is_set():
            with trio.move_on_after(self._node.beats_every):
                await self._ending.wait()
            with suppress(ClusterFailed):
                if not await outbox.claim():
                    return
                over = trio.current_time() + self._node.lease


class Desk(Webhooks):
    """Where the owner forms and sends, from when it is the owner until it is not."""

    def __init__(
        self, apps: Sequence[App], node: Node, outbox: SharedOutbox, audit: Audit, *, now: Callable[[], float]
    ) -> None:
        super().__init__(apps, outbox, audit, now=now, ages=lambda: node.clock() / SERIALS_PER_SECOND)
        self._shared = outbox
        self._node = node
        shards = {shard_of(app.id) for app in apps if app.webhooks}
        self._streams = {shard: facts_of(node.prefix, shard) for shard in shards}
        self._due = set(shards)
        self._doubtful: Sequence[Standing] = ()
        """What the last owner told, of which it is not known yet whether it holds."""
        self._again = math.inf
        """When masters that were away are asked again."""
        self._more = trio.Event()
        self._told = trio.Event()

    async def _restore(self, standing: Sequence[Standing]) -> None:
        """Hold what the last owner told. What holds no more may begin again, or a fact may say that it is over."""
        for one in standing:
            self._holdback.begins(one)
        await self._end(standing)

    async def _end(self, standing: Sequence[Standing]) -> None:
        over, self._doubtful = await self._shared.over(standing)
        for one in over:
            self._holdback.ends(one, trio.current_time() + BACK_WITHIN)
        self._work.set()
        if self._doubtful:
            self._again = trio.current_time() + STORE_AGAIN

    async def _write(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, name="webhooks' facts")
            await super()._write()

    async def _turn(self) -> None:
        await super()._turn()
        self._told.set()

    async def _store_last(self) -> None:
        """What was not stored is among the facts yet: the next owner finds it there."""

    async def _read(self) -> None:
        """Take facts as they come, until cancelled."""
        for shard, topic in self._streams.items():
            self._node.listen(topic, lambda _, shard=shard: self._wake(shard))
        self._node.moved.append(self._look_at_all)
        try:
            while True:
                with trio.move_on_at(self._again):
                    await self._more.wait() if not self._due else None
                self._more = trio.Event()
                if trio.current_time() >= self._again:
                    self._again = math.inf
                    self._look_at_all()
                    await self._end(self._doubtful)
                await self._take()
        finally:
            self._node.moved.remove(self._look_at_all)
            for topic in self._streams.values():
                self._node.unlisten(topic)

    def _wake(self, shard: int) -> None:
        self._due.add(shard)
        self._more.set()

    def _look_at_all(self) -> None:
        """Something may not have been heard."""
        self._due.update(self._streams)
        self._more.set()

    async def _take(self) -> None:
        """Read facts of the streams that have some, and wait until what they lead to is stored."""
        taken: list[tuple[str, Happening]] = []
        read: dict[int, bytes] = {}
        for shard in sorted(self._due):
            if len(taken) + READ_AT_ONCE > FORMED_AT_ONCE:
                break
            try:
                rows = await self._rows(shard)
            except ClusterFailed as error:  # those of other masters are told meanwhile
                log.warning("webhooks_behind", why=error.message)
                self._again = trio.current_time() + STORE_AGAIN
                continue
            taken += map(facts.read, rows)
            if rows:
                read[shard] = rows[-1][0]
        if not read:
            return
        while self._noted or self._unstored:
            await self._next_turn()
        self._shared.read.update(read)  # and from here on what they lead to is stored with it
        for app, happening in taken:
            super().happened(app, happening)
        while self._noted or self._unstored:
            await self._next_turn()

    async def _rows(self, shard: int) -> Sequence[Sequence[bytes]]:
        """Facts of one stream that were not read yet. Raises ClusterFailed."""
        topic, since = self._streams[shard], self._shared.read.get(shard)
        self._due.discard(shard)
        after = b"-" if since is None else b"(" + since
        rows, lost = await self._node.line.run(scripts.FACTS, (topic, topic + b":lost"), (after, READ_AT_ONCE))
        if len(rows) == READ_AT_ONCE:
            self._due.add(shard)
        if int(lost):
            self._lost["", "too many facts waited for a daemon to read them"] += int(lost)
        return rows

    async def _next_turn(self) -> None:
        self._told = trio.Event()
        await self._told.wait()
