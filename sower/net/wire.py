"""A connected socket, seen from trio without a stream object: one system call for one send."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from contextlib import suppress

import trio

READ_AT_ONCE = 65536
"""Bytes of one read, what most kernels give at most to a loopback read."""

LONGEST = 2**31 - 1
"""Milliseconds, 24 days: what a socket option can be. A setting may be longer."""

RESET, END = struct.pack("ii", 1, 0), struct.pack("ii", 0, 0)
"""struct linger: on, 0 seconds; off."""


class Wire:
    """A non-blocking socket.

    peer:     the IP address that it is connected with
    address:  the client's IP address, another one where the peer is a proxy that is believed
    on_close: told the peer once when it closes
    """

    __slots__ = ("_on_close", "_waited_for", "address", "closed", "peer", "sock")

    shakes_hands = False
    """Whether `handshake` has something to do."""

    def __init__(self, sock: socket.socket, address: str, on_close: Callable[[str], None] | None = None) -> None:
        self.sock = sock
        self.peer = self.address = address
        self.closed = False
        self._on_close = on_close
        self._waited_for = False

    async def handshake(self) -> bool:
        """What comes before the first byte. Whether it went well."""
        return True

    def send_now(self, data: bytes | memoryview) -> int:
        """Send what the socket takes at once. Returns bytes sent. Raises BrokenResourceError when the peer is gone."""
        try:
            return self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError as error:
            raise trio.BrokenResourceError from error

    def recv_now(self, most: int) -> bytes | None:
        """What came; empty when nothing will come any more, None when nothing is there yet."""
        try:
            return self.sock.recv(most)
        except (BlockingIOError, InterruptedError):
            return None
        except OSError:
            return b""

    @property
    def fileno(self) -> int:
        """The socket's file number."""
        return self.sock.fileno()

    async def recv(self, most: int = READ_AT_ONCE) -> bytes:
        """What came, as soon as something is there; empty when nothing will come any more.

        Other tasks run meanwhile even when something is there already, so that a client that never stops talking
        delays nobody. Cancelled, it has taken nothing.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        data = self.recv_now(most)
        if data is not None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return data
        while data is None:
            self._waited_for = True
            try:
                await trio.lowlevel.wait_readable(self.sock)
            except (trio.ClosedResourceError, OSError, ValueError):
                return b""
            data = self.recv_now(most)
        return data

    async def send_all(self, data: bytes) -> None:
        """Send everything. Raises BrokenResourceError, ClosedResourceError."""
        sent = self.send_now(data)
        if sent == len(data):
            return
        rest = memoryview(data)[sent:]
        while rest:
            await self.writable()
            rest = rest[self.send_now(rest) :]

    async def writable(self) -> None:
        """Wait until the socket takes more. Raises ClosedResourceError when it is closed meanwhile."""
        self._waited_for = True
        await trio.lowlevel.wait_writable(self.sock)

    def acknowledged_within(self, seconds: float) -> None:
        """From now on the connection is lost when the peer's kernel acknowledges nothing for so long (RFC 5482)."""
        with suppress(OSError):  # not TCP, or gone already
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, min(int(seconds * 1000), LONGEST))

    def reset_at_death(self, whether: bool) -> None:
        """Whether the peer sees a reset and no end, should this process be killed (SO_LINGER, socket(7))."""
        with suppress(OSError):  # gone already
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET if whether else END)

    def finish(self) -> None:
        """Say that nothing more will be sent."""
        with suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def shutdown(self) -> None:
        """End both directions, so that whoever reads sees the end."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def close(self) -> None:
        """Give the socket back. Whoever waits on it gets ClosedResourceError."""
        if not self.closed:
            self.closed = True
            if self._waited_for:  # else trio knows nothing of it, and finding that out costs two system calls
                trio.lowlevel.notify_closing(self.sock)
            self.sock.close()
            if self._on_close is not None:
                self._on_close(self.peer)
