"""Node's `ws`, a client that shares no code with ours, against a real daemon."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.e2e.daemon import KEY, PATIENCE, Daemon, running

SCRIPT = Path(__file__).parents[1] / "node" / "client.mjs"


class Node:
    def __init__(self, process: trio.Process) -> None:
        self._process = process
        self._buffer = b""

    async def do(self, what: str, **more: Any) -> None:
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps({"do": what, **more}).encode() + b"\n")

    async def open(
        self, daemon: Daemon, channel: str, options: dict[str, Any] | None = None, **query: str
    ) -> dict[str, Any]:
        """Open a socket. Returns its welcome."""
        words = "".join(f"&{name}={value}" for name, value in query.items())
        await self.do("open", url=f"ws://127.0.0.1:{daemon.port}/ws/{channel}?key={KEY}{words}", options=options)
        assert (await self.hear())["opened"] == "sower.v1"
        welcome = (await self.hear())["message"]
        assert welcome["type"] == "welcome"
        return welcome

    async def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        with trio.fail_after(PATIENCE):
            while b"\n" not in self._buffer:
                part = await self._process.stdout.receive_some()
                assert part, "node is gone"
                self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)


@asynccontextmanager
async def node() -> AsyncGenerator[Node]:
    program = shutil.which("node")
    assert program is not None, "the tests need Node"
    async with trio.open_nursery() as nursery:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = await nursery.start(partial(trio.run_process, [program, str(SCRIPT)], check=False, **pipes))
        yield Node(process)
        nursery.cancel_scope.cancel()


async def test_a_node_client_hears_events_in_order_and_publishes_with_acknowledgement(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, node() as client, daemon.socket("open-a") as ours:
        await ours.expect("welcome")
        await client.open(daemon, "open-a")
        for n in range(50):
            await daemon.publish("open-a", {"n": n})
        assert [(await client.hear())["message"]["data"]["n"] for _ in range(50)] == list(range(50))
        await client.do("send", frame={"type": "publish", "event": "hi", "data": "ünï", "id": "7"})
        ack = (await client.hear())["message"]
        assert (ack["type"], ack["id"]) == ("ack", "7")
        await ours.events(50)
        event = await ours.expect("event")
        assert (event["data"], event["serial"]) == ("ünï", ack["serial"])


async def test_a_node_client_may_send_fragments_and_ping_and_close(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, node() as client:
        await client.open(daemon, "open-a")
        await client.do("raw", parts=['{"type":', '"pu', 'blish","event":"e","data":1,"id":"x"}'])
        assert (await client.hear())["message"]["type"] == "ack"
        await client.do("ping", data="are you there")
        assert (await client.hear()) == {"pong": "are you there"}
        await client.do("close", code=1000)
        assert await client.hear() == {"closed": 1000, "reason": "enough"}


async def test_a_node_client_takes_deflated_events(tmp_path: Path) -> None:
    large = "all work and no play " * 500
    async with running(tmp_path) as daemon, node() as client:
        await client.open(daemon, "open-a", {"perMessageDeflate": True})
        await daemon.publish("open-a", large)
        assert (await client.hear())["message"]["data"] == large
        await client.do("send", frame={"type": "publish", "event": "e", "data": large, "id": "1"})
        assert (await client.hear())["message"]["type"] == "ack"


async def test_a_node_client_recovers_what_it_missed_while_the_daemon_was_killed(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, node() as client:
        welcome = await client.open(daemon, "kept-a")
        for n in range(20):
            await daemon.publish("kept-a", n)
        heard = [(await client.hear())["message"] for _ in range(10)]
        position = f"{welcome['position'].partition(':')[0]}:{heard[-1]['serial']}"
        await daemon.stop(signal.SIGKILL)
        await daemon.start()
        await daemon.publish("kept-a", 20)
        async with node() as back:
            await back.open(daemon, "kept-a", since=position)
            again = [(await back.hear())["message"]["data"] for _ in range(11)]
        assert [m["data"] for m in heard] + again == list(range(21))


PINGING = """
[session]
ping_every = "1s"
pong_within = "1s"
"""


async def test_a_silent_client_is_pinged_and_one_that_answers_stays(tmp_path: Path) -> None:
    from tests.e2e.daemon import CONFIG

    async with (
        running(tmp_path, CONFIG + PINGING.replace('pong_within = "1s"', 'pong_within = "5s"')) as daemon,
        node() as client,
    ):
        await client.open(daemon, "open-a")
        for _ in range(2):
            assert await client.hear() == {"pinged": True}
        await daemon.publish("open-a", "still here")
        heard = await client.hear()
        while "pinged" in heard:
            heard = await client.hear()
        assert heard["message"]["data"] == "still here"


async def test_a_client_that_does_not_answer_pings_is_closed(tmp_path: Path) -> None:
    from tests.e2e.daemon import CONFIG
    from tests.e2e.raw import closes_with, upgraded

    async with running(tmp_path, CONFIG + PINGING) as daemon, upgraded(daemon) as raw:
        assert closes_with(4043) in await raw.until(b"no_pong")
