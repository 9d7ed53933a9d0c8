"""Channels of which nobody said anything for so long that Redis has forgotten them: nothing was lost with that."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest
import trio

from sower.cluster import entries, memory
from sower.cluster import node as nodes
from sower.cluster.entries import Spoken
from sower.cluster.facts import Report
from sower.cluster.hub import ClusterHub
from sower.cluster.node import Node
from sower.config import Cluster
from sower.core.happening import Fact
from sower.core.rules import RuleBook
from sower.health import Health
from sower.systemd import Systemd
from tests.cluster.conftest import Redis
from tests.cluster.test_line import until_up
from tests.faults.house import CONFIG, House
from tests.store.opened import opened

SILENT = 0.3


@pytest.fixture(autouse=True)
def _forgotten_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "STATE_KEPT", SILENT)
    for module in (memory, nodes):
        monkeypatch.setattr(module, "LATEST_KEPT", SILENT / 2)


async def test_a_node_that_comes_back_takes_no_silent_channel_for_lost_data(redis: Redis) -> None:
    shared = Cluster(url=redis.url, prefix=secrets.token_hex(4))
    async with Node.open(shared, lambda name: None, 600.0) as node:
        said = Spoken("e", b"x", 0, None, None, None)
        await node.say("1", "a", node.keys("1", "a"), [(said, b"n")])
        epoch = node.epoch
        await trio.sleep(2 * SILENT)
        redis.command("CLIENT", "KILL", "TYPE", "PUBSUB")
        await until_up(node.line, up=False)
        await until_up(node.line, up=True)
        assert node.epoch == epoch


async def test_subscribers_of_a_channel_that_was_silent_are_told_of_no_gap(tmp_path: Path, redis: Redis) -> None:
    shared = Cluster(url=redis.url, prefix=secrets.token_hex(4))
    async with (
        opened(tmp_path, time.time) as journal,
        Node.open(shared, RuleBook(CONFIG.channels).kept, 600.0) as node,
        trio.open_nursery() as nursery,
    ):
        hub = ClusterHub(CONFIG, journal, node, now=time.time)
        await nursery.start(hub.run)
        house = House(journal, hub, Health(hub, journal, Systemd("", watchdog=None)))
        listener, _ = house.follow("open-news")
        await house.publish("open-news", "before")
        await trio.sleep(2 * SILENT)
        await house.publish("open-news", "after")
        with trio.fail_after(10):
            while "after" not in "".join(listener.said):  # noqa: ASYNC110 - a listener has no event
                await trio.sleep(0.01)
        assert "".join(listener.said).removeprefix("welcome").split() == ["before", "after"]
        nursery.cancel_scope.cancel()


async def test_nothing_is_kept_for_ever_of_a_channel_that_was_forgotten(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = Cluster(url=redis.url, prefix=secrets.token_hex(4))
    async with Node.open(shared, lambda name: None, 600.0) as node:
        keys = node.keys("1", "cache-a")
        await node.load(keys, "cache-a")
        await trio.sleep(2 * SILENT)
        monkeypatch.setattr(entries, "STATE_KEPT", 60.0)
        await node.say("1", "cache-a", keys, [(Report(Fact.CACHE_MISS), b"x")])
        assert 0 < await node.line.ask(b"PTTL", keys.state) <= 60_000
