"""Several daemons on one Redis: one order, one history, each publish once, on whatever node it comes or is read."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import trio

from sower.cluster.keys import Keys
from tests.cluster.conftest import Redis
from tests.e2e.daemon import Client, Daemon


async def publish_many(daemon: Daemon, channel: str, name: str, count: int) -> None:
    for n in range(count):
        await daemon.publish(channel, [name, n])


async def hear_all(client: Client, count: int, into: list[Any]) -> None:
    into += [await client.expect("event") for _ in range(count)]


async def test_three_nodes_hear_what_all_three_publish_in_one_order(nodes: list[Daemon]) -> None:
    heard: list[list[Any]] = [[], [], []]
    async with trio.open_nursery() as nursery:
        for node, into in zip(nodes, heard, strict=True):
            await nursery.start(follow, node, 90, into)
        for number, node in enumerate(nodes):
            for publisher in range(2):
                nursery.start_soon(publish_many, node, "kept-three", f"{number}{publisher}", 15)
    assert heard[0] == heard[1] == heard[2]
    serials = [int(event["serial"]) for event in heard[0]]
    assert serials == sorted(set(serials))
    assert all(len(event["serial"]) == 17 for event in heard[0])
    for name in {event["data"][0] for event in heard[0]}:
        assert [event["data"][1] for event in heard[0] if event["data"][0] == name] == list(range(15))
    for node in nodes:
        page = (await node.request("GET", "/history/kept-three?limit=1000")).json()
        assert [event["data"] for event in page["events"]] == [event["data"] for event in heard[0]]


async def follow(
    node: Daemon, count: int, into: list[Any], *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with node.socket("kept-three") as client:
        await client.expect("welcome")
        task_status.started()
        await hear_all(client, count, into)


async def test_a_channel_without_history_is_one_channel_too(nodes: list[Daemon]) -> None:
    one, two = nodes[:2]
    async with one.socket("open-news") as here, two.socket("open-news") as there:
        await here.expect("welcome")
        await there.expect("welcome")
        await there.send(type="publish", event="e", data={"n": 1})
        await there.expect("ack")
        await one.publish("open-news", {"n": 2})
        assert [await here.expect("event"), await here.expect("event")][0]["data"] == {"n": 1}
        assert (await there.events(1)) == [{"n": 2}]  # what it said itself, it is not told


async def test_a_client_comes_back_on_another_node_and_has_missed_nothing(nodes: list[Daemon]) -> None:
    one, two = nodes[:2]
    async with one.socket("kept-news") as client:
        await client.expect("welcome")
        await one.publish("kept-news", 0)
        event = await client.expect("event")
        epoch = (await one.request("GET", "/history/kept-news")).json()["position"].partition(":")[0]
    for n in range(1, 6):
        await (one, two)[n % 2].publish("kept-news", n)
    async with two.socket("kept-news", since=f"{epoch}:{event['serial']}") as client:
        welcome = await client.expect("welcome")
        assert await client.events(5) == [1, 2, 3, 4, 5]
        assert welcome["position"].startswith(epoch)
        await one.publish("kept-news", 6)
        assert await client.events(1) == [6]


async def test_the_same_id_is_one_message_on_whatever_node_it_comes(nodes: list[Daemon]) -> None:
    one, two = nodes[:2]
    for channel in ("kept-news", "open-news"):
        async with two.socket(channel) as client:
            await client.expect("welcome")
            serials = [await node.publish(channel, "x", id="same") for node in (one, two, one)]
            assert len(set(serials)) == 1
            await one.publish(channel, "y")
            assert await client.events(2) == ["x", "y"]


async def test_a_session_that_is_excluded_on_one_node_is_excluded_on_the_other(nodes: list[Daemon]) -> None:
    one, two = nodes[:2]
    async with two.socket("open-news") as excluded, two.socket("open-news") as other:
        session = (await excluded.expect("welcome"))["session"]
        await other.expect("welcome")
        await one.publish("open-news", "not for everybody", exclude=session)
        await one.publish("open-news", "for all")
        assert await excluded.events(1) == ["for all"]
        assert await other.events(2) == ["not for everybody", "for all"]


async def test_what_retention_took_is_told_as_a_gap_on_every_node(nodes: list[Daemon]) -> None:
    one, two = nodes[:2]
    first = await one.publish("short-news", 0)
    for n in range(1, 7):
        last = await one.publish("short-news", n)
    for node in (one, two):
        page = (await node.request("GET", "/history/short-news?limit=100")).json()
        assert [event["data"] for event in page["events"]] == [2, 3, 4, 5, 6]
        async with node.socket("short-news", since=first) as client:
            await client.expect("welcome")
            await client.expect("gap")
            assert await client.events(5) == [2, 3, 4, 5, 6]
        second = str(int(page["events"][0]["serial"]))
        async with node.socket("short-news", since=second) as client:
            await client.expect("welcome")
            assert await client.events(4) == [3, 4, 5, 6]
        async with node.socket("short-news", since=last) as client:
            await client.expect("welcome")
    await one.publish("short-news", 7)
    async with two.socket("short-news", since=last) as client:
        await client.expect("welcome")
        assert await client.events(1) == [7]


async def test_an_event_that_is_cached_greets_newcomers_on_every_node(nodes: list[Daemon]) -> None:
    one, two = nodes[:2]
    await one.publish("cache-news", "first")
    await one.publish("cache-news", "last")
    for node in (one, two):
        async with node.socket("cache-news") as client:
            await client.expect("welcome")
            assert await client.events(1) == ["last"]


async def test_nodes_hear_only_the_channels_that_somebody_follows_there(nodes: list[Daemon], redis: Redis) -> None:
    one, two = nodes[:2]
    async with one.socket("open-followed") as client:
        await client.expect("welcome")
        await two.publish("open-followed", 1)
        await two.publish("open-other", 1)
        followed, other = (Keys("shared", "1001", name).topic.decode() for name in ("open-followed", "open-other"))
        channels = redis.command("PUBSUB", "CHANNELS", "shared:*").split()
        assert followed in channels
        assert other not in channels
        assert redis.command("PUBSUB", "NUMSUB", followed).split()[-1] == "1"


def test_without_a_cluster_nothing_of_it_is_loaded() -> None:
    program = "import sys, sower.daemon, sower.parts; print([m for m in sys.modules if 'coredis' in m or 'sower.cluster' in m])"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
