"""limits.publishes over nodes: together they admit what one daemon would."""

from __future__ import annotations

from pathlib import Path

import httpx
import trio

from tests.cluster.conftest import Redis, cluster
from tests.e2e.daemon import CONFIG, KEY, SECRET, Daemon

TIME = 2.0
LIMITS = '[limits]\npublishes = "20/s burst 20"\n'


async def flood(daemon: Daemon, admitted: list[int], start: trio.Event) -> None:
    async with httpx.AsyncClient(base_url=daemon.url, auth=(KEY, SECRET), trust_env=False) as client:
        await client.get("/time")
        await start.wait()
        with trio.move_on_after(TIME):
            while True:
                body = {"channel": "kept-news", "event": "e", "data": 1}
                answer = await client.post("/events/publish", json=body)
                admitted.append(answer.status_code)
                await trio.sleep(0.005)


async def test_two_daemons_together_admit_what_one_would(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, config=LIMITS + CONFIG) as nodes:
        answers: list[list[int]] = [[], []]
        start = trio.Event()
        async with trio.open_nursery() as nursery:
            for node, answered in zip(nodes, answers, strict=True):
                nursery.start_soon(flood, node, answered, start)
            await trio.sleep(0.2)
            began = trio.current_time()
            start.set()
        took = trio.current_time() - began
        admitted = sum(answered.count(200) for answered in answers)
        assert {status for answered in answers for status in answered} == {200, 429}
        assert all(answered.count(200) for answered in answers)
        expected = 20 + 20 * took
        assert 20 + 20 * TIME * 0.6 <= admitted <= expected * 1.25, answers
