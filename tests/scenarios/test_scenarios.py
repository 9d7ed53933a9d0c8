"""One round of every scenario. For longer, and with another seed: python -m tests.scenarios --seconds 3600 --seed N"""

from __future__ import annotations

from pathlib import Path

from tests.scenarios.leaks import GROWTH, growth, slope
from tests.scenarios.play import play

SEED = 20261129


async def test_every_scenario_holds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    report = await play(tmp_path, SEED, 0.0)
    assert report.rounds == 1
    assert (report.after.sessions, report.after.held, report.after.channels) == (0, 0, 0)
    assert report.after.tasks <= report.before.tasks
    assert report.after.fds <= report.before.fds


def test_the_slope_is_that_of_the_line_through_the_points() -> None:
    assert slope([(0.0, 100), (1.0, 130), (2.0, 160)]) == 30.0
    assert slope([(0.0, 100)]) == 0.0


def test_what_each_round_adds_is_told_once_there_are_enough_of_them() -> None:
    cold = [(0.0, 0), (1.0, 9_000_000), (2.0, 12_000_000)]
    warm = [(3.0 + number, 14_000_000 + 1000 * number + (-1) ** number * 500_000) for number in range(8)]
    assert growth([*cold, *warm[:5]]) is None
    assert abs(growth([*cold, *warm]) or GROWTH) < GROWTH
    assert (growth([*cold, *((at, size + int(at) * 2_000_000) for at, size in warm)]) or 0) > GROWTH
