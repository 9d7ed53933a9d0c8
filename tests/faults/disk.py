"""A disk that does what a test says: it fails, is full or hangs at its Nth operation, and forgets what was not synced.

It is a VFS below SQLite (https://sqlite.org/vfs.html), so that SQLite itself meets the fault, wherever it is.

Rule 1: every operation on a file that can fail counts: read, write, truncate, sync, size, open, delete.
Rule 2: what is durable of a file is what it was when it was last synced; of what came after, a cut keeps none,
        all, or any sectors in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import apsw

SECTOR = 512
"""Bytes that a disk writes whole or not at all."""

BASE = "unix"
"""The VFS that does the work."""

_names = count()

Op = tuple[int, bytes | None]
"""A write at an offset, or a truncation to a size."""


class Disk(apsw.VFS):
    """The VFS of every database that is opened while it is in use.

    operations: how many there were
    fault:      told of each operation's number and name in SQLite's own thread; what it raises is what SQLite meets
    """

    def __init__(self) -> None:
        self.name = f"disk-{next(_names)}"
        self.operations = 0
        self.fault: Callable[[int, str], None] = lambda number, name: None
        self.stored: dict[str, Stored] = {}
        super().__init__(self.name, BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> File:
        self.count("open")
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        return File(self, name, flags, self.stored.setdefault(str(path), Stored()))

    def xDelete(self, name: str, sync_dir: bool) -> None:
        self.count("delete")
        super().xDelete(name, sync_dir)
        self.stored.pop(name, None)

    def count(self, what: str) -> None:
        """One more operation begins."""
        self.operations += 1
        self.fault(self.operations, what)

    def after_a_cut(self, folder: Path, keep: Callable[[list[Op]], list[Op]]) -> None:
        """Write the files into a folder as a power cut now would leave them. keep: what of the writes that wait."""
        folder.mkdir()
        for path, stored in self.stored.items():
            if path.endswith("-shm"):
                continue  # it is memory
            (folder / Path(path).name).write_bytes(stored.after(keep(stored.pending)))


class Stored:
    """One file: what of it is durable, and what was written since."""

    def __init__(self) -> None:
        self.durable = b""
        self.pending: list[Op] = []

    def sync(self) -> None:
        self.durable = self.after(self.pending)
        self.pending = []

    def after(self, operations: list[Op]) -> bytes:
        """Its bytes once these were done."""
        image = bytearray(self.durable)
        for place, data in operations:
            if data is None:
                del image[place:]
            else:
                if len(image) < place:
                    image.extend(bytes(place - len(image)))
                image[place : place + len(data)] = data
        return bytes(image)


class File(apsw.VFSFile):
    """One open file."""

    def __init__(self, disk: Disk, name: Any, flags: list[int], stored: Stored) -> None:
        self._disk = disk
        self._stored = stored
        super().__init__(BASE, name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        self._disk.count("read")
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.count("write")
        super().xWrite(data, offset)
        self._stored.pending.append((offset, bytes(data)))

    def xTruncate(self, size: int) -> None:
        self._disk.count("truncate")
        super().xTruncate(size)
        self._stored.pending.append((size, None))

    def xSync(self, flags: int) -> None:
        self._disk.count("sync")
        self._stored.sync()  # the disk below is only where it is played

    def xFileSize(self) -> int:
        self._disk.count("size")
        return super().xFileSize()


@contextmanager
def a_disk() -> Iterator[Disk]:
    """A disk in use."""
    disk = Disk()
    try:
        yield disk
    finally:
        disk.unregister()


def keep_none(pending: list[Op]) -> list[Op]:
    """The cut came before any of it."""
    return []


def keep_all(pending: list[Op]) -> list[Op]:
    """The disk had just written it."""
    return pending


def keep_some(random: Random) -> Callable[[list[Op]], list[Op]]:
    """Any of its sectors, in any order."""

    def keep(pending: list[Op]) -> list[Op]:
        sectors: list[Op] = []
        for place, data in pending:
            if data is None:
                sectors.append((place, None))
            else:
                sectors += [(place + at, data[at : at + SECTOR]) for at in range(0, len(data), SECTOR)]
        return random.sample(sectors, random.randint(0, len(sectors)))

    return keep
