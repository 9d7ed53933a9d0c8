"""What is measured about Sower alone: many connections for a long time, and what one of them can do to the others."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from tests.bench.dialects import CHANNEL_HOLE
from tests.bench.scenarios import Bench, Row
from tests.bench.servers import Server

HELD, HELD_FOR = 18_000, 60.0
"""Connections in one process, 2,000 under the usual file limit of 20,000; and seconds that they are held."""

SLEEPERS, TWO_PINGS = 10_000, 50.0
"""Silent sessions, and seconds in which each is pinged twice."""

STORM = 10_000
"""Clients that come back at once."""

DAY_CONNECTIONS, DAY_EACH, DAY_DELIVERIES, PEAK = 10_000, 10, 20_000_000, 50
"""The day of a plan that costs 499 a month elsewhere: connections, subscribers of a channel, deliveries, and how much
busier than the mean its peak minute is."""

DAY_MEAN, DAY_PEAK = 30.0, 60.0
"""Seconds of the mean hour, and of the peak, that are measured."""

RECORDS = (10_000, 100_000, 1_000_000)
"""Session records over stub sockets."""

ENCRYPTED = 2000
"""Connections with TLS."""

SEGMENT, WINDOW = 536, 4096
"""Bytes of a stalled client's segments and receive buffer. For loopback's own, the kernel would take megabytes."""


def held(bench: Bench) -> Iterator[Row]:
    """Thousands of connections for a minute: none may end, and all are told something at once."""
    bench.aim("bench-held")
    bench.generator.open(20)
    before = bench.settled_memory()
    bench.generator.open(HELD)
    cpu, pings = bench.server.cpu(), bench.generator.hold(HELD_FOR)["pings"]
    share = (bench.server.cpu() - cpu) / HELD_FOR
    yield bench.row(f"{HELD:,} held {HELD_FOR:.0f} s, {pings:.0f} pings: processor", 100 * share, "% of a core")
    yield bench.row(f"{HELD:,} held: memory", (bench.settled_memory() - before) / HELD / 1024, "KiB each")
    answers = [bench.generator.run("http", 1, 10, expect=HELD + 20, most=1) for _ in range(5)]
    slowest = median(answer["last50"] for answer in answers) / 1e6
    yield bench.row(f"{HELD:,} held: a broadcast to all", slowest, "s")


def sleepers(bench: Bench) -> Iterator[Row]:
    """Silent sessions that are pinged: the share of a core that they cost."""
    bench.aim("bench-sleep")
    bench.generator.open(SLEEPERS)
    bench.rest()
    cpu, pings = bench.server.cpu(), bench.generator.hold(TWO_PINGS)["pings"]
    share = (bench.server.cpu() - cpu) / TWO_PINGS
    yield bench.row(f"{SLEEPERS:,} silent, {pings:.0f} pings in {TWO_PINGS:.0f} s", 100 * share, "% of a core")
    yield bench.row(f"{SLEEPERS:,} silent: memory in all", bench.server.memory() / 1024**2, "MiB")


def storm(bench: Bench) -> Iterator[Row]:
    """All come back at once after all were lost. The generator fails at any error, and after 60 s."""
    bench.aim("bench-storm")
    bench.generator.open(STORM)
    bench.aim("bench-storm")
    answer = bench.generator.open(STORM, at_once=STORM)
    yield bench.row(f"{STORM:,} reconnect at once: all are back", answer["seconds"], "s")
    yield bench.row(f"{STORM:,} reconnect at once: slowest", answer["readymax"] / 1e6, "s")


def day(bench: Bench) -> Iterator[Row]:
    """The mean of a day and its peak minute, publishes paced."""
    channels = DAY_CONNECTIONS // DAY_EACH
    mean = DAY_DELIVERIES / 86_400 / DAY_EACH
    bench.aim(f"bench-day-{CHANNEL_HOLE}", channels=channels)
    bench.generator.open(DAY_CONNECTIONS)
    bench.rest()
    for label, seconds, rate in (("mean", DAY_MEAN, mean), ("peak", DAY_PEAK, mean * PEAK)):
        cpu = bench.server.cpu()
        answer = bench.generator.run("http", 64, seconds, expect=DAY_EACH, rate=rate)
        share = (bench.server.cpu() - cpu) / seconds
        what = f"day of {DAY_CONNECTIONS:,}: {label}, {answer['deliveries'] / seconds:,.0f} deliveries/s"
        yield bench.row(f"{what}: processor", 100 * share, "% of a core")
        yield bench.row(f"{what}: p99", answer["each99"] / 1000, "ms")
    yield bench.row(f"day of {DAY_CONNECTIONS:,}: memory in all", bench.server.memory() / 1024**2, "MiB")


def stalled(bench: Bench) -> Iterator[Row]:
    """One of many subscribers stops reading: what the others notice, what it costs, and when it is closed."""
    count = bench.plan.subscribers
    bench.aim("bench-stall")
    bench.generator.open(count - 1)

    def p99() -> float:
        return bench.generator.run("http", 1, 0.5, expect=count - 1)["each99"] / 1000

    p99()
    before = [p99() for _ in range(12)]
    memory = bench.server.memory()
    with _stalled_subscriber(bench.server, "bench-stall") as stuck:
        during: list[float] = []
        most, held, full_at = 0, -1, 0.0
        while _subscribers(bench.server, "bench-stall") == count:
            during.append(p99())
            most = max(most, bench.server.memory() - memory)
            queue = _queue(bench.server, stuck)
            if queue > held + 1:  # the kernel took more; what it no longer takes waits in the daemon (a FIN counts 1)
                held, full_at = queue, time.monotonic()
        gone = time.monotonic() - full_at
    label = f"one of {count:,} stops reading"
    yield bench.row(f"{label}: the others' p99 before", median(before), "ms")
    yield bench.row(f"{label}: the others' p99 meanwhile", median(during), "ms")
    yield bench.row(f"{label}: memory that it takes", most / 1024, "KiB")
    yield bench.row(f"{label}: it is gone after it began to wait", gone, "s")


@contextmanager
def _stalled_subscriber(server: Server, channel: str) -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW)
        sock.connect((server.target.host, server.target.port))
        _subscribe(server, sock, channel)
        yield sock


def _subscribe(server: Server, sock: socket.socket, channel: str) -> None:
    sock.sendall(server.dialect.handshake(server.target, channel))
    heard = b""
    while server.dialect.ready.encode() not in heard:
        heard += sock.recv(WINDOW)


def _queue(server: Server, sock: socket.socket) -> int:
    """Bytes that the server's kernel holds for a client (proc_net_tcp.txt: tx_queue)."""
    ends = tuple(f":{port:04X}" for port in (server.target.port, sock.getsockname()[1]))
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, _, queues, *_ = line.split()
        if local.endswith(ends[0]) and remote.endswith(ends[1]):
            return int(queues.partition(":")[0], 16)
    return -1


def _subscribers(server: Server, channel: str) -> int:
    connection = http.client.HTTPConnection(server.target.host, server.target.port, timeout=10)
    credential = b64encode(f"{server.target.key}:{server.target.secret}".encode()).decode()
    connection.request("GET", f"/channels?prefix={channel}", headers={"Authorization": f"Basic {credential}"})
    rows = json.loads(connection.getresponse().read())["channels"]
    connection.close()
    return sum(row["subscribers"] for row in rows)


def tls(bench: Bench) -> Iterator[Row]:
    """What a connection costs with TLS and without: processor to let it in, and memory."""
    server = bench.server
    unchecked = ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE

    def connect(port: int, context: ssl.SSLContext | None) -> socket.socket:
        sock = socket.create_connection((server.target.host, port))
        sock = sock if context is None else context.wrap_socket(sock)
        _subscribe(server, sock, "bench-tls")
        return sock

    for name, port, context in (("plain", server.target.port, None), ("TLS", server.tls_port, unchecked)):
        connect(port, context).close()
        memory, cpu = bench.settled_memory(), server.cpu()
        opened = [connect(port, context) for _ in range(ENCRYPTED)]
        cpu = server.cpu() - cpu
        label = f"{ENCRYPTED:,} {name} connections"
        yield bench.row(f"{label}: processor", cpu / ENCRYPTED * 1e6, "us each")
        yield bench.row(f"{label}: memory", (bench.settled_memory() - memory) / ENCRYPTED / 1024, "KiB each")
        for sock in opened:
            sock.close()


def records(bench: Bench) -> Iterator[Row]:
    """Session records over stub sockets, each number in a process of its own (records.py)."""
    for count in RECORDS:
        command = [sys.executable, "-m", "tests.bench.records", str(count)]
        told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        for name, (figure, unit) in told.items():
            yield bench.row(f"{count:,} records: {name}", figure, unit, at=count)
