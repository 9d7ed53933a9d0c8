"""A real daemon whose disk is full: what each protocol's publishers are told, and that all goes on when there is room."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
import trio

from tests.bench.dialects import Target
from tests.bench.speakers import OVER_HTTP, Refused, number_in
from tests.e2e.daemon import KEY, PATIENCE, SECRET, Client, Daemon, running

CHANNEL = "kept-full"

ROOM = 16 * 1024
"""Bytes that the database's files may still grow: some publishes."""

ANSWERS_WITHIN = 20.0
"""Seconds in which a publisher has an answer, on a machine with much else to do; else it has none at all."""


class Publisher:
    """Publishes numbers in every protocol in turn. accepted, refused: which was which."""

    def __init__(self, daemon: Daemon) -> None:
        self.accepted: list[int] = []
        self.refused: list[int] = []
        self._target = Target(daemon.port, KEY, SECRET)
        self._daemon = daemon
        self._number = 0

    async def round(self) -> int:
        """One message in each protocol. Returns how many were accepted."""
        before = len(self.accepted)
        async with httpx.AsyncClient(
            base_url=self._daemon.url, auth=(KEY, SECRET), timeout=PATIENCE, trust_env=False
        ) as client:
            for publish in OVER_HTTP.values():
                self._number += 1
                try:
                    with trio.fail_after(ANSWERS_WITHIN):
                        await publish(client, self._target, CHANNEL, self._number)
                except Refused:
                    self.refused.append(self._number)
                else:
                    self.accepted.append(self._number)
        return len(self.accepted) - before


def fill_by_limit(daemon: Daemon) -> Callable[[], None]:
    """Let the daemon's files grow no more (RLIMIT_FSIZE). Returns what takes that back."""
    assert daemon.process is not None
    pid = daemon.process.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    size = max((daemon.folder / name).stat().st_size for name in ("sower.db", "sower.db-wal"))
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size + ROOM, hard))
    return lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard)) and None


def fill_with_ballast(daemon: Daemon) -> Callable[[], None]:
    """Fill the file system that the daemon's folder is on. Returns what takes that back."""
    ballast = daemon.folder / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast.unlink


async def ready(daemon: Daemon) -> httpx.Response:
    return await daemon.request("GET", "/health/ready", auth=False)


async def heard(subscriber: Client, count: int) -> list[int]:
    return [number_in(data) for data in await subscriber.events(count)]


async def lose_room_and_get_it_back(daemon: Daemon, fill: Callable[[Daemon], Callable[[], None]]) -> None:
    publisher = Publisher(daemon)
    async with daemon.socket(CHANNEL) as subscriber:
        await subscriber.expect("welcome")
        assert await publisher.round() == len(OVER_HTTP)
        make_room = fill(daemon)
        with trio.fail_after(PATIENCE * 6):
            while await publisher.round():
                pass
        answer = await ready(daemon)
        assert answer.status_code == 503
        [fault] = [fault for fault in answer.json()["faults"] if fault["check"] != "lag"]
        assert fault["check"] == "journal"
        assert "full" in fault["detail"] or "I/O" in fault["detail"]
        assert (await daemon.request("GET", "/health/live", auth=False)).status_code == 200
        assert (await daemon.request("GET", f"/history/{CHANNEL}")).status_code == 200, "what is there can be read"
        make_room()
        with trio.fail_after(PATIENCE):
            while (await ready(daemon)).status_code != 200:  # noqa: ASYNC110 - nobody publishes: it finds out by itself
                await trio.sleep(0.1)
        assert await publisher.round() == len(OVER_HTTP)
        assert await heard(subscriber, len(publisher.accepted)) == publisher.accepted
    assert publisher.refused
    await daemon.stop(signal.SIGKILL)
    await daemon.start()
    page = (await daemon.request("GET", f"/history/{CHANNEL}?limit=1000")).json()
    assert [number_in(event["data"]) for event in page["events"]] == publisher.accepted


SMALL_DISK = os.environ.get("SOWER_TEST_SMALL_DISK", "")
"""A folder on a file system of a few MiB, where there is one: `unshare -Urm`, `mount -t tmpfs -o size=2m tmpfs DIR`."""

WAYS = {"by a limit": fill_by_limit, **({"by ballast": fill_with_ballast} if SMALL_DISK else {})}


@pytest.mark.parametrize("way", WAYS)
async def test_a_full_disk_is_told_to_publishers_of_every_protocol_and_the_daemon_goes_on_when_there_is_room(
    tmp_path: Path, way: str
) -> None:
    async with running(tmp_path if way == "by a limit" else Path(SMALL_DISK)) as daemon:
        await lose_room_and_get_it_back(daemon, WAYS[way])


async def test_a_full_disk_does_not_keep_the_daemon_from_ending(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        publisher = Publisher(daemon)
        await publisher.round()
        fill_by_limit(daemon)
        while await publisher.round():
            pass
        assert await daemon.stop() == 0
        await daemon.start()
        page = (await daemon.request("GET", f"/history/{CHANNEL}?limit=1000")).json()
        assert [number_in(event["data"]) for event in page["events"]] == publisher.accepted
