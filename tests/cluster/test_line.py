"""The connections to Redis, however often they are lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio

from sower.cluster import histories
from sower.cluster.line import READERS, Line, OneLine
from sower.cluster.places import Place
from sower.errors import ClusterFailed
from tests.cluster.conftest import Redis
from tests.cluster.test_model import node_of

PATIENCE = 10.0


class Wire:
    """Between a client and Redis. passes: whether what clients send on connections from now on arrives."""

    def __init__(self, redis: Redis) -> None:
        self.passes = True
        self._redis = redis
        self.newest: trio.SocketStream | None = None

    async def carry(self, client: trio.SocketStream) -> None:
        self.newest, passes = client, self.passes
        async with await trio.open_tcp_stream("127.0.0.1", self._redis.port) as server:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pass_on, server, client)
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    async for data in client:
                        if passes or b"EVAL\r\n" not in data:
                            await server.send_all(data)
                nursery.cancel_scope.cancel()

    async def cut(self) -> None:
        """Lose the connection that came last."""
        assert self.newest is not None
        await self.newest.aclose()


async def pass_on(start: trio.SocketStream, end: trio.SocketStream) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async for data in start:
            await end.send_all(data)
    await end.aclose()


@asynccontextmanager
async def line_over_a_wire(redis: Redis) -> AsyncIterator[tuple[OneLine, Wire]]:
    wire = Wire(redis)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, wire.carry, 0, host="127.0.0.1"))
        place = Place.read(f"redis://127.0.0.1:{listener.socket.getsockname()[1]}/0")
        line = OneLine(place, replicas=0, heard=lambda topic, payload: None)
        async with line.open():
            yield line, wire
        nursery.cancel_scope.cancel()


async def until_up(line: Line, *, up: bool) -> None:
    with trio.fail_after(PATIENCE):
        while line.up is not up:  # noqa: ASYNC110 - a line has no event
            await trio.sleep(0.005)


async def read(line: OneLine) -> int:
    return await line.read(histories.COUNT, (b"nothing",), ("0", 1, 1000))


async def test_a_connection_that_is_lost_again_and_again_comes_back_each_time(redis: Redis) -> None:
    async with node_of(redis) as node:
        for _ in range(READERS + 3):
            redis.command("CLIENT", "KILL", "TYPE", "pubsub")
            await until_up(node.line, up=False)
            await until_up(node.line, up=True)
        await node.look()


async def test_readers_that_died_while_they_read_are_replaced(redis: Redis) -> None:
    async with line_over_a_wire(redis) as (line, wire):
        for _ in range(READERS + 1):
            wire.passes = False
            async with trio.open_nursery() as nursery:
                before = wire.newest
                nursery.start_soon(fail_to_read, line)
                with trio.fail_after(PATIENCE):
                    while wire.newest is before:  # noqa: ASYNC110 - until it has a connection
                        await trio.sleep(0.002)
                await wire.cut()
            wire.passes = True
            await until_up(line, up=True)
        assert await read(line) == 0


async def fail_to_read(line: OneLine) -> None:
    with pytest.raises(ClusterFailed):
        await read(line)


async def test_readers_that_were_cancelled_while_they_connected_are_replaced(redis: Redis) -> None:
    async with line_over_a_wire(redis) as (line, _):
        for _ in range(READERS + 1):
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(read, line)
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        assert await read(line) == 0


async def test_nothing_is_kept_of_a_topic_that_is_heard_no_more(redis: Redis) -> None:
    async with line_over_a_wire(redis) as (line, _):
        for n in range(3):
            line.subscribe(b"%d" % n)
            line.unsubscribe(b"%d" % n)
        with trio.fail_after(PATIENCE):
            while line.leaving:  # noqa: ASYNC110 - a line has no event
                await trio.sleep(0.005)
