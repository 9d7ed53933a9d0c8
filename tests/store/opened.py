"""A journal for tests, on a real file, with a clock that tests turn."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sower.config import Duration, History
from sower.core.message import SERIALS_PER_SECOND, Message
from tests.store.watched import WatchedJournal

NOW = 1_800_000_000.0
HISTORY = History(messages=1000, age=Duration(3600))


def serial(n: int, at: float = NOW) -> int:
    """The nth serial of a second."""
    return int(at * SERIALS_PER_SECOND) + n


def message(n: int, *, id: str | None = None, at: float = NOW) -> Message:
    return Message(serial(n, at), "e", b"%d" % n, id=id)


@asynccontextmanager
async def opened(folder: Path, now: Callable[[], float] = lambda: NOW, **more: Any) -> AsyncGenerator[WatchedJournal]:
    options: dict[str, Any] = {
        "sync": "normal",
        "remember_ids": 600.0,
        "keep_audit": 3600.0,
        "rules_fingerprint": "rules",
        "boot_id": "boot",
        **more,
    }
    async with WatchedJournal.open(str(folder / "sower.db"), now=now, **options) as journal:
        yield journal
