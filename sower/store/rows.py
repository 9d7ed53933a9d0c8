"""The journal's SQL: what is done in the connections' own threads. Times are seconds since 1970.

Retention is exact to a reader, by count and by age; rows are deleted a little later, some at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from sower.config import History
from sower.core.message import SERIALS_PER_SECOND, Act, Message
from sower.errors import SowerError
from sower.store import revisions
from sower.store.revisions import FIND, IN_ORDER, IN_PLACE, UNCHANGED, Seen, message_of
from sower.store.sqlite import Database, Values

SLACK = 64
"""Rows that may stand over the bound before some are deleted: one DELETE for many inserts."""

SWEPT_AT_ONCE = 5000
"""Rows that one step of a sweep deletes."""

LOOKED_AT_ONCE = 1000
"""Channels that one step of a sweep looks at: a millisecond or two."""

RECLAIMED_AT_ONCE = 500
"""Pages that one step of a sweep gives back: some milliseconds."""

KEPT_FREE = 1024
"""Free pages that stay, 4 MiB: what comes next need not make the file grow again."""

MOST_KNOWN = 100_000
"""Channels of which the writer knows what it wrote last, 400 bytes each; of others it reads that again."""

EMPTY_FOR = 30 * 86400.0
"""Seconds that an empty channel's last serial is known, so that a client that had it is not told of a gap."""


T = TypeVar("T")


class Stored(NamedTuple):
    """fresh is False where the id was known: then serial is that of the first message with it.

    told:    what is told of a change or an annotation
    refused: why one was not stored
    """

    serial: int
    fresh: bool
    told: tuple[Message, ...] = ()
    refused: SowerError | None = None


class Page(NamedTuple):
    """gap: something after the asked position is gone. more: the page is not the last."""

    messages: list[Message]
    gap: bool
    more: bool


class Append(NamedTuple):
    """passing, largest: as of Journal.append."""

    app: str
    channel: str
    messages: Sequence[Message]
    history: History
    passing: Collection[int] = ()
    largest: int = 0

    @property
    def rows(self) -> int:
        return len(self.messages)


class Changes(NamedTuple):
    """Statements on tables that are not the journal's own, each with its values; all are done or none."""

    statements: Sequence[tuple[str, Values]]

    @property
    def rows(self) -> int:
        return len(self.statements)


Job = Append | Changes


class _Row:
    """What the writer knows of a channel. count: its messages, without changes and annotations."""

    __slots__ = ("count", "head", "id", "trimmed")

    def __init__(self, channel_id: int, head: int, trimmed: int, count: int) -> None:
        self.id = channel_id
        self.head = head
        self.trimmed = trimmed
        self.count = count


class Writer:
    """The writing side; lives in the writing connection's thread. remember_ids: seconds."""

    def __init__(self, db: Database, remember_ids: float) -> None:
        self._db = db
        self._remember = remember_ids
        self._known: dict[tuple[str, str], _Row] = {}

    def write(self, jobs: Sequence[Job], audit: Sequence[tuple[Any, ...]], now: float) -> list[list[Stored]]:
        """One transaction. Raises apsw.Error, and then nothing of it is stored."""
        with self._transaction():
            stored = [self._append(job, now) if isinstance(job, Append) else self._change(job) for job in jobs]
            if audit:
                self._db.executemany(
                    "INSERT INTO audit (time, kind, app, who, channel, code, detail, count) VALUES (?,?,?,?,?,?,?,?)",
                    audit,
                )
        return stored

    def change(self, change: Callable[[Database], T]) -> T:
        """Have another part change its own tables, in one transaction."""
        with self._transaction():
            return change(self._db)

    @contextmanager
    def _transaction(self) -> Generator[None]:
        """All of it is committed, or none; where it is not, nothing that was learnt in it is believed any more."""
        db = self._db
        if not db.get_autocommit():  # the disk failed, and then the rollback too
            db.execute("ROLLBACK")
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            self._known.clear()
            if not db.get_autocommit():
                db.execute("ROLLBACK")
            raise

    def _append(self, append: Append, now: float) -> list[Stored]:
        if not append.messages:  # a ping: something is written, to show that it can be
            self._db.execute("INSERT OR REPLACE INTO meta VALUES ('seen', ?)", (str(now),))
            return []
        row = self._row(append.app, append.channel)
        stored: list[Stored] = []
        fresh: list[Message] = []
        for message in append.messages:
            if message.about is not None:
                self._insert(row, fresh)
                fresh.clear()
                stored.append(self._revise(row, message, append.largest, now))
                row.head = max([row.head, *(m.serial for m in stored[-1].told)])
                continue
            first = message.serial if message.id is None else self._first_serial(row, message.id, message.serial, now)
            stored.append(Stored(first, first == message.serial))
            if first != message.serial:
                continue
            if message.serial in append.passing:
                row.head = max(row.head, message.serial)
            else:
                fresh.append(message)
        self._insert(row, fresh)
        self._trim(append.app, append.channel, row, append.history)
        self._db.execute("UPDATE channels SET head = ?, trimmed = ? WHERE id = ?", (row.head, row.trimmed, row.id))
        return stored

    def _insert(self, row: _Row, messages: Sequence[Message]) -> None:
        if not messages:
            return
        before = self._db.total_changes()
        self._db.executemany(
            "INSERT OR IGNORE INTO messages (channel, serial, event, data, kind, user, id, extra)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(row.id, m.serial, m.event, m.data, int(m.kind), m.user, m.id, m.extra) for m in messages],
        )
        row.count += self._db.total_changes() - before
        row.head = max(row.head, *(m.serial for m in messages))

    def _revise(self, row: _Row, message: Message, largest: int, now: float) -> Stored:
        """A change or an annotation of an earlier message. What is refused has changed nothing, its id is free."""
        first = message.serial if message.id is None else self._known_serial(row, message.id, now)
        if first not in (None, message.serial):
            return Stored(first, fresh=False)
        try:
            revised = revisions.store(self._db, row.id, message, largest)
        except SowerError as error:
            return Stored(message.serial, fresh=True, refused=error)
        if message.id is not None:
            self._first_serial(row, message.id, message.serial, now)
        return Stored(message.serial, fresh=True, told=revised.told)

    def _change(self, changes: Changes) -> list[Stored]:
        for statement, values in changes.statements:
            self._db.execute(statement, values)
        return []

    def _row(self, app: str, channel: str) -> _Row:
        row = self._known.get((app, channel))
        if row is None:
            if len(self._known) >= MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._db.execute("INSERT OR IGNORE INTO channels (app, name) VALUES (?, ?)", (app, channel))
            found = self._db.execute(
                "SELECT id, head, trimmed, (SELECT count(*) FROM messages WHERE channel = channels.id"
                " AND message IS NULL)"
                " FROM channels WHERE app = ? AND name = ?",
                (app, channel),
            ).get
            row = self._known[app, channel] = _Row(*_numbers(found))
        return row

    def _first_serial(self, row: _Row, message_id: str, serial: int, now: float) -> int:
        """The serial that this id has: an earlier message's within the window, else this one's."""
        found = self._known_serial(row, message_id, now)
        if found is not None:
            return found
        self._db.execute("INSERT OR REPLACE INTO ids VALUES (?, ?, ?)", (row.id, message_id, serial))
        return serial

    def _known_serial(self, row: _Row, message_id: str, now: float) -> int | None:
        found = self._db.execute("SELECT serial FROM ids WHERE channel = ? AND id = ?", (row.id, message_id)).get
        known = isinstance(found, int) and found > (now - self._remember) * SERIALS_PER_SECOND
        return found if known else None

    def _trim(self, app: str, channel: str, row: _Row, history: History) -> None:
        excess = row.count - history.messages
        if excess <= SLACK:
            return
        last = self._db.execute(
            "SELECT serial FROM messages WHERE channel = ? AND message IS NULL ORDER BY serial LIMIT 1 OFFSET ?",
            (row.id, excess - 1),
        ).get
        if isinstance(last, int):
            self._delete(app, channel, row, last)

    def _delete(self, app: str, channel: str, row: _Row, upto: int) -> None:
        before = self._db.total_changes()
        self._db.execute("DELETE FROM messages WHERE channel = ? AND serial <= ? AND message IS NULL", (row.id, upto))
        row.count -= self._db.total_changes() - before
        self._db.execute("DELETE FROM messages WHERE channel = ? AND serial <= ?", (row.id, upto))
        self._db.execute("DELETE FROM reactions WHERE app = ? AND channel = ? AND message <= ?", (app, channel, upto))
        revisions.forget(self._db, row.id, upto)
        row.trimmed = max(row.trimmed, upto)

    def delete(self, app: str, channel: str, since: int, before: int) -> None:
        """Delete the messages between two exclusive serials. That is on purpose, so no reader is told of a gap."""
        db = self._db
        with self._transaction():
            row = self._row(app, channel)
            changes = db.total_changes()
            db.execute(
                "DELETE FROM messages WHERE channel = ? AND serial > ? AND serial < ? AND message IS NULL",
                (row.id, since, before),
            )
            row.count -= db.total_changes() - changes
            db.execute(
                "DELETE FROM reactions WHERE app = ? AND channel = ? AND message > ? AND message < ?",
                (app, channel, since, before),
            )
            revisions.delete(db, row.id, since, before)

    def oldest(self, after: int) -> list[tuple[int, str, str, int | None]]:
        """Some channels: id, app, name, and the serial of the first row, if any. after: an id."""
        return self._db.execute(
            "SELECT id, app, name, (SELECT min(serial) FROM messages WHERE channel = channels.id) FROM channels"
            " WHERE id > ? ORDER BY id LIMIT ?",
            (after, LOOKED_AT_ONCE),
        ).fetchall()

    def sweep(self, app: str, channel: str, history: History, now: float) -> bool:
        """Delete some rows that are over their age. True when there may be more."""
        oldest = now - history.age
        db = self._db
        last = db.execute(
            "SELECT max(serial) FROM (SELECT serial FROM messages WHERE channel ="
            " (SELECT id FROM channels WHERE app = ? AND name = ?) AND serial <= ? ORDER BY serial LIMIT ?)",
            (app, channel, int(oldest * SERIALS_PER_SECOND), SWEPT_AT_ONCE),
        ).get
        if not isinstance(last, int):
            return False
        with self._transaction():
            row = self._row(app, channel)
            self._delete(app, channel, row, last)
            db.execute("UPDATE channels SET trimmed = ? WHERE id = ?", (row.trimmed, row.id))
        return True

    def forget(self, audit_before: float, now: float) -> bool:
        """Delete some ids and audit records that are over their time. True when there may be more."""
        ids_before = int((now - self._remember) * SERIALS_PER_SECOND)
        with self._transaction():
            more = [self._forget("ids", "serial", ids_before), self._forget("audit", "time", audit_before)]
        return any(more)

    def _forget(self, table: str, age: str, before: float) -> bool:
        """Delete the oldest rows. age: a column that is indexed. True when there may be more."""
        last = self._db.execute(
            f"SELECT {age} FROM {table} WHERE {age} < ? ORDER BY {age} LIMIT 1 OFFSET ?", (before, SWEPT_AT_ONCE - 1)
        ).get
        bound, value = ("<", before) if last is None else ("<=", last)
        self._db.execute(f"DELETE FROM {table} WHERE {age} {bound} ?", (value,))
        return last is not None

    def forget_channels(self, after: int, now: float) -> int | None:
        """Forget those of some channels that have been empty for EMPTY_FOR: whoever comes back is told of a gap.

        after: an id. Returns the id to go on after, None at the end.
        """
        last = self._db.execute(
            "SELECT max(id) FROM (SELECT id FROM channels WHERE id > ? ORDER BY id LIMIT ?)", (after, SWEPT_AT_ONCE)
        ).get
        if not isinstance(last, int):
            return None
        before = self._db.total_changes()
        self._db.execute(
            "DELETE FROM channels WHERE id > ? AND id <= ? AND head < ?"
            " AND NOT EXISTS (SELECT 1 FROM messages WHERE channel = channels.id)",
            (after, last, int((now - EMPTY_FOR) * SERIALS_PER_SECOND)),
        )
        if self._db.total_changes() != before:
            self._known.clear()
        return last

    def reclaim(self) -> bool:
        """Give some free pages back to the file system. True where there are more than new rows soon need."""
        free, pages = (int(self._db.execute(f"PRAGMA {name}").get) for name in ("freelist_count", "page_count"))
        if free <= max(KEPT_FREE, pages // 8):
            return False
        self._db.execute(f"PRAGMA incremental_vacuum({RECLAIMED_AT_ONCE})").fetchall()  # a row for each page
        return True


class Reader:
    """The reading side; lives in the reading connection's thread."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def select(self, sql: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Rows of a table that is not the journal's own."""
        return self._db.execute(sql, values).fetchall()

    def head(self, app: str, channel: str) -> int:
        """The highest serial ever stored, 0 for none."""
        found = self._db.execute("SELECT head FROM channels WHERE app = ? AND name = ?", (app, channel)).get
        return found if isinstance(found, int) else 0

    def read(
        self,
        app: str,
        channel: str,
        *,
        since: int | None,
        before: int | None,
        limit: int,
        newest_first: bool,
        history: History,
        now: float,
        in_order: bool = False,
        as_of: int | None = None,
    ) -> Page:
        """The messages with since < serial < before that retention still shows, each as it is now.

        in_order: what was told, changes and annotations too, as it was told
        as_of:    each as it was at this serial
        """
        with self._db:
            found = self._db.execute(FIND, (app, channel)).get
            if found is None:
                return Page([], gap=bool(since), more=False)
            row = Seen(*_numbers(found))
            floor = self._floor(row, history, now)
            low, high = max(floor, since or 0), before if before is not None else row.head + 1
            direction = "DESC" if newest_first else "ASC"
            if not row.changed:
                sql, values = UNCHANGED, (row.id,)
            else:
                sql, values = (IN_ORDER, (row.id, high)) if in_order else (IN_PLACE, (row.id,))
            rows = self._db.execute(
                f"{sql} AND m.serial > ? AND m.serial < ? ORDER BY m.serial {direction} LIMIT ?",
                (*values, low, high, limit + 1),
            ).fetchall()
            messages = [
                message_of(r) if r[9] is None else self._changed(row.id, r, high, as_of, in_order=in_order)
                for r in rows[:limit]
            ]
        gap = since is not None and (floor > since or since > row.head)
        return Page(messages, gap, more=len(rows) > limit)

    def _changed(self, channel: int, row: Sequence[Any], high: int, as_of: int | None, *, in_order: bool) -> Message:
        """A message that was changed, or a change. row[9]: its last version's serial; in order, what it does."""
        message, last = message_of(row), row[9]
        if in_order:
            return revisions.whole(self._db, channel, message, high) if last == Act.APPENDED else message
        if as_of is not None and last > as_of:
            return revisions.at(self._db, channel, message.serial, as_of + 1) or message
        return message

    def count(self, app: str, channel: str, since: int, most: int, history: History, now: float) -> int:
        """How many messages after `since` retention still shows, `most` at the most."""
        with self._db:
            found = self._db.execute(FIND, (app, channel)).get
            if found is None:
                return 0
            row = Seen(*_numbers(found))
            counted = self._db.execute(
                "SELECT count(*) FROM"
                " (SELECT 1 FROM messages WHERE channel = ? AND serial > ? AND message IS NULL LIMIT ?)",
                (row.id, max(since, self._floor(row, history, now)), most),
            ).get
        return counted if isinstance(counted, int) else 0

    def _floor(self, row: Seen, history: History, now: float) -> int:
        """The highest serial that retention hides."""
        too_old = int((now - history.age) * SERIALS_PER_SECOND)
        aged = self._db.execute(
            "SELECT max(serial) FROM messages WHERE channel = ? AND serial <= ?", (row.id, too_old)
        ).get
        messages = " AND message IS NULL" if row.changed else ""
        counted = self._db.execute(
            f"SELECT serial FROM messages WHERE channel = ?{messages} ORDER BY serial DESC LIMIT 1 OFFSET ?",
            (row.id, history.messages),
        ).get
        return max(n for n in (row.trimmed, aged, counted) if isinstance(n, int))


def _numbers(found: Any) -> tuple[int, int, int, int]:
    first, second, third, fourth = found
    return int(first), int(second), int(third), int(fourth)
