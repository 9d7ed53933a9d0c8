"""store/journal.py on a real SQLite file: commits, ids, retention, gaps, epochs, failures."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from sower.config import Duration, History
from sower.core.message import Kind, Message
from sower.core.polling import Reaction
from sower.errors import JournalFailed, NoSuchMessage, StoreError
from sower.store import rows
from sower.store.audit import Audit
from sower.store.journal import Journal, Stored
from sower.store.schema import VERSION
from sower.store.shelf import JournalShelf
from tests.store.opened import HISTORY, NOW, message, opened, serial


async def all_of(journal: Journal, channel: str = "c", history: History = HISTORY) -> list[bytes]:
    return [m.data for m in (await journal.page("1", channel, limit=5000, history=history)).messages]


async def test_what_was_appended_is_read_back_in_order_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        stored = await journal.append("1", "c", [message(1), message(2)], HISTORY)
        assert stored == [Stored(serial(1), True), Stored(serial(2), True)]
        await journal.append("1", "other", [message(3)], HISTORY)
        await journal.append("2", "c", [message(4)], HISTORY)
        epoch = journal.epoch
    async with opened(tmp_path) as journal:
        assert await all_of(journal) == [b"1", b"2"]
        assert await journal.head("1", "c") == serial(2)
        assert (journal.last_serial, journal.epoch) == (serial(4), epoch)


async def test_every_field_of_a_message_survives(tmp_path: Path) -> None:
    whole = Message(serial(1), "ünï", b"\x00\xff", Kind.BINARY, "ada", "id-1")
    async with opened(tmp_path) as journal:
        await journal.append("1", "c", [whole], HISTORY)
        assert (await journal.page("1", "c", limit=1, history=HISTORY)).messages == [whole]


async def test_sixty_four_appends_of_one_id_at_once_are_one_row_and_one_serial(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        stored: list[Stored] = []

        async def append(n: int) -> None:
            stored.extend(await journal.append("1", "c", [message(n, id="same")], HISTORY))

        async with trio.open_nursery() as nursery:
            for n in range(64):
                nursery.start_soon(append, n)
        assert len({s.serial for s in stored}) == 1
        assert sum(s.fresh for s in stored) == 1
        assert len(await all_of(journal)) == 1


async def test_an_id_counts_within_its_window_only_and_per_channel(tmp_path: Path) -> None:
    clock = [NOW]
    async with opened(tmp_path, now=lambda: clock[0], remember_ids=600.0) as journal:
        await journal.append("1", "c", [message(1, id="a")], HISTORY)
        assert (await journal.append("1", "d", [message(2, id="a")], HISTORY))[0].fresh
        clock[0] = NOW + 599
        again = await journal.append("1", "c", [message(1, id="a", at=clock[0])], HISTORY)
        assert again == [Stored(serial(1), False)]
        clock[0] = NOW + 601
        assert (await journal.append("1", "c", [message(1, id="a", at=clock[0])], HISTORY))[0].fresh


async def test_a_batch_that_is_repeated_is_stored_once(tmp_path: Path) -> None:
    batch = [message(1), message(2, id="x"), message(3, id="x")]
    async with opened(tmp_path) as journal:
        first = await journal.append("1", "c", batch, HISTORY)
        assert await journal.append("1", "c", batch, HISTORY) == first
        assert await all_of(journal) == [b"1", b"2"]


async def test_appends_that_wait_together_share_a_transaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    write = rows.Writer.write

    def counting(self: rows.Writer, appends, audit, now):  # type: ignore[no-untyped-def]
        calls.append(len(appends))
        return write(self, appends, audit, now)

    monkeypatch.setattr(rows.Writer, "write", counting)
    async with opened(tmp_path) as journal, trio.open_nursery() as nursery:
        for n in range(100):
            nursery.start_soon(journal.append, "1", f"c{n % 10}", [message(n)], HISTORY)
    assert sum(calls) == 100
    assert len(calls) <= 3


async def test_retention_by_count_is_exact_to_a_reader(tmp_path: Path) -> None:
    history = History(messages=10)
    async with opened(tmp_path) as journal:
        for n in range(200):
            await journal.append("1", "c", [message(n)], history)
            page = await journal.page("1", "c", limit=5000, history=history)
            assert [m.data for m in page.messages] == [b"%d" % i for i in range(max(0, n - 9), n + 1)]


async def test_what_the_writer_knows_of_channels_is_bounded_and_a_sweep_adds_only_those_it_deletes_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "MOST_KNOWN", 3)
    history = History(messages=10)
    async with opened(tmp_path) as journal:
        for n in range(300):
            stored = await journal.append("1", f"c{n % 5}", [message(n, id=f"{n}")], history)
            assert stored == [Stored(serial(n), fresh=True)]
            assert len(journal._writer._known) <= 3
        for at in range(5):
            assert await all_of(journal, f"c{at}", history) == [b"%d" % n for n in range(250 + at, 300, 5)]
    async with opened(tmp_path) as journal:
        await journal.sweep(lambda name: history, 3600)
        assert journal._writer._known == {}


async def test_retention_by_age_is_exact_to_a_reader(tmp_path: Path) -> None:
    clock = [NOW]
    async with opened(tmp_path, now=lambda: clock[0]) as journal:
        await journal.append("1", "c", [message(1)], HISTORY)
        clock[0] = NOW + HISTORY.age - 1
        await journal.append("1", "c", [message(2, at=clock[0])], HISTORY)
        assert await all_of(journal) == [b"1", b"2"]
        clock[0] = NOW + HISTORY.age + 1
        assert await all_of(journal) == [b"2"]


async def test_a_gap_is_told_exactly_when_something_after_the_position_is_gone(tmp_path: Path) -> None:
    history = History(messages=3, age=Duration(3600))
    async with opened(tmp_path) as journal:
        await journal.append("1", "c", [message(n) for n in range(1, 101)], history)
        for position, gap in ((serial(96), True), (serial(97), False), (serial(100), False), (serial(101), True)):
            page = await journal.since("1", "c", position, limit=10, history=history)
            assert page.gap is gap, position
        assert not (await journal.page("1", "c", limit=10, history=history)).gap
        assert not (await journal.since("1", "never", 0, limit=10, history=history)).gap
        assert (await journal.since("1", "never", serial(1), limit=10, history=history)).gap


async def test_a_message_that_is_not_kept_is_no_gap_to_who_had_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append("1", "c", [message(1)], HISTORY)
        await journal.append("1", "c", [message(2)], HISTORY, passing=[serial(2)])
        assert await journal.head("1", "c") == serial(2)
        assert not (await journal.since("1", "c", serial(2), limit=10, history=HISTORY)).gap
        assert await all_of(journal) == [b"1"]


async def test_the_id_of_a_message_that_is_not_kept_is_known_as_any_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        for n, passing in ((1, True), (2, True), (3, False)):
            stored = await journal.append(
                "1", "c", [message(n, id="x")], HISTORY, passing=[serial(n)] if passing else []
            )
            assert stored == [Stored(serial(1), fresh=n == 1)]
        again = await journal.append("1", "c", [message(1, id="x")], HISTORY, passing=[serial(1)])
        assert again == [Stored(serial(1), fresh=True)], "a channel that was restarted repeats its batch"
        assert await journal.head("1", "c") == serial(1)
        assert await all_of(journal) == []


async def test_a_sweep_deletes_aged_rows_and_the_gap_stays_told(tmp_path: Path) -> None:
    clock = [NOW]
    async with opened(tmp_path, now=lambda: clock[0]) as journal:
        await journal.append("1", "c", [message(n, id=str(n)) for n in range(50)], HISTORY)
        clock[0] = NOW + 2 * HISTORY.age
        await journal.sweep(lambda _: HISTORY, keep_audit=60.0)
        assert (await journal.since("1", "c", serial(3), limit=10, history=HISTORY)).gap
    database = apsw.Connection(str(tmp_path / "sower.db"))
    assert database.execute("SELECT (SELECT count(*) FROM messages), (SELECT count(*) FROM ids)").get == (0, 0)


async def test_a_sweep_deletes_ids_and_records_some_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "SWEPT_AT_ONCE", 10)
    clock = [NOW]
    async with opened(tmp_path, now=lambda: clock[0]) as journal:
        audit, writer = Audit(journal), journal._writer
        await journal.append("1", "c", [message(n, id=f"{n}") for n in range(25)], HISTORY)
        for _ in range(45):
            audit.record("connected", app="1")  # all at the same moment
        await journal.ping()
        forget, left = writer.forget, [(25, 45)]

        def watched(audit_before: float, now: float) -> bool:
            more = forget(audit_before, now)
            left.append(writer._db.execute("SELECT (SELECT count(*) FROM ids), (SELECT count(*) FROM audit)").get)
            return more

        monkeypatch.setattr(writer, "forget", watched)
        clock[0] = NOW + 1000.0
        await journal.sweep(lambda _: HISTORY, keep_audit=60.0)
        assert left == [(25, 45), (15, 0), (5, 0), (0, 0)]


async def test_a_sweep_takes_a_turn_of_the_writer_for_a_channel_only_where_something_is_to_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "LOOKED_AT_ONCE", 3)
    clock = [NOW]
    async with opened(tmp_path, now=lambda: clock[0]) as journal:
        for n in range(10):
            clock[0] = NOW + n
            await journal.append("1", f"c{n}", [message(1, at=clock[0])], HISTORY)
        swept: list[str] = []
        sweep = journal._writer.sweep
        monkeypatch.setattr(
            journal._writer, "sweep", lambda app, name, *more: (swept.append(name), sweep(app, name, *more))[1]
        )
        clock[0] = NOW + HISTORY.age + 4.5
        await journal.sweep(lambda name: None if name == "c2" else HISTORY, keep_audit=60.0)
        assert set(swept) == {"c0", "c1", "c3", "c4"}
        there = [
            row[0] for row in await journal.select("SELECT name FROM channels c JOIN messages m ON m.channel = c.id")
        ]
        assert there == ["c2", *(f"c{n}" for n in range(5, 10))]


async def test_a_sweep_forgets_what_happened_long_ago(tmp_path: Path) -> None:
    clock = [NOW]
    async with opened(tmp_path, now=lambda: clock[0]) as journal:
        audit = Audit(journal)
        for kind, at in (("token_revoked", NOW), ("connected", NOW + 3600.0)):
            clock[0] = at
            audit.record(kind, app="1", who="a")
        await journal.ping()
        await journal.sweep(lambda _: HISTORY, keep_audit=60.0)
        assert [record.kind for record in await audit.recent(app="1")] == ["connected"]


async def test_an_action_on_a_message_goes_with_it_and_is_on_one_that_is_there(tmp_path: Path) -> None:
    clock, history = [NOW], History(messages=3, age=Duration(3600))
    async with opened(tmp_path, now=lambda: clock[0]) as journal:
        shelf = JournalShelf(journal)

        async def said_of() -> list[int]:
            return [one.message - serial(0) for one in (await shelf.reactions("1", "c", 0, 10**17, 1000))[0]]

        async def react(n: int) -> None:
            await shelf.add_reaction("1", "c", Reaction(serial(n), serial(n), "ann", "reaction", "smile"), 10)

        for n in range(1, 6):
            await journal.append("1", "c", [message(n)], history)
            await react(n)
        for absent in (0, 6, 10**10):
            with pytest.raises(NoSuchMessage):
                await react(absent)
        await journal.delete("1", "c", serial(1), serial(3))
        assert await said_of() == [1, 3, 4, 5]
        await journal.append("1", "c", [message(n) for n in range(6, 71)], history)  # so many that old ones are deleted
        assert await said_of() == []
        await react(70)
        assert await said_of() == [70]
        clock[0] = NOW + 3601
        await journal.sweep(lambda _: history, keep_audit=60.0)
        assert await said_of() == []


async def test_pages_are_bounded_and_say_whether_more_follows(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append("1", "c", [message(n) for n in range(5)], HISTORY)
        first = await journal.page("1", "c", limit=2, newest_first=True, history=HISTORY)
        assert ([m.data for m in first.messages], first.more) == ([b"4", b"3"], True)
        last = await journal.page("1", "c", before=serial(1), limit=2, newest_first=True, history=HISTORY)
        assert ([m.data for m in last.messages], last.more) == ([b"0"], False)
        upto = await journal.since("1", "c", serial(0), upto=serial(2), limit=9, history=HISTORY)
        assert [m.data for m in upto.messages] == [b"1", b"2"]


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({}, False),
        ({"boot_id": "another"}, True),
        ({"rules_fingerprint": "others"}, True),
    ],
    ids=["the same", "the machine started anew", "other channels keep history"],
)
async def test_the_epoch_changes_when_history_was_lost(tmp_path: Path, change: dict[str, str], lost: bool) -> None:
    folder = tmp_path / "copy"
    async with opened(tmp_path) as journal:
        epoch = journal.epoch
        shutil.copytree(tmp_path, folder)  # as a kill would leave it: not closed
    async with opened(folder, **change) as journal:
        assert (journal.epoch != epoch) is lost


async def test_the_epoch_stays_over_a_power_cut_when_every_commit_was_synced(tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    async with opened(tmp_path, sync="full") as journal:
        epoch = journal.epoch
        shutil.copytree(tmp_path, folder)
    async with opened(folder, sync="full", boot_id="another") as journal:
        assert journal.epoch == epoch
    async with opened(tmp_path, boot_id="another") as journal:
        assert journal.epoch == epoch, "it was closed cleanly"


async def test_a_full_disk_refuses_the_publish_stores_none_of_it_and_recovers(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        await journal.append("1", "c", [message(0)], HISTORY)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "sower.db-wal").stat().st_size + 8192, limits[1]))
        try:
            with pytest.raises(JournalFailed):
                await journal.append("1", "c", [Message(serial(1), "e", os.urandom(100_000))], HISTORY)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert await all_of(journal) == [b"0"]
        await journal.append("1", "c", [message(2)], HISTORY)
        assert await all_of(journal) == [b"0", b"2"]


async def test_a_call_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        outcomes: dict[int, bool] = {}

        async def append(n: int, data: bytes) -> None:
            try:
                await journal.append("1", "c", [Message(serial(n), "e", data)], HISTORY)
                outcomes[n] = True
            except JournalFailed:
                outcomes[n] = False

        async with trio.open_nursery() as nursery:
            for n in range(10):
                # SQLite refuses a value over its length limit of 1,000,000,000 bytes; the limit is lowered here.
                nursery.start_soon(append, n, b"x" * (200_000 if n == 5 else 10))
            journal._writing.db.limit(apsw.SQLITE_LIMIT_LENGTH, 100_000)  # type: ignore[attr-defined]
        assert outcomes == {n: n != 5 for n in range(10)}


async def test_a_call_that_cannot_be_written_takes_no_audit_record_along(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal._writing.db.limit(apsw.SQLITE_LIMIT_LENGTH, 100_000)  # type: ignore[attr-defined]
        audit = Audit(journal)
        for n in range(3):
            audit.record("connected", app="1", who=f"{n}")
            with pytest.raises(JournalFailed):
                await journal.append("1", "c", [Message(serial(n), "e", b"x" * 200_000)], HISTORY)
        assert [record.who for record in await audit.recent(app="1")] == ["2", "1", "0"]


async def test_a_lock_that_stays_refuses_all_who_wait_at_once_and_not_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sower.store.opening.BUSY_FOR", 200)
    async with opened(tmp_path) as journal:
        other = apsw.Connection(str(tmp_path / "sower.db"))
        other.execute("BEGIN IMMEDIATE")
        refused: list[JournalFailed] = []

        async def append(n: int) -> None:
            try:
                await journal.append("1", "c", [message(n)], HISTORY)
            except JournalFailed as error:
                refused.append(error)

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for n in range(64):
                nursery.start_soon(append, n)
        assert len(refused) == 64
        assert trio.current_time() - began < 64 * 0.2
        assert "locked" in journal.fault
        other.close()
        await journal.append("1", "c", [message(64)], HISTORY)
        assert journal.fault == ""


async def test_what_a_delete_learnt_of_a_channel_is_not_believed_when_it_fails(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        commits: Any = journal._writing.db
        await journal._writing.run(commits.set_commit_hook, lambda: True)  # SQLite's own way to have each commit fail
        with pytest.raises(JournalFailed):
            await journal.delete("1", "mine", 0, serial(0))
        await journal._writing.run(commits.set_commit_hook, None)
        await journal.append("1", "mine", [message(1)], HISTORY)
        await journal.append("2", "another's", [message(2)], HISTORY)
        for app, channel, heard in (("1", "mine", b"1"), ("2", "another's", b"2")):
            page = await journal.page(app, channel, limit=10, history=HISTORY)
            assert [m.data for m in page.messages] == [heard]


async def test_past_its_bound_an_append_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sower.store.journal.MOST_WAITING", 3)
    async with opened(tmp_path) as journal:
        with pytest.raises(JournalFailed, match="wait for the journal"):
            await journal.append("1", "c", [message(n) for n in range(4)], HISTORY)


async def test_a_cancelled_append_leaves_the_others_whole(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(journal.append, "1", "c", [message(n)], HISTORY)
            nursery.cancel_scope.cancel()
        await journal.append("1", "c", [message(99)], HISTORY)
        assert (await all_of(journal))[-1] == b"99"


def _broken(kind: str, folder: Path) -> Path:
    path = folder / "sower.db"
    if kind == "not a database":
        path.write_bytes(b"this is no database" * 100)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "newer":
        apsw.Connection(str(path)).execute(f"CREATE TABLE t(x); PRAGMA user_version = {VERSION + 1}")
    elif kind == "of another program":
        apsw.Connection(str(path)).execute("CREATE TABLE t(x)")
    return folder if kind != "in no folder" else folder / "missing"


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("not a database", "choose another store.path"),
        ("a folder", "names a file"),
        ("newer", "Upgrade Sower"),
        ("of another program", "Choose another store.path"),
        ("in no folder", "does not exist"),
    ],
)
async def test_a_database_that_cannot_be_used_is_refused_with_its_path_and_a_remedy(
    tmp_path: Path, kind: str, remedy: str
) -> None:
    folder = _broken(kind, tmp_path)
    with pytest.raises(StoreError, match=r"sower\.db") as caught:
        async with opened(folder):
            pass
    assert remedy in str(caught.value)


WRITE_UNTIL_KILLED = """
import sys, trio
from pathlib import Path
from tests.store.opened import HISTORY, message, opened

async def main():
    async with opened(Path(sys.argv[1])) as journal:
        for n in range(1_000_000):
            await journal.append("1", "c", [message(n)], HISTORY)
            print(n, flush=True)

trio.run(main)
"""


async def test_a_kill_in_the_middle_of_writing_loses_no_row_that_was_acknowledged(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time
        [sys.executable, "-c", WRITE_UNTIL_KILLED, str(tmp_path)], stdout=subprocess.PIPE, cwd=root
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 300:
            process.kill()
    process.wait()
    async with opened(tmp_path) as journal:
        last = serial(300)
        page = await journal.since("1", "c", last - 100, limit=101, history=HISTORY)
        assert [m.data for m in page.messages][:100] == [b"%d" % n for n in range(201, 301)]
    database = apsw.Connection(str(tmp_path / "sower.db"))
    assert database.execute("PRAGMA integrity_check").get == "ok"


async def test_the_database_is_for_its_owner_alone(tmp_path: Path) -> None:
    """What is said on private channels is in it, and every account of the machine could read it."""
    before = os.umask(0o022)
    try:
        async with opened(tmp_path) as journal:
            await journal.append("1", "private-a", [message(1)], HISTORY)
            for name in ("sower.db", "sower.db-wal", "sower.db-shm"):
                assert os.stat(tmp_path / name).st_mode & 0o777 == 0o600, name
    finally:
        os.umask(before)
