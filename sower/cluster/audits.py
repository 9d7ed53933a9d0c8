"""The audit records of all nodes: each keeps its own, and answers whoever asks for it.

    asker -> {all}:audit -> every node looks into its journal -> the topic that the question names

Rule 1: a node that does not answer is named, so that nobody takes a part for the whole. One whose lease is over is
        gone: what it has is in its own database.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
import structlog
import trio

from sower.cluster.keys import names_of
from sower.cluster.line import Line
from sower.cluster.links import line_to
from sower.cluster.node import Node
from sower.config import Cluster
from sower.core.answer import AuditPage
from sower.core.command import ReadAudit
from sower.core.grants import Grant
from sower.core.record import NodeRecord, Record
from sower.errors import ClusterFailed, Forbidden, JournalFailed
from sower.store.audit import Audit

log = structlog.get_logger(__name__)

ANSWERED_WITHIN = 2.0
"""Seconds in which a node says what it has."""

MOST_RECORDS = 10_000
"""Records in one answer: some MiB, of which Redis lets 8 wait for a connection."""


MOST_ASKED = 100
"""Questions that wait; more are left without an answer."""


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """A question. topic: where it is answered. app: None for all."""

    topic: bytes
    app: str | None
    kinds: tuple[str, ...]
    since: float
    before: float | None
    limit: int


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """What a node has, the newest first."""

    node: str
    records: tuple[Record, ...]


class Found(NamedTuple):
    """The newest first, each with its node. silent: nodes that did not answer."""

    records: list[NodeRecord]
    silent: list[str]


_encode = msgspec.msgpack.Encoder().encode
_question = msgspec.msgpack.Decoder(Asked).decode
_answer = msgspec.msgpack.Decoder(Answered).decode


class Inquiry:
    """One question to all nodes, on whatever line. hear: has to be told what is broadcast on `topic`."""

    def __init__(self, prefix: str, app: str | None, command: ReadAudit) -> None:
        self.topic = f"{prefix}:{{all}}:audit:{secrets.token_hex(8)}".encode()
        self._prefix = prefix
        self._limit = min(command.limit, MOST_RECORDS)
        self._asked = Asked(self.topic, app, command.kinds, command.since, command.before, self._limit)
        self._answers: dict[str, Answered] = {}
        self._came = trio.Event()

    def hear(self, payload: bytes) -> None:
        """A node answers."""
        answer = _answer(payload)
        self._answers[answer.node] = answer
        self._came.set()

    async def put(self, line: Line) -> Found:
        """Ask, and wait until all have answered or should have. Raises ClusterFailed."""
        nodes: Sequence[bytes] = await line.ask(b"ZRANGE", f"{self._prefix}:{{all}}:nodes".encode(), 0, -1)
        names: Mapping[bytes, bytes] = await line.ask(b"HGETALL", names_of(self._prefix))
        await line.ask(b"PUBLISH", topic_of(self._prefix), _encode(self._asked))
        asked = {node.decode() for node in nodes}
        with trio.move_on_after(ANSWERED_WITHIN):
            while asked - self._answers.keys():
                self._came = trio.Event()
                await self._came.wait()
        called = {node.decode(): name.decode() for node, name in names.items()}
        records = [
            NodeRecord(**msgspec.structs.asdict(record), node=called.get(answer.node, answer.node))
            for answer in self._answers.values()
            for record in answer.records
        ]
        records.sort(key=lambda record: record.time, reverse=True)
        silent = sorted(called.get(node, node) for node in asked - self._answers.keys())
        return Found(records[: self._limit], silent)


class Audits:
    """Those of all nodes, as one of them sees them."""

    def __init__(self, node: Node, audit: Audit) -> None:
        self._node = node
        self._audit = audit
        self._owed: list[Asked] = []
        self._work = trio.Event()
        node.listen(topic_of(node.prefix), self._hear)

    async def read(self, grant: Grant, address: str, command: ReadAudit) -> AuditPage:
        """What all nodes have of an app. Raises Forbidden, ClusterFailed."""
        if not grant.server:
            raise Forbidden("Only a server (Basic key:secret) may look at the daemon.")
        inquiry = Inquiry(self._node.prefix, grant.app, command)
        self._node.listen(inquiry.topic, inquiry.hear)
        try:
            found = await inquiry.put(self._node.line)
        finally:
            self._node.unlisten(inquiry.topic)
        return AuditPage(tuple(found.records), tuple(found.silent))

    async def run(self) -> None:
        """Answer until cancelled."""
        while True:
            owed, self._owed = self._owed, []
            for asked in owed:
                await self._answer(asked)
            if not self._owed:
                self._work = trio.Event()
                await self._work.wait()

    def _hear(self, payload: bytes) -> None:
        if len(self._owed) < MOST_ASKED:
            self._owed.append(_question(payload))
        self._work.set()

    async def _answer(self, asked: Asked) -> None:
        try:
            records = await self._audit.recent(
                app=asked.app, kinds=asked.kinds, since=asked.since, before=asked.before, limit=asked.limit
            )
            answer = _encode(Answered(self._node.name, tuple(records)))
            await self._node.line.ask(b"PUBLISH", asked.topic, answer)
        except (JournalFailed, ClusterFailed) as error:
            log.warning("audit_not_answered", why=error.message)


async def ask_all(cluster: Cluster, app: str | None, command: ReadAudit) -> Found:
    """As whoever is no node. Raises ClusterFailed."""
    inquiry = Inquiry(cluster.prefix, app, command)
    line = line_to(cluster.url, replicas=0, heard=lambda _, payload: inquiry.hear(payload))
    line.subscribe(inquiry.topic)
    async with line.open():
        return await inquiry.put(line)


def topic_of(prefix: str) -> bytes:
    """Where questions are put."""
    return f"{prefix}:{{all}}:audit".encode()
