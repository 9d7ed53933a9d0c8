"""A SQLite connection as the store uses it: its types (apsw's stubs name types of Python 3.12) and its thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, ParamSpec, Protocol, Self, TypeVar, cast

import apsw
import apsw.aio

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
    async def open(cls, path: str) -> Self:
        """Open a file, made where there is none. Raises apsw.Error."""
        apsw.async_controller.set(cast(Any, apsw.aio.Trio))
        return cls(await apsw.Connection.as_async(path))

    async def run(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the thread. Cancelling interrupts it."""
        return await self._connection.async_run(call, *args, **kwargs)

    async def close(self) -> None:
        """Close the connection, and end its thread."""
        await self._connection.aclose()
