"""core/limits.py: buckets that are exact, and restarts that end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.config import Rate
from sower.core.limits import LONGEST_BACKOFF, MOST_RESTARTS, Bucket, Buckets, RestartIntensity

RATES = st.builds(Rate, st.sampled_from([0.5, 1.0, 10.0, 1000.0]), st.sampled_from([1.0, 5.0, 100.0]))
STEPS = st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(1, 7)), max_size=60)


@given(rate=RATES, steps=STEPS)
def test_no_window_gives_more_than_the_burst_and_what_flows_in_meanwhile(
    rate: Rate, steps: list[tuple[float, int]]
) -> None:
    bucket, now, given_at = Bucket(rate, 0.0), 0.0, []
    for wait, n in steps:
        now += wait
        if bucket.take(now, n) == 0.0:
            given_at.append((now, n))
    for first, (began, _) in enumerate(given_at):
        for last in range(first, len(given_at)):
            ended = given_at[last][0]
            total = sum(n for _, n in given_at[first : last + 1])
            assert total <= rate.burst + (ended - began) * rate.per_second + 1e-6


@given(rate=RATES, steps=STEPS)
def test_the_wait_that_a_refusal_names_is_exact(rate: Rate, steps: list[tuple[float, int]]) -> None:
    bucket, now = Bucket(rate, 0.0), 0.0
    for wait, n in steps:
        now += wait
        refused_for = bucket.take(now, n)
        if refused_for and n <= rate.burst:
            now += refused_for + 1e-6
            assert bucket.take(now, n) == 0.0


def test_a_refusal_takes_nothing() -> None:
    bucket = Bucket(Rate(1.0, 5.0), 0.0)
    assert bucket.take(0.0, 4) == 0.0
    assert bucket.take(0.0, 2) == 1.0
    assert bucket.take(0.0, 1) == 0.0


def test_each_key_has_its_own_bucket_and_the_oldest_is_forgotten_past_the_bound() -> None:
    buckets = Buckets(Rate(1.0, 1.0), most=2)
    assert [buckets.take(key, 0.0) for key in "aab"] == [0.0, 1.0, 0.0]
    buckets.take("c", 0.0)
    assert buckets.take("a", 0.0) == 0.0, "a was forgotten, so it begins anew"


def test_a_child_may_restart_so_often_within_the_window_and_again_when_it_has_passed() -> None:
    intensity = RestartIntensity(within=60.0)
    assert [intensity.crashed(now) for now in range(MOST_RESTARTS)] == [True] * MOST_RESTARTS
    assert not intensity.crashed(59.0)
    assert intensity.crashed(60.0)


def test_the_backoff_doubles_up_to_its_bound() -> None:
    intensity = RestartIntensity(most=20, within=60.0)
    waits = []
    for now in range(12):
        intensity.crashed(float(now))
        waits.append(intensity.backoff())
    assert waits[:3] == pytest.approx([0.05, 0.1, 0.2])
    assert waits[-1] == LONGEST_BACKOFF
