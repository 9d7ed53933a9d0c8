"""What `cluster.replicas` asks for: acknowledged is what so many replicas have."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path

import pytest
import trio

from sower.cluster import line
from sower.cluster.entries import Spoken
from sower.cluster.node import Node
from sower.config import Cluster, Duration
from sower.errors import ClusterFailed
from tests.cluster.conftest import Redis, servers
from tests.cluster.test_line import pass_on
from tests.cluster.test_model import HISTORY

LEASE = 2.0


def a_node(redis: Redis) -> AbstractAsyncContextManager[Node]:
    shared = Cluster(url=redis.url, prefix="copied", replicas=1, lease=Duration(LEASE))
    return Node.open(shared, lambda name: HISTORY, 600.0)


async def say(node: Node, channel: str) -> None:
    said = Spoken("e", b"x", 0, None, None, None)
    await node.say("1", channel, node.keys("1", channel), [(said, b"m")])


async def test_publishers_are_refused_and_all_else_goes_on_where_there_is_no_replica(redis: Redis) -> None:
    async with a_node(redis) as node, trio.open_nursery() as nursery:
        refused: list[ClusterFailed] = []

        async def keep_saying(channel: str) -> None:
            while True:
                with pytest.raises(ClusterFailed, match="0 replicas have it") as error:
                    await say(node, channel)
                refused.append(error.value)

        for number in range(10):
            nursery.start_soon(keep_saying, f"channel-{number}")
        began = trio.current_time()
        while trio.current_time() - began < 2 * LEASE:
            await node.look()  # is answered in time, or raises
        assert len(refused) > 10
        nursery.cancel_scope.cancel()


async def test_a_replica_that_was_away_and_is_slow_is_given_its_time_again(
    tmp_path: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "COPIED_AGAIN", 2.0)
    monkeypatch.setattr(line, "COPIED_WITHIN", 1.8)
    redis.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    replica = Redis(tmp_path)
    async with a_node(redis) as node, trio.open_nursery() as nursery:
        with pytest.raises(ClusterFailed, match="0 replicas have it"):
            await say(node, "news")
        (listener,) = await nursery.start(partial(trio.serve_tcp, partial(lag, redis), 0, host="127.0.0.1"))
        with servers(replica):
            replica.start("--replicaof", "127.0.0.1", str(listener.socket.getsockname()[1]))
            with trio.fail_after(30.0):
                while "state=online" not in redis.command("INFO", "replication"):  # noqa: ASYNC110 - Redis has no event
                    await trio.sleep(0.1)
                await trio.sleep(1.0)  # so that it has what was said until now
                while True:
                    with suppress(ClusterFailed):
                        await say(node, "news")
                        break
            await say(node, "news")
        nursery.cancel_scope.cancel()


async def lag(redis: Redis, replica: trio.SocketStream) -> None:
    """What the replica says arrives late: later than is borne with from one that was away."""
    async with await trio.open_tcp_stream("127.0.0.1", redis.port) as primary, trio.open_nursery() as nursery:
        nursery.start_soon(pass_on, primary, replica)
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in replica:
                await trio.sleep(2 * line.COPIED_SOON)
                await primary.send_all(data)
        nursery.cancel_scope.cancel()
