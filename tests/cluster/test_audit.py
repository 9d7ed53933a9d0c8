"""The audit records of all daemons, asked of any."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.cli.shell import sower
from tests.cluster.conftest import PATIENCE, Redis, cluster
from tests.e2e.daemon import KEY, Daemon


def called(node: Daemon) -> str:
    assert node.process is not None
    return f"{socket.gethostname()}/{node.process.pid}"


async def refuse_somebody(node: Daemon, channel: str) -> None:
    async with httpx.AsyncClient(base_url=node.url, trust_env=False) as client:
        answer = await client.get(f"/history/{channel}", auth=(KEY, "wrong"))
        assert answer.status_code == 401, answer.text


async def refusals(node: Daemon, count: int) -> Any:
    """What it shows once there are so many: a record is on disk a moment after its answer."""
    with trio.fail_after(PATIENCE):
        while len((page := (await node.request("GET", "/audit?kind=refused")).json())["records"]) < count:
            await trio.lowlevel.checkpoint()
    return page


async def test_any_daemon_shows_what_all_have_and_names_one_that_does_not_answer(tmp_path: Path, redis: Redis) -> None:
    async with cluster(tmp_path, redis, lease="30s") as (one, two):
        await refuse_somebody(one, "first")
        await refuse_somebody(two, "second")
        page = await refusals(two, 2)
        assert "silent" not in page
        shown = await sower(two.folder, "audit", "--kind", "refused", "--json")
        told = [json.loads(line) for line in shown.out.splitlines()]
        assert told == page["records"][::-1]
        assert [record["node"] for record in told] == [called(one), called(two)]
        assert shown.err == ""
        before = (await two.request("GET", f"/audit?kind=refused&before={told[1]['time']}")).json()
        assert before["records"] == told[:1]

        dead = called(one)
        await one.stop(signal.SIGKILL)
        page = (await two.request("GET", "/audit?kind=refused")).json()
        assert ([record["node"] for record in page["records"]], page["silent"]) == ([called(two)], [dead])
        shown = await sower(two.folder, "audit", "--kind", "refused")
        assert called(two) in shown.out
        assert f"No answer from the daemon {dead}" in shown.err
        assert "401" not in shown.err
        own = await sower(one.folder, "audit", "--kind", "refused", "--here", "--json")
        assert [json.loads(line)["kind"] for line in own.out.splitlines()] == ["refused"]
