"""A receiver of webhooks: a small HTTP server of the tests' own, that can refuse, hang, and come back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import trio

from tests.e2e.daemon import free_port

PATIENCE = 60.0
"""Seconds until a test gives up waiting for a webhook."""


class Post(NamedTuple):
    """headers: with lower-case names."""

    headers: dict[str, str]
    body: bytes

    @property
    def events(self) -> list[dict[str, Any]]:
        return json.loads(self.body)["events"]


class Receiver:
    """answer: the status for a POST, or None to leave it without an answer.

    posts:    every POST, in the order in which they came
    accepted: the events of those that were answered with a 2xx
    """

    def __init__(self) -> None:
        self.port = 0
        self.posts: list[Post] = []
        self.accepted: list[dict[str, Any]] = []
        self.answer: Callable[[Post], int | None] = lambda _: 200
        self._came = trio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until this holds; it is asked after each POST."""
        with trio.fail_after(PATIENCE):
            while not condition():
                await self._came.wait()

    async def accept(self, count: int) -> list[dict[str, Any]]:
        """The events that were accepted, once there are so many."""
        await self.until(lambda: len(self.accepted) >= count)
        return self.accepted

    async def serve(self, stream: trio.SocketStream) -> None:
        buffer = b""
        with suppress(trio.BrokenResourceError):
            while True:
                while b"\r\n\r\n" not in buffer:
                    part = await stream.receive_some()
                    if not part:
                        return
                    buffer += part
                head, _, buffer = buffer.partition(b"\r\n\r\n")
                pairs = (line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
                headers = {name.lower(): value for name, value in pairs}
                while len(buffer) < int(headers["content-length"]):
                    buffer += await stream.receive_some()
                body, buffer = buffer[: int(headers["content-length"])], buffer[int(headers["content-length"]) :]
                await self._reply(stream, Post(headers, body))

    async def _reply(self, stream: trio.SocketStream, post: Post) -> None:
        self.posts.append(post)
        status = self.answer(post)
        if status is not None:
            if 200 <= status < 300:
                self.accepted += post.events
            await stream.send_all(
                b"HTTP/1.1 %d X\r\nContent-Length: 2\r\nLocation: /\r\nSet-Cookie: a=b\r\n\r\nok" % status
            )
        self._came.set()
        self._came = trio.Event()


@asynccontextmanager
async def receiving(port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver for as long as the block runs, then gone: connections to it are refused."""
    receiver = Receiver()
    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(port or free_port(), host="127.0.0.1")
        receiver.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, receiver.serve, [listener])
        yield receiver
        nursery.cancel_scope.cancel()
