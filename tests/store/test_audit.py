"""store/audit.py: a record of what happened that never waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from sower.errors import StoreError
from sower.store import audit as audit_module
from sower.store.audit import Audit, Record, append, last_detail, read
from tests.store.opened import NOW, opened


async def test_records_are_read_while_the_daemon_runs_and_when_it_is_down(tmp_path: Path) -> None:
    path = str(tmp_path / "sower.db")
    async with opened(tmp_path) as journal:
        audit = Audit(journal)
        audit.record("connected", app="1", who="ada", channel="room", detail="hello")
        audit.record("refused", who="eve", code="bad_token", detail="no")
        audit.flush()
        await journal.ping()
        assert [record.kind for record in read(path)] == ["connected", "refused"]
    assert list(read(path, kinds=["refused"])) == [Record(NOW, "refused", None, "eve", None, "bad_token", "no", 1)]
    assert list(read(path, since=NOW + 1)) == []
    assert [record.who for record in read(path, limit=1)] == ["eve"]


async def test_records_reach_the_disk_by_themselves(tmp_path: Path, mock_clock: trio.testing.MockClock) -> None:
    async with opened(tmp_path) as journal, trio.open_nursery() as nursery:
        audit = Audit(journal)
        nursery.start_soon(audit.run)
        audit.record("started")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(1.0)
        await trio.testing.wait_all_tasks_blocked()
        await journal.ping()
        assert [record.kind for record in read(str(tmp_path / "sower.db"))] == ["started"]
        nursery.cancel_scope.cancel()


async def test_of_a_long_path_and_a_long_reason_a_record_holds_the_beginning(tmp_path: Path) -> None:
    path = str(tmp_path / "sower.db")
    async with opened(tmp_path) as journal:
        audit = Audit(journal)
        audit.record("refused", channel="/" * 36_000, detail="x" * 36_000)
        audit.flush()
        await journal.ping()
    assert [(len(record.channel or ""), len(record.detail)) for record in read(path)] == [(500, 500)]


async def test_publishes_are_counted_by_key_and_not_copied(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        audit = Audit(journal)
        for _ in range(1000):
            audit.published("1", "key")
        audit.published("2", "other")
        audit.count_publishes()
    rows = [(record.app, record.who, record.count) for record in read(str(tmp_path / "sower.db"))]
    assert rows == [("1", "key", 1000), ("2", "other", 1)]


async def test_past_its_bound_records_are_counted_and_one_says_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "MOST_WAITING", 2)
    async with opened(tmp_path) as journal:
        audit = Audit(journal)
        for _ in range(5):
            audit.record("connected")
        audit.flush()
    assert [(r.kind, r.count) for r in read(str(tmp_path / "sower.db"))] == [
        ("connected", 1),
        ("connected", 1),
        ("dropped", 3),
    ]


async def test_while_the_disk_hangs_no_more_records_wait_than_the_bound_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_module, "MOST_WAITING", 2)
    async with opened(tmp_path) as journal:
        run, well = journal._writing.run, trio.Event()

        async def hang(*call: Any) -> Any:
            await well.wait()
            return await run(*call)

        monkeypatch.setattr(journal._writing, "run", hang)
        audit = Audit(journal)
        for _ in range(10):
            for _ in range(5):
                audit.record("connected")
            audit.flush()
            await trio.testing.wait_all_tasks_blocked()
        assert journal.noted == 2 + 1
        well.set()
        await journal.ping()
        audit.flush()
    told = [(r.kind, r.count) for r in read(str(tmp_path / "sower.db"))]
    assert sum(count for _, count in told) == 50


async def test_another_process_may_add_a_record_beside_a_running_daemon(tmp_path: Path) -> None:
    path = str(tmp_path / "sower.db")
    async with opened(tmp_path) as journal:
        append(path, Record(NOW, "token_minted", detail="by hand"))
        await journal.ping()
        assert last_detail(path, "token_minted") == "by hand"


def test_without_a_database_reading_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has not run"):
        list(read(str(tmp_path / "sower.db")))


def test_every_kind_that_the_code_records_is_a_known_kind() -> None:
    import re

    import sower

    said = {
        kind
        for file in Path(sower.__file__).parent.rglob("*.py")
        for kind in re.findall(r"""\.record\(\s*"(\w+)\"""", file.read_text())
    }
    assert said <= set(audit_module.KINDS)
