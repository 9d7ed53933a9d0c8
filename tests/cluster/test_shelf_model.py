"""The shelf in Redis against the one in the journal: the same commands, the same answers."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import strategies as st

from sower.cluster.archive import Archive
from sower.cluster.entries import Entry, Spoken
from sower.cluster.node import Node
from sower.cluster.shelf import ClusterShelf
from sower.core.message import Message
from sower.core.polling import Reaction
from sower.errors import NoSuchMessage
from sower.store.journal import Journal
from sower.store.log import Log
from sower.store.shelf import JournalShelf, Shelf
from tests.cluster.conftest import Redis
from tests.cluster.test_model import HISTORY, check, node_of

MOST = 3

FIRST = 10**16
"""Serials have 17 digits."""


class Adding(NamedTuple):
    """An action on one of some messages; the last number is that of none."""

    message: int
    user: str
    value: str


class Removing(NamedTuple):
    """One of the actions so far; wrong: by the serial of another message."""

    which: int
    wrong: bool


class Listing(NamedTuple):
    since: int
    before: int
    limit: int


class Reading(NamedTuple):
    """The actions on a range of messages."""

    first: int
    last: int


class Deleting(NamedTuple):
    """All between two messages, exclusive."""

    since: int
    before: int


class Grouping(NamedTuple):
    group: str
    add: list[str]
    remove: list[str]


THERE = 3
WHERE, NAMES = st.integers(0, THERE), st.lists(st.sampled_from("abc"), max_size=3, unique=True)
COMMANDS = st.lists(
    st.one_of(
        st.builds(Adding, WHERE, st.sampled_from(["ann", "bob"]), st.sampled_from(["smile", "frown"])),
        st.builds(Removing, st.integers(0, 20), st.booleans()),
        st.builds(Listing, st.integers(FIRST, FIRST + 10), st.integers(FIRST + 5, FIRST + 30), st.integers(1, 5)),
        st.builds(Reading, WHERE, WHERE),
        st.builds(Deleting, WHERE, WHERE),
        st.builds(Grouping, st.sampled_from(["g", "h"]), NAMES, NAMES),
    ),
    max_size=25,
)


async def do(shelf: Shelf, log: Log, app: str, command: Any, at: int, added: list[Reaction], serials: list[int]) -> Any:
    """What a shelf answers."""
    if isinstance(command, Adding):
        reaction = Reaction(serials[command.message], at, command.user, "k", command.value)
        try:
            return await shelf.add_reaction(app, "c", reaction, MOST)
        except NoSuchMessage:
            return None
    if isinstance(command, Removing):
        one = added[command.which % len(added)]
        return await shelf.remove_reaction(app, "c", one.message + command.wrong, one.at)
    if isinstance(command, Listing):
        return await shelf.reactions(app, "c", command.since, command.before, command.limit)
    if isinstance(command, Reading):
        return await shelf.reactions_on(app, "c", serials[command.first], serials[command.last])
    if isinstance(command, Deleting):
        return await log.delete(app, "c", serials[command.since], serials[command.before])
    await shelf.change_group(
        app, command.group, command.add, [name for name in command.remove if name not in command.add]
    )
    kept: dict[str, list[str]] = {}
    for owner, group, channel in await shelf.groups():
        if owner == app:
            kept.setdefault(group, []).append(channel)
    return kept


async def compare(commands: list[Any], journal: Journal, node: Node, shelves: tuple[Shelf, Shelf]) -> None:
    app = secrets.token_hex(4)
    added: list[Reaction] = []
    said: list[tuple[Entry, bytes]] = [(Spoken("e", b"1", 0, None, None, None), b"m")] * THERE
    serials = [outcome.serial for outcome in await node.say(app, "c", node.keys(app, "c"), said)]
    await journal.append(app, "c", [Message(serial, "e", b"1") for serial in serials], HISTORY)
    serials.append(serials[-1] + 1)
    logs: tuple[Log, Log] = journal, Archive(node)
    for at, command in enumerate(commands, FIRST + 1):
        if isinstance(command, Removing) and not added:
            continue
        ours, theirs = [
            await do(shelf, log, app, command, at, added, serials) for shelf, log in zip(shelves, logs, strict=True)
        ]
        assert ours == theirs
        if isinstance(command, Adding) and ours:
            added.append(Reaction(serials[command.message], at, command.user, "k", command.value))


async def test_redis_keeps_actions_and_groups_as_the_journal_does(redis: Redis, tmp_path: Path) -> None:
    path = str(tmp_path / "sower.db")
    opened = Journal.open(
        path, sync="off", remember_ids=600, keep_audit=60, rules_fingerprint="", boot_id="", now=time.time
    )
    async with opened as journal, node_of(redis) as node:
        shelves = JournalShelf(journal), ClusterShelf(node)
        await node.words.read()
        await check(compare, COMMANDS, journal, node, shelves)


async def test_redis_takes_away_the_actions_on_messages_that_retention_took(redis: Redis) -> None:
    async with node_of(redis) as node:
        shelf, keys = ClusterShelf(node), node.keys("1", "c")

        async def say() -> int:
            (said,) = await node.say("1", "c", keys, [(Spoken("e", b"1", 0, None, None, None), b"m")])
            await shelf.add_reaction("1", "c", Reaction(said.serial, said.serial, "ann", "k", "smile"), MOST)
            return said.serial

        serials = [await say() for _ in range(3 * HISTORY.messages)]
        found, more = await shelf.reactions("1", "c", 0, 10**17 - 1, 100)
        assert [one.message for one in found] == serials[-HISTORY.messages :]
        assert not more
        topic = keys.topic.decode()
        assert redis.command("ZCARD", f"{topic}:n") == str(HISTORY.messages)
        assert redis.command("HLEN", f"{topic}:b") == str(2 * HISTORY.messages)


async def test_a_bound_below_the_first_or_above_the_last_serial_is_one(redis: Redis) -> None:
    async with node_of(redis) as node:
        shelf, archive, keys = ClusterShelf(node), Archive(node), node.keys("1", "c")
        (said,) = await node.say("1", "c", keys, [(Spoken("e", b"1", 0, None, None, None), b"m")])
        await shelf.add_reaction("1", "c", Reaction(said.serial, said.serial, "ann", "k", "smile"), MOST)
        for since, before, count in ((0, 0, 0), (0, 1, 0), (0, 10**18, 1), (10**18, 10**18, 0), (-1, 10**17, 1)):
            page = await archive.page("1", "c", since=since, before=before, limit=5, history=HISTORY)
            found, _ = await shelf.reactions("1", "c", max(since, 0), before, 5)
            assert (len(page.messages), len(found)) == (count, count), (since, before)
            await archive.delete("1", "c", before, before)
        assert await archive.count("1", "c", 0, 5, HISTORY) == 1
        assert await archive.count("1", "c", 10**18, 5, HISTORY) == 0
