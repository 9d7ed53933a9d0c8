"""The HTTP server: all connections that speak it are in one epoll set, which one task reads.

    accepted -> opened (TLS, a proxy's header) -> Connection, until it ends or is another's

Rule 1: whatever one connection raises ends that connection and no other.
Rule 2: nobody is served for longer than a turn before other tasks run.
Rule 3: once the daemon ends, connections end soon whose request is not under way, and what is held is answered.
Rule 4: the answers of a turn are sent together at its end. A client that waits is woken by what is sent to it, and on
        one machine that is three quarters of what sending costs; one that has more to read already need not be.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog
import trio

from sower.net.connection import LAST_REQUEST_WITHIN, Connection
from sower.net.held import Held
from sower.net.keepalive import Keepalive
from sower.net.opening import must_open, open_wire
from sower.net.routing import Opening
from sower.net.site import Site
from sower.net.wire import Wire

log = structlog.get_logger(__name__)

AT_ONCE = 256
"""Sockets that are ready, taken from the kernel at a time."""

TURN = 0.002
"""Seconds of serving before other tasks run."""

SEND_AT_ONCE = 32
"""Answers that are sent together: a millisecond of work, which is what the first of them waits."""


class HttpServer:
    """All connections that speak HTTP. nursery: where what has to wait is waited for.

    closing: whether no requests are to follow those that are being answered
    holding: all requests that are held
    """

    def __init__(self, nursery: trio.Nursery, keepalive: Keepalive) -> None:
        self.closing = False
        self.holding: set[Held] = set()
        self._nursery = nursery
        self._keepalive = keepalive
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._openings: dict[Wire, trio.CancelScope] = {}
        self._soon: list[Connection] = []
        self._answered: list[Connection] = []
        self._in_turn = False
        self._work = trio.Event()
        self._empty = trio.Event()

    @property
    def connections(self) -> list[Connection]:
        """All of them."""
        return list(self._connections.values())

    def add(self, wire: Wire, site: Site) -> None:
        """Serve a new connection; its wire is this server's to close."""
        if must_open(wire, site.settings):
            self._nursery.start_soon(self._open, wire, site, name="opening")
        else:
            self._enter(wire, site)

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._give_turns, name="requests that wait for their turn")
                while True:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    found = self._connections
                    await self._serve([(found[fd], events) for fd, events in self._epoll.poll(0, AT_ONCE)])
        finally:
            self._epoll.close()

    async def _give_turns(self) -> None:
        """Let connections go on that were told to wait for a moment, and send what others than they have to say."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            waiting, self._soon = self._soon, []
            await self._serve([(connection, None) for connection in waiting])

    async def _serve(self, ready: Sequence[tuple[Connection, int | None]]) -> None:
        """Let these go on, each because of its events, or because it is its turn."""
        turn_ends = time.perf_counter() + TURN
        self._in_turn = True
        for connection, events in ready:
            self._go(connection, events)
            if len(self._answered) >= SEND_AT_ONCE:
                self._send()
            if time.perf_counter() >= turn_ends:
                self._send()
                self._in_turn = False
                await trio.lowlevel.checkpoint()
                turn_ends = time.perf_counter() + TURN
                self._in_turn = True
        self._send()
        self._in_turn = False

    def _go(self, connection: Connection, events: int | None) -> None:
        try:
            if events is not None:
                connection.ready(events)
            elif connection.state in ("new", "turn"):
                connection.go_on()
        except Exception as error:
            log.error("connection_failed", address=connection.wire.address, exc_info=error)
            connection.close()

    def _send(self) -> None:
        """Send what was answered, and what is answered thereupon."""
        while self._answered:
            answered, self._answered = self._answered, []
            for connection in answered:
                try:
                    connection.send()
                except Exception as error:
                    log.error("connection_failed", address=connection.wire.address, exc_info=error)
                    connection.close()

    def begin_closing(self) -> None:
        """From now on nobody is to begin anything."""
        self.closing = True
        for held in list(self.holding):
            held.expire()
        for connection in self.connections:
            connection.hurry()
        for opening in self._openings.values():
            opening.deadline = min(opening.deadline, trio.current_time() + LAST_REQUEST_WITHIN)

    async def gone(self) -> None:
        """Wait until no connection is left."""
        while self._connections or self._openings:
            self._empty = trio.Event()
            await self._empty.wait()

    def cut_off(self) -> None:
        """End every connection, when there is no more time to wait."""
        for connection in self.connections:
            connection.close()

    # What connections ask of it

    @property
    def now(self) -> float:
        """trio's clock, at its last tick."""
        return self._keepalive.now

    def watch(self, connection: Connection, events: int) -> None:
        """Tell it of these events of its socket, and of no others."""
        watched = connection.watched
        if events == watched:
            return
        connection.watched, fd = events, connection.wire.fileno
        if not events:
            self._epoll.unregister(fd)
        elif not watched:
            self._epoll.register(fd, events)
        else:
            self._epoll.modify(fd, events)

    def look_again(self, connection: Connection, after: float) -> None:
        """Have it tended within so many seconds."""
        self._keepalive.look_again(connection, after)

    def soon(self, connection: Connection) -> None:
        """Have it go on when others had their turn."""
        self._soon.append(connection)
        self._work.set()

    def send_soon(self, connection: Connection) -> None:
        """Have it send its answers at the end of the turn."""
        self._answered.append(connection)
        if not self._in_turn:
            self._work.set()

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task."""
        self._nursery.start_soon(work, name="requests that are waited for")

    def give(self, wire: Wire, open_socket: Opening) -> None:
        """Give a socket to who opens it."""
        try:
            left = open_socket()
        except Exception as error:
            log.error("connection_failed", address=wire.address, exc_info=error)
            wire.close()
        else:
            if left is not None:
                self._nursery.start_soon(self._finish, wire, left, name="socket that is turned away")

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        del self._connections[connection.wire.fileno]
        self._keepalive.forget(connection)
        self._empty.set()

    # New ones

    def _enter(self, wire: Wire, site: Site) -> None:
        """A new connection has mostly said something when others had their turn, and then it need not be watched."""
        connection = self._connections[wire.fileno] = Connection(wire, site, self)
        self.soon(connection)

    async def _open(self, wire: Wire, site: Site) -> None:
        opened = False
        try:
            with trio.move_on_after(site.settings.head_timeout) as self._openings[wire]:
                opened = await open_wire(wire, site.settings)
        except Exception as error:
            log.error("connection_failed", address=wire.address, exc_info=error)
        finally:
            del self._openings[wire]
            if opened:
                self._enter(wire, site)
            else:
                wire.close()
                self._empty.set()

    async def _finish(self, wire: Wire, left: Coroutine[Any, Any, None]) -> None:
        """Do what is left to do for a socket, then close it."""
        try:
            await left
        except Exception as error:
            log.error("connection_failed", address=wire.address, exc_info=error)
        finally:
            wire.close()
