"""The outbox: what webhooks' receivers have not accepted yet, and what they were told and still holds.

Rule 1: a notice is stored in the transaction that stores what it says; it is sent after that, and deleted after
        its receiver took it. So a kill loses none, and repeats at most those whose answer it cut off.
Rule 2: its body never changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import apsw
import msgspec

from sower.core.holdback import Standing
from sower.errors import StoreError
from sower.store.journal import Journal
from sower.store.opening import BUSY_FOR, store_error
from sower.store.sqlite import Database, Values
from sower.there import is_there

_COLUMNS = "id, app, url, channels, time, attempts, next_try, error"
_SELECT = f"SELECT {_COLUMNS}, length(body) FROM outbox ORDER BY id"


class Notice(msgspec.Struct):
    """One POST to one webhook.

    id:       notices are ordered by it
    channels: the channels that it is about, whose order it keeps
    time:     when it was made, and next_try when it is sent again: seconds since 1970
    error:    why the last attempt failed
    size:     of its body, in bytes
    """

    id: int
    app: str
    url: str
    channels: tuple[str, ...]
    time: float
    attempts: int = 0
    next_try: float = 0.0
    error: str = ""
    size: int = 0


class Kept(Protocol):
    """Where a running daemon's notices are kept. Every method raises JournalFailed, and then nothing has changed."""

    async def load(self) -> tuple[list[Notice], list[Standing]]: ...
    async def store(
        self, posts: Iterable[tuple[Notice, bytes]], began: Iterable[Standing], ended: Iterable[Standing]
    ) -> None: ...
    async def body(self, notice: Notice) -> bytes: ...
    async def failed(self, notice: Notice) -> None: ...
    async def delete(self, *notices: Notice) -> None: ...


class Outbox:
    """The outbox of one daemon, in its journal. Every method raises JournalFailed, and then nothing has changed."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def load(self) -> tuple[list[Notice], list[Standing]]:
        """What waits, oldest first, and what holds, a channel after its members."""
        notices = await self._journal.select(_SELECT)
        standing = await self._journal.select(
            "SELECT app, channel, user FROM standing ORDER BY app, channel, user DESC"
        )
        return [_notice(row) for row in notices], [Standing(*row) for row in standing]

    async def store(
        self, posts: Iterable[tuple[Notice, bytes]], began: Iterable[Standing], ended: Iterable[Standing]
    ) -> None:
        """Keep notices with their bodies, and what they change. May be repeated."""
        changes: list[tuple[str, Values]] = [
            (
                f"INSERT OR IGNORE INTO outbox ({_COLUMNS}, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (n.id, n.app, n.url, _encode(n.channels), n.time, n.attempts, n.next_try, n.error, body),
            )
            for n, body in posts
        ]
        changes += [("INSERT OR IGNORE INTO standing VALUES (?, ?, ?)", one) for one in began]
        changes += [("DELETE FROM standing WHERE app = ? AND channel = ? AND user = ?", one) for one in ended]
        if changes:
            await self._journal.apply(changes)

    async def body(self, notice: Notice) -> bytes:
        """The body to send."""
        return (await self._journal.select("SELECT body FROM outbox WHERE id = ?", (notice.id,)))[0][0]

    async def failed(self, notice: Notice) -> None:
        """Keep what an attempt has changed: attempts, next_try and error."""
        sql = "UPDATE outbox SET attempts = ?, next_try = ?, error = ? WHERE id = ?"
        await self._journal.apply([(sql, (notice.attempts, notice.next_try, notice.error, notice.id))])

    async def delete(self, *notices: Notice) -> None:
        """Forget notices that were accepted or given up."""
        if notices:
            await self._journal.apply([("DELETE FROM outbox WHERE id = ?", (notice.id,)) for notice in notices])


def waiting(path: str) -> list[Notice]:
    """What waits in a database, oldest first; whether the daemon runs or not. Raises StoreError."""
    if not is_there(Path(path)):
        raise StoreError(f"There is no database {path}: the daemon has not run with this config yet.")
    try:
        db = cast(Database, apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY))
        try:
            db.set_busy_timeout(BUSY_FOR)
            return [_notice(row) for row in db.execute(_SELECT).fetchall()]
        finally:
            db.close()
    except apsw.Error as error:
        raise store_error(path, error) from error


def _encode(channels: Sequence[str]) -> str:
    return msgspec.json.encode(channels).decode()


def _notice(row: Any) -> Notice:
    number, app, url, channels, *rest = row
    return Notice(number, app, url, msgspec.json.decode(channels, type=tuple[str, ...]), *rest)
