"""Daemons that share a Redis: how long a publish takes to another node, and what a delivery costs on so many of them.

All nodes and Redis run on the core of the server, so figures are for a second of processor, not of time.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from tests.bench.scenarios import WARM_UP, Bench, Row, latency
from tests.bench.servers import (
    KEY,
    SECRET,
    Server,
    Target,
    free_port,
    spawn,
    start_sower,
    stop,
    wait_for_port,
    wait_until_it_answers,
    write_config,
)

NODES = (1, 2, 3)

FLIGHT = 4
"""Publishes in flight."""


def cluster(bench: Bench) -> Iterator[Row]:
    """One embedded daemon, then clusters. Nothing where there is no redis-server."""
    if shutil.which("redis-server") is None:
        return
    yield _one_subscriber(bench, bench.server, bench.server, "embedded, publish to delivery")
    yield _cost(bench, [bench.server], "embedded", ())
    core = next(iter(os.sched_getaffinity(bench.server.pid or 0)))
    for count in NODES:
        with _nodes(bench.server, count, core) as (nodes, redis):
            if count == 2:
                yield _one_subscriber(bench, nodes[0], nodes[1], "cluster, publish to delivery on another node")
            yield _cost(bench, nodes, f"cluster of {count}", (redis,))


def _one_subscriber(bench: Bench, publishes: Server, follows: Server, label: str) -> Row:
    """One publish in flight, one subscriber: p50 and p99."""
    bench.generator.close()
    _aim(bench, follows)
    bench.generator.open(1)
    _aim(bench, publishes)
    bench.generator.run("http", 1, min(WARM_UP, bench.plan.seconds), expect=1)
    answer = bench.generator.run("http", 1, bench.plan.seconds, expect=1)
    return replace(bench.row(label, answer["each50"] / 1000, "ms"), latency=latency(answer))


def _cost(bench: Bench, nodes: Sequence[Server], label: str, besides: Sequence[Server]) -> Row:
    """Fan-out to subscribers that are spread over the nodes: deliveries in a second of all their processor time."""
    each = bench.plan.subscribers // len(nodes)
    bench.generator.close()
    for node in nodes:
        _aim(bench, node)
        bench.generator.open(each)
    expect = each * len(nodes)
    bench.generator.run("http", FLIGHT, min(WARM_UP, bench.plan.seconds), expect=expect)
    before, aside = _cpu(nodes), _cpu(besides)
    answer = bench.generator.run("http", FLIGHT, bench.plan.seconds, expect=expect)
    took, aside = _cpu(nodes) - before, _cpu(besides) - aside
    text = f"{label}, fan-out to {expect:,}: deliveries"
    if besides:
        text += f", Redis {aside / max(answer['publishes'], 1) * 1e6:.0f} us a publish"
    row = bench.row(text, answer["deliveries"] / took, "/core-second")
    return replace(row, server_cpu=took / answer["seconds"], latency=latency(answer))


def _aim(bench: Bench, node: Server) -> None:
    bench.generator.aim(node.target, node.dialect, "bench-nodes", bench.plan.size)


def _cpu(some: Sequence[Server]) -> float:
    return sum(one.cpu() for one in some)


@contextmanager
def _nodes(like: Server, count: int, core: int) -> Iterator[tuple[list[Server], Server]]:
    """A Redis that keeps what it acknowledged, and nodes."""
    with tempfile.TemporaryDirectory(prefix="sower-bench-") as name, ExitStack() as running:
        redis = replace(like, name="redis", target=Target(free_port(), KEY, SECRET))
        where = ["--port", str(redis.target.port), "--bind", "127.0.0.1", "--dir", name]
        server = spawn(["redis-server", *where, "--save", "", "--appendonly", "yes"], subprocess.DEVNULL, core)
        running.callback(server.wait)
        running.callback(server.send_signal, signal.SIGKILL)
        wait_for_port(server, redis.target)
        nodes: list[Server] = []
        for number in range(count):
            folder = Path(name) / str(number)
            folder.mkdir()
            target = Target(free_port(), KEY, SECRET)
            config = write_config(folder, target.port)
            with config.open("a") as file:
                file.write(f'\n[cluster]\nurl = "redis://127.0.0.1:{redis.target.port}/0"\n')
            process = start_sower(config, folder / "log", core)
            running.callback(stop, process)
            wait_until_it_answers(process, target, folder / "log")
            nodes.append(replace(like, name="sower", target=target, pid=process.pid))
        yield nodes, replace(redis, pid=server.pid)
