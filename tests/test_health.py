"""sower/health.py: a round through a real hub and a real journal, and what is said when one of them does not answer."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest
import trio
import trio.testing

from sower.config import Config
from sower.health import ANSWERS_WITHIN, ROUND_EVERY, Health
from sower.hub import Hub
from sower.store.journal import Journal
from sower.systemd import Systemd


class Manager:
    """What systemd hears."""

    def __init__(self, folder: Path) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind(str(folder / "notify"))
        self._sock.setblocking(False)
        self.systemd = Systemd(str(folder / "notify"), watchdog=20.0)

    def heard(self) -> int:
        """How many words came since the last time."""
        count = 0
        while True:
            try:
                assert self._sock.recv(100) == b"WATCHDOG=1"
            except BlockingIOError:
                return count
            count += 1


@asynccontextmanager
async def going_round(folder: Path, manager: Manager) -> AsyncGenerator[tuple[Health, Hub, Path]]:
    path = folder / "sower.db"
    opening = Journal.open(
        str(path), sync="normal", remember_ids=600, keep_audit=600, rules_fingerprint="", boot_id="", now=lambda: 1e9
    )
    async with opening as journal, trio.open_nursery() as nursery:
        hub = Hub(Config(), journal, now=lambda: 1e9)
        await nursery.start(hub.run)
        health = Health(hub, journal, manager.systemd)
        nursery.start_soon(health.run)
        yield health, hub, path
        nursery.cancel_scope.cancel()


def checks(health: Health) -> list[str]:
    """What is wrong, but for a loop that is late because this machine has much else to do."""
    return [fault.check for fault in health.faults() if fault.check != "lag"]


async def until(manager: Manager, words: int = 1) -> None:
    """Wait until the watchdog has been fed so often."""
    with trio.fail_after(60):
        while words > 0:
            words -= manager.heard()
            await trio.testing.wait_all_tasks_blocked(0.01)


async def test_a_daemon_that_is_well_feeds_the_watchdog_and_has_no_faults(tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    async with going_round(tmp_path, manager) as (health, _, _):
        await until(manager)
        assert checks(health) == []


async def test_a_channel_that_does_not_hand_out_starves_the_watchdog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient_clock: trio.testing.MockClock
) -> None:
    manager = Manager(tmp_path)
    async with going_round(tmp_path, manager) as (health, hub, _):

        async def stuck() -> None:
            await trio.sleep_forever()

        monkeypatch.setattr(hub, "beat", stuck)
        await trio.sleep(ROUND_EVERY * 2)
        manager.heard()
        await trio.sleep(ANSWERS_WITHIN + ROUND_EVERY)
        assert manager.heard() == 0
        assert [fault.check for fault in health.faults()] == ["stuck"]


async def test_a_journal_that_cannot_write_is_a_fault_with_its_reason_until_it_can_again(tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    async with going_round(tmp_path, manager) as (health, _, path):
        await until(manager)
        other = apsw.Connection(str(path))
        other.execute("DROP TABLE meta")
        await health.go_round()
        assert checks(health) == ["journal"]
        assert "no such table" in health.faults()[0].detail
        await until(manager)  # it answered: a restart would not mend it
        other.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        await health.go_round()
        assert checks(health) == []
        other.close()


async def test_a_loop_that_is_late_and_a_drain_are_faults(
    tmp_path: Path, patient_clock: trio.testing.MockClock
) -> None:
    async with going_round(tmp_path, Manager(tmp_path)) as (health, _, _):
        await trio.sleep(ROUND_EVERY)
        health.lag, health.draining = 0.9, True
        assert [(fault.check, fault.detail) for fault in health.faults()] == [
            ("draining", "the daemon is shutting down"),
            ("lag", "the loop was 0.9 s late"),
        ]
