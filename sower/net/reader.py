"""One task reads all sessions: their sockets are in one epoll set that it waits on (an epoll fd is itself pollable).

Rule 1: a session costs an entry in the kernel and one in a list; no task, no timer.
Rule 2: whatever one session raises ends that session and no other.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator

import structlog
import trio

from sower.net.framing import NO_FAREWELL, Farewell
from sower.net.session import Session
from sower.net.shared import SECRET_DIGITS

log = structlog.get_logger(__name__)

AT_ONCE = 256
"""Sockets that are ready, taken from the kernel at a time."""

TURN = 0.002
"""Seconds of reading before other tasks run."""


class Reader:
    """went: told of each session whose socket ended, once; then its socket is closed."""

    def __init__(self, went: Callable[[Session, Farewell], None]) -> None:
        self._went = went
        self._epoll = select.epoll()
        self._by_fd: list[Session | None] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Session]:
        return (session for session in list(self._by_fd) if session is not None)

    def find(self, session_id: str) -> Session | None:
        """The session of this id, where it is connected."""
        try:
            fd = int(session_id[SECRET_DIGITS:], 16)
        except ValueError:
            return None
        session = self._by_fd[fd] if 0 <= fd < len(self._by_fd) else None
        return session if session is not None and session.id == session_id else None

    def add(self, session: Session) -> None:
        """Read a session from now on; its wire is this reader's to close."""
        fd = session.wire.fileno
        if fd >= len(self._by_fd):
            self._by_fd.extend([None] * (fd + 1 - len(self._by_fd)))
        self._by_fd[fd] = session
        self._count += 1
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)

    async def run(self) -> None:
        """Read until cancelled."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                turn_ends = time.perf_counter() + TURN
                for fd, _ in self._epoll.poll(0, AT_ONCE):
                    self._read(fd)
                    if time.perf_counter() >= turn_ends:
                        await trio.lowlevel.checkpoint()
                        turn_ends = time.perf_counter() + TURN
        finally:
            self._epoll.close()

    def cut_off(self) -> None:
        """End every session whose client did not end it, when there is no more time to wait."""
        for session in self:
            self.end(session, NO_FAREWELL)

    def end(self, session: Session, farewell: Farewell) -> None:
        """Forget a session and close its socket."""
        fd = session.wire.fileno
        self._by_fd[fd] = None
        self._count -= 1
        self._went(session, farewell)
        session.ending = None  # where it was raised, its traceback refers back to the session
        session.wire.close()  # which takes it out of the epoll set, too

    def _read(self, fd: int) -> None:
        session = self._by_fd[fd]
        if session is None:
            return  # it was ended by what another socket of this turn said
        try:
            farewell = session.receive()
        except Exception as error:
            log.error("session_failed", session=session.id, exc_info=error)
            farewell = FAILED
        if farewell is not None:
            self.end(session, farewell)


FAILED = Farewell(1011, "internal_error", by_peer=False)
