"""sower/drain.py: how a drain is spread over the time that it has."""

from __future__ import annotations

import pytest

from sower.drain import BATCH, LONGEST_PAUSE, pauses


@pytest.mark.parametrize(("sessions", "batches"), [(0, 0), (1, 1), (BATCH, 1), (BATCH + 1, 2), (100_000, 1000)])
def test_each_batch_has_its_pause_and_the_first_has_none(sessions: int, batches: int) -> None:
    waits = pauses(sessions, 10.0)
    assert len(waits) == batches
    assert waits[:1] in ([], [0.0])


def test_few_are_closed_at_once_and_many_take_half_the_time_with_no_two_pauses_alike() -> None:
    assert sum(pauses(2000, 10.0)) <= 20 * LONGEST_PAUSE * 1.5
    many = pauses(100_000, 10.0)
    assert 4.0 < sum(many) < 6.0
    assert len(set(many)) > 900
