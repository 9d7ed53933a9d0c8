"""The line to Redis: one connection over which scripts go and broadcasts come, both in the order of Redis.

Rule 1: one connection, so a script's answer stands between broadcasts where the script ran: what is subscribed before
        a channel is read has no hole behind it, and what was broadcast before an answer is heard before it, or in
        the same turn of trio.
Rule 2: what waits at a turn is written at once, and answers are awaited side by side: scripts are pipelined.
Rule 3: who does not answer in time is gone: the connection is dropped, and all that waits on it fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import sha1
from typing import Any, NamedTuple, Protocol, Self

import structlog
import trio
from coredis.connection import BaseConnection
from coredis.exceptions import MovedError, NoScriptError, ReadOnlyError, RedisError, ResponseError
from coredis.pool import ConnectionPool

from sower.cluster import histories, scripts
from sower.cluster.places import ANSWERS_WITHIN, Place
from sower.errors import ClusterFailed

log = structlog.get_logger(__name__)

TRY_EVERY = 0.25
"""Seconds between two tries to connect."""

COPIED_WITHIN, COPIED_SOON = 1.0, 0.1
"""Seconds for replicas to have what was said; the shorter one since there were not enough of them. So long at most
does all else wait behind it."""

COPIED_AGAIN = 10.0
"""Seconds until they are given the longer time again: they may be there, and no faster than that."""

READERS = 8
"""Connections that read history, besides the line."""

SUBSCRIBED_AT_ONCE = 1000
"""Channels in one SUBSCRIBE."""

BROADCAST, UNSUBSCRIBED = (b"message", b"smessage"), (b"unsubscribe", b"sunsubscribe")

CHANGED: Mapping[type[Exception], str] = {
    NoScriptError: "it has forgotten its scripts",
    ReadOnlyError: "it is only a replica now",
    MovedError: "a slot has moved to another master",
}
"""Errors that say that it is no longer what it was."""


class Script(NamedTuple):
    """As a server runs it. name: by which it is called."""

    text: str
    name: str

    @classmethod
    def of(cls, text: str) -> Self:
        """The script of this text."""
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


SCRIPTS = scripts.ALL + histories.ALL

_plain = {script: Script.of(script) for script in SCRIPTS}
_sharded = {script: Script.of(script.replace("'PUBLISH'", "'SPUBLISH'")) for script in SCRIPTS}


class Line(Protocol):
    """What a node has of Redis. It comes back by itself.

    begun: run when it stands again, before it is used
    partly: run when some of it does, where keys are on several servers
    fault: why it does not stand, empty while it does
    scattered: whether keys are on several servers
    """

    begun: Callable[[], Awaitable[None]]
    partly: Callable[[], Awaitable[None]]
    scattered: bool = False

    @property
    def fault(self) -> str: ...

    @property
    def up(self) -> bool:
        """Whether it stands and what is said over it is heard."""
        return not self.fault

    def decides(self, key: bytes) -> bool:
        """Whether it stands for what has to do with this key."""
        return self.up

    def open(self) -> AbstractAsyncContextManager[None]:
        """Hold the connections until the block ends. Raises ClusterFailed where there is no Redis."""
        ...

    def subscribe(self, topic: bytes) -> None:
        """Hear this topic from now on, over every connection."""
        ...

    def unsubscribe(self, topic: bytes) -> None:
        """Hear it no more."""
        ...

    async def run(self, script: str, keys: Sequence[bytes], args: Sequence[Any], *, gated: bool = False) -> Any:
        """Run a script. gated: its effect must be on the replicas that are asked for. Raises ClusterFailed."""
        ...

    async def ask(self, command: bytes, *args: Any) -> Any:
        """Have one command done, of which the first argument is a key or a topic. Raises ClusterFailed."""
        ...

    def tell(self, topic: bytes, payload: bytes) -> None:
        """Broadcast this before whatever is asked after it. Where the line is down, nobody hears it."""
        ...

    async def ask_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """As `ask`, several side by side; the answers are in their order. Raises ClusterFailed after all were asked."""
        ...

    async def read(self, script: str, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        """Run a script whose answer may be long, on a connection of its own. Raises ClusterFailed."""
        ...


class OneLine(Line):
    """To one server.

    sharded: it is a master of a Redis Cluster, which broadcasts what is said in its slots
    heard:   told of each broadcast: topic, payload
    lost:    told when the connection is gone
    """

    def __init__(
        self, place: Place, *, replicas: int, heard: Callable[[bytes, bytes], None], sharded: bool = False
    ) -> None:
        self._fault = "no connection yet"
        self._why = ""
        self.begun = self.partly = _nothing
        self.lost: Callable[[], None] = _nobody
        self._prefix = b"S" if sharded else b""
        self._adapted = _sharded if sharded else _plain
        self.leaving: Counter[bytes] = Counter()
        self._replicas = replicas
        self._waiting = trio.Lock()
        self._answered = self._copied = self._copies = 0
        self._hurries_until = 0.0
        self._heard = heard
        self._topics: dict[bytes, None] = {}
        self._connection: BaseConnection | None = None
        self._place = place
        self._pool: ConnectionPool[Any]
        self._turns = trio.CapacityLimiter(READERS)

    @property
    def fault(self) -> str:
        """Why it does not stand."""
        return self._fault

    @property
    def connected(self) -> bool:
        """Whether there is a connection, which may be about to begin."""
        return self._connection is not None

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Hold the connections until the block ends. Raises ClusterFailed where there is no Redis."""
        async with trio.open_nursery() as nursery:
            failed = await nursery.start(self._hold)
            if failed is None:
                yield
            nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed

    def subscribe(self, topic: bytes) -> None:
        """As Line.subscribe."""
        self._topics[topic] = None
        self._send(self._prefix + b"SUBSCRIBE", topic)

    def unsubscribe(self, topic: bytes) -> None:
        """As Line.unsubscribe."""
        self._topics.pop(topic, None)
        self.leaving[topic] += 1
        self._send(self._prefix + b"UNSUBSCRIBE", topic)

    async def run(self, script: str, keys: Sequence[bytes], args: Sequence[Any], *, gated: bool = False) -> Any:
        """As Line.run."""
        connection = self._usable()
        request = connection.create_request(b"EVALSHA", self._adapted[script].name, len(keys), *keys, *args)
        answer = await self.answer(connection, request)
        if gated and self._replicas:
            await self._wait_for_replicas(connection)
        return answer

    async def _wait_for_replicas(self, connection: BaseConnection) -> None:
        """Until enough of them have what was answered. One waits for all who came before: WAIT holds up the line."""
        self._answered += 1
        mine = self._answered
        async with self._waiting:
            if connection is not self._connection:
                raise ClusterFailed("Redis was lost before its replicas had it.")
            if self._copied < mine:
                upto, hurries = self._answered, trio.current_time() < self._hurries_until
                patience = COPIED_SOON if hurries else COPIED_WITHIN
                asked = self.request(b"WAIT", self._replicas, int(patience * 1000))
                self._copies, self._copied = await asked.answer(), upto
                if self._copies >= self._replicas:
                    self._hurries_until = 0.0
                elif not hurries:
                    self._hurries_until = trio.current_time() + COPIED_AGAIN
            if self._copies < self._replicas:
                raise ClusterFailed(f"{self._copies} replicas have it, and cluster.replicas asks for {self._replicas}.")

    async def ask(self, command: bytes, *args: Any) -> Any:
        """As Line.ask."""
        return await self.request(command, *args).answer()

    def tell(self, topic: bytes, payload: bytes) -> None:
        """As Line.tell."""
        if self._connection is not None and self._connection.usable:
            self._connection.create_request(self._prefix + b"PUBLISH", topic, payload)

    async def ask_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """As Line.ask_all."""
        return [await asked.answer() for asked in [self.request(*command) for command in commands]]

    def request(self, command: bytes, *args: Any) -> Asked:
        """Send one command. Raises ClusterFailed."""
        connection = self._usable()
        if command == b"PUBLISH":
            command = self._prefix + command
        return Asked(self, connection, connection.create_request(command, *args))

    async def read(self, script: str, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        """As Line.read."""
        try:
            async with self._reader() as connection:
                text = self._adapted[script].text
                return await connection.create_request(b"EVAL", text, len(keys), *keys, *args)
        except (RedisError, OSError, TimeoutError, RuntimeError) as error:  # the last where the pool ended meanwhile
            raise ClusterFailed(f"Redis could not be read: {error}.") from error

    @asynccontextmanager
    async def _reader(self) -> AsyncGenerator[BaseConnection]:
        """A connection beside the line. A pool forgets the place of one that died in use, or was given up too early."""
        with trio.move_on_after(ANSWERS_WITHIN) as patience:
            await self._turns.acquire()
        if patience.cancelled_caught:
            raise ClusterFailed(f"Redis could not be read: {READERS} others read.")
        try:
            if not self.up:
                raise ClusterFailed(f"Redis cannot be read: {self.fault}.")
            connection = await self._dial()
            try:
                yield connection
            finally:
                self._pool.release(connection)
                if not connection.usable and self._connection is not None:
                    self._drop(self._connection, "a connection that read was lost")
        finally:
            self._turns.release()

    async def _dial(self) -> BaseConnection:
        with trio.CancelScope(shield=True):
            return await self._pool.get_connection()
        raise AssertionError("nobody cancels this scope")

    def forget(self, why: str) -> None:
        """Begin anew, and follow nothing yet."""
        self._topics.clear()
        if self._connection is not None:
            self._drop(self._connection, why)

    def _usable(self) -> BaseConnection:
        if self._connection is None or not self._connection.usable:
            raise ClusterFailed(f"Redis cannot be reached: {self.fault or 'the connection is lost'}.")
        return self._connection

    def _send(self, command: bytes, *args: bytes) -> None:
        if self._connection is not None and self._connection.usable:
            self._connection.send_command(command, *args)

    async def answer(self, connection: BaseConnection, request: Awaitable[Any]) -> Any:
        """Wait for an answer. Raises ClusterFailed."""
        try:
            return await request
        except (NoScriptError, ReadOnlyError, MovedError) as error:
            why = CHANGED[type(error)]
            self._drop(connection, why)
            raise ClusterFailed(f"Redis was changed: {why}.") from error
        except ResponseError as error:
            raise ClusterFailed(f"Redis refused it: {error}.") from error
        except (RedisError, OSError, TimeoutError) as error:
            self._drop(connection, str(error))
            raise ClusterFailed(f"Redis does not answer: {error}.") from error

    def _drop(self, connection: BaseConnection, why: str) -> None:
        if connection is self._connection:
            self._fault = self._why = why
        connection.invalidate(why)

    def _unsubscribed(self, connection: BaseConnection, topic: bytes) -> None:
        """As was asked for, or because its slot is another master's now."""
        if topic in self.leaving:
            self.leaving[topic] -= 1
            if not self.leaving[topic]:
                del self.leaving[topic]
        elif topic in self._topics:
            self._drop(connection, CHANGED[MovedError])

    async def _hold(self, *, task_status: trio.TaskStatus[ClusterFailed | None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect, hear what is broadcast, and connect again."""
        started = False
        while True:
            async with self._place.pool(READERS + 1) as self._pool:  # a pool never has the places of the dead again
                try:  # in here: what leaves the pool's nursery is a group
                    async with self._pool.acquire() as connection:
                        await self._begin(connection)
                        if not started:
                            started = True
                            task_status.started(None)
                        await self._listen(connection)
                except (RedisError, OSError, TimeoutError, ClusterFailed) as error:
                    self._end(str(error) or repr(error))
                    if not started:
                        known = isinstance(error, ClusterFailed)
                        failed = error if known else ClusterFailed(f"Redis cannot be reached: {self.fault}.")
                        task_status.started(failed)
                        return
            await trio.sleep(TRY_EVERY)

    async def _listen(self, connection: Any) -> None:
        """Hear what is broadcast, until the connection is lost. Raises RedisError then."""
        arrived = connection._push_message_buffer_out  # taken one a turn, they would be heard after later answers
        async for push in connection.push_messages:
            self._take(connection, push)
            for _ in range(arrived.statistics().current_buffer_used):
                self._take(connection, arrived.receive_nowait())

    def _take(self, connection: BaseConnection, push: Any) -> None:
        if push[0] in BROADCAST:
            self._heard(push[1], push[2])
        elif push[0] in UNSUBSCRIBED:
            self._unsubscribed(connection, push[1])

    async def _begin(self, connection: BaseConnection) -> None:
        """Subscribe first: where that is refused, the answer to what follows says so."""
        topics = list(self._topics)
        self.leaving.clear()
        at_once = 1 if self._prefix else SUBSCRIBED_AT_ONCE  # a command is for one slot
        for at in range(0, len(topics), at_once):
            connection.send_command(self._prefix + b"SUBSCRIBE", *topics[at : at + at_once])
        for script in SCRIPTS:
            await connection.create_request(b"SCRIPT LOAD", self._adapted[script].text)
        self._connection = connection
        await self.begun()
        self._fault = ""
        log.info("cluster_connected", channels=len(topics))

    def _end(self, why: str) -> None:
        """why: what is seen of it here, unless it was dropped for a reason."""
        self._fault, self._why = self._why or why, ""
        if self._connection is None:
            return
        log.warning("cluster_disconnected", why=self._fault)
        self._connection.invalidate(why)
        self._connection = None
        self.lost()


class Asked(NamedTuple):
    """A command that was sent."""

    line: OneLine
    connection: BaseConnection
    request: Awaitable[Any]

    async def answer(self) -> Any:
        """Wait for what it answers. Raises ClusterFailed."""
        return await self.line.answer(self.connection, self.request)


async def _nothing() -> None:
    """Where nobody has anything to do."""


def _nobody() -> None:
    """As _nothing."""
