"""What dies, hangs or forgets: a node, Redis, or what Redis knew."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.cluster.conftest import Redis, cluster
from tests.e2e.daemon import KEY, SECRET, Client, Daemon

PATIENCE = 15.0


async def ready(daemon: Daemon) -> dict[str, Any]:
    answer = await daemon.request("GET", "/health/ready")
    return {"status": answer.status_code, "checks": answer.text}


async def until_ready(daemon: Daemon) -> None:
    with trio.fail_after(PATIENCE):
        while (await ready(daemon))["status"] != 200:  # noqa: ASYNC110 - a daemon has no event
            await trio.sleep(0.05)


async def publish(daemon: Daemon, channel: str, data: Any, **more: Any) -> Any:
    body = {"channel": channel, "event": "e", "data": data, **more}
    return await daemon.request("POST", "/events/publish", json=body)


async def keep_publishing(daemon: Daemon, name: str, acknowledged: list[str], stop: trio.Event) -> None:
    """Publish one after the other, each with an id until it is acknowledged."""
    n = 0
    while not stop.is_set():
        word = f"{name}-{n}"
        if (await publish(daemon, "kept-news", word, id=word)).status_code == 200:
            acknowledged.append(word)
            n += 1
        else:
            await trio.sleep(0.05)


async def hear_until(client: Client, last: str) -> list[str]:
    heard: list[str] = []
    while not heard or heard[-1] != last:
        frame = await client.hear()
        assert frame["type"] == "event", frame
        heard.append(frame["data"])
    return heard


async def hear_what_stands(client: Client, last: str) -> list[str]:
    """As hear_until, without what was heard and then told to be lost: nobody had that acknowledged."""
    heard: list[tuple[int, str]] = []
    while not heard or heard[-1][1] != last:
        frame = await client.hear()
        if frame["type"] == "gap":
            upto = int(frame["position"].partition(":")[2])
            heard = [(serial, word) for serial, word in heard if serial <= upto]
        else:
            assert frame["type"] == "event", frame
            heard.append((int(frame["serial"]), frame["data"]))
    return [word for _, word in heard]


async def test_redis_is_killed_and_comes_back_and_nothing_acknowledged_is_lost(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis) as (one, two):
        async with one.socket("kept-news") as here, two.socket("kept-news") as there:
            await here.expect("welcome")
            await there.expect("welcome")
            acknowledged: list[str] = []
            stop = trio.Event()
            async with trio.open_nursery() as nursery:
                for number, node in enumerate((one, two)):
                    nursery.start_soon(keep_publishing, node, f"p{number}", acknowledged, stop)
                await trio.sleep(0.5)
                with redis.away():
                    refused = await publish(one, "kept-news", "nobody has it")
                    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "cluster_failed")
                    told = await ready(one)
                    assert told["status"] == 503
                    assert "cluster" in told["checks"]
                for node in (one, two):
                    await until_ready(node)
                await trio.sleep(0.5)
                stop.set()
            await one.publish("kept-news", "last")
            heard = [await hear_until(client, "last") for client in (here, there)]
            page = (await two.request("GET", "/history/kept-news?limit=1000")).json()
            kept = [event["data"] for event in page["events"]]
            assert heard[0] == heard[1] == kept
            assert len(set(kept)) == len(kept)
            assert set(acknowledged) <= set(kept)
            assert len(acknowledged) > 5


async def test_a_node_that_hangs_reads_all_it_missed_when_it_goes_on(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis) as (one, two):
        async with two.socket("kept-news") as kept, two.socket("open-news") as unkept:
            await kept.expect("welcome")
            await unkept.expect("welcome")
            assert two.process is not None
            two.process.send_signal(signal.SIGSTOP)
            async with httpx.AsyncClient(base_url=one.url, auth=(KEY, SECRET), trust_env=False) as client:
                for channel, count in (("kept-news", 300), ("open-news", 20)):  # 256 broadcasts are kept
                    for n in range(count):
                        body = {"channel": channel, "event": "e", "data": n}
                        assert (await client.post("/events/publish", json=body)).status_code == 200
            redis.command("CLIENT", "KILL", "TYPE", "PUBSUB")
            await trio.sleep(0.5)
            two.process.send_signal(signal.SIGCONT)
            assert await kept.events(300) == list(range(300))
            assert await unkept.events(20) == list(range(20))
            await one.publish("kept-news", "live")
            assert await kept.events(1) == ["live"]


async def test_redis_that_hangs_refuses_publishes_and_goes_on_where_it_was(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis) as (one, two):
        async with one.socket("kept-news") as client:
            await client.expect("welcome")
            await two.publish("kept-news", "before")
            with redis.hanging():
                assert (await publish(two, "kept-news", "while", id="x")).status_code == 503
                assert (await ready(two))["status"] == 503
            for node in (one, two):
                await until_ready(node)
            assert (await publish(two, "kept-news", "while", id="x")).status_code == 200
            await two.publish("kept-news", "after")
            assert await client.events(3) == ["before", "while", "after"]


async def test_a_full_redis_refuses_publishes_with_the_reason_and_goes_on_when_it_has_room(
    tmp_path: Path, redis: Redis
) -> None:
    async with cluster(tmp_path, redis) as (one, two), two.socket("kept-news") as client:
        await client.expect("welcome")
        await one.publish("kept-news", "before")
        redis.command("CONFIG", "SET", "maxmemory", "1")
        try:
            refused = (await publish(one, "kept-news", "no room", id="x")).json()["error"]
            assert (refused["code"], refused["retry"]) == ("cluster_failed", True)
            assert "maxmemory" in refused["message"]
            with trio.fail_after(PATIENCE):
                while "maxmemory" not in (told := await ready(two))["checks"]:  # noqa: ASYNC110 - at its next heartbeat
                    await trio.sleep(0.05)
            assert told["status"] == 503
        finally:
            redis.command("CONFIG", "SET", "maxmemory", "0")
        for node in (one, two):
            await until_ready(node)
        await publish(one, "kept-news", "no room", id="x")
        assert await client.events(2) == ["before", "no room"]


async def test_a_client_of_a_killed_node_goes_on_with_another(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis) as (one, two):
        async with one.socket("kept-news") as client:
            position = (await client.expect("welcome"))["position"]
            await two.publish("kept-news", 1)
            assert await client.events(1) == [1]
            await one.stop(signal.SIGKILL)
        for n in (2, 3):
            await two.publish("kept-news", n)
        async with two.socket("kept-news", since=position) as client:
            await client.expect("welcome")
            assert await client.events(3) == [1, 2, 3]


async def test_redis_that_lost_its_data_is_another_epoch_and_all_are_told_of_the_gap(
    tmp_path: Path, redis: Redis
) -> None:
    async with cluster(tmp_path, redis) as (one, two):
        async with one.socket("kept-news") as here, two.socket("kept-news") as there:
            position = (await here.expect("welcome"))["position"]
            await there.expect("welcome")
            await one.publish("kept-news", "before")
            for client in (here, there):
                assert await client.events(1) == ["before"]
            redis.command("FLUSHALL")
            await two.publish("kept-news", "after")
            for client in (here, there):
                frames = [await client.hear(), await client.hear()]
                assert {frame["type"] for frame in frames} == {"gap", "event"}
                assert next(f["data"] for f in frames if f["type"] == "event") == "after"
        page = (await one.request("GET", "/history/kept-news")).json()
        assert page["position"].partition(":")[0] != position.partition(":")[0]
        async with two.socket("kept-news", since=position) as client:
            await client.expect("welcome")
            await client.expect("gap")
