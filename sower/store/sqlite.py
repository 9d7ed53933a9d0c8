"""A SQLite connection as the store uses it: its types (apsw's stubs name types of Python 3.12) and its thread."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar, cast

import apsw
import apsw.aio
import structlog
import trio

log = structlog.get_logger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Values = Sequence[Any]


class Rows(Protocol):
    @property
    def get(self) -> Any:
        """The first row's value, or its tuple of values; None without a row."""
        ...

    def fetchall(self) -> list[tuple[Any, ...]]: ...


class Database(Protocol):
    """A connection, used in its own thread."""

    def execute(self, sql: str, values: Values = ...) -> Rows: ...
    def executemany(self, sql: str, values: Iterable[Values]) -> Rows: ...
    def total_changes(self) -> int: ...
    def get_autocommit(self) -> bool: ...
    def set_busy_timeout(self, milliseconds: int) -> None: ...
    def wal_checkpoint(self, *, mode: int) -> object: ...
    def close(self) -> object: ...
    def __enter__(self) -> object: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None: ...


class DatabaseThread:
    """A connection in a thread of its own, by APSW's own controller for trio."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        # To code that runs in its thread it is an ordinary connection.
        self.db = cast(Database, connection)

    @classmethod
    @asynccontextmanager
    async def opened(cls, path: str) -> AsyncGenerator[Self]:
        """Open a file, made where there is none; its thread ends with the block. Raises apsw.Error."""
        apsw.async_controller.set(cast(Any, apsw.aio.Trio))
        thread = cls(await apsw.Connection.as_async(path))
        try:
            yield thread
        finally:
            with trio.CancelScope(shield=True):
                try:
                    await thread._connection.aclose()
                except apsw.Error as error:
                    log.error("database_not_closed", path=path, why=str(error))

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the thread. Cancelling interrupts it."""
        return await self._connection.async_run(call, *args, **kwargs)
