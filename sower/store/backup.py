"""Copies of the database, made while the daemon runs, and put back while it does not.

Rule 1: a copy is whole or not there: it is made beside its place, checked, synced, and then renamed.
Rule 2: what a restore replaces is kept beside it.
Rule 3: a restored database has a new epoch, because what clients saw after the copy is gone: they are told of a gap.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import apsw

from sower.errors import StoreError
from sower.store.opening import BUSY_FOR, check_path, store_error
from sower.store.schema import APPLICATION_ID, VERSION
from sower.store.sqlite import Database
from sower.there import is_there

BESIDE = ("-wal", "-shm")
"""What SQLite keeps beside a database that is in use, or was when its process was killed."""


class Copied(NamedTuple):
    """size: bytes. messages: how many there are in it."""

    path: Path
    size: int
    messages: int


def back_up(source: str, target: Path) -> Copied:
    """Copy a database, in use or not, as it is at one moment: all that was committed before. Raises StoreError."""
    if not is_there(Path(source)):
        raise StoreError(f"There is no database {source}: the daemon has not run with this config yet.")
    if os.path.exists(target):
        raise StoreError(f"{target} is there already and stays as it is. Name another file.")
    check_path(str(target))
    with _unfinished(target, Path(source)) as copy:
        _copy(source, copy)
        messages = _check(copy)
    return Copied(target, target.stat().st_size, messages)


def restore(source: Path, target: str) -> Path | None:
    """Put a copy in a database's place. Returns where what was there is now, None where nothing was.

    Raises StoreError, and then nothing has changed.
    """
    place = Path(target)
    check_path(target)
    _check(source)
    if is_there(place):
        _claim(target)
    with _unfinished(place, place if is_there(place) else place.parent) as copy:
        _copy(str(source), copy)
        _forget_epoch(copy)
        return _put_aside(place)


@contextmanager
def _unfinished(target: Path, owner: Path) -> Generator[Path]:
    """A private file to fill, which takes the target's place once the block has ended well. Raises StoreError.

    owner: whose owner it gets, where this process may give it away
    """
    beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with suppress(OSError):
            os.chown(beside, owner.stat().st_uid, owner.stat().st_gid)
        yield beside
        _sync(beside)
        beside.replace(target)
        _sync(target.parent)
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        for name in (beside, *(Path(f"{beside}{suffix}") for suffix in BESIDE)):
            with suppress(OSError):
                name.unlink()


def _copy(source: str, target: Path) -> None:
    """SQLite's online backup, in one step: a writer goes on beside it, and the copy is of one moment."""
    try:
        with _opened(source, apsw.SQLITE_OPEN_READONLY) as reading, _opened(target) as writing:
            reading.set_busy_timeout(BUSY_FOR)
            with cast(Any, writing).backup("main", reading, "main") as backup:
                backup.step(-1)
            writing.execute("PRAGMA journal_mode = delete")  # one file, nothing beside it
    except apsw.Error as error:
        raise store_error(source, error) from error


def _check(copy: Path) -> int:
    """See that this is a whole database of ours. Returns how many messages it holds. Raises StoreError."""
    if not os.path.isfile(copy):
        raise StoreError(f"There is no file {copy}, or none that this user may see.")
    try:
        with _opened(copy, apsw.SQLITE_OPEN_READONLY) as db:
            if db.execute("PRAGMA application_id").get != APPLICATION_ID:
                raise StoreError(f"{copy} is no database of Sower's.")
            version = db.execute("PRAGMA user_version").get
            if version > VERSION:
                raise StoreError(f"{copy} is of schema version {version}; this Sower reads up to {VERSION}.")
            problem = db.execute("PRAGMA integrity_check(1)").get
            if problem != "ok":
                raise StoreError(f"{copy} is damaged: {problem}.")
            return int(db.execute("SELECT count(*) FROM messages").get)
    except apsw.Error as error:
        raise store_error(str(copy), error) from error


@contextmanager
def _opened(path: str | Path, flags: int = apsw.SQLITE_OPEN_READWRITE) -> Generator[Database]:
    db = cast(Database, apsw.Connection(str(path), flags=flags))
    try:
        yield db
    finally:
        db.close()


def _claim(path: str) -> None:
    """See that no process uses a database, and fold its WAL into it. Raises StoreError."""
    try:
        with _opened(path) as db:
            db.execute("PRAGMA journal_mode = delete")  # which only the one process that has it open can do
    except apsw.BusyError as error:
        raise StoreError(f"{path} is in use. Stop the daemon first.") from error
    except (apsw.NotADBError, apsw.CorruptError):
        return  # that is what a restore is for
    except apsw.Error as error:
        raise store_error(path, error) from error


def _forget_epoch(copy: Path) -> None:
    with _opened(copy) as db:
        db.execute("DELETE FROM meta WHERE name = 'epoch'")


def _put_aside(place: Path) -> Path | None:
    if not place.exists():
        return None
    kept = place.with_name(f"{place.name}.before-{time.strftime('%Y%m%dT%H%M%S')}")
    for suffix in ("", *BESIDE):
        with suppress(FileNotFoundError):
            Path(f"{place}{suffix}").replace(f"{kept}{suffix}")
    return kept


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
