"""What is measured about a server. Each scenario is bounded in time and count, and yields rows."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.bench.dialects import CHANNEL_HOLE
from tests.bench.generator import Answer, Generator
from tests.bench.servers import Server

WARM_UP = 0.5
"""Seconds of the same load before each measurement, not counted."""

SETTLED = 0.002
"""Memory counts as settled when it changes by less than this share..."""

SETTLE_EVERY, SETTLE_AT_MOST = 1.0, 12.0
"""...from one look to the next, in seconds; and how long that may take."""

DISTURBED, TRIES = 0.25, 3
"""A measurement is made again when the rest of the machine took more than this share of a core, at most so often."""

MEMBERS_EACH = 200
"""Members of one channel, Ably's limit."""

AT_REST = 0.1
"""A server is at rest when it takes less than this share of a core."""


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    subscribers: of one channel; crowd: of a large one; idle: sockets for the memory figure, step by step
    channels:    with `each` subscribers; members: clients that become one
    seconds:     of each measurement; size: bytes of a payload
    """

    subscribers: int = 1000
    crowd: int = 8000
    idle: tuple[int, ...] = (1000, 2000, 4000, 8000)
    growth: tuple[int, ...] = (100, 300, 1000, 3000, 8000)
    channels: int = 1000
    each: int = 8
    members: int = 2000
    seconds: float = 3.0
    size: int = 100


QUICK = Plan(crowd=2000, idle=(1000,), growth=(100, 1000), channels=200, seconds=0.7)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    at:                   how many sockets there were, where a plot is made of it
    load_cpu, server_cpu: the share of one core that the two took; others: that everything else took
    latency:              milliseconds by name: p50 and p99 of `ack`, of `each` delivery, of a publish's `last` one
    """

    server: str
    scenario: str
    figure: float
    unit: str
    load_cpu: float = 0.0
    server_cpu: float = 0.0
    others: float = 0.0
    latency: dict[str, float] = field(default_factory=dict[str, float])
    at: int = 0


@dataclass(frozen=True)
class Bench:
    """another: a second generator, beside the first."""

    server: Server
    generator: Generator
    another: Callable[[], AbstractContextManager[Generator]]
    plan: Plan

    def aim(self, channel: str, *, channels: int = 1) -> None:
        """What follows is about `channel`, with nothing open."""
        self.generator.close()
        self.generator.aim(self.server.target, self.server.dialect, channel, self.plan.size, channels=channels)

    def rest(self) -> None:
        """Wait until the server has done what is left to do, such as seeing that sockets were closed."""
        for _ in range(50):
            before = self.server.cpu()
            time.sleep(SETTLE_EVERY / 5)
            if self.server.cpu() - before < AT_REST * SETTLE_EVERY / 5:
                return

    def measure(
        self,
        scenario: str,
        unit: str,
        counted: str,
        work: Callable[[], Answer],
        *,
        prepare: Callable[[], None] = lambda: None,
        at: int = 0,
    ) -> Row:
        """A row for one answer of the generator: how many of `counted` it had in a second."""
        made: list[Row] = []
        while len(made) < TRIES and (not made or made[-1].others > DISTURBED):
            prepare()
            made.append(self._try(scenario, unit, counted, work, at))
        return min(made, key=lambda row: row.others)

    def _try(self, scenario: str, unit: str, counted: str, work: Callable[[], Answer], at: int) -> Row:
        server, machine = self.server.cpu(), machine_cpu()
        answer = work()
        server, machine = self.server.cpu() - server, machine_cpu() - machine
        seconds, load = answer["seconds"], answer["cpu"]
        return Row(
            self.server.name,
            scenario,
            answer[counted] / seconds,
            unit,
            load_cpu=load / seconds,
            server_cpu=server / seconds,
            others=max(0.0, machine - server - load) / seconds,
            latency=latency(answer),
            at=at,
        )

    def row(self, scenario: str, figure: float, unit: str, *, at: int = 0) -> Row:
        """A row for something else."""
        return Row(self.server.name, scenario, figure, unit, at=at)

    def settled_memory(self) -> int:
        """Bytes of the server, once they no longer change."""
        until = time.monotonic() + SETTLE_AT_MOST
        before, now = 0, self.server.memory()
        while abs(now - before) > SETTLED * now and time.monotonic() < until:
            self.generator.hold(SETTLE_EVERY)
            before, now = now, self.server.memory()
        return now


def memory(bench: Bench) -> Iterator[Row]:
    """Memory of an idle connection, once the server has settled."""
    if bench.server.pid is None:
        return
    bench.aim("bench-idle")
    bench.generator.open(20)
    before, opened = bench.settled_memory(), 0
    for count in bench.plan.idle:
        bench.generator.open(count - opened)
        opened = count
        grown = bench.settled_memory() - before
        yield bench.row(f"memory, {count:,} idle sockets", grown / count / 1024, "KiB each", at=count)


def connects(bench: Bench) -> Iterator[Row]:
    """How fast sockets are let in and subscribed: to a server at rest, and while as many have just gone."""
    count = bench.plan.subscribers

    def at_rest() -> None:
        bench.aim("bench-open")
        bench.generator.open(20)
        bench.rest()

    def after_closes() -> None:
        bench.generator.open(count)
        bench.aim("bench-open")

    for label, prepare in (("64 at once", at_rest), ("right after as many closes", after_closes)):
        yield bench.measure(
            f"connect, {count:,}, {label}", "/s", "opened", lambda: bench.generator.open(count), prepare=prepare
        )


def attach(bench: Bench) -> Iterator[Row]:
    """Clients that connect, follow a channel and become members of it, whom all that are there are told of."""
    dialect = bench.server.dialect
    if not dialect.enter:
        return
    count, entering = bench.plan.members, replace(dialect, hello=(*dialect.hello, dialect.enter), ready=dialect.entered)
    for each in (MEMBERS_EACH, count):
        channels = count // each
        name = f"bench-attach-{each}-{CHANNEL_HOLE}" if channels > 1 else f"bench-attach-{each}"

        def prepare(name: str = name, channels: int = channels) -> None:
            bench.generator.close()
            bench.rest()
            bench.generator.aim(bench.server.target, entering, name, bench.plan.size, channels=channels)

        label = f"attach and enter, {count:,} clients, {each:,} a channel"
        yield bench.measure(label, "/s", "opened", lambda: bench.generator.open(count), prepare=prepare)
    bench.generator.close()


def fan_out(bench: Bench) -> Iterator[Row]:
    """One channel with many subscribers: each publish is done when the last of them has it."""
    yield from _fan_out(bench, bench.plan.subscribers, (1, 16))


def crowd(bench: Bench) -> Iterator[Row]:
    """The same with thousands of subscribers."""
    yield from _fan_out(bench, bench.plan.crowd, (1, 16))


def _fan_out(bench: Bench, count: int, flights: tuple[int, ...]) -> Iterator[Row]:
    channels = {"bench-fan": ""}
    if bench.server.kept:
        channels[bench.server.kept] = ", history"
    for channel, note in channels.items():
        bench.aim(channel)
        bench.generator.open(count)
        for flight in flights:
            yield _deliveries(bench, f"fan-out to {count:,}, {flight} in flight{note}", flight, expect=count)


def growth(bench: Bench) -> Iterator[Row]:
    """Deliveries against subscribers, one publish in flight."""
    bench.aim("bench-growth")
    opened = 0
    for count in bench.plan.growth:
        bench.generator.open(count - opened)
        opened = count
        yield _deliveries(bench, f"growth, {count:,} subscribers", 1, expect=count, at=count)


def many_channels(bench: Bench) -> Iterator[Row]:
    """Many small channels, published on in turn."""
    if not bench.server.has_channels:
        return
    channels, each = bench.plan.channels, bench.plan.each
    bench.aim(f"bench-many-{CHANNEL_HOLE}", channels=channels)
    bench.generator.open(channels * each)
    for flight in (1, 16):
        yield _deliveries(bench, f"{channels:,} channels of {each}, {flight} in flight", flight, expect=each)


def _deliveries(bench: Bench, label: str, flight: int, *, expect: int, at: int = 0) -> Row:
    bench.generator.run("http", flight, min(WARM_UP, bench.plan.seconds), expect=expect)

    def work() -> Answer:
        return bench.generator.run("http", flight, bench.plan.seconds, expect=expect)

    return bench.measure(label, "deliveries/s", "deliveries", work, at=at)


def neighbour(bench: Bench) -> Iterator[Row]:
    """A channel with one subscriber, while a crowd is served on another."""
    if not bench.server.has_channels:
        return
    count, seconds = bench.plan.crowd, bench.plan.seconds
    bench.aim("bench-crowd")
    bench.generator.open(count)
    with bench.another() as other, ThreadPoolExecutor(1) as beside:
        other.aim(bench.server.target, bench.server.dialect, "bench-neighbour", bench.plan.size)
        other.open(1)
        for flight in (1, 16):
            crowd = beside.submit(bench.generator.run, "http", flight, seconds + WARM_UP, expect=count)
            time.sleep(WARM_UP / 2)
            answer = other.run("http", 1, seconds, expect=1)
            crowd.result()
            label = f"p99 beside {count:,} on another channel, {flight} in flight there"
            yield bench.row(label, answer["each99"] / 1000, "ms")


def publishes(bench: Bench) -> Iterator[Row]:
    """Acknowledged publishes to a channel without subscribers, over keep-alive connections."""
    channels = {"bench-still": ""}
    if bench.server.kept:
        channels[bench.server.kept] = ", history"
    for channel, note in channels.items():
        for connections in (16, 64):
            bench.aim(channel)
            bench.generator.run("http", connections, min(WARM_UP, bench.plan.seconds))
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
    bench.generator.run("socket", sockets, min(WARM_UP, bench.plan.seconds), expect=sockets - 1)
    yield bench.measure(
        f"client events, {sockets} sockets, each to {sockets - 1}",
        "acks/s",
        "publishes",
        lambda: bench.generator.run("socket", sockets, bench.plan.seconds, expect=sockets - 1),
    )


def latency(answer: Answer) -> dict[str, float]:
    """The latencies of an answer in milliseconds."""
    names = ("ack50", "ack99", "each50", "each99", "last50", "last99")
    return {name: answer[name] / 1000 for name in names if answer.get(name)}


def machine_cpu() -> float:
    """Seconds of processor that all cores were busy since the start (proc_stat(5): all but idle and iowait)."""
    user, nice, system, _idle, _iowait, *rest = map(int, Path("/proc/stat").read_text().split(maxsplit=11)[1:9])
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK")
