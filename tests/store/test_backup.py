"""store/backup.py: copies of a database in use, and their way back."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import apsw
import pytest
import trio

from sower.core.holdback import Standing
from sower.errors import StoreError
from sower.store.backup import back_up, restore
from sower.store.outbox import Notice, Outbox
from sower.store.schema import VERSION
from tests.store.opened import HISTORY, NOW, message, opened, serial


def data(path: Path) -> list[bytes]:
    return [row[0] for row in apsw.Connection(str(path)).execute("SELECT data FROM messages ORDER BY serial")]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_a_copy_holds_all_that_was_committed_when_it_began_while_writing_goes_on(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    async with opened(tmp_path) as journal:
        stored = 0

        async def write() -> None:
            nonlocal stored
            for n in range(100_000):
                await journal.append("1", "c", [message(n)], HISTORY)
                stored = n + 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            while stored < 300:
                await trio.testing.wait_all_tasks_blocked()
            before = stored
            copied = await trio.to_thread.run_sync(back_up, str(tmp_path / "sower.db"), copy)
            after = stored
            nursery.cancel_scope.cancel()
    kept = data(copy)
    assert kept == [b"%d" % n for n in range(len(kept))], "it is of one moment: no hole"
    assert before <= len(kept) <= after + 1
    assert copied == (copy, copy.stat().st_size, len(kept))
    assert copy.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == ["copy.db", "sower.db"]


async def test_what_was_copied_comes_back_with_a_new_epoch_and_what_was_there_is_kept(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    notice = Notice(1, "1", "http://a/", ("c",), NOW, size=4)
    async with opened(tmp_path) as journal:
        await journal.append("1", "c", [message(1)], HISTORY)
        await Outbox(journal).store([(notice, b"body")], [Standing("1", "c")], [])
        back_up(str(tmp_path / "sower.db"), copy)
        await journal.append("1", "c", [message(2)], HISTORY)
        epoch = journal.epoch
    kept = restore(copy, str(tmp_path / "sower.db"))
    assert kept is not None
    assert data(kept) == [b"1", b"2"]
    async with opened(tmp_path) as journal:
        assert journal.epoch != epoch, "clients that saw what is gone are told of a gap"
        page = await journal.page("1", "c", limit=9, history=HISTORY)
        assert [m.data for m in page.messages] == [b"1"]
        assert journal.last_serial == serial(1)
        assert await Outbox(journal).load() == ([notice], [Standing("1", "c")])


async def test_a_database_in_use_is_not_replaced(tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    async with opened(tmp_path) as journal:
        await journal.append("1", "c", [message(1)], HISTORY)
        back_up(str(tmp_path / "sower.db"), copy)
        with pytest.raises(StoreError, match="Stop the daemon first"):
            restore(copy, str(tmp_path / "sower.db"))
        await journal.append("1", "c", [message(2)], HISTORY)
        assert len((await journal.page("1", "c", limit=9, history=HISTORY)).messages) == 2
    assert names(tmp_path) == ["copy.db", "sower.db"]


async def test_after_a_kill_the_wal_is_part_of_what_is_copied_and_of_what_is_kept(tmp_path: Path) -> None:
    killed = tmp_path / "killed"
    async with opened(tmp_path) as journal:
        await journal.append("1", "c", [message(1)], HISTORY)
        shutil.copytree(tmp_path, killed)
    back_up(str(killed / "sower.db"), tmp_path / "copy.db")
    assert data(tmp_path / "copy.db") == [b"1"]
    kept = restore(tmp_path / "copy.db", str(killed / "sower.db"))
    assert kept is not None
    assert data(kept) == [b"1"]


async def test_a_damaged_database_is_replaced_and_a_missing_one_made(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append("1", "c", [message(1)], HISTORY)
    back_up(str(tmp_path / "sower.db"), tmp_path / "copy.db")
    (tmp_path / "sower.db").write_bytes(b"no database at all" * 1000)
    assert restore(tmp_path / "copy.db", str(tmp_path / "sower.db")) is not None
    assert data(tmp_path / "sower.db") == [b"1"]
    assert restore(tmp_path / "copy.db", str(tmp_path / "another.db")) is None
    assert data(tmp_path / "another.db") == [b"1"]


def _bad_copy(kind: str, folder: Path) -> Path:
    path = folder / "copy.db"
    if kind == "nothing":
        return path
    if kind == "no database":
        path.write_bytes(b"no database at all" * 1000)
    elif kind == "another program's":
        apsw.Connection(str(path)).execute("CREATE TABLE t(x)")
    else:
        back_up(str(folder / "sower.db"), path)
        if kind == "newer":
            apsw.Connection(str(path)).execute(f"PRAGMA user_version = {VERSION + 1}")
        else:
            with path.open("r+b") as file:
                file.seek(4096 * 3)
                file.write(os.urandom(4096 * 4))
    return path


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("nothing", "There is no file"),
        ("no database", "it is no SQLite database"),
        ("another program's", "no database of Sower's"),
        ("newer", "this Sower reads up to"),
        ("damaged", "damaged"),
    ],
)
async def test_what_is_no_good_copy_is_refused_and_changes_nothing(tmp_path: Path, kind: str, told: str) -> None:
    async with opened(tmp_path) as journal:
        await journal.append("1", "c", [message(n) for n in range(500)], HISTORY)
    copy = _bad_copy(kind, tmp_path)
    with pytest.raises(StoreError, match=told):
        restore(copy, str(tmp_path / "sower.db"))
    assert len(data(tmp_path / "sower.db")) == 500


def test_a_copy_overwrites_nothing_and_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has not run"):
        back_up(str(tmp_path / "sower.db"), tmp_path / "copy.db")
    (tmp_path / "sower.db").touch()
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(StoreError, match="is there already"):
        back_up(str(tmp_path / "sower.db"), tmp_path / "copy.db")
    with pytest.raises(StoreError, match="does not exist"):
        back_up(str(tmp_path / "sower.db"), tmp_path / "nowhere" / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "precious"
