"""What is asked about one message: how it is now, its versions, its annotations."""

from __future__ import annotations

import msgspec

from sower.core.message import Message


class ReadMessage(msgspec.Struct, frozen=True):
    """Read a message as it is now. message: its serial."""

    channel: str
    message: int


class ReadVersions(msgspec.Struct, frozen=True):
    """Read a message's versions, as they were told, or its annotations. since and before are exclusive serials."""

    channel: str
    message: int
    annotations: bool = False
    since: int = 0
    before: int = 10**17
    limit: int = 100
    newest_first: bool = False


RevisingCommand = ReadMessage | ReadVersions


class Found(msgspec.Struct, frozen=True):
    message: Message


class Versions(msgspec.Struct, frozen=True):
    """A page of them. next: the exclusive serial where the next page starts, None on the last one."""

    messages: tuple[Message, ...]
    next: int | None


RevisingAnswer = Found | Versions
