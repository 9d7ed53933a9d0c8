"""What is measured about a server. Each scenario is bounded in time and count, and yields rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.bench.generator import Answer, Generator
from tests.bench.servers import Server

WARM_UP = 0.5
"""Seconds of the same load before each measurement, not counted."""

SETTLED = 0.002
"""Memory counts as settled when it changes by less than this share..."""

SETTLE_EVERY, SETTLE_AT_MOST = 1.0, 12.0
"""...from one look to the next, in seconds; and how long that may take."""


@dataclass(frozen=True)
class Plan:
    """How much is measured. size: bytes of a payload; seconds: of each measurement."""

    subscribers: int = 1000
    idle: int = 5000
    seconds: float = 5.0
    size: int = 100


QUICK = Plan(idle=1000, seconds=1.5)


@dataclass(frozen=True)
class Row:
    """One line of the table. load_cpu, server_cpu: the share of one core that the two took."""

    server: str
    scenario: str
    figure: float
    unit: str
    load_cpu: float = 0.0
    server_cpu: float = 0.0
    latency: dict[str, float] = field(default_factory=dict[str, float])
    """Milliseconds by name: p50 and p99 of `ack`, of `each` delivery and of a publish's `last` one."""


@dataclass(frozen=True)
class Bench:
    server: Server
    generator: Generator
    plan: Plan

    def aim(self, channel: str) -> None:
        """What follows is about `channel`, with nothing open."""
        self.generator.close()
        self.generator.aim(self.server.target, self.server.dialect, channel, self.plan.size)

    def measure(self, scenario: str, unit: str, counted: str, work: Callable[[], Answer]) -> Row:
        """A row for one answer of the generator: how many of `counted` it had in a second."""
        cpu = self.server.cpu()
        answer = work()
        cpu = self.server.cpu() - cpu
        seconds = answer["seconds"]
        figure = answer[counted] / seconds
        shares = (answer["cpu"] / seconds, cpu / seconds)
        return Row(self.server.name, scenario, figure, unit, *shares, latency=_latency(answer))


Scenario = Callable[[Bench], Iterator[Row]]


def memory(bench: Bench) -> Iterator[Row]:
    """Memory of an idle connection, once the server has settled."""
    if bench.server.pid is None:
        return
    bench.aim("bench-idle")
    bench.generator.open(20)
    before = _settled_memory(bench.server)
    bench.generator.open(bench.plan.idle)
    grown = _settled_memory(bench.server) - before
    label = f"memory, {bench.plan.idle:,} idle sockets"
    yield Row(bench.server.name, label, grown / bench.plan.idle / 1024, "KiB each")


def connects(bench: Bench) -> Iterator[Row]:
    """How fast sockets are let in, and subscribed."""
    bench.aim("bench-open")
    bench.generator.open(20)
    count = bench.plan.subscribers
    yield bench.measure(f"connect, {count:,}, 64 at once", "/s", "opened", lambda: bench.generator.open(count))


def fan_out(bench: Bench) -> Iterator[Row]:
    """One channel with many subscribers: each publish is done when the last of them has it."""
    count = bench.plan.subscribers
    channels = {"bench-fan": ""}
    if bench.server.kept:
        channels[bench.server.kept] = ", history"
    for channel, note in channels.items():
        bench.aim(channel)
        bench.generator.open(count)
        for flight in (1, 16):
            bench.generator.run("http", flight, WARM_UP, expect=count)
            yield bench.measure(
                f"fan-out to {count:,}, {flight} in flight{note}",
                "deliveries/s",
                "deliveries",
                lambda flight=flight: bench.generator.run("http", flight, bench.plan.seconds, expect=count),
            )


def publishes(bench: Bench) -> Iterator[Row]:
    """Acknowledged publishes to a channel without subscribers, over keep-alive connections."""
    channels = {"bench-still": ""}
    if bench.server.kept:
        channels[bench.server.kept] = ", history"
    for channel, note in channels.items():
        for connections in (16, 64):
            bench.aim(channel)
            bench.generator.run("http", connections, WARM_UP)
            yield bench.measure(
                f"publish, {connections} connections{note}",
                "acks/s",
                "publishes",
                lambda connections=connections: bench.generator.run("http", connections, bench.plan.seconds),
            )


def client_events(bench: Bench) -> Iterator[Row]:
    """Subscribers that publish over their sockets, each to all the others."""
    if not bench.server.dialect.event:
        return
    sockets = 16
    bench.aim("bench-talk")
    bench.generator.open(sockets)
    bench.generator.run("socket", sockets, WARM_UP, expect=sockets - 1)
    yield bench.measure(
        f"client events, {sockets} sockets, each to {sockets - 1}",
        "acks/s",
        "publishes",
        lambda: bench.generator.run("socket", sockets, bench.plan.seconds, expect=sockets - 1),
    )


SCENARIOS: dict[str, Scenario] = {
    "memory": memory,
    "connects": connects,
    "fan-out": fan_out,
    "publishes": publishes,
    "client-events": client_events,
}


def _latency(answer: Answer) -> dict[str, float]:
    names = ("ack50", "ack99", "each50", "each99", "last50", "last99")
    return {name: answer[name] / 1000 for name in names if answer.get(name)}


def _settled_memory(server: Server) -> int:
    until = time.monotonic() + SETTLE_AT_MOST
    before, now = 0, server.memory()
    while abs(now - before) > SETTLED * now and time.monotonic() < until:
        time.sleep(SETTLE_EVERY)
        before, now = now, server.memory()
    return now
