"""Whatever keeps the messages of channels, and can be read: the journal, or what several daemons share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from sower.config import History
from sower.store.revisions import Listed
from sower.store.rows import Page


class Log(Protocol):
    """What each answers: see Journal.

    erased: told of messages that were deleted: app, channel, and the two exclusive serials
    """

    erased: Callable[[str, str, int, int], None]

    @property
    def epoch(self) -> str: ...
    async def head(self, app: str, channel: str) -> int: ...
    async def since(
        self,
        app: str,
        channel: str,
        serial: int,
        *,
        upto: int | None = None,
        limit: int,
        history: History,
        in_order: bool = False,
        as_of: int | None = None,
    ) -> Page: ...
    async def page(
        self,
        app: str,
        channel: str,
        *,
        since: int | None = None,
        before: int | None = None,
        limit: int,
        newest_first: bool = False,
        history: History,
        in_order: bool = False,
        as_of: int | None = None,
    ) -> Page: ...
    async def versions(
        self,
        app: str,
        channel: str,
        message: int,
        *,
        annotated: bool,
        since: int,
        before: int,
        limit: int,
        newest_first: bool,
    ) -> Listed: ...
    async def count(self, app: str, channel: str, since: int, most: int, history: History) -> int: ...
    async def delete(self, app: str, channel: str, since: int, before: int) -> None: ...
