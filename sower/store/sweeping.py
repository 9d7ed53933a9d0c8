"""Deleting what is over its age: a little at a time, so that appends go on between.

Channels are looked at many at once, and only those of which something is to go are worth a turn of their own.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from sower.config import History
from sower.core.message import SERIALS_PER_SECOND
from sower.store.rows import Writer
from sower.store.sqlite import DatabaseThread


async def sweep(
    thread: DatabaseThread,
    writer: Writer,
    history_of: Callable[[str], History | None],
    *,
    now: float,
    audit_before: float,
) -> None:
    """As Journal.sweep. now, audit_before: seconds since 1970. Raises apsw.Error."""
    while await thread.run(writer.forget, audit_before, now):
        await trio.lowlevel.checkpoint()
    last = 0
    while some := await thread.run(writer.oldest, last):
        for _, app, name, oldest in some:
            history = history_of(name)
            if history is None or oldest is None or oldest > (now - history.age) * SERIALS_PER_SECOND:
                continue
            while await thread.run(writer.sweep, app, name, history, now):
                await trio.lowlevel.checkpoint()
        last = some[-1][0]
    after: int | None = 0
    while after is not None:
        after = await thread.run(writer.forget_channels, after, now)
    while await thread.run(writer.reclaim):
        await trio.lowlevel.checkpoint()
