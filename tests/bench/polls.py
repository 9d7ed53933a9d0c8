"""Long polls of PubNub's on one channel: deliveries through the whole cycle, memory and idle cost of a held poll.

The C generator speaks WebSockets; this load is a plain epoll loop in a process of its own: each client polls, is
answered, takes the cursor and polls again, while one publisher publishes as fast as it is answered.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.bench.scenarios import Bench, Row
from tests.bench.servers import KEY

POLLS, POLLED_FOR = 1000, 4.0
"""Clients on one channel, and seconds of publishing."""

HELD, STEP, HELD_FOR = 10_000, 500, 20.0
"""Polls that nothing comes for, how many come at a time, and seconds in which their cost is measured."""

CHANNEL = "bench-polls"


def polls(bench: Bench) -> Iterator[Row]:
    """10,000 clients that only wait, then the cycle with 1,000."""
    bench.aim(CHANNEL)
    before = bench.settled_memory()
    with _load(bench) as load:
        for count in range(STEP, HELD + 1, STEP):
            _ask(load, f"open {count}")  # in steps: what counts is a poll that waits, not the tasks of a storm
            bench.rest()
        memory = bench.settled_memory() - before
        yield bench.row(f"{HELD:,} polls held: memory", memory / HELD / 1024, "KiB each")
        cpu = bench.server.cpu()
        time.sleep(HELD_FOR)
        yield bench.row(f"{HELD:,} polls held: processor", 100 * (bench.server.cpu() - cpu) / HELD_FOR, "% of a core")
    with _load(bench) as load:
        _ask(load, f"open {POLLS}")
        cpu = bench.server.cpu()
        answer = _ask(load, f"publish {POLLED_FOR}")
        share = (bench.server.cpu() - cpu) / answer["seconds"]
        rate = answer["deliveries"] / answer["seconds"]
        scenario = f"{POLLS:,} polls, {answer['publishes']:.0f} publishes: deliveries"
        yield Row(bench.server.name, scenario, rate, "/s", server_cpu=share)


@contextmanager
def _load(bench: Bench) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.bench.polls", str(bench.server.target.port)]
    load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield load
    finally:
        load.terminate()
        load.wait()


def _ask(load: subprocess.Popen[str], what: str) -> dict[str, float]:
    assert load.stdin is not None
    assert load.stdout is not None
    load.stdin.write(what + "\n")
    load.stdin.flush()
    return json.loads(load.stdout.readline())


class Load:
    """All clients. A client is a socket that holds one poll, and the bytes of its answer so far."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._parts: dict[int, bytes] = {}
        self._cursors: dict[int, bytes] = {}
        self.deliveries = 0

    def open(self, count: int) -> None:
        """Open so many clients in all, each with a poll of its own."""
        while len(self._sockets) < count:
            sock = socket.create_connection(("127.0.0.1", self._port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            fd = sock.fileno()
            self._sockets[fd] = sock
            self._poll(fd, b"")
            self._epoll.register(fd, select.EPOLLIN)
            self.turn(0)
        while len(self._cursors) < count:
            self.turn(0.1)

    def turn(self, seconds: float) -> None:
        """Take what came, and poll again behind it."""
        for fd, _ in self._epoll.poll(seconds, 1024):
            data = self._parts.pop(fd, b"") + self._sockets[fd].recv(65536)
            head, found, body = data.partition(b"\r\n\r\n")
            if not found or not body.endswith(b"]}"):
                self._parts[fd] = data
                continue
            assert head.startswith(b"HTTP/1.1 200"), data[:300]
            self.deliveries += body.count(b'"p":{')
            self._poll(fd, body[11:28])

    def _poll(self, fd: int, cursor: bytes) -> None:
        if cursor:
            self._cursors[fd] = cursor
        name = b"sub-" + KEY.encode()
        target = b"/v2/subscribe/%s/%s/0?tt=%s&tr=1&uuid=user-%d&pnsdk=bench" % (
            name,
            CHANNEL.encode(),
            cursor or b"0",
            fd,
        )
        self._sockets[fd].send(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % target)

    def publish(self, seconds: float) -> dict[str, float]:
        """Publish as fast as it is answered, and wait until all have heard the last."""
        with socket.create_connection(("127.0.0.1", self._port)) as publisher:
            publisher.setblocking(False)
            path = f"/publish/pub-{KEY}/sub-{KEY}/0/{CHANNEL}/0/%22{'x' * 100}%22?uuid=publisher"
            request = f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            begun, publishes, self.deliveries, waiting = time.monotonic(), 0, 0, False
            while time.monotonic() < begun + seconds or waiting or self.deliveries < publishes * len(self._sockets):
                # one in flight, and the next once most have heard it: what is faster only makes answers longer
                heard = self.deliveries >= publishes * len(self._sockets)
                if not waiting and heard and time.monotonic() < begun + seconds:
                    publisher.send(request)
                    publishes, waiting = publishes + 1, True
                self.turn(0.001)
                try:
                    waiting = waiting and b'"Sent"' not in publisher.recv(4096)
                except BlockingIOError:
                    pass
            return {"publishes": publishes, "deliveries": self.deliveries, "seconds": time.monotonic() - begun}


def main() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard) if hard > soft else (soft, hard))
    load = Load(int(sys.argv[1]))
    for line in sys.stdin:
        what, _, number = line.strip().partition(" ")
        answer: dict[str, float] = {}
        if what == "open":
            load.open(int(number))
        else:
            answer = load.publish(float(number))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
