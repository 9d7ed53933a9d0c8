"""The audit record: who was let in, refused, published, minted, and what was changed; in the journal's file.

Rule 1: a record never waits: it goes to disk with the journal's next transaction, or within FLUSH_EVERY.
Rule 2: publishes are counted by key, not copied.
Rule 3: past its bound records are dropped and counted, and one record says how many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, cast

import apsw
import msgspec
import trio

from sower.core.record import Record
from sower.errors import StoreError
from sower.store.journal import Journal
from sower.store.opening import BUSY_FOR, check_path, store_error
from sower.store.schema import prepare
from sower.store.sqlite import Database
from sower.there import is_there

FLUSH_EVERY = 0.1
"""Seconds that a record may stay in memory: short, so that a storm of connects leaves no holes in the heap."""

COUNTED_FOR = 60.0
"""Seconds for which publishes are counted into one record."""

MOST_WAITING = 20_000
"""Records that may wait; a storm of connects comes to some thousands a second."""

KINDS = (
    "connected",
    "subscribed",
    "signed_in",
    "terminated",
    "kicked",
    "disconnected",
    "refused",
    "published",
    "dashboard_opened",
    "frames_watched",
    "token_minted",
    "token_revoked",
    "key_minted",
    "key_rotated",
    "key_retired",
    "app_added",
    "app_removed",
    "config_changed",
    "reloaded",
    "reload_refused",
    "started",
    "stopped",
    "channel_restarted",
    "channel_quarantined",
    "webhook_given_up",
    "dropped",
)


_INSERT = "INSERT INTO audit (time, kind, app, who, channel, code, detail, count) VALUES (?,?,?,?,?,?,?,?)"


class Audit:
    """The running daemon's side."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._dropped = 0
        self._published: Counter[tuple[str, str]] = Counter()
        self._noted = trio.Event()

    def record(
        self,
        kind: str,
        *,
        app: str | None = None,
        who: str | None = None,
        channel: str | None = None,
        code: str | None = None,
        detail: str = "",
        count: int = 1,
    ) -> None:
        """Note what happened."""
        if self._journal.noted >= MOST_WAITING:
            self._dropped += 1
        else:
            where = None if channel is None else channel[:500]  # it may be a path, of some 36 KiB
            self._note(Record(self._journal.now(), kind, app, who, where, code, detail[:500], count))

    def _note(self, record: Record) -> None:
        self._journal.note(record)
        self._noted.set()

    def published(self, app: str, key: str, count: int = 1) -> None:
        """Count messages that were published with a key."""
        self._published[app, key] += count

    async def recent(
        self,
        *,
        app: str | None,
        kinds: Collection[str] = (),
        since: float = 0.0,
        before: float | None = None,
        limit: int = 100,
    ) -> list[Record]:
        """The newest records of an app and of none, or of all apps, the newest first. Raises JournalFailed."""
        rows = await self._journal.select(*_query(app=app, kinds=kinds, since=since, before=before, limit=limit))
        return [Record(*row) for row in rows]

    async def run(self) -> None:
        """Have what was noted written, until cancelled."""
        count_at = trio.current_time() + COUNTED_FOR
        while True:
            with trio.move_on_at(count_at):
                await self._noted.wait()
            self._noted = trio.Event()
            if trio.current_time() >= count_at:
                count_at = trio.current_time() + COUNTED_FOR
                self.count_publishes()
            await trio.sleep(FLUSH_EVERY)
            self.flush()

    def flush(self) -> None:
        """Have the journal write what was noted."""
        if self._dropped and self._journal.noted <= MOST_WAITING:  # one above the bound says so, and no more of them
            dropped, self._dropped = self._dropped, 0
            detail = "more happened than the audit takes"
            self._note(Record(self._journal.now(), "dropped", detail=detail, count=dropped))
        self._journal.flush()

    def count_publishes(self) -> None:
        """Note how many messages each key published since the last time."""
        counts, self._published = self._published, Counter()
        for (app, key), count in counts.items():
            self.record("published", app=app, who=key, count=count)


def read(
    path: str,
    *,
    since: float = 0.0,
    kinds: Collection[str] = (),
    limit: int = 1000,
    newest_first: bool = False,
) -> Iterator[Record]:
    """The newest `limit` records since a time, oldest first; whether the daemon runs or not.

    Raises StoreError.
    """
    if not is_there(Path(path)):
        raise StoreError(f"There is no database {path}: the daemon has not run with this config yet.")
    try:
        db = cast(Database, apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY))
        try:
            db.set_busy_timeout(BUSY_FOR)
            rows = db.execute(*_query(since=since, kinds=kinds, limit=limit)).fetchall()
        finally:
            db.close()
    except apsw.Error as error:
        raise store_error(path, error) from error
    for row in rows if newest_first else reversed(rows):
        yield Record(*row)


def _query(
    *,
    since: float = 0.0,
    before: float | None = None,
    kinds: Collection[str] = (),
    app: str | None = None,
    limit: int,
) -> tuple[str, tuple[Any, ...]]:
    """SQL for the newest records, the newest first. before: exclusive. app: only of this one, and of none."""
    where, values = ["time >= ?"], [since]
    if before is not None:
        where, values = [*where, "time < ?"], [*values, before]
    if kinds:
        where, values = [*where, f"kind IN ({','.join('?' * len(kinds))})"], [*values, *kinds]
    if app is not None:
        where, values = [*where, "(app = ? OR app IS NULL)"], [*values, app]
    return (
        "SELECT time, kind, app, who, channel, code, detail, count FROM audit"
        f" WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?",
        (*values, limit),
    )


def last_detail(path: str, kind: str) -> str | None:
    """The detail of the newest record of a kind, None where there is none."""
    return next((record.detail for record in read(path, kinds=(kind,), limit=1)), None)


def append(path: str, record: Record) -> None:
    """Write one record from a process that is not the daemon (a token was minted, a key rotated). Raises StoreError."""
    check_path(path)
    try:
        db = cast(Database, apsw.Connection(path))
        try:
            db.set_busy_timeout(BUSY_FOR)
            prepare(db, path)
            db.execute(_INSERT, msgspec.structs.astuple(record))
        finally:
            db.close()
    except apsw.Error as error:
        raise store_error(path, error) from error
