"""Clients that come back on another node: the vendors' own SDKs, behind a proxy as before a load balancer."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.cluster.conftest import Redis, cluster
from tests.e2e.daemon import PATIENCE, Daemon
from tests.sdk.ably.proxy import Proxy
from tests.sdk.crossing.test_crossing import CONFIG, EVERYBODY, agree, all_heard, clients_of, history
from tests.sdk.script import Script

EACH = 60

COME_BACK = ("ably", "native", "pubnub")
"""Those whose protocol promises to go on where they were."""


class Balancer(Proxy):
    """Before one client. node: where its next connection goes."""

    def __init__(self, node: Daemon) -> None:
        super().__init__(node.port)
        self.node = node

    def aim(self, node: Daemon) -> None:
        """From now on there."""
        self.node, self.to = node, node.port

    async def request(self, method: str, path: str, **more: Any) -> Any:
        """As a daemon's."""
        return await self.node.request(method, path, **more)


@asynccontextmanager
async def balanced(nodes: list[Daemon]) -> AsyncIterator[tuple[list[Balancer], Script]]:
    """All four clients, each behind a balancer of its own."""
    balancers = [Balancer(nodes[number % len(nodes)]) for number in range(len(EVERYBODY))]
    async with trio.open_nursery() as nursery:
        for balancer in balancers:
            await nursery.start(balancer.serve)
        async with clients_of(balancers) as sdk:  # pyright: ignore[reportArgumentType] - it asks for port and request
            yield balancers, sdk
        nursery.cancel_scope.cancel()


async def nothing_was_missed(sdk: Script, node: Daemon) -> None:
    kept = await history(node)
    assert set(kept) == {f"{who}-{n}" for who in EVERYBODY for n in range(EACH)}
    heard = await all_heard(sdk, *COME_BACK, count=len(kept))
    for who in COME_BACK:
        assert heard[who] == kept, who
    # Pusher's protocol cannot come back; what its client was told is true, in order, and each once
    rest = iter(kept)
    assert all(word in rest for word in heard["pusher"])


async def test_sdks_that_change_nodes_and_lose_one_miss_nothing(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, 3, config=CONFIG) as nodes, balanced(nodes) as (balancers, sdk):
        await sdk.do("say", count=EACH)
        await sdk.hear("half")
        await nodes[0].stop(signal.SIGKILL)
        for balancer in balancers:  # who was on the killed one, and all others too
            balancer.aim(nodes[1] if balancer.node is not nodes[1] else nodes[2])
            balancer.cut()
        await sdk.hear("said")
        await nothing_was_missed(sdk, nodes[1])
        await agree(sdk, *EVERYBODY)


async def test_daemons_that_are_drained_one_after_another_cost_nobody_a_message(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, 3, config=CONFIG) as nodes, balanced(nodes) as (balancers, sdk):
        share = EACH // len(nodes)
        for number, node in enumerate(nodes):
            await sdk.do("say", first=number * share, count=share, pause=200)
            with trio.fail_after(PATIENCE):
                while True:  # until they publish
                    if len((await sdk.ask("heard"))["heard"]["native"]) > number * share * len(EVERYBODY):
                        break
            for balancer in balancers:
                if balancer.node is node:
                    balancer.aim(nodes[(number + 1) % len(nodes)])
            assert await node.stop(signal.SIGTERM) == 0
            await node.start(keep_config=True)
            await sdk.hear("said")
        await nothing_was_missed(sdk, nodes[0])
        await agree(sdk, *EVERYBODY)
