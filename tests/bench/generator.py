"""Drive load.c: one command a line, one answer a line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from tests.bench.build import program
from tests.bench.dialects import Dialect, Target, payload

Answer = dict[str, float]
"""Numbers by name, as load.c's head describes them."""


SOURCES = 16
"""Addresses that sockets are opened from: one has 28,000 ports, and closed ones rest for a minute."""


class LoadFailed(Exception):
    """The generator met something that makes the figures worthless, and says what."""


class Generator:
    """The running load generator, aimed at one channel of one server."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def aim(self, target: Target, dialect: Dialect, channel: str, size: int, *, channels: int = 1) -> None:
        """Speak `dialect` to `target` on `channel`, payloads of `size` bytes. Open sockets stay.

        channels: how many the name stands for, see dialects.CHANNEL_HOLE
        """
        first, *rest = dialect.requests(target, channel, payload(size), channels)
        self._ask(f"server {target.host} {target.port}")
        self._ask(f"sources {_own_addresses(self._process.pid)} {SOURCES}")
        self._ask(f"channels {channels}")
        self._set("handshake", dialect.handshake(target, channel))
        self._set("greeting", dialect.greeting.encode())
        self._set("hello", dialect.subscribe(target, channel))
        self._set("ready", dialect.ready.encode())
        self._set("publish", first)
        for request in rest:
            self._ask(f"add publish {request.hex()}")
        self._set("event", dialect.client_event(target, channel, payload(size)))
        self._set("ack", dialect.ack.encode())

    def open(self, count: int, *, at_once: int = 64, seconds: float = 60) -> Answer:
        """Open subscribed sockets. Raises LoadFailed when not all are ready within `seconds`."""
        answer = self._ask(f"open {count} {at_once} {seconds}")
        if answer["opened"] != count:
            raise LoadFailed(f"only {answer['opened']:.0f} of {count} sockets were ready within {seconds:.0f} s")
        return answer

    def run(
        self,
        source: Literal["http", "socket"],
        senders: int,
        seconds: float,
        *,
        expect: int = 0,
        most: int = 1_000_000,
        rate: float = 0,
    ) -> Answer:
        """Publish for `seconds`, at most `most` times. Raises LoadFailed if any was lost or disordered.

        rate: publishes a second, each timed from when it was due; 0: each sender's next when its last one is done
        """
        answer = self._ask(f"run {source} {senders} {most} {seconds} {expect} {rate}")
        if answer["lost"] or answer["disorder"] or answer["stray"]:
            raise LoadFailed("the server lost, doubled or disordered messages: " + repr(answer))
        return answer

    def hold(self, seconds: float) -> Answer:
        """Only answer pings. Raises LoadFailed when a socket is closed meanwhile."""
        return self._ask(f"hold {seconds}")

    def close(self) -> None:
        """Close the sockets and the publishers' connections."""
        self._ask("close")

    def _set(self, name: str, value: bytes) -> None:
        self._ask(f"set {name} {value.hex() or '-'}")

    def _ask(self, command: str) -> Answer:
        talk_in, talk_out = self._process.stdin, self._process.stdout
        assert talk_in is not None
        assert talk_out is not None
        talk_in.write(command + "\n")
        talk_in.flush()
        word, _, rest = talk_out.readline().strip().partition(" ")
        if word != "ok":
            raise LoadFailed(rest or "the generator ended without a word")
        return {name: float(value) for name, _, value in (pair.partition("=") for pair in rest.split())}


def _own_addresses(pid: int) -> str:
    """The first of a process's own loopback addresses: what another one left in TIME_WAIT is in nobody's way."""
    return f"127.{pid >> 8 & 0xFF}.{pid & 0xFF}.1"


@contextmanager
def generator(core: int | None) -> Iterator[Generator]:
    """A generator process, on `core` alone if one is named; it ends with the block. Raises NoCompiler."""
    with subprocess.Popen([str(program("load"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if core is not None:
                os.sched_setaffinity(process.pid, {core})
            yield Generator(process)
        finally:
            process.kill()
