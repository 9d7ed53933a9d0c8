"""Opening the database: the file, its pragmas, and whether history was lost since it was last open.

A killed process loses nothing that was committed (WAL). A power cut may lose the last commits unless
store.sync is "full"; then positions that clients hold may be of messages that are no more, and the epoch
changes, so that they are told of a gap (SQLite's "PRAGMA synchronous").
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import apsw

from sower.errors import StoreError
from sower.store.schema import prepare
from sower.store.sqlite import Database
from sower.there import is_there

BUSY_FOR = 5000
"""Milliseconds to wait for another process (`sower key`, a backup) that writes."""

MOST_WAL = 16 * 1024 * 1024
"""Bytes to which the WAL is cut back once what kept it (a long read, a backup) is over. It is folded in at 8 MiB."""

REMEDIES = {
    apsw.CantOpenError: "its folder must exist and be writable",
    apsw.NotADBError: "it is no SQLite database; choose another store.path",
    apsw.ReadOnlyError: "it must be writable by the user that runs Sower",
    apsw.PermissionsError: "it must be readable and writable by the user that runs Sower",
    apsw.CorruptError: "it is damaged; restore a backup",
    apsw.BusyError: "another process holds it",
    apsw.FullError: "the disk is full",
    apsw.IOError: "the disk does not do what it should",
}


class Found(NamedTuple):
    """epoch: of the history that is there. last_serial: the highest ever stored, 0 for none."""

    epoch: str
    last_serial: int


class Run(NamedTuple):
    """What this run of the daemon is, to be compared with the last one's."""

    sync: str
    rules: str
    boot_id: str


def store_error(path: str, error: apsw.Error) -> StoreError:
    """SQLite's refusal with what to do about it."""
    remedy = next((text for kind, text in REMEDIES.items() if isinstance(error, kind)), "see the error's text")
    return StoreError(f"The database {path} cannot be used: {error}; {remedy}.")


def check_path(path: str) -> None:
    """Say what SQLite would say less clearly. Raises StoreError."""
    file = Path(path)
    if not is_there(file.parent):
        raise StoreError(f"The database {path} cannot be made: the folder {file.parent} does not exist.")
    if os.path.isdir(file):
        raise StoreError(f"{path} is a folder; store.path names a file.")


def make_private(path: str) -> None:
    """Make the file for this account alone, where there is none: it holds what is said on private channels.

    What SQLite keeps beside it (-wal, -shm) is made like it. What keeps it from being made, SQLite tells.
    """
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def open_writer(db: Database, path: str, run: Run, new_epoch: str) -> Found:
    """Set the writing connection up. Raises StoreError."""
    try:
        db.set_busy_timeout(BUSY_FOR)
        prepare(db, path)
        db.execute("PRAGMA journal_mode = wal")
        db.execute("PRAGMA synchronous = full")  # that it runs is on disk before anything else, or no cut could be told
        db.execute("PRAGMA wal_autocheckpoint = 2000")
        db.execute(f"PRAGMA journal_size_limit = {MOST_WAL}")
        with db:
            epoch = _epoch(db, run, new_epoch)
        db.execute(f"PRAGMA synchronous = {run.sync}")
        last = db.execute("SELECT coalesce(max(head), 0) FROM channels").get
    except apsw.Error as error:
        raise store_error(path, error) from error
    return Found(epoch, last if isinstance(last, int) else 0)


def close_writer(db: Database) -> None:
    """Note a clean end, and fold the WAL into the file."""
    db.execute("INSERT OR REPLACE INTO meta VALUES ('clean', '1')")
    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


def open_reader(db: Database) -> None:
    """Set a reading connection up."""
    db.set_busy_timeout(BUSY_FOR)
    db.execute("PRAGMA query_only = on")


def _epoch(db: Database, run: Run, new_epoch: str) -> str:
    known = dict(db.execute("SELECT name, value FROM meta").fetchall())
    epoch = str(known.get("epoch", ""))
    power_cut = known.get("clean") != "1" and known.get("boot") != run.boot_id and known.get("sync") != "full"
    if not epoch or power_cut or known.get("rules") != run.rules:
        epoch = new_epoch
    current = {"epoch": epoch, "boot": run.boot_id, "rules": run.rules, "sync": run.sync, "clean": "0"}
    db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(current.items()))
    return epoch
