"""A connection that is made of one request after another, for one session: long polls, or streams that are reopened.

Rule 1: at most one response is open for a session; a new request takes the place of the one before.
Rule 2: while none is open, what is written waits in the session's backlog, with its bounds.
Rule 3: a stream that has had RESPONSE_MOST bytes gets no more: its client opens another, and nothing is lost between.
Rule 4: a response that breaks off within a line ends the session, because nobody knows what arrived.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Callable

import trio

from sower.net.held import Held
from sower.net.http import Header, Response
from sower.net.keepalive import Keepalive
from sower.net.routing import Taken
from sower.net.wire import Wire

RESPONSE_MOST = 256 * 1024
"""Bytes of one response, filler and all. pusher-js opens another stream when it has had more than this."""

POLL_MOST = 128 * 1024
"""Bytes of one poll's answer. sockjs-node's response_limit is the same."""

AWAY = 5.0
"""Seconds in which a client must send the next request. sockjs-node's disconnect_delay is the same."""

FILLER = b"h" * 2048 + b"\n"
"""A stream begins with it, because some browsers and proxies keep the first 2 KiB back."""

HEADERS: tuple[Header, ...] = (
    ("Content-Type", "application/javascript; charset=UTF-8"),
    ("Cache-Control", "no-store"),
    ("X-Accel-Buffering", "no"),
    ("X-Content-Type-Options", "nosniff"),
)


class Relay(Wire):
    """A session's wire. Its own socket is connected to nothing: it gives the session a file number, and an end.

    due: the keepalive's slot in which it is looked at next, -1 for none
    """

    __slots__ = (
        "_attached",
        "_away_since",
        "_gathered",
        "_held",
        "_keepalive",
        "_left",
        "_nursery",
        "_streams",
        "_within",
        "due",
    )

    def __init__(
        self,
        address: str,
        on_close: Callable[[str], None],
        keepalive: Keepalive,
        nursery: trio.Nursery,
    ) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.setblocking(False)
        super().__init__(sock, address, on_close)
        self.due = -1
        self._keepalive = keepalive
        self._nursery = nursery
        self._attached = trio.Event()
        self._gathered: list[bytes] = []
        self._held: Held | None = None
        self._streams = False
        self._within = False
        self._left = 0
        self._away_since = trio.current_time()

    def attach(self, taken: Taken, *, streams: bool) -> None:
        """Go on with a new request."""
        if self._held is not None:
            self._held.end()
            self.went()
        self._held = taken.hold(self, math.inf)
        self._streams = streams
        self._left = RESPONSE_MOST if streams else POLL_MOST
        self._within = False
        if streams:
            head = Response(200, b"", HEADERS).encode_stream(taken.more)
            try:
                taken.wire.send_now(head)
            except trio.BrokenResourceError:
                pass  # as its connection will find
            first = b"".join((FILLER, *self._gathered))
            self._gathered = []
            if self.send_now(first) < len(first):
                self.shutdown()
        elif self._gathered:
            self._nursery.start_soon(self._answer_soon, name="poll")
        self._attached.set()

    # What the session writes

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the present response takes. A poll is answered when all that is written now is together."""
        held = self._held
        if held is None or (self._left <= 0 and not self._within):
            return 0
        if not self._streams:
            if not self._gathered:
                self._nursery.start_soon(self._answer_soon, name="poll")
            self._gathered.append(bytes(data))
            self._left -= len(data)
            return len(data)
        try:
            sent = held.wire.send_now(data)
        except trio.BrokenResourceError:
            return 0  # as its connection will find
        if sent:
            self._left -= sent
            self._within = data[sent - 1] != 0x0A
        return sent

    async def send_all(self, data: bytes) -> None:
        """Send everything, over as many requests as it takes. Raises ClosedResourceError."""
        rest = memoryview(data)
        while rest:
            rest = rest[self.send_now(rest) :]
            if self.closed:
                raise trio.ClosedResourceError
            if rest:
                await self._writable()

    async def _writable(self) -> None:
        held = self._held
        if held is None or not self._streams or (self._left <= 0 and not self._within):
            self._attached = trio.Event()
            await self._attached.wait()
            return
        try:
            await held.wire.writable()
        except (trio.ClosedResourceError, OSError, ValueError):
            await trio.lowlevel.checkpoint()  # it went meanwhile

    async def _answer_soon(self) -> None:
        self._answer()

    def _answer(self) -> None:
        """Answer the poll that is open with what was gathered; without one it waits for the next."""
        held = self._held
        if held is not None and not self._streams and self._gathered:
            body, self._gathered = b"".join(self._gathered), []
            self._leave()
            held.answer(Response(200, body, HEADERS))

    # How responses and the session end

    def recv_now(self, most: int) -> bytes:
        """Nothing comes over its own socket but the end."""
        return b""

    def _leave(self) -> None:
        self._held = None
        self._away_since = trio.current_time()
        self._keepalive.look_again(self, AWAY)

    def went(self) -> None:
        """The client of the present request is gone."""
        self._leave()
        if self._within:
            self.shutdown()

    def expired(self) -> None:
        """A request is answered by its session alone."""

    def tend(self, now: float, wall: float) -> float | None:
        """End the session of a client that stays away. Returns seconds until the next look."""
        if self.closed or self._held is not None:
            return None
        if now - self._away_since >= AWAY:
            self.shutdown()
            return None
        return AWAY - (now - self._away_since)

    def finish(self) -> None:
        """Nothing more will be sent, and nothing comes either: the session is over."""
        self._answer()
        self.shutdown()

    def close(self) -> None:
        """End the request that is open, and give the socket back."""
        if not self.closed:
            super().close()
            self._attached.set()
            held, self._held = self._held, None  # which refers to this
            if held is not None:
                held.end()
