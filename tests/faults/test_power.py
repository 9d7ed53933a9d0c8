"""The power is cut at each operation of the journal's disk: what was not synced is gone, or there in part, in any order."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from sower.core.message import Message
from tests.faults.disk import Disk, Op, a_disk, keep_all, keep_none, keep_some
from tests.store.opened import HISTORY, opened, serial

MESSAGES = 12

CUT = {"boot_id": "after the cut"}


class Cut:
    """What a cut at one moment left in a folder, and what was acknowledged by then: how many messages, in which epoch."""

    def __init__(self, folder: Path, epoch: str, acknowledged: int) -> None:
        self.folder = folder
        self.epoch = epoch
        self.acknowledged = acknowledged


class Life:
    """A journal that is published to on a disk; at each operation the power is cut, in a copy of the disk."""

    def __init__(self, folder: Path, disk: Disk, keep: Callable[[list[Op]], list[Op]]) -> None:
        self.cuts: list[Cut] = []
        self.epoch = ""
        self.acknowledged = 0
        self._folder = folder
        self._disk = disk
        self._keep = keep

    def cut(self, number: int, what: str) -> None:
        """Called in SQLite's thread before an operation."""
        folder = self._folder / f"cut-{number}"
        acknowledged = self.acknowledged
        self._disk.after_a_cut(folder, self._keep)
        self.cuts.append(Cut(folder, self.epoch, acknowledged))

    async def live(self, home: Path, sync: str) -> None:
        """Run twice: the first time to a clean end, the second time under publishing until the end."""
        for begin, end in ((0, MESSAGES // 3), (MESSAGES // 3, MESSAGES)):
            async with opened(home, sync=sync) as journal:
                self.epoch = journal.epoch
                for n in range(begin, end):
                    await journal.append("1", "c", [Message(serial(n), "e", b"%d" % n * 200, id=str(n))], HISTORY)
                    self.acknowledged = n + 1


async def after(cut: Cut) -> tuple[str, list[int]]:
    """What a start after the cut finds: the epoch, and which messages it has. Fails where the file is not whole."""
    async with opened(cut.folder, **CUT) as journal:
        assert await journal.read(lambda db: db.execute("PRAGMA integrity_check").get) == "ok"
        page = await journal.page("1", "c", limit=1000, history=HISTORY)
        return journal.epoch, [m.serial - serial(0) for m in page.messages]


WHAT_IS_KEPT = {
    "nothing": keep_none,
    "everything": keep_all,
    **{f"any sectors, {seed}": keep_some(Random(seed)) for seed in range(int(os.environ.get("SOWER_TEST_CUTS", "2")))},
}
"""By name, what a cut leaves of what was not synced."""


async def losses(folder: Path, sync: str, kept: str) -> list[tuple[Cut, int, str]]:
    """Live, be cut everywhere, start again each time: how many acknowledged messages are gone, and the epoch then."""
    with a_disk() as disk:
        (folder / "home").mkdir()
        life = Life(folder, disk, WHAT_IS_KEPT[kept])
        disk.fault = life.cut
        await life.live(folder / "home", sync)
    assert len(life.cuts) > 100
    found: list[tuple[Cut, int, str]] = []
    with a_disk():
        for cut in life.cuts:
            epoch, there = await after(cut)
            assert there == list(range(len(there))), f"{cut.folder.name}: not a beginning of what was said: {there}"
            found.append((cut, max(0, cut.acknowledged - len(there)), epoch))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kept", WHAT_IS_KEPT)
async def test_with_full_sync_a_power_cut_at_any_operation_loses_nothing_acknowledged(
    tmp_path: Path, kept: str
) -> None:
    for cut, lost, epoch in await losses(tmp_path, "full", kept):
        assert not lost, f"{cut.folder.name}: {lost} acknowledged messages are lost"
        assert not cut.acknowledged or epoch == cut.epoch, "nothing was lost, and a gap is told"


@pytest.mark.slow
@pytest.mark.parametrize("kept", WHAT_IS_KEPT)
async def test_with_normal_sync_a_power_cut_leaves_a_whole_file_and_what_it_loses_is_told_as_a_gap(
    tmp_path: Path, kept: str
) -> None:
    found = await losses(tmp_path, "normal", kept)
    for cut, lost, epoch in found:
        assert not lost or epoch != cut.epoch, f"{cut.folder.name}: {lost} messages are lost, and no gap is told"
    assert kept == "everything" or any(lost for _, lost, _ in found), "no cut fell where something was at stake"
