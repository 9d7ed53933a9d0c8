"""`python -m tests.bench.kill`: kill a daemon again and again, and look for what it lost.

Each round publishes with ids over HTTP and over sockets, in all protocols, while a subscriber listens on each channel,
sends SIGKILL at a random moment (sometimes another one while the daemon starts again), and then holds
what was acknowledged against what is there:

  - the database, copied as the kill left it, passes PRAGMA integrity_check
  - whatever was in doubt and has an id is published again with it, and must end up there once
  - /history has every acknowledged message once, with its serial, in order, and none that was never sent
  - it has every message that a subscriber saw before the kill
  - a subscriber that resumes from its position gets exactly the rest, and no gap
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx
import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection, open_websocket_url

from tests.bench.ledger import Event, Ledger
from tests.bench.servers import (
    KEY,
    SECRET,
    ServerFailed,
    Target,
    free_port,
    start_sower,
    wait_until_it_answers,
    write_config,
)
from tests.bench.speakers import CONNECTS_WITHIN, OVER_HTTP, WITHOUT_ID, AblySocket, data, number_in

CHANNELS = ("kept-a", "kept-b", "kept-c")
HTTP_PUBLISHERS, SOCKET_PUBLISHERS = 2, 2
"""For each channel."""

LIVES_AT_MOST = 0.6
"""Seconds that a daemon is published to before it is killed."""

KILLED_WHILE_STARTING = 0.2
"""The share of rounds in which it is killed once more before it answers..."""

STARTS_WITHIN = 0.8
"""...at a random moment of so many seconds."""

BATCH = 5
"""Messages in one HTTP publish, at most."""

ROUND_WITHIN = 60.0
"""Seconds that one round may take, before it counts as hung."""

GONE = (httpx.TransportError, ConnectionClosed, HandshakeError, OSError)
"""What a client meets when its daemon is killed."""


@dataclass
class Outcome:
    """What the rounds found. problems: one line each, empty when nothing was lost or doubled."""

    rounds: int = 0
    acked: int = 0
    in_doubt: int = 0
    by: Counter[str] = field(default_factory=Counter[str])
    problems: list[str] = field(default_factory=list[str])


class Daemon:
    """A Sower that is killed and started again, always on the same port and database."""

    def __init__(self, folder: Path, sync: str) -> None:
        self.folder = folder
        self.target = Target(free_port(), KEY, SECRET)
        self.log = folder / "log"
        self.config = write_config(folder, self.target.port, sync=sync, messages=1_000_000)
        self.http = f"http://{self.target.host}:{self.target.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        self.process = start_sower(self.config, self.log)

    async def until_it_answers(self) -> None:
        """Raises ServerFailed."""
        assert self.process is not None
        await trio.to_thread.run_sync(wait_until_it_answers, self.process, self.target, self.log)

    def kill(self) -> None:
        """SIGKILL. Raises ServerFailed when the daemon had ended by itself."""
        assert self.process is not None
        ended = self.process.poll()
        self.process.kill()
        self.process.wait()
        if ended is not None:
            raise ServerFailed(f"the daemon ended by itself with {ended}:\n" + self.log.read_text()[-2000:])


class Watcher:
    """A subscriber of one channel that keeps its position across kills."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.epoch = self.serial = ""

    async def listen(self, daemon: Daemon, ledger: Ledger) -> None:
        """Note what arrives until the daemon is gone."""
        try:
            async with _socket(daemon, self.channel, self.position) as socket:
                while True:
                    self._take(await _frame(socket), ledger)
        except GONE:
            return

    async def catch_up(self, daemon: Daemon, history: list[Event]) -> list[str]:
        """Resume, and compare what comes with the events of `history` after the position."""
        if not self.position:  # killed before the first welcome
            return []
        due = [event for event in history if event.serial > self.serial]
        epoch, ledger = self.epoch, Ledger()
        async with _socket(daemon, self.channel, self.position) as socket:
            self._take(await _frame(socket), ledger)
            for event in due:
                self._take(await _frame(socket), ledger)
                if self.serial != event.serial:
                    return [f"{self.channel}: resumed to {self.serial or 'nothing'}, {event.serial} was next"]
        if epoch != self.epoch:
            return [f"{self.channel}: the epoch went from {epoch} to {self.epoch}, and no history was lost"]
        return []

    @property
    def position(self) -> str:
        return f"{self.epoch}:{self.serial}" if self.epoch else ""

    def _take(self, frame: dict[str, Any], ledger: Ledger) -> None:
        if frame["type"] == "welcome":
            self.epoch, _, head = frame["position"].partition(":")
            self.serial = self.serial or head
        elif frame["type"] == "event":
            self.serial = frame["serial"]
            ledger.seen[self.channel].add(_event(frame))
        else:
            raise ServerFailed(f"{self.channel}: a subscriber was sent {frame}")


@dataclass
class Loop:
    """The rounds. numbers: how many were given out; marks: the last serial checked of each channel."""

    daemon: Daemon
    random: Random
    ledger: Ledger = field(default_factory=Ledger)
    outcome: Outcome = field(default_factory=Outcome)
    numbers: int = 0
    marks: dict[str, str] = field(default_factory=dict[str, str])
    watchers: list[Watcher] = field(default_factory=lambda: [Watcher(channel) for channel in CHANNELS])

    async def round(self) -> None:
        """One life of the daemon, its end and what is left of it. The daemon answers before and after."""
        ledger = Ledger()
        await self._live(ledger)
        self.outcome.problems += _integrity(self.daemon.folder)
        await self._start_again()
        self.outcome.in_doubt += sum(len(ledger.in_doubt(channel)) for channel in CHANNELS)
        async with _client(self.daemon) as client:
            for watcher in self.watchers:
                channel = watcher.channel
                await _settle(client, channel, ledger)
                new = await history(client, channel, self.marks.get(channel))
                self.outcome.problems += ledger.problems(channel, new)
                self.outcome.problems += await watcher.catch_up(self.daemon, new)
                if new:
                    self.marks[channel] = new[-1].serial
        self.ledger.absorb(ledger)
        self.outcome.rounds += 1
        self.outcome.acked = sum(len(acked) for acked in self.ledger.acked.values())

    async def finish(self) -> None:
        """Hold the whole history against all that was ever acknowledged."""
        async with _client(self.daemon) as client:
            for channel in CHANNELS:
                self.outcome.problems += self.ledger.problems(channel, await history(client, channel, None))

    async def _live(self, ledger: Ledger) -> None:
        async with _client(self.daemon) as client, trio.open_nursery() as nursery:
            for watcher in self.watchers:
                nursery.start_soon(watcher.listen, self.daemon, ledger)
                for name in OVER_HTTP:
                    nursery.start_soon(self._publish_as, name, client, watcher.channel, ledger)
                nursery.start_soon(self._publish_over_ablys_socket, watcher.channel, ledger)
                for _ in range(HTTP_PUBLISHERS):
                    nursery.start_soon(self._publish_over_http, client, watcher.channel, ledger)
                for _ in range(SOCKET_PUBLISHERS):
                    nursery.start_soon(self._publish_over_socket, watcher.channel, ledger)
            await trio.sleep(self.random.uniform(0, LIVES_AT_MOST))
            self.daemon.kill()

    async def _start_again(self) -> None:
        self.daemon.launch()
        if self.random.random() < KILLED_WHILE_STARTING:
            await trio.sleep(self.random.uniform(0, STARTS_WITHIN))
            self.daemon.kill()
            self.outcome.problems += _integrity(self.daemon.folder)
            self.daemon.launch()
        await self.daemon.until_it_answers()

    async def _publish_over_http(self, client: httpx.AsyncClient, channel: str, ledger: Ledger) -> None:
        try:
            while True:
                count = self.random.randint(1, BATCH)
                await _publish(client, channel, [self._number(channel, ledger) for _ in range(count)], ledger)
        except GONE:
            return

    async def _publish_over_socket(self, channel: str, ledger: Ledger) -> None:
        try:
            async with _socket(self.daemon, channel) as socket:
                while True:
                    number = self._number(channel, ledger)
                    await socket.send_message(json.dumps({"type": "publish", **_message(number)}))
                    while (frame := await _frame(socket))["type"] != "ack":
                        if frame["type"] == "error":
                            raise ServerFailed(f"a publish over a socket was refused: {frame}")
                    ledger.acked[channel][number] = frame["serial"]
        except GONE:
            return

    async def _publish_as(self, name: str, client: httpx.AsyncClient, channel: str, ledger: Ledger) -> None:
        try:
            while True:
                number = self._number(channel, ledger)
                if name in WITHOUT_ID:
                    ledger.once[channel].add(number)
                ledger.acked[channel][number] = await OVER_HTTP[name](client, self.daemon.target, channel, number)
                self.outcome.by[name] += 1
        except GONE:
            return

    async def _publish_over_ablys_socket(self, channel: str, ledger: Ledger) -> None:
        try:
            async with AblySocket(self.daemon.target) as socket:
                while True:
                    number = self._number(channel, ledger)
                    ledger.acked[channel][number] = await socket.publish(channel, number)
                    self.outcome.by["ably's socket"] += 1
        except GONE:
            return

    def _number(self, channel: str, ledger: Ledger) -> int:
        self.numbers += 1
        ledger.sent[channel].add(self.numbers)
        return self.numbers


@asynccontextmanager
async def killing(folder: Path, seed: int, *, sync: str = "normal") -> AsyncIterator[Loop]:
    """A loop about a daemon that answers; it is killed for good when the block ends. Raises ServerFailed."""
    daemon = Daemon(folder, sync)
    daemon.launch()
    try:
        await daemon.until_it_answers()
        yield Loop(daemon, Random(seed))
    finally:
        if daemon.process is not None:
            daemon.process.kill()
            daemon.process.wait()


async def history(client: httpx.AsyncClient, channel: str, since: str | None) -> list[Event]:
    """All events of `channel` after the serial `since`, oldest first, page by page."""
    events: list[Event] = []
    url = f"/history/{channel}?limit=1000" + (f"&since={since}" if since else "")
    while url:
        page = (await client.get(url)).raise_for_status().json()
        if page["gap"]:
            raise ServerFailed(f"{channel}: the history after {since} has a gap")
        events += [_event(event) for event in page["events"]]
        url = page["next"]
    return events


async def kill_many(folder: Path, rounds: int, seed: int, sync: str) -> Outcome:
    """Kill `rounds` times, telling of each tenth on stderr; stop at the first round with a problem."""
    started = time.monotonic()
    async with killing(folder, seed, sync=sync) as loop:
        while loop.outcome.rounds < rounds and not loop.outcome.problems:
            with trio.move_on_after(ROUND_WITHIN) as patience:
                await loop.round()
            if patience.cancelled_caught:
                loop.outcome.problems.append(f"the round hung for {ROUND_WITHIN:.0f} s")
            if loop.outcome.rounds % 10 == 0:
                minutes = (time.monotonic() - started) / 60
                told = f"{loop.outcome.rounds} rounds, {loop.outcome.acked:,} acknowledged, {minutes:.1f} min"
                print(told, file=sys.stderr, flush=True)
        if not loop.outcome.problems:
            await loop.finish()
        return loop.outcome


async def _settle(client: httpx.AsyncClient, channel: str, ledger: Ledger) -> None:
    """Publish whatever is in doubt again, each with its old id."""
    numbers = [number for number in ledger.in_doubt(channel) if number not in ledger.once[channel]]
    for start in range(0, len(numbers), BATCH):
        await _publish(client, channel, numbers[start : start + BATCH], ledger)


async def _publish(client: httpx.AsyncClient, channel: str, numbers: list[int], ledger: Ledger) -> None:
    events = [{"channel": channel, **_message(number)} for number in numbers]
    answer = await client.post("/events/publish", json={"events": events})
    if answer.status_code != 200:
        raise ServerFailed(f"a publish was refused with {answer.status_code}: {answer.text}")
    for number, published in zip(numbers, answer.json()["published"], strict=True):
        ledger.acked[channel][number] = published["serial"]


def _message(number: int) -> dict[str, Any]:
    return {"event": "tick", "data": data(number), "id": f"n{number}"}


def _event(frame: dict[str, Any]) -> Event:
    return Event(number_in(frame["data"]), frame["serial"])


def _socket(daemon: Daemon, channel: str, since: str = "") -> AbstractAsyncContextManager[WebSocketConnection]:
    resume = f"&since={since}" if since else ""
    url = f"ws://{daemon.target.host}:{daemon.target.port}/ws/{channel}?key={KEY}{resume}"
    return open_websocket_url(url, connect_timeout=CONNECTS_WITHIN)


async def _frame(socket: WebSocketConnection) -> dict[str, Any]:
    return json.loads(await socket.get_message())


def _client(daemon: Daemon) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=daemon.http, auth=(KEY, SECRET), timeout=20)


def _integrity(folder: Path) -> list[str]:
    """PRAGMA integrity_check of a copy, so that the daemon itself recovers what the kill left."""
    with tempfile.TemporaryDirectory() as aside:
        for name in ("sower.db", "sower.db-wal"):
            if (folder / name).exists():
                shutil.copy(folder / name, aside)
        connection = sqlite3.connect(Path(aside) / "sower.db")
        rows = [row[0] for row in connection.execute("PRAGMA integrity_check")]
        connection.close()
    return [] if rows == ["ok"] else [f"integrity_check: {row}" for row in rows]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.kill", description="See tests/bench/kill.py.")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--sync", choices=("normal", "full"), default="normal")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sower-kill-"))
    outcome = trio.run(kill_many, folder, options.rounds, options.seed, options.sync)
    for problem in outcome.problems:
        print(problem)
    print(", ".join(f"{name} {count:,}" for name, count in outcome.by.items()))
    doubt = f"{outcome.in_doubt:,} in doubt and published again"
    summary = f"{outcome.rounds} rounds, {outcome.acked:,} acknowledged, {doubt}"
    if outcome.problems:
        print(f"{summary}; {len(outcome.problems)} problems; seed {options.seed}, all is kept in {folder}")
        return 1
    shutil.rmtree(folder)
    print(f"{summary}; none missing, none twice, integrity_check ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
