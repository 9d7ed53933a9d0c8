"""What `cluster.replicas` asks for: acknowledged is what so many replicas have."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
import trio

from sower.cluster.entries import Spoken
from sower.cluster.node import Node
from sower.config import Cluster, Duration
from sower.errors import ClusterFailed
from tests.cluster.conftest import Redis
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
        began, slowest = trio.current_time(), 0.0
        while trio.current_time() - began < 2 * LEASE:
            asked = trio.current_time()
            await node.look()
            slowest = max(slowest, trio.current_time() - asked)
        assert slowest < LEASE
        assert len(refused) > 10
        nursery.cancel_scope.cancel()
