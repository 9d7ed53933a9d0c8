"""Changes and annotations in Redis against the journal: the same commands, the same answers."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st

from sower.cluster import changes
from sower.cluster.archive import Archive
from sower.cluster.changes import make
from sower.cluster.entries import Batch, Spoken, unpack
from sower.cluster.node import Node
from sower.core.message import Act, Annotation, Kind, Message, Revision, next_serial
from sower.core.versions import numbered
from sower.errors import ChannelBusy, SowerError
from sower.store import rows
from sower.store.journal import Journal
from sower.store.log import Log
from tests.cluster.conftest import Redis
from tests.cluster.test_model import HISTORY, check, node_of

LARGEST = 12


class Publishing(NamedTuple):
    text: str


class Changing(NamedTuple):
    """on: which of the serials so far. by: who does it."""

    act: Act
    on: int
    text: str
    by: str
    own: bool
    id: str | None


class Annotating(NamedTuple):
    kind: str
    on: int
    name: str
    by: str
    withdrawn: bool
    id: str | None


class Reading(NamedTuple):
    """A page. since, before, as_of: which of the serials so far."""

    since: int | None
    before: int | None
    as_of: int | None
    limit: int
    newest_first: bool
    in_order: bool


class Listing(NamedTuple):
    on: int
    annotated: bool
    since: int | None
    before: int | None
    limit: int
    newest_first: bool


class Deleting(NamedTuple):
    """before: None for all that follows."""

    since: int
    before: int | None


WHICH = st.integers(0, 30)
FIRST = st.integers(0, 2)
"""Mostly on the same messages."""
SOME = st.none() | WHICH
IDS = st.none() | st.none() | st.sampled_from(["a", "b"])
USERS = st.sampled_from(["ann", "bob"])
COMMANDS = st.lists(
    st.one_of(
        st.builds(Publishing, st.sampled_from(["x", ""])),
        st.builds(
            Changing, st.sampled_from([Act.UPDATED, Act.DELETED, Act.APPENDED, Act.APPENDED]), FIRST | WHICH,
            st.sampled_from(["x", "yyyy", ""]), USERS, st.booleans(), IDS,
        ),
        st.builds(
            Annotating, st.sampled_from(["n:total.v1", "n:unique.v1", "n"]), FIRST | WHICH, st.sampled_from(["up", "down"]),
            USERS, st.booleans(), IDS,
        ),
        st.builds(Reading, SOME, SOME, SOME, st.integers(1, 5), st.booleans(), st.booleans()),
        st.builds(Listing, FIRST | WHICH, st.booleans(), SOME, SOME, st.integers(1, 3), st.booleans()),
        st.builds(Deleting, WHICH, SOME),
    ),
    min_size=4,
    max_size=25,
)  # fmt: skip


STORY = [
    Publishing("x"),
    Changing(Act.APPENDED, 0, "yyyy", "ann", False, "a"),
    Changing(Act.UPDATED, 0, "x", "bob", False, None),
    Annotating("n:total.v1", 0, "up", "ann", False, None),
    Annotating("n:unique.v1", 0, "up", "bob", False, "b"),
    Changing(Act.APPENDED, 0, "x", "bob", True, None),
    Changing(Act.APPENDED, 0, "yyyy", "ann", True, "a"),
    Changing(Act.APPENDED, 0, "x", "bob", False, None),
    Listing(0, False, None, None, 3, False),
    Listing(0, True, None, None, 1, True),
    Changing(Act.DELETED, 0, "", "ann", True, None),
]
"""All that can be done to a message, once."""


class Side(NamedTuple):
    """One of the two. serials: of all that was told, in its order."""

    log: Log
    serials: list[int]

    def nth(self, which: int | None) -> int | None:
        return self.serials[which % len(self.serials)] if which is not None and self.serials else None

    def shown(self, message: Message) -> Message:
        """With its serials as places in the order."""
        at, about = self.serials.index, message.about
        if isinstance(about, Revision):
            about = msgspec.structs.replace(about, of=at(about.of), version=at(about.version))
        elif about is not None:
            about = msgspec.structs.replace(about, of=at(about.of), next=0)
        return msgspec.structs.replace(message, serial=at(message.serial), about=about)


def said(command: Publishing | Changing | Annotating, on: int) -> Message:
    """As it is published. on: the serial of the message that it is about."""
    match command:
        case Publishing(text):
            return Message(0, "e", text.encode(), Kind.TEXT, "ann")
        case Changing(act, _, text, by, own, known):
            return Message(0, "", text.encode(), Kind.TEXT, by, known, about=Revision(on, act, own=own))
        case Annotating(kind, _, name, by, withdrawn, known):
            return Message(0, name, b"null", Kind.JSON, by, known, about=Annotation(on, kind, withdrawn))


async def by_journal(journal: Journal, side: Side, channel: str, message: Message) -> tuple[Any, list[Message]]:
    """What the publisher is answered, and what is told."""
    last = next_serial(max([journal.last_serial, *side.serials]), journal.now())
    about = message.about and numbered(message.about, last, lambda: last + 1)
    message = msgspec.structs.replace(message, serial=last, about=about)
    (stored,) = await journal.append("1", channel, [message], HISTORY, largest=LARGEST)
    if stored.refused is not None:
        return type(stored.refused), []
    told = list(stored.told) if about is not None else [message]
    side.serials.extend(m.serial for m in told if stored.fresh)
    return (side.serials.index(stored.serial), stored.fresh), told if stored.fresh else []


async def by_redis(node: Node, side: Side, channel: str, message: Message) -> tuple[Any, list[Message]]:
    """As by_journal."""
    m, keys = message, node.keys("1", channel)
    head = side.serials[-1] if side.serials else 0
    if m.about is not None:
        try:
            outcome = await make(node, "1", channel, m, None, LARGEST)
        except SowerError as error:
            return type(error), []
    else:
        (outcome,) = await node.say(
            "1", channel, keys, [(Spoken(m.event, m.data, int(m.kind), m.user, m.id, m.extra), b"m")]
        )
    payloads, _ = await node.missed(keys, head)
    told = [one for payload in payloads for one in messages_of(unpack(payload))]
    side.serials.extend(one.serial for one in told)
    return (side.serials.index(outcome.serial), outcome.fresh), told


def messages_of(batch: Batch) -> list[Message]:
    return [
        entry.message(serial) for serial, entry in enumerate(batch.entries, batch.first) if isinstance(entry, Spoken)
    ]


async def read(side: Side, channel: str, asked: Reading | Listing) -> Any:
    """What a side answers."""
    if isinstance(asked, Listing):
        on, since = side.nth(asked.on) or 1, side.nth(asked.since) or 0
        if not (await side.log.page("1", channel, since=on - 1, before=on + 1, limit=1, history=HISTORY)).messages:
            return None
        found = await side.log.versions(
            "1", channel, on, annotated=asked.annotated, since=since, before=side.nth(asked.before) or 10**17,
            limit=asked.limit, newest_first=asked.newest_first,
        )  # fmt: skip
        return [side.shown(m) for m in found.messages], found.more
    page = await side.log.page(
        "1", channel, since=side.nth(asked.since), before=side.nth(asked.before), as_of=side.nth(asked.as_of),
        limit=asked.limit, newest_first=asked.newest_first, in_order=asked.in_order, history=HISTORY,
    )  # fmt: skip
    return [side.shown(m) for m in page.messages], page.gap, page.more


async def compare(commands: list[Any], journal: Journal, node: Node) -> None:
    channel = secrets.token_hex(8)
    here, there = Side(journal, []), Side(Archive(node), [])
    for command in commands:
        if isinstance(command, Reading | Listing):
            assert await read(here, channel, command) == await read(there, channel, command)
        elif isinstance(command, Deleting):
            for side in (here, there) if here.serials else ():
                await side.log.delete("1", channel, side.nth(command.since) or 0, side.nth(command.before) or 10**18)
        else:
            on = 0 if isinstance(command, Publishing) else command.on
            ours, told_here = await by_journal(journal, here, channel, said(command, here.nth(on) or 1))
            theirs, told_there = await by_redis(node, there, channel, said(command, there.nth(on) or 1))
            assert ours == theirs
            assert [here.shown(m) for m in told_here] == [there.shown(m) for m in told_there]
    for which in (None, *range(min(len(here.serials), 6))):
        for whole in (
            Reading(None, None, which, 100, newest_first=False, in_order=False),
            Reading(None, which, None, 100, newest_first=False, in_order=True),
        ):
            assert await read(here, channel, whole) == await read(there, channel, whole)


async def test_redis_changes_and_annotates_messages_as_the_journal_does(
    redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "SLACK", 0)  # what retention hides is gone at once, as in Redis
    opened = Journal.open(
        str(tmp_path / "sower.db"),
        sync="normal", remember_ids=600, keep_audit=60, rules_fingerprint="", boot_id="", now=time.time,
    )  # fmt: skip
    async with opened as journal, node_of(redis) as node:
        await node.words.read()  # as every daemon at its start: what is deleted is a word to all
        await compare(STORY, journal, node)
        await check(compare, COMMANDS, journal, node, examples=settings(max_examples=200, deadline=None))


async def test_what_retention_hides_is_forgotten_with_all_that_was_done_to_it(redis: Redis) -> None:
    async with node_of(redis) as node:
        keys, publish = node.keys("1", "room"), [(Spoken("e", b"", 1, None, None, None), b"m")]
        (first,) = await node.say("1", "room", keys, publish)
        for about in (Revision(first.serial, Act.UPDATED), Annotation(first.serial, "n:total.v1")):
            await make(node, "1", "room", Message(0, "x", b"", Kind.TEXT, about=about), None, 1000)

        def kept() -> list[str]:
            commands = ("XLEN", keys.changes), ("HLEN", keys.revised), ("ZCARD", keys.index)
            return [redis.command(command, key.decode()) for command, key in commands]

        assert kept() == ["3", "1", "3"]
        for _ in range(HISTORY.messages):
            await node.say("1", "room", keys, publish)
        assert kept() == ["3", "0", "3"]  # later rows are still told to who comes back
        await node.say("1", "room", keys, publish)
        assert kept() == ["0", "0", "0"]


async def test_what_two_nodes_append_at_once_is_decided_again_until_all_of_it_holds(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[int] = []
    async with node_of(redis) as one, node_of(redis, one.prefix) as two:
        (first,) = await one.say("1", "room", one.keys("1", "room"), [(Spoken("e", b"", 1, None, None, None), b"m")])

        async def append(node: Node, mark: str) -> None:
            for n in range(20):
                sent = Message(0, "", f"{mark}{n};".encode(), Kind.TEXT, about=Revision(first.serial, Act.APPENDED))
                try:
                    await make(node, "1", "room", sent, None, 1000)
                except ChannelBusy:
                    refused.append(n)

        async def both() -> bytes:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(append, one, "a")
                nursery.start_soon(append, two, "b")
            page = await Archive(two).page("1", "room", limit=1, history=HISTORY)
            return page.messages[0].data

        parts = (await both()).decode().split(";")[:-1]
        assert sorted(parts) == sorted(f"{mark}{n}" for mark in "ab" for n in range(20))
        assert refused == []
        monkeypatch.setattr(changes, "DECIDED_AGAIN", 1)
        parts = (await both()).decode().split(";")[:-1]
        assert 0 < len(refused) == 80 - len(parts)
