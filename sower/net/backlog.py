"""The bytes that wait for one socket that would block, or for one subscriber that is still catching up."""

from __future__ import annotations

from collections import deque

import trio


class Backlog:
    """Two queues in one line: `ahead` (a replay's pages) goes out first, `behind` (what comes live) after it.

    held:  for how many replays `behind` must wait because more may still come ahead
    size:  bytes that wait, the chunk that is being sent included
    since: when the oldest of them began to wait, on trio's clock
    begun: the rest of what the socket took in part: nothing goes before it, and nothing drops it
    """

    __slots__ = ("_ahead", "_begun", "_behind", "_more", "_spent", "held", "since", "size")

    def __init__(self, now: float, begun: bytes = b"") -> None:
        self._begun = begun
        self._ahead: deque[bytes] = deque()
        self._behind: deque[bytes] = deque()
        self._more = trio.Event()
        self._spent = trio.Event()
        self.held = 0
        self.size = len(begun)
        self.since = now

    def add(self, data: bytes) -> None:
        """Let bytes wait at the end of the line."""
        self._behind.append(data)
        self.size += len(data)
        self._more.set()

    def add_ahead(self, data: bytes) -> None:
        """Let bytes wait before all that is held."""
        self._ahead.append(data)
        self.size += len(data)
        if self._spent.is_set():  # another replay may wait for it
            self._spent = trio.Event()
        self._more.set()

    def hold(self) -> None:
        """From now on `behind` waits; what waits already stays before what comes ahead."""
        if not self.held:
            self._ahead.extend(self._behind)
            self._behind.clear()
        self.held += 1

    def release(self) -> None:
        """Nothing more comes ahead of one replay."""
        self.held = max(self.held - 1, 0)
        self._more.set()

    def cut(self, last: bytes) -> None:
        """Drop all that waits, but for what is being sent, and end with `last`."""
        self._ahead.clear()
        self._behind.clear()
        self.held = 0
        self._spent.set()
        self.add(last)

    async def next(self) -> bytes | None:
        """The next chunk to send; None when nothing waits and nothing is held."""
        if self._begun:
            begun, self._begun = self._begun, b""
            return begun
        while True:
            if self._ahead:
                return self._ahead.popleft()
            self._spent.set()
            if self._behind and not self.held:
                return self._behind.popleft()
            if not self.held:
                return None
            self._more = trio.Event()
            await self._more.wait()

    def sent(self, length: int, now: float) -> None:
        """A chunk is out, so the oldest that waits is younger."""
        self.size -= length
        self.since = now

    async def spent(self) -> None:
        """Wait until nothing is ahead."""
        await self._spent.wait()
