"""Daemons of different versions beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from sower import __version__
from sower.cluster.archive import Archive
from sower.cluster.entries import Spoken, Unknown, pack, unpack
from sower.cluster.node import Node
from sower.cluster.versions import PROTOCOL
from sower.config import Cluster, History
from sower.store.rows import Page
from tests.cluster.conftest import Redis, cluster, made
from tests.e2e.daemon import CONFIG

SOON = "9999999999999"
"""When the lease of a node ends that nobody buries."""

LONG = History(messages=100, age=3600)


class Reaction(Spoken, frozen=True, array_like=True, tag="z"):
    """A kind of message that this version does not know."""


class Longer(Spoken, frozen=True, array_like=True, tag="m"):
    """A message with a field that this version does not know."""

    colour: str = "red"


def a_node_of(redis: Redis, prefix: str, protocol: int, version: str) -> None:
    """As it says of itself."""
    redis.command("HSET", f"{prefix}:{{all}}:versions", "00000000", f"{protocol} {version}")
    redis.command("ZADD", f"{prefix}:{{all}}:nodes", SOON, "00000000")


async def test_what_a_neighbouring_version_says_besides_is_read_past(tmp_path: Path, redis: Redis) -> None:
    a_node_of(redis, "versions", PROTOCOL + 1, "99.0")
    async with cluster(tmp_path, redis, 1, prefix="versions") as (one,), one.socket("kept-news") as client:
        await client.expect("welcome")
        said = redis.command("HVALS", "versions:{all}:versions").splitlines()
        assert f"{PROTOCOL} {__version__}" in said
        config = Cluster(url=redis.url, prefix="versions")
        async with Node.open(config, lambda name: History(), 60.0) as newer:
            keys = newer.keys("1001", "kept-news")
            for kind, data in ((Spoken, b"1"), (Reaction, b"2"), (Longer, b"3")):
                await newer.say("1001", "kept-news", keys, [(kind("e", data, 0, None, None, None), b"m")])
        assert await client.events(2) == [1, 3]
        page = (await one.request("GET", "/history/kept-news")).json()
        assert [event["data"] for event in page["events"]] == [1, 3]
    assert f"{PROTOCOL} {__version__}" in redis.command(
        "HVALS", "versions:{all}:versions"
    )  # killed: until it is buried


@pytest.mark.parametrize("newest_first", [False, True])
async def test_a_page_of_nothing_but_what_a_newer_version_says_is_none(redis: Redis, newest_first: bool) -> None:
    async with Node.open(Cluster(url=redis.url, prefix="pages"), lambda name: LONG, 60.0) as newer:
        channel = f"kept-{newest_first}"
        keys = newer.keys("1001", channel)
        for kind, data in ((Spoken, b"1"), *[(Reaction, b"2")] * 5, (Spoken, b"3")):
            await newer.say("1001", channel, keys, [(kind("e", data, 0, None, None, None), b"m")])

        async def page(**where: int) -> Page:
            return await Archive(newer).page("1001", channel, limit=2, history=LONG, newest_first=newest_first, **where)

        first = await page()
        serial = first.messages[-1].serial
        second = await page(before=serial) if newest_first else await page(since=serial)
    told = [message.data for page in (first, second) for message in page.messages]
    assert told == ([b"3", b"1"] if newest_first else [b"1", b"3"])
    assert (first.more, second.more) == (True, False)


async def test_a_version_that_is_too_far_away_does_not_start_and_says_why(tmp_path: Path, redis: Redis) -> None:
    a_node_of(redis, "apart", PROTOCOL + 2, "99.0")
    (daemon,) = made(tmp_path, redis, 1, CONFIG, "2s", "apart")
    with pytest.raises(AssertionError, match=f"version 99.0 is in this cluster and speaks protocol {PROTOCOL + 2}"):
        await daemon.start()
    redis.command("ZREM", "apart:{all}:nodes", "00000000")
    await daemon.start()
    await daemon.stop()
    assert redis.command("HLEN", "apart:{all}:versions") == "1"  # of the one that nobody buried


def test_an_unknown_kind_has_its_serial_and_is_nothing() -> None:
    entry = pack(Reaction("e", b"1", 0, None, None, None))
    payload = b"0" * 17 + b"17000000000000001" * 2 + len(entry).to_bytes(4, "big") + entry
    assert unpack(payload).entries == (Unknown(),)
