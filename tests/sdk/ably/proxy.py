"""A network of the tests' own between an SDK and the daemon: it passes bytes on, until a test makes it fail.

cut:    every connection is gone at once, and nothing was said
stall:  bytes are read and not passed on; nobody is told
half:   the next bytes from the daemon are passed on by half, and then the connection is cut
drop:   the next frames from the daemon that hold these bytes never arrive
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

HEAD = 2
"""Bytes of a frame's head, for payloads below 126 bytes; two more above."""


class Proxy:
    """One listening port. to: the daemon's port."""

    def __init__(self, to: int) -> None:
        self.to = to
        self.port = 0
        self.stalled = False
        self.half = False
        self.drop: bytes | None = None
        self.dropped = 0
        self._open: set[trio.CancelScope] = set()

    def cut(self) -> None:
        """Lose all connections."""
        for scope in self._open:
            scope.cancel()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen until cancelled."""
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listener.socket.getsockname()[1]
        task_status.started()
        await trio.serve_listeners(self._connection, [listener])

    async def _connection(self, client: trio.SocketStream) -> None:
        with trio.CancelScope() as scope:
            self._open.add(scope)
            try:
                daemon = await trio.open_tcp_stream("127.0.0.1", self.to)
            except OSError:
                return
            async with daemon, trio.open_nursery() as nursery:
                nursery.start_soon(self._pass_on, client, daemon, False, scope)
                nursery.start_soon(self._pass_on, daemon, client, True, scope)
        self._open.discard(scope)
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await trio.aclose_forcefully(client)

    async def _pass_on(
        self, source: trio.SocketStream, sink: trio.SocketStream, from_daemon: bool, scope: trio.CancelScope
    ) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some():
                if self.stalled:
                    continue
                if from_daemon and self.half:
                    self.half = False
                    await sink.send_all(data[: len(data) // 2])
                    break
                await sink.send_all(self._without(data) if from_daemon and self.drop else data)
        scope.cancel()

    def _without(self, data: bytes) -> bytes:
        """The frames of a chunk but those that are to be dropped. Frames are whole in a chunk on this small scale."""
        kept = b""
        while data:
            length = data[1] & 0x7F
            head = HEAD if length < 126 else HEAD + 2
            size = head + (length if length < 126 else int.from_bytes(data[2:4]))
            frame, data = data[:size], data[size:]
            if self.drop is not None and self.drop in frame:
                self.dropped += 1
            else:
                kept += frame
        return kept


@asynccontextmanager
async def between(to: int) -> AsyncIterator[Proxy]:
    """A proxy for as long as the block runs."""
    proxy = Proxy(to)
    async with trio.open_nursery() as nursery:
        await nursery.start(proxy.serve)
        yield proxy
        nursery.cancel_scope.cancel()
