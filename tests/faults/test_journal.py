"""The journal's disk fails, is full or hangs at its Nth operation, for every N."""

from __future__ import annotations

import itertools
import math
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import apsw
import pytest
import trio
import trio.testing

from sower.core.message import Did, Position
from sower.errors import JournalFailed, StoreError
from tests.faults.disk import Disk, a_disk
from tests.faults.house import HISTORY, PATIENCE, House, a_house, stored
from tests.store.opened import serial
from tests.store.patient import Patient


async def daily_work(house: House) -> None:
    """Publish alone and together, repeat, read, recover, come and go, delete, sweep. Any of it may be refused."""
    await house.publish("kept-a", "a1")
    await house.publish("kept-a", "a2", "a3")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(house.publish, "kept-a", "a4")
        nursery.start_soon(house.publish, "kept-b", "b1", "b2")
    await house.publish("kept-a", "a1")
    await house.change("kept-a", "a1-changed", "a1")
    _, subscription = house.follow("presence-p")
    house.appear(subscription, "ada", Did.ENTERED)
    house.appear(subscription, "ada", Did.LEFT)
    await house.publish("presence-p", "p1")
    attempts: list[Callable[[], object]] = [
        lambda: house.journal.page("1", "kept-a", limit=10, history=HISTORY),
        lambda: house.journal.count("1", "kept-a", 0, 10, HISTORY),
        lambda: house.journal.delete("1", "kept-fresh", 0, serial(0)),
        lambda: house.journal.apply([("INSERT INTO standing VALUES (?, ?, ?)", ("1", "c", ""))]),
        lambda: house.journal.apply([("DELETE FROM standing", ())]),
        lambda: house.journal.sweep(lambda name: HISTORY, 3600),
        house.health.go_round,
    ]
    for attempt in attempts:
        with trio.move_on_after(PATIENCE), suppress(JournalFailed, apsw.Error):
            await attempt()  # type: ignore[misc]
    await house.publish("kept-fresh", "f1")
    await house.publish("kept-other", "o1")


class Faults:
    """The disk is ill from its Nth operation on, for so many operations. error: what it says, None where it hangs."""

    def __init__(self, disk: Disk, at: int, lasting: float, error: type[apsw.Error] | None, patient: Patient) -> None:
        self._patient, self._token = patient, trio.lowlevel.current_trio_token()
        self._first, self._last, self._error = at, at + lasting, error
        self._well = threading.Event()
        self.struck = 0
        disk.fault = self._fault

    def _fault(self, number: int, what: str) -> None:
        if not self._first <= number < self._last or (self._error is apsw.FullError and what != "write"):
            return
        self.struck += 1
        if self._error is None:
            self._patient.hang(self._token, self._well)
        else:
            raise self._error(f"injected at operation {number}, a {what}")

    @property
    def lasting(self) -> bool:
        """Whether the disk is ill now, and was noticed to be."""
        return bool(self.struck) and self._last == math.inf

    def end(self) -> None:
        """The disk is well again."""
        self._last = 0
        self._well.set()


async def a_day_with_faults(folder: Path, disk: Disk, faults: Faults, at: int) -> bool:
    """Everything that is promised when the disk does this. Whether there was an Nth operation."""
    epoch = ""
    for _ in range(3):
        try:
            async with a_house(folder) as house:
                epoch = epoch or house.journal.epoch
                try:
                    await _the_day(house, faults)
                finally:
                    faults.end()
                acked = house.acked
        except StoreError:
            assert faults.struck, "it could not be opened and the disk was well"
            faults.end()
            disk.operations = at + 1000
            continue
        break
    struck, disk.fault = faults.struck, lambda number, what: None
    async with a_house(folder) as house:
        assert house.journal.epoch == epoch
    for channel in ("kept-a", "kept-b", "kept-fresh", "kept-other", "presence-p"):
        due = sorted((serial, text) for (name, text), serial in acked.items() if name == channel)
        assert stored(folder, channel) == [(text, serial) for serial, text in due]
    return bool(struck)


async def _the_day(house: House, faults: Faults) -> None:
    followers = {name: house.follow(name)[0] for name in ("kept-a", "kept-b", "kept-other")}
    await trio.testing.wait_all_tasks_blocked()
    await daily_work(house)
    if faults.lasting:
        assert [fault.check for fault in house.health.faults()] == ["journal"], "readiness says why"
        newcomer, _ = house.follow("kept-cold", since=Position("", 1))
        await until(lambda: bool(newcomer.said))
    faults.end()
    while house.health.faults():
        await house.health.go_round()
    for name, text in list(house.refused):
        await house.publish_until_accepted(name, text)
    recovered = {name: house.follow(name, since=Position(house.journal.epoch, 0))[0] for name in followers}
    for name, follower in (*followers.items(), *recovered.items()):
        await until(lambda follower=follower: bool(follower.said))
        if follower.said[0] != "welcome":
            continue  # it was told that it could not come in, and its SDK would try again
        due = [text for _, text in sorted((n, text) for (channel, text), n in house.acked.items() if channel == name)]
        await until(lambda follower=follower, due=due: len(follower.heard.split()) >= len(due))
        assert follower.heard.split() == due, name


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it, on the daemon's clock."""
    with trio.fail_after(120):
        while not condition():  # noqa: ASYNC110 - it is several things, and none has an event
            await trio.sleep(1)


ILLS = {
    "fails once": (apsw.IOError, 1),
    "is full once": (apsw.FullError, 1),
    "fails until it is mended": (apsw.IOError, math.inf),
    "is full until room is made": (apsw.FullError, math.inf),
    "hangs until it goes on": (None, math.inf),
}

EVERY = int(os.environ.get("SOWER_TEST_EVERY", "9"))
"""At each which operation the disk falls ill; 1 is the whole test, and takes six minutes."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # SQLite outlives some faults by itself
@pytest.mark.parametrize("ill", ILLS)
async def test_a_disk_that_falls_ill_at_its_nth_operation_loses_and_doubles_nothing_that_was_acknowledged(
    tmp_path: Path, patient: Patient, patient_clock: trio.testing.MockClock, ill: str
) -> None:
    error, lasting = ILLS[ill]
    struck = 0
    for at in itertools.count(1 if error else 1 + await operations_to_open(tmp_path), EVERY):
        (folder := tmp_path / str(at)).mkdir()
        with a_disk() as disk:
            try:
                struck += await a_day_with_faults(folder, disk, Faults(disk, at, lasting, error, patient), at)
            except BaseException as problem:
                problem.add_note(f"the disk fell ill at operation {at}")
                raise
            if disk.operations < at:
                break
    assert struck > 50 / EVERY


async def operations_to_open(folder: Path) -> int:
    """How many operations a start takes: before its end nobody is served."""
    with a_disk() as disk:
        async with a_house(folder):
            return disk.operations
