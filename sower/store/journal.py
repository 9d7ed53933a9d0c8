"""The journal: every message of the channels that keep history, in one SQLite file, through APSW.

Rule 1: one writer. All that waits at a turn goes into one transaction (group commit), one hop to its thread.
Rule 2: append() returns after the commit, or raises and has stored nothing of that call.
Rule 3: a row that is there already is no error: a channel that was restarted may repeat its batch.
Rule 4: nobody waits for a disk that hangs: who reads or changes gives up after ANSWERS_WITHIN, and `hangs` says for how
        long a transaction has taken, so that publishers need not wait for it either.
Rule 5: what retention hid is remembered by its highest serial, so that a gap is always told.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
from sower.store import revisions
from sower.store.opening import (
    Found,
    Run,
    check_path,
    close_writer,
    make_private,
    open_reader,
    open_writer,
    store_error,
)
from sower.store.rows import Append, Changes, Job, Page, Reader, Stored, Writer
from sower.store.sqlite import Database, DatabaseThread, Values
from sower.store.sweeping import sweep

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

ANSWERS_WITHIN = 10.0
"""Seconds after which a disk hangs: SQLite itself waits 5 for a lock."""

SLOW = 2.0
"""Seconds that a transaction may take before the daemon should get no traffic."""

OF_A_CALL = (apsw.TooBigError, apsw.ConstraintError, apsw.MismatchError, apsw.SQLError)
"""What one call can bring about by what is in it; all else is the disk's, and meets every call."""

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
        ages: Callable[[], float],
    ) -> None:
        self.epoch = found.epoch
        self.last_serial = found.last_serial
        self._writing = writing
        self._reading = reading
        self._writer = writer
        self._reader = reader
        self.now = now
        self.ages = ages
        self.erased: Callable[[str, str, int, int], None] = _unheard
        self._waiting: deque[_Waiting] = deque()
        self._rows_waiting = 0
        self._audit: deque[tuple[Any, ...]] = deque()
        self._work = trio.Event()
        self._began: float | None = None
        self._failure = ""
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

    @property
    def noted(self) -> int:
        """Audit records that wait for the writer."""
        return len(self._audit)

    @property
    def hangs(self) -> bool:
        """Whether a transaction has taken so long that nobody should wait for its end."""
        return self._took() > ANSWERS_WITHIN

    @property
    def fault(self) -> str:
        """Why it does not do its work now, nothing where it does."""
        took = self._took()
        return f"a transaction has not ended for {took:.0f} s" if took > SLOW else self._failure

    def _took(self) -> float:
        return 0.0 if self._began is None else trio.current_time() - self._began

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
        ages: Callable[[], float] | None = None,
        history_of: Callable[[str], History | None] | None = None,
    ) -> AsyncGenerator[Self]:
        """Open or make the database, and write to it until the block ends.

        remember_ids, keep_audit: seconds. now: the wall clock, and ages: the clock of what grows old, where it is
        another one; both seconds since 1970. history_of: what a channel of this name keeps, for the sweep.
        Raises StoreError.
        """
        check_path(path)
        make_private(path)
        run = Run(sync, rules_fingerprint, boot_id)
        async with AsyncExitStack() as stack:
            try:
                writing = await stack.enter_async_context(DatabaseThread.opened(path))
                found = await writing.run(open_writer, writing.db, path, run, secrets.token_hex(4))
                reading = await stack.enter_async_context(DatabaseThread.opened(path))
                await reading.run(open_reader, reading.db)
            except apsw.Error as error:
                raise store_error(path, error) from error
            writer, reader = Writer(writing.db, remember_ids), Reader(reading.db)
            journal = cls(writing, reading, found, writer, reader, now=now, ages=ages or now)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(journal._write, name="journal writer")
                    nursery.start_soon(journal._sweep, history_of, keep_audit, name="journal sweep")
                    yield journal
                    nursery.cancel_scope.cancel()
            finally:
                with trio.CancelScope(shield=True):
                    await journal._write_waiting()
                    await journal._note_clean_end()

    async def append(
        self,
        app: str,
        channel: str,
        messages: Sequence[Message],
        history: History,
        *,
        passing: Collection[int] = (),
        largest: int = 0,
    ) -> list[Stored]:
        """Store messages, oldest first. Returns after the commit, one Stored for each. Raises JournalFailed.

        passing: serials of those that the channel tells and does not keep: their ids are remembered like all others
        largest: bytes of data that a message may have with what is appended to it

        A caller that is cancelled does not know whether they were stored.
        """
        return await self._written(Append(app, channel, messages, history, passing, largest))

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
        self,
        app: str,
        channel: str,
        serial: int,
        *,
        upto: int | None = None,
        limit: int,
        history: History,
        in_order: bool = False,
        as_of: int | None = None,
    ) -> Page:
        """The messages after `serial` up to and with `upto`, oldest first; as of page. Raises JournalFailed."""
        before = None if upto is None else upto + 1
        return await self.page(
            app, channel, since=serial, before=before, limit=limit, history=history, in_order=in_order, as_of=as_of
        )

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
        in_order: bool = False,
        as_of: int | None = None,
    ) -> Page:
        """The messages between two exclusive serials. Raises JournalFailed.

        Each is as it is now, or was at the serial `as_of`, and stands where it was published. in_order: all that was
        told, changes and annotations too, where they were told.
        """
        now = self.ages()

        def read() -> Page:
            return self._reader.read(
                app,
                channel,
                since=since,
                before=before,
                limit=limit,
                newest_first=newest_first,
                history=history,
                now=now,
                in_order=in_order,
                as_of=as_of,
            )

        return await self._read(read)

    async def versions(
        self,
        app: str,
        channel: str,
        message: int,
        *,
        annotated: bool,
        since: int,
        before: int,
        limit: int,
        newest_first: bool,
    ) -> revisions.Listed:
        """The versions of a message from its first on, or its annotations, as told. Raises JournalFailed.

        since, before: exclusive serials
        """
        read = partial(revisions.listed, app=app, name=channel, message=message, annotated=annotated)
        return await self.read(partial(read, since=since, before=before, limit=limit, newest_first=newest_first))

    async def select(self, sql: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Rows of what others keep in this file. Raises JournalFailed."""
        return await self._read(lambda: self._reader.select(sql, values))

    async def read(self, ask: Callable[[Database], T]) -> T:
        """Ask something of the reading connection, in its thread. Raises JournalFailed."""
        return await self._read(partial(ask, self._reading.db))

    async def change(self, change: Callable[[Database], T]) -> T:
        """Change something in one transaction of its own. Raises JournalFailed, and then nothing has changed."""

        return await self._within(self._writing, "written", partial(self._writer.change, change))

    async def delete(self, app: str, channel: str, since: int, before: int) -> None:
        """Delete the messages between two exclusive serials. Raises JournalFailed."""
        await self._within(self._writing, "written", partial(self._writer.delete, app, channel, since, before))
        self.erased(app, channel, since, before)

    async def count(self, app: str, channel: str, since: int, most: int, history: History) -> int:
        """How many messages there are after a serial, as many as `most` at the most. Raises JournalFailed."""
        now = self.ages()
        return await self._read(lambda: self._reader.count(app, channel, since, most, history, now))

    async def _read(self, read: Callable[[], T]) -> T:
        return await self._within(self._reading, "read", read)

    async def _within(self, thread: DatabaseThread, done: str, call: Callable[[], T]) -> T:
        """Do it in a connection's thread. Raises JournalFailed: after ANSWERS_WITHIN it may still be done."""
        try:
            with trio.fail_after(ANSWERS_WITHIN):
                return await thread.run(call)
        except trio.TooSlowError as error:
            raise JournalFailed(f"The journal did not answer within {ANSWERS_WITHIN:.0f} s.") from error
        except apsw.Error as error:
            raise JournalFailed(f"The journal could not be {done}: {error}.") from error

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
            if not await self._commit(turn, audit):
                await self._commit([], audit)
                for waiting in turn:
                    await self._commit([waiting], [])

    async def _commit(self, turn: list[_Waiting], audit: list[tuple[Any, ...]]) -> bool:
        """One transaction. False where one of its calls made it fail, and each, and the audit, is to be tried alone."""
        jobs = [waiting.job for waiting in turn]
        began = time.perf_counter()
        self._began = trio.current_time()
        try:
            stored = await self._writing.run(self._writer.write, jobs, audit, self.ages())
        except apsw.Error as error:
            log.error("journal_failed", why=str(error), calls=len(turn), audit_records=len(audit))
            if not isinstance(error, OF_A_CALL):
                self._failure = str(error)
            elif len(turn) + bool(audit) > 1:
                return False
            for waiting in turn:
                waiting.settle(JournalFailed(f"The journal could not be written: {error}."))
            return True
        finally:
            self._began = None
        self._failure = ""
        self.commit_seconds.observe(time.perf_counter() - began)
        self.commit_rows.observe(sum(job.rows for job in jobs))
        for waiting, outcome in zip(turn, stored, strict=True):
            waiting.settle(outcome)
        return True

    async def _note_clean_end(self) -> None:
        """Where that cannot be noted, the next start finds what a kill would have left."""
        try:
            await self._writing.run(close_writer, self._writing.db)
        except apsw.Error as error:
            log.error("journal_not_closed_cleanly", why=str(error))

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
        now = self.ages()
        await sweep(self._writing, self._writer, history_of, now=now, audit_before=now - keep_audit)


def _unheard(app: str, channel: str, since: int, before: int) -> None:
    """Where nobody keeps what was deleted."""


def _forever(channel: str) -> None:
    """Where nobody says what a channel keeps, nothing is deleted for its age."""
