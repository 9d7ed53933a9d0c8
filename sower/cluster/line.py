"""The line to Redis: one connection over which scripts go and broadcasts come, both in the order of Redis.

Rule 1: one connection, so a script's answer stands between broadcasts where the script ran: what is subscribed before
        a channel is read has no hole behind it, and what was broadcast before an answer has arrived before it.
Rule 2: what waits at a turn is written at once, and answers are awaited side by side: scripts are pipelined.
Rule 3: who does not answer in time is gone: the connection is dropped, and all that waits on it fails.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha1
from typing import Any

import structlog
import trio
from coredis.connection import BaseConnection
from coredis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError
from coredis.pool import ConnectionPool

from sower.cluster import scripts
from sower.cluster.places import ANSWERS_WITHIN, Place
from sower.errors import ClusterFailed

log = structlog.get_logger(__name__)

TRY_EVERY = 0.25
"""Seconds between two tries to connect."""

READERS = 8
"""Connections that read history, besides the line."""

SUBSCRIBED_AT_ONCE = 1000
"""Channels in one SUBSCRIBE."""

_names = {script: sha1(script.encode(), usedforsecurity=False).hexdigest() for script in scripts.ALL}


class Line:
    """The line, which comes back by itself.

    heard: told of each broadcast: topic, payload. begun: run when it stands again, before it is used; lost: when it
    is gone. fault: why it does not stand, empty while it does.
    """

    def __init__(self, url: str, *, replicas: int, heard: Callable[[bytes, bytes], None]) -> None:
        self.fault = "no connection yet"
        self.begun: Callable[[], Awaitable[None]] = _nothing
        self.lost: Callable[[], None] = _nobody
        self._replicas = replicas
        self._heard = heard
        self._topics: dict[bytes, None] = {}
        self._connection: BaseConnection | None = None
        self._place = Place.read(url)
        self._pool: ConnectionPool[Any]

    @property
    def up(self) -> bool:
        """Whether it stands and what is said over it is heard."""
        return not self.fault

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Hold the connections until the block ends. Raises ClusterFailed where there is no Redis."""
        async with self._place.pool(READERS + 1) as self._pool, trio.open_nursery() as nursery:
            failed = await nursery.start(self._hold)
            if failed is None:
                yield
            nursery.cancel_scope.cancel()
        if failed is not None:
            raise ClusterFailed(f"Redis cannot be reached: {failed}.")

    def subscribe(self, topic: bytes) -> None:
        """Hear this topic from now on, over every connection."""
        self._topics[topic] = None
        self._send(b"SUBSCRIBE", topic)

    def unsubscribe(self, topic: bytes) -> None:
        """Hear it no more."""
        self._topics.pop(topic, None)
        self._send(b"UNSUBSCRIBE", topic)

    async def run(self, script: str, keys: Sequence[bytes], args: Sequence[Any], *, gated: bool = False) -> Any:
        """Run a script. gated: its effect must be on the replicas that are asked for. Raises ClusterFailed."""
        connection = self._usable()
        request = connection.create_request(b"EVALSHA", _names[script], len(keys), *keys, *args)
        if not (gated and self._replicas):
            return await self._answer(connection, request)
        asked = connection.create_request(b"WAIT", self._replicas, int(ANSWERS_WITHIN * 500))
        answer = await self._answer(connection, request)
        count = await self._answer(connection, asked)
        if count < self._replicas:
            raise ClusterFailed(f"{count} replicas have it, and cluster.replicas asks for {self._replicas}.")
        return answer

    async def ask(self, command: bytes, *args: Any) -> Any:
        """Have one command done. Raises ClusterFailed."""
        connection = self._usable()
        return await self._answer(connection, connection.create_request(command, *args))

    async def ask_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """As `ask`, several side by side; the answers are in their order. Raises ClusterFailed."""
        connection = self._usable()
        requests = [connection.create_request(*command) for command in commands]
        return [await self._answer(connection, request) for request in requests]

    async def read(self, script: str, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        """Run a script whose answer may be long, on a connection of its own. Raises ClusterFailed."""
        if not self.up:
            raise ClusterFailed(f"Redis cannot be read: {self.fault}.")
        try:
            async with self._pool.acquire() as connection:
                request = connection.create_request(b"EVAL", script, len(keys), *keys, *args)
                return await request
        except (RedisError, OSError, TimeoutError) as error:
            raise ClusterFailed(f"Redis could not be read: {error}.") from error

    def _usable(self) -> BaseConnection:
        if self._connection is None or not self._connection.usable:
            raise ClusterFailed(f"Redis cannot be reached: {self.fault or 'the connection is lost'}.")
        return self._connection

    def _send(self, command: bytes, *args: bytes) -> None:
        if self._connection is not None and self._connection.usable:
            self._connection.send_command(command, *args)

    async def _answer(self, connection: BaseConnection, request: Awaitable[Any]) -> Any:
        try:
            return await request
        except (NoScriptError, ReadOnlyError) as error:
            why = "it has forgotten its scripts" if isinstance(error, NoScriptError) else "it is only a replica now"
            self._drop(connection, why)
            raise ClusterFailed(f"Redis was changed: {why}.") from error
        except ResponseError as error:
            raise ClusterFailed(f"Redis refused it: {error}.") from error
        except (RedisError, OSError, TimeoutError) as error:
            self._drop(connection, str(error))
            raise ClusterFailed(f"Redis does not answer: {error}.") from error

    def _drop(self, connection: BaseConnection, why: str) -> None:
        if connection is self._connection:
            self.fault = why
        connection.invalidate(why)

    async def _hold(self, *, task_status: trio.TaskStatus[str | None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, hear what is broadcast, and connect again."""
        started = False
        while True:
            try:
                async with self._pool.acquire() as connection:
                    await self._begin(connection)
                    if not started:
                        started = True
                        task_status.started(None)
                    async for push in connection.push_messages:
                        if push[0] == b"message":
                            self._heard(push[1], push[2])
            except (RedisError, OSError, TimeoutError, ClusterFailed) as error:
                self._end(str(error))
                if not started:
                    task_status.started(self.fault)
                    return
            await trio.sleep(TRY_EVERY)

    async def _begin(self, connection: BaseConnection) -> None:
        for script in scripts.ALL:
            await connection.create_request(b"SCRIPT LOAD", script)
        topics = list(self._topics)
        for at in range(0, len(topics), SUBSCRIBED_AT_ONCE):
            connection.send_command(b"SUBSCRIBE", *topics[at : at + SUBSCRIBED_AT_ONCE])
        self._connection = connection
        await self.begun()
        self.fault = ""
        log.info("cluster_connected", channels=len(topics))

    def _end(self, why: str) -> None:
        if self._connection is None:
            self.fault = why
            return
        self.fault = self.fault or why
        log.warning("cluster_disconnected", why=self.fault)
        self._connection.invalidate(why)
        self._connection = None
        self.lost()


async def _nothing() -> None:
    """Where nobody has anything to do."""


def _nobody() -> None:
    """As _nothing."""
