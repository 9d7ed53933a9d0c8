"""The database does not grow for ever: what retention deletes is given back, and so is the WAL."""

from __future__ import annotations

from pathlib import Path

import apsw

from sower.config import Duration, History
from sower.core.message import SERIALS_PER_SECOND, Message
from sower.store import rows
from sower.store.opening import MOST_WAL
from tests.store.opened import NOW, message, opened

MIB = 1024 * 1024
FIVE_MINUTES = History(messages=1_000_000, age=Duration(300))
A_MINUTE = 2000
"""Messages, each of 500 bytes with what belongs to it."""


async def test_an_hour_of_writing_keeps_the_size_of_what_is_kept_and_a_silence_gives_it_back(tmp_path: Path) -> None:
    now = NOW
    database, wal = tmp_path / "sower.db", tmp_path / "sower.db-wal"
    sizes: list[int] = []
    async with opened(tmp_path, now=lambda: now) as journal:
        for minute in range(60):
            for channel in "abcd":
                batch = [message(n, at=now) for n in range(A_MINUTE // 4)]
                large = [Message(m.serial, m.event, b"x" * 450) for m in batch]
                await journal.append("1", channel, large, FIVE_MINUTES)
            now = NOW + 60 * (minute + 1)
            await journal.sweep(lambda _: FIVE_MINUTES, keep_audit=60.0)
            sizes.append(database.stat().st_size + wal.stat().st_size)
        kept = 6 * A_MINUTE * 500 * 2  # a page is half full at worst
        assert max(sizes) < kept + rows.KEPT_FREE * 4096 + MOST_WAL
        assert max(sizes[10:30]) * 1.05 >= max(sizes[30:]), "the second half of the hour takes no more than the first"
        now += 3600.0
        await journal.sweep(lambda _: FIVE_MINUTES, keep_audit=60.0)
        free = apsw.Connection(str(database)).execute("PRAGMA freelist_count").get
        assert free <= rows.KEPT_FREE
    assert database.stat().st_size < rows.KEPT_FREE * 4096 + MIB
    assert not wal.exists()


async def test_a_wal_that_a_long_read_kept_is_cut_back_after_it(tmp_path: Path) -> None:
    wal = tmp_path / "sower.db-wal"
    async with opened(tmp_path) as journal:
        await journal.append("1", "c", [message(0)], FIVE_MINUTES)
        reader = apsw.Connection(str(tmp_path / "sower.db"), flags=apsw.SQLITE_OPEN_READONLY)
        reader.execute("BEGIN; SELECT * FROM messages").fetchall()
        for n in range(1, 40):
            await journal.append("1", "c", [Message(message(n).serial, "e", b"x" * MIB)], FIVE_MINUTES)
        assert wal.stat().st_size > 2 * MOST_WAL
        reader.execute("COMMIT")
        for n in range(40, 60):
            await journal.append("1", "c", [Message(message(n).serial, "e", b"x" * MIB)], FIVE_MINUTES)
        assert wal.stat().st_size < MOST_WAL + 2 * MIB


async def test_a_channel_that_was_long_empty_is_forgotten_and_may_begin_again(tmp_path: Path) -> None:
    now = NOW
    async with opened(tmp_path, now=lambda: now) as journal:
        await journal.append("1", "old", [message(1)], FIVE_MINUTES)
        await journal.append("1", "kept", [message(2)], History(messages=9, age=Duration(1e9)))
        now = NOW + 86400.0
        await journal.sweep(lambda name: FIVE_MINUTES if name == "old" else None, keep_audit=60.0)
        assert await journal.head("1", "old") == message(1).serial
        page = await journal.since("1", "old", message(1).serial, limit=9, history=FIVE_MINUTES)
        assert not page.gap, "a client that had the last message has all"
        now = NOW + rows.EMPTY_FOR + 1.0
        await journal.sweep(lambda name: FIVE_MINUTES if name == "old" else None, keep_audit=60.0)
        assert await journal.head("1", "old") == 0
        assert await journal.head("1", "kept") == message(2).serial
        assert (await journal.since("1", "old", message(1).serial, limit=9, history=FIVE_MINUTES)).gap
        late = Message(int(now * SERIALS_PER_SECOND), "e", b"late")
        await journal.append("1", "old", [late], FIVE_MINUTES)
        assert (await journal.page("1", "old", limit=9, history=FIVE_MINUTES)).messages == [late]
