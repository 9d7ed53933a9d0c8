"""Requests that are held: their answer is not due yet. A held request is a record and a socket, and no task.

    request -> TakingEndpoint.take -> Held.hold: the connection's task ends
    Holder.answer -> the connection is served on by a new task, as any other that rests

Rule 1: all held sockets are in one epoll set that one task waits on (an epoll fd is itself pollable), and only for
        their end: what a client says meanwhile waits in the kernel, so it has a bound and costs nothing.
Rule 2: who has gone is told to the holder at once, so that nothing is kept for it.
Rule 3: every held request ends: with an answer, with its client, or with the daemon.
Rule 4: should the daemon be killed, held clients see a reset: an end without an answer stops PubNub's legacy loop for
        good, after a reset it comes back.
"""

from __future__ import annotations

import select
from collections.abc import Awaitable, Callable
from typing import NamedTuple, Protocol

import structlog
import trio

from sower.net.http import Response
from sower.net.parser import RequestParser
from sower.net.routing import Taken
from sower.net.wire import Wire

log = structlog.get_logger(__name__)

AT_ONCE = 256
"""Sockets that ended, taken from the kernel at a time."""

TICK = 1.0
"""Seconds between two looks at deadlines. All records are looked at: 10,000 take 0.4 ms, and none leaves a timer."""

ENDED = select.EPOLLRDHUP
"""The kernel adds EPOLLERR and EPOLLHUP itself."""


class Waiter(Protocol):
    """Whoever holds a request until there is something to answer."""

    def went(self) -> None:
        """The client is gone, and with it the request."""
        ...

    def expired(self) -> Response | None:
        """The answer when the time is over, or when the daemon ends; None where it is answered in another way."""
        ...


class GivenBack(NamedTuple):
    """A connection whose held request was answered.

    unsent:     what the socket did not take of the answer
    behind:     has read what came behind the request; None where nothing did
    keep_alive: whether the client wants to go on
    """

    unsent: bytes
    behind: RequestParser | None
    keep_alive: bool


class Held:
    """One held request. until: when it is answered at the latest, on trio's clock."""

    __slots__ = ("_behind", "_keep_alive", "_more", "_room", "until", "waiter", "wire")

    def __init__(self, room: WaitingRoom, taken: Taken, waiter: Waiter, until: float) -> None:
        self.wire = taken.wire
        self.waiter = waiter
        self.until = until
        self._room = room
        self._behind = taken.behind
        self._keep_alive = taken.request.keep_alive
        self._more = taken.more

    def answer(self, response: Response) -> None:
        """Answer it, and let its connection be served on. Harmless when it is over."""
        if self._room.leave(self):
            goes_on = self._keep_alive and not self._room.closing
            data = response.encode(keep_alive=goes_on, more=self._more)
            self._room.give_back(self.wire, data, self._behind, self._keep_alive)

    def end(self) -> None:
        """Forget it and close its socket."""
        if self._room.leave(self):
            if self._behind is not None:
                self._behind.close()
            self.wire.close()


class WaitingRoom:
    """All held requests.

    serve:   serves a connection that was given back, until it ends or is taken again; closes it
    nursery: where connections are served
    """

    def __init__(self, nursery: trio.Nursery, serve: Callable[[Wire, GivenBack], Awaitable[None]]) -> None:
        self.closing = False
        self._nursery = nursery
        self._serve = serve
        self._epoll = select.epoll()
        self._held: dict[int, Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, taken: Taken, waiter: Waiter, seconds: float) -> Held:
        """Hold a request for so many seconds at most. The endpoint that took it has nothing more to do then."""
        held = Held(self, taken, waiter, trio.current_time() + (0.0 if self.closing else seconds))
        fd = taken.wire.fileno
        taken.wire.kept = True
        taken.wire.reset_at_death(True)
        self._held[fd] = held
        self._epoll.register(fd, ENDED)
        return held

    def leave(self, held: Held) -> bool:
        """Hold a request no longer. Whether it was held."""
        fd = held.wire.fileno
        if self._held.get(fd) is not held:
            return False
        del self._held[fd]
        self._epoll.unregister(fd)
        held.wire.reset_at_death(False)
        return True

    def give_back(self, wire: Wire, data: bytes, behind: RequestParser | None, keep_alive: bool) -> None:
        """Send an answer, and have the connection served on."""
        try:
            unsent = data[wire.send_now(data) :]
        except trio.BrokenResourceError:
            unsent = b""  # whoever serves it finds out too
        wire.kept = False
        self._nursery.start_soon(self._serve, wire, GivenBack(unsent, behind, keep_alive), name="connection")

    async def run(self) -> None:
        """Watch for clients that go and for deadlines, until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._tick, name="held requests' clock")
                while True:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    for fd, _ in self._epoll.poll(0, AT_ONCE):
                        self._gone(fd)
                    await trio.lowlevel.checkpoint()
        finally:
            self._epoll.close()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(TICK)
            now = trio.current_time()
            for held in [held for held in self._held.values() if held.until <= now]:
                self._expire(held)

    def end_all(self) -> None:
        """Answer everything that is held, now that the daemon ends, and hold nothing any more."""
        self.closing = True
        for held in list(self._held.values()):
            self._expire(held)

    def _expire(self, held: Held) -> None:
        try:
            answer = held.waiter.expired()
            if answer is not None:
                held.answer(answer)
        except Exception as error:
            log.error("waiter_failed", address=held.wire.address, exc_info=error)
            held.end()

    def _gone(self, fd: int) -> None:
        held = self._held.get(fd)
        if held is None:
            return  # it was answered meanwhile
        held.end()
        try:
            held.waiter.went()
        except Exception as error:
            log.error("waiter_failed", address=held.wire.address, exc_info=error)
