"""The scripts against what one daemon does by itself: the same commands, the same answers.

The journal on SQLite and the log in Redis are given the same publishes and the same questions; core/presence.py and
two replicas of one log are told of the same comings and goings.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from sower.cluster.archive import Archive
from sower.cluster.entries import Entry, Spoken, unpack
from sower.cluster.keys import Keys
from sower.cluster.node import Node
from sower.cluster.replica import Replica
from sower.config import Cluster, Duration, History
from sower.core.message import Appearance, Did, Message, next_serial
from sower.core.presence import Change, Presence
from sower.store.journal import Journal
from tests.cluster.conftest import Redis, RedisCluster

HISTORY = History(messages=4, age=Duration(3600))
QUICK = settings(max_examples=100, deadline=None)


class Publishing(NamedTuple):
    """A batch: each with its id, if any, and whether it is kept."""

    batch: list[tuple[str | None, bool]]


class Reading(NamedTuple):
    """A page. since, before: which of the messages so far, None for neither."""

    since: int | None
    before: int | None
    limit: int
    newest_first: bool


class Deleting(NamedTuple):
    since: int
    before: int


IDS = st.sampled_from(["a", "b", "c"])
BATCHES = st.lists(st.tuples(st.none() | IDS, st.booleans()), min_size=1, max_size=4)
WHICH = st.integers(0, 30)
COMMANDS = st.lists(
    st.one_of(
        st.builds(Publishing, BATCHES),
        st.builds(Reading, st.none() | WHICH, st.none() | WHICH, st.integers(1, 5), st.booleans()),
        st.builds(Deleting, WHICH, WHICH),
    ),
    min_size=1,
    max_size=20,
)


def node_of(redis: Redis | RedisCluster, prefix: str = "") -> AbstractAsyncContextManager[Node]:
    return Node.open(Cluster(url=redis.url, prefix=prefix or secrets.token_hex(4)), lambda name: HISTORY, 600.0)


async def check(compare: Callable[..., Awaitable[None]], given_: Any, *args: Any, examples: settings = QUICK) -> None:
    """Have hypothesis make up what is compared, in a thread of its own."""

    @examples
    @given(given_)
    def attempt(made: Any) -> None:
        trio.from_thread.run(compare, made, *args)

    await trio.to_thread.run_sync(attempt)


async def compare_logs(commands: list[Publishing | Reading | Deleting], journal: Journal, node: Node) -> None:
    channel, archive = secrets.token_hex(8), Archive(node)
    keys = node.keys("1", channel)
    there: list[int] = []
    here: list[int] = []
    last = journal.last_serial
    number = 0
    for command in commands:
        if isinstance(command, Publishing):
            messages: list[tuple[Message, bool]] = []
            for message_id, kept in command.batch:
                last = next_serial(last, journal.now())
                messages.append((Message(last, "e", b"%d" % number, id=message_id), kept))
                number += 1
            stored = await journal.append(
                "1", channel, [m for m, _ in messages], HISTORY, passing=[m.serial for m, kept in messages if not kept]
            )
            said: list[tuple[Entry, bytes]] = [
                (Spoken(m.event, m.data, 0, None, m.id, None), b"m" if kept else b"n") for m, kept in messages
            ]
            outcomes = await node.say("1", channel, keys, said)
            assert [one.fresh for one in stored] == [one.fresh for one in outcomes]
            for ours, theirs in zip(stored, outcomes, strict=True):
                if theirs.fresh:
                    here.append(ours.serial)
                    there.append(theirs.serial)
                else:
                    assert here.index(ours.serial) == there.index(theirs.serial)
            assert there == sorted(set(there))
        elif isinstance(command, Reading):
            pages = [
                await log.page(
                    "1", channel, since=_nth(serials, command.since), before=_nth(serials, command.before),
                    limit=command.limit, newest_first=command.newest_first, history=HISTORY,
                )
                for log, serials in ((journal, here), (archive, there))
            ]  # fmt: skip
            assert [shown(m, here) for m in pages[0].messages] == [shown(m, there) for m in pages[1].messages]
            assert pages[0].gap == pages[1].gap
            assert pages[0].more == pages[1].more
        elif 0 < len(here) <= HISTORY.messages:  # past it SQLite shows again what it had hidden and not deleted yet
            for log, serials in ((journal, here), (archive, there)):
                await log.delete("1", channel, _nth(serials, command.since) or 0, _nth(serials, command.before) or 0)
    if here:
        assert here.index(await journal.head("1", channel)) == there.index(await archive.head("1", channel))


def _nth(serials: list[int], which: int | None) -> int | None:
    return serials[which % len(serials)] if which is not None and serials else None


def shown(message: Message, serials: list[int]) -> tuple[Any, ...]:
    return serials.index(message.serial), message.event, message.data, message.id


async def test_redis_answers_as_the_journal_does(redis: Redis, tmp_path: Path) -> None:
    path = str(tmp_path / "sower.db")
    opened = Journal.open(
        path, sync="normal", remember_ids=600, keep_audit=60, rules_fingerprint="", boot_id="", now=time.time
    )
    async with opened as journal, node_of(redis) as node:
        await node.words.read()  # as every daemon at its start: what is deleted is a word to all
        await check(compare_logs, COMMANDS, journal, node)


# Presence

USERS, DEVICES = st.sampled_from(["ann", "bob"]), st.sampled_from(["1", "2", "3"])
METAS = st.sampled_from([b"null", b"1", b"2"])
ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), USERS, DEVICES, METAS),
        st.tuples(st.just("update"), USERS, DEVICES, METAS),
        st.tuples(st.just("leave"), USERS, DEVICES, st.booleans()),
    ),
    max_size=25,
)


def act(presence: Presence, what: str, user: str, device: str, more: Any) -> list[Change]:
    if what == "leave":
        return presence.leave(user, device, device, 0.0, 1, at_once=more)
    said = Appearance(Did.ENTERED if what == "enter" else Did.UPDATED, user, device, more, 1)
    return presence.enter(said, device) if what == "enter" else presence.update(said, device)


def told(changes: list[Change]) -> list[Change]:
    """Without when."""
    return [msgspec.structs.replace(change, serial=0) for change in changes]


async def compare_presence(acts: list[tuple[str, str, str, Any]], node: Node) -> None:
    """Devices 1 and 2 are clients of the first node, 3 is a client of the other."""
    keys = node.keys("1", secrets.token_hex(8))
    model = Presence(0.0, 100)
    names = node.name, secrets.token_hex(4)
    replicas = [Replica(0.0, 100, name) for name in names]
    head = (await node.load(keys, "room")).head
    for what, user, device, more in acts:
        which = int(device == "3")
        expected = told(act(model, what, user, device, more))
        assert act(replicas[which], what, user, device, more) == []
        head = await flush(node, keys, names, replicas, head, expected)
        assert replicas[0].view() == replicas[1].view() == model.view()
    loaded = Replica(0.0, 100, "nobody")
    loaded.resume((await node.load(keys, "room")).members, head, trusted=True)
    assert {m.user: m.connections for m in loaded.view()} == {m.user: m.connections for m in model.view()}


async def flush(
    node: Node, keys: Keys, names: tuple[str, str], replicas: list[Replica], head: int, expected: list[Change]
) -> int:
    """Append what the replicas mean to do, and tell both of it."""
    for name, replica in zip(names, replicas, strict=True):
        intents, replica.intents = replica.intents, []
        if intents:
            await node.append("1", "room", keys, intents, name)
    missed = await node.missed(keys, head)
    changes: list[list[Change]] = [[], []]
    for batch in map(unpack, missed.payloads):
        for serial, entry in enumerate(batch.entries, batch.first):
            assert not isinstance(entry, Spoken)
            for into, replica in zip(changes, replicas, strict=True):
                into += replica.apply(entry, serial)
    assert told(changes[0]) == told(changes[1]) == expected
    return missed.snapshot.head


async def test_two_nodes_show_the_members_that_one_daemon_shows(redis: Redis) -> None:
    async with node_of(redis) as node:
        await check(compare_presence, ACTS, node)
