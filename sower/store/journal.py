"""The journal: every message of the channels that keep history, in one SQLite file, through APSW.

Rule 1: one writer. All that waits at a turn goes into one transaction (group commit), one hop to its thread.
Rule 2: append() returns after the commit, or raises and has stored nothing of that call.
Rule 3: a row that is there already is no error: a channel that was restarted may repeat its batch.
Rule 4: what retention hid is remembered by its highest serial, so that a gap is always told.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Self, TypeVar

import apsw
import msgspec
import structlog
import trio
from prometheus_client import Histogram

from sower.config import History
from sower.core.message import Message
from sower.errors import JournalFailed
from sower.store.opening import Found, Run, check_path, close_writer, open_reader, open_writer, store_error
from sower.store.rows import Append, Changes, Job, Page, Reader, Stored, Writer
from sower.store.sqlite import Database, DatabaseThread, Values

log = structlog.get_logger(__name__)

ROWS_AT_ONCE = 2000
"""Rows in one transaction: some tens of milliseconds of writing."""

MOST_WAITING = 100_000
"""Rows that may wait for the writer; past it a publish is refused."""

SWEEP_EVERY = 60.0
"""Seconds between two sweeps of rows that are over their age."""

COMMIT_BUCKETS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
"""Seconds."""

ROW_BUCKETS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)

T = TypeVar("T")

__all__ = ["Journal", "Page", "Stored"]


class _Waiting:
    """One call that waits for its commit."""

    __slots__ = ("done", "job", "outcome")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.done = trio.Event()
        self.outcome: list[Stored] | JournalFailed | None = None

    def settle(self, outcome: list[Stored] | JournalFailed) -> None:
        self.outcome = outcome
        self.done.set()


class Journal:
    """An open journal. epoch: changes when history was lost. last_serial: the highest ever stored."""

    def __init__(
        self,
        writing: DatabaseThread,
        reading: DatabaseThread,
        found: Found,
        writer: Writer,
        reader: Reader,
        *,
        now: Callable[[], float],
    ) -> None:
        self.epoch = found.epoch
        self.last_serial = found.last_serial
        self._writing = writing
        self._reading = reading
        self._writer = writer
        self._reader = reader
        self.now = now
        self._waiting: deque[_Waiting] = deque()
        self._rows_waiting = 0
        self._audit: deque[tuple[Any, ...]] = deque()
        self._work = trio.Event()
        self.commit_seconds = Histogram(
            "sower_journal_commit_seconds", "Time of a transaction.", registry=None, buckets=COMMIT_BUCKETS
        )
        self.commit_rows = Histogram(
            "sower_journal_commit_rows", "Messages of a transaction.", registry=None, buckets=ROW_BUCKETS
        )

    @property
    def waiting(self) -> int:
        """Rows that wait for the writer."""
        return self._rows_waiting

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        path: str,
        *,
        sync: str,
        remember_ids: float,
        keep_audit: float,
        rules_fingerprint: str,
        boot_id: str,
        now: Callable[[], float],
        history_of: Callable[[str], History | None] | None = None,
    ) -> AsyncGenerator[Self]:
        """Open or make the database, and write to it until the block ends.

        remember_ids, keep_audit: seconds. history_of: what a channel of this name keeps, for the sweep.
        Raises StoreError.
        """
        check_path(path)
        run = Run(sync, rules_fingerprint, boot_id)
        try:
            writing = await DatabaseThread.open(path)
        except apsw.Error as error:
            raise store_error(path, error) from error
        try:
            found = await writing.run(open_writer, writing.db, path, run, secrets.token_hex(4))
            reading = await DatabaseThread.open(path)
            await reading.run(open_reader, reading.db)
        except BaseException:
            with trio.CancelScope(shield=True):
                await writing.close()
            raise
        writer, reader = Writer(writing.db, remember_ids), Reader(reading.db)
        journal = cls(writing, reading, found, writer, reader, now=now)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(journal._write, name="journal writer")
                nursery.start_soon(journal._sweep, history_of, keep_audit, name="journal sweep")
                yield journal
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await journal._write_waiting()
                await writing.run(close_writer, writing.db)
                await reading.close()
                await writing.close()

    async def append(
        self, app: str, channel: str, messages: Sequence[Message], history: History, *, head: int = 0
    ) -> list[Stored]:
        """Store messages, oldest first. Returns after the commit, one Stored for each. Raises JournalFailed.

        head: the serial of a message that the channel told and does not keep, 0 for none

        A caller that is cancelled does not know whether they were stored.
        """
        return await self._written(Append(app, channel, messages, history, head))

    async def apply(self, statements: Sequence[tuple[str, Values]]) -> None:
        """Change what others keep in this file, all or nothing. Returns after the commit. Raises JournalFailed."""
        await self._written(Changes(statements))

    async def _written(self, job: Job) -> list[Stored]:
        if self._rows_waiting + job.rows > MOST_WAITING:
            raise JournalFailed(f"{self._rows_waiting} rows wait for the journal already.", retry_after=1)
        waiting = _Waiting(job)
        self._waiting.append(waiting)
        self._rows_waiting += job.rows
        self._work.set()
        await waiting.done.wait()
        if isinstance(waiting.outcome, JournalFailed):
            raise waiting.outcome
        return waiting.outcome or []

    async def head(self, app: str, channel: str) -> int:
        """The highest serial ever stored on a channel, 0 for none. Raises JournalFailed."""
        return await self._read(lambda: self._reader.head(app, channel))

    async def since(
        self, app: str, channel: str, serial: int, *, upto: int | None = None, limit: int, history: History
    ) -> Page:
        """The messages after `serial` up to and with `upto`, oldest first. Raises JournalFailed."""
        before = None if upto is None else upto + 1
        return await self.page(app, channel, since=serial, before=before, limit=limit, history=history)

    async def page(
        self,
        app: str,
        channel: str,
        *,
        since: int | None = None,
        before: int | None = None,
        limit: int,
        newest_first: bool = False,
        history: History,
    ) -> Page:
        """The messages between two exclusive serials. Raises JournalFailed."""

        def read() -> Page:
            return self._reader.read(
                app,
                channel,
                since=since,
                before=before,
                limit=limit,
                newest_first=newest_first,
                history=history,
                now=self.now(),
            )

        return await self._read(read)

    async def select(self, sql: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Rows of what others keep in this file. Raises JournalFailed."""
        return await self._read(lambda: self._reader.select(sql, values))

    async def read(self, ask: Callable[[Database], T]) -> T:
        """Ask something of the reading connection, in its thread. Raises JournalFailed."""
        return await self._read(partial(ask, self._reading.db))

    async def change(self, change: Callable[[Database], T]) -> T:
        """Change something in one transaction of its own. Raises JournalFailed, and then nothing has changed."""

        def run(db: Database) -> T:
            with db:
                return change(db)

        try:
            return await self._writing.run(run, self._writing.db)
        except apsw.Error as error:
            raise JournalFailed(f"The database could not be written: {error}.") from error

    async def delete(self, app: str, channel: str, since: int, before: int) -> None:
        """Delete the messages between two exclusive serials. Raises JournalFailed."""
        try:
            await self._writing.run(self._writer.delete, app, channel, since, before)
        except apsw.Error as error:
            raise JournalFailed(f"The messages could not be deleted: {error}.") from error

    async def count(self, app: str, channel: str, since: int, most: int, history: History) -> int:
        """How many messages there are after a serial, as many as `most` at the most. Raises JournalFailed."""
        return await self._read(lambda: self._reader.count(app, channel, since, most, history, self.now()))

    async def _read(self, read: Callable[[], T]) -> T:
        try:
            return await self._reading.run(read)
        except apsw.Error as error:
            raise JournalFailed(f"The journal could not be read: {error}.") from error

    async def ping(self) -> None:
        """Prove that the writer works and that the file can be read; what was noted before is written then.

        Raises JournalFailed.
        """
        await self.append("", "", (), History())
        await self._read(lambda: self._reader.head("", ""))

    def note(self, record: msgspec.Struct) -> None:
        """Have an audit record written with the next transaction, without waking the writer."""
        self._audit.append(msgspec.structs.astuple(record))

    def flush(self) -> None:
        """Have the writer write what was noted."""
        self._work.set()

    # The writer

    async def _write(self) -> None:
        while True:
            await self._work.wait()
            self._work = trio.Event()
            with trio.CancelScope(shield=True):  # a transaction is not left half done
                await self._write_waiting()

    async def _write_waiting(self) -> None:
        """Write what waits, in as few transactions as its size allows."""
        while self._waiting or self._audit:
            turn: list[_Waiting] = []
            rows = 0
            while self._waiting and rows < ROWS_AT_ONCE:
                turn.append(self._waiting.popleft())
                rows += turn[-1].job.rows
            audit = list(self._audit)
            self._audit.clear()
            self._rows_waiting -= rows
            if not await self._commit(turn, audit) and len(turn) > 1:
                for waiting in turn:  # so that the row that cannot be written fails alone
                    await self._commit([waiting], [])

    async def _commit(self, turn: list[_Waiting], audit: list[tuple[Any, ...]]) -> bool:
        """One transaction. False where it failed and each call of it is to be tried alone."""
        try:
            jobs = [waiting.job for waiting in turn]
            began = time.perf_counter()
            stored = await self._writing.run(self._writer.write, jobs, audit, self.now())
        except apsw.Error as error:
            log.error("journal_failed", why=str(error), calls=len(turn), audit_records=len(audit))
            if len(turn) == 1:
                turn[0].settle(JournalFailed(f"The journal could not be written: {error}."))
            return False
        self.commit_seconds.observe(time.perf_counter() - began)
        self.commit_rows.observe(sum(job.rows for job in jobs))
        for waiting, outcome in zip(turn, stored, strict=True):
            waiting.settle(outcome)
        return True

    async def _sweep(self, history_of: Callable[[str], History | None] | None, keep_audit: float) -> None:
        while True:
            await trio.sleep(SWEEP_EVERY)
            try:
                await self.sweep(history_of or _forever, keep_audit)
            except apsw.Error as error:
                log.error("journal_sweep_failed", why=str(error))

    async def sweep(self, history_of: Callable[[str], History | None], keep_audit: float) -> None:
        """Delete what is over its age, a little at a time, so that appends go on between. Raises apsw.Error.

        history_of: what a channel of this name keeps, None for all that is there. keep_audit: seconds.
        """
        now = self.now()
        await self._writing.run(self._writer.forget, now - keep_audit, now)
        for _, app, name in await self._writing.run(self._writer.channels):
            history = history_of(name)
            while history is not None and await self._writing.run(self._writer.sweep, app, name, history, now):
                await trio.lowlevel.checkpoint()
        last: int | None = 0
        while last is not None:
            last = await self._writing.run(self._writer.forget_channels, last, now)
        while await self._writing.run(self._writer.reclaim):
            await trio.lowlevel.checkpoint()


def _forever(channel: str) -> None:
    """Where nobody says what a channel keeps, nothing is deleted for its age."""
