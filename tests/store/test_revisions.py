"""Changed and annotated messages in the journal: what the history has, what who comes back is told, what is forgotten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from sower.config import Duration, History
from sower.core import versions
from sower.core.message import Act, Annotation, Kind, Message, Revision
from sower.errors import NoSuchMessage, TooMany
from sower.store.journal import Journal, Stored
from sower.store.schema import APPLICATION_ID, MIGRATIONS
from tests.store.opened import HISTORY, NOW, opened, serial


def message(n: int, data: bytes) -> Message:
    return Message(serial(n), "e", data, Kind.TEXT, "ada", f"id-{n}")


def change(n: int, act: Act, of: int, data: bytes, *, id: str | None = None) -> Message:
    about = Revision(serial(of), act, serial(n))
    return Message(serial(n), "", data, Kind.TEXT, "ada", id, about=about)


def annotation(n: int, of: int, kind: str = "n:total.v1") -> Message:
    return Message(serial(n), "", b"null", user="ada", about=Annotation(serial(of), kind, next=serial(n + 1)))


async def append(journal: Journal, *messages: Message, history: History = HISTORY) -> list[Stored]:
    return await journal.append("1", "c", messages, history, largest=1000)


async def seen(journal: Journal, history: History = HISTORY, **how: Any) -> list[tuple[int, bytes]]:
    """The history: number and data."""
    page = await journal.page("1", "c", limit=100, history=history, **how)
    return [(m.serial - serial(0), m.data) for m in page.messages]


async def told(journal: Journal, since: int, upto: int = 99, **how: Any) -> list[tuple[int, str, bytes]]:
    """What who comes back is told: number, what was done, data."""
    page = await journal.since(
        "1", "c", serial(since), upto=serial(upto), limit=100, history=HISTORY, in_order=True, **how
    )
    shown: list[tuple[int, str, bytes]] = []
    for m in page.messages:
        act = m.about.act.name if isinstance(m.about, Revision) else "ANNOTATED" if m.about else "CREATED"
        shown.append((m.serial - serial(0), act, m.data))
    return shown


async def test_a_message_stands_in_its_place_as_its_last_version_left_it_after_a_restart_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await append(journal, message(1, b"one"), message(2, b"two"))
        (stored,) = await append(journal, change(3, Act.UPDATED, 1, b"ONE"))
        assert [(m.serial, m.data) for m in stored.told] == [(serial(3), b"ONE")]
        (stored,) = await append(journal, change(4, Act.APPENDED, 1, b"+"))
        assert [(m.serial, m.data) for m in stored.told] == [(serial(4), b"+")]
        assert await journal.head("1", "c") == serial(4)
    async with opened(tmp_path) as journal:
        assert await seen(journal) == [(1, b"ONE+"), (2, b"two")]
        assert await seen(journal, as_of=serial(3)) == [(1, b"ONE"), (2, b"two")]
        assert await seen(journal, as_of=serial(2)) == [(1, b"one"), (2, b"two")]
        assert await seen(journal, newest_first=True, before=serial(2)) == [(1, b"ONE+")]
        assert await journal.count("1", "c", 0, 100, HISTORY) == 2


async def test_who_comes_back_is_told_all_in_its_order_and_of_what_was_appended_the_whole_at_its_end(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as journal:
        await append(journal, message(1, b"a"), message(2, b"x"), change(3, Act.APPENDED, 1, b"b"))
        await append(journal, change(4, Act.UPDATED, 2, b"y"), change(5, Act.APPENDED, 1, b"c"), annotation(6, 2))
        await append(journal, annotation(8, 2), change(10, Act.DELETED, 2, b"null"))
        assert await told(journal, 2) == [
            (4, "UPDATED", b"y"), (5, "UPDATED", b"abc"), (6, "ANNOTATED", b"null"), (8, "ANNOTATED", b"null"),
            (9, "SUMMARISED", b"null"), (10, "DELETED", b"null"),
        ]  # fmt: skip
        # What comes after the head at which one enters is told live, so the whole is as of that head.
        assert await told(journal, 2, upto=4) == [(3, "UPDATED", b"ab"), (4, "UPDATED", b"y")]
        assert await told(journal, 0, upto=3) == [(1, "CREATED", b"a"), (2, "CREATED", b"x"), (3, "UPDATED", b"ab")]


async def test_a_change_with_a_known_id_is_not_made_again_and_a_refused_one_leaves_its_id_free(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        (refused,) = await append(journal, change(1, Act.APPENDED, 0, b"+", id="x"))
        assert isinstance(refused.refused, NoSuchMessage)
        await append(journal, message(2, b"a"))
        (first,) = await append(journal, change(3, Act.APPENDED, 2, b"b", id="x"))
        (again,) = await append(journal, change(4, Act.APPENDED, 2, b"b", id="x"))
        assert (first.fresh, again.serial, again.fresh, again.told) == (True, serial(3), False, ())
        assert await seen(journal) == [(2, b"ab")]
        # A channel that was restarted repeats its batch: nothing is done again, and all is told as it was.
        (repeated,) = await append(journal, change(3, Act.APPENDED, 2, b"b", id="x"))
        assert [(m.serial, m.data) for m in repeated.told] == [(serial(3), b"b")]
        (annotated,) = await append(journal, annotation(5, 2))
        (repeated,) = await append(journal, annotation(5, 2))
        assert repeated.told == annotated.told
        assert len(annotated.told) == 2
        assert await seen(journal) == [(2, b"ab")]


async def test_retention_counts_messages_and_forgets_their_changes_with_them(tmp_path: Path) -> None:
    history, now = History(messages=2, age=Duration(100)), [NOW]
    async with opened(tmp_path, now=lambda: now[0]) as journal:
        await append(journal, message(1, b"1"), message(2, b"2"), history=history)
        for n in range(3, 200):
            await append(journal, change(n, Act.APPENDED, 2, b"+"), history=history)
        assert await seen(journal, history) == [(1, b"1"), (2, b"2" + b"+" * 197)]
        for n in range(200, 300):
            await append(journal, message(n, b"n"), history=history)
        assert await seen(journal, history) == [(298, b"n"), (299, b"n")]
        (refused,) = await append(journal, change(300, Act.UPDATED, 2, b"late"), history=history)
        assert isinstance(refused.refused, NoSuchMessage)
        await append(journal, change(301, Act.UPDATED, 299, b"new"), annotation(302, 299), history=history)
        now[0] += 200
        await journal.sweep(lambda _: history, keep_audit=60.0)
        for table in ("messages", "revised", "revisions"):
            assert await journal.select(f"SELECT count(*) FROM {table}") == [(0,)], table


async def test_a_message_that_is_deleted_for_good_takes_all_that_is_about_it_along(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await append(journal, message(1, b"a"), message(2, b"b"), change(3, Act.UPDATED, 1, b"A"), annotation(4, 1))
        await append(journal, change(6, Act.UPDATED, 2, b"B"))
        await journal.delete("1", "c", serial(0), serial(2))
        assert await seen(journal) == [(2, b"B")]
        assert await told(journal, 0) == [(2, "CREATED", b"b"), (6, "UPDATED", b"B")]


async def test_a_message_has_no_more_changes_than_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "MOST_CHANGES", 3)
    async with opened(tmp_path) as journal:
        await append(
            journal, message(1, b"a"), change(2, Act.APPENDED, 1, b"b"), annotation(3, 1, "note"), annotation(5, 1)
        )
        for refused in (change(7, Act.UPDATED, 1, b"c"), annotation(8, 1)):
            (stored,) = await append(journal, refused)
            assert isinstance(stored.refused, TooMany)
        assert await seen(journal) == [(1, b"ab")]


async def test_a_journal_of_the_version_before_is_taken_over_and_its_messages_can_be_changed(tmp_path: Path) -> None:
    old = apsw.Connection(str(tmp_path / "sower.db"))
    for migration in MIGRATIONS[:4]:
        old.execute(migration)
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 4")
    old.execute("INSERT INTO channels VALUES (1, '1', 'c', ?, 0)", (serial(1),))
    old.execute("INSERT INTO messages VALUES (1, ?, 'e', x'61', 1, 'ada', NULL, NULL)", (serial(1),))
    old.close()
    async with opened(tmp_path) as journal:
        assert await seen(journal) == [(1, b"a")]
        await append(journal, change(2, Act.APPENDED, 1, b"b"), message(3, b"c"))
        assert await seen(journal) == [(1, b"ab"), (3, b"c")]
