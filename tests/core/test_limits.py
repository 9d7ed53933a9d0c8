"""core/limits.py: buckets that are exact, and restarts that end."""

from __future__ import annotations

from copy import copy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sower.config import Rate
from sower.core.limits import LONGEST_BACKOFF, MOST_RESTARTS, OLDEST_LOOKED_AT, Bucket, Buckets, RestartIntensity

RATES = st.builds(Rate, st.sampled_from([0.5, 1.0, 10.0, 1000.0, 50_000 / 3]), st.sampled_from([1.0, 5.0, 100.0]))
CLOCKS = st.sampled_from([0.0, 7e5, 1.8e9])  # at zero, as a monotonic clock counts, as the wall clock does
PAUSES = st.floats(0.0, 5.0) | st.integers(0, 10**6).map(lambda n: n / 7e7)  # uneven ones, as clocks make them
STEPS = st.lists(st.tuples(PAUSES, st.integers(1, 7)), max_size=60)


@given(began=CLOCKS, rate=RATES, steps=STEPS)
def test_no_window_gives_more_than_the_burst_and_what_flows_in_meanwhile(
    began: float, rate: Rate, steps: list[tuple[float, int]]
) -> None:
    bucket, now, given_at = Bucket(rate, began), began, []
    for wait, n in steps:
        now += wait
        if bucket.take(now, n) == 0.0:
            given_at.append((now, n))
    for first, (opened, _) in enumerate(given_at):
        for last in range(first, len(given_at)):
            ended = given_at[last][0]
            total = sum(n for _, n in given_at[first : last + 1])
            assert total <= rate.burst + (ended - opened) * rate.per_second + 1e-6


@given(began=CLOCKS, rate=RATES, steps=STEPS)
@example(began=0.0, rate=Rate(10.0, 1.0), steps=[(0.0, 1), (4 / 700, 1), (4 / 1300, 1)])
@example(began=1.8e9, rate=Rate(10.0, 5.0), steps=[(0.0, 3), (5 / 700, 5)])
def test_the_wait_that_a_refusal_names_is_exact(began: float, rate: Rate, steps: list[tuple[float, int]]) -> None:
    bucket, now = Bucket(rate, began), began
    for wait, n in steps:
        now += wait
        refused_for = bucket.take(now, n)
        if refused_for and n <= rate.burst:
            early = now + 0.9 * refused_for
            then = now + refused_for
            if early + 1e-6 < then:  # as finely as the clock's own numbers tell moments apart
                assert copy(bucket).take(early, n) > 0.0
            now = then
            assert bucket.take(now, n) == 0.0


@given(began=CLOCKS, rate=RATES, steps=STEPS, asked=st.lists(st.tuples(st.floats(0.0, 5.0), st.integers(101, 200))))
def test_refusals_change_nothing_for_whoever_comes_after(
    began: float, rate: Rate, steps: list[tuple[float, int]], asked: list[tuple[float, int]]
) -> None:
    bothered, left_alone, now = Bucket(rate, began), Bucket(rate, began), began
    for (wait, n), (within, much) in zip(steps, asked, strict=False):
        assert bothered.take(now + min(within, wait), much) > 0.0
        now += wait
        assert bothered.take(now, n) == left_alone.take(now, n)


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


def test_who_is_held_back_is_not_forgotten_while_a_full_bucket_can_be() -> None:
    buckets = Buckets(Rate(1.0, 5.0), most=2)
    buckets.take("held back", 0.0, 5)
    buckets.take("idle", 0.5, 0)
    buckets.take("new", 0.6)
    assert buckets.take("held back", 0.6) > 0.0


@given(keys=st.lists(st.integers(0, 9), max_size=60))
def test_never_more_than_the_bound_are_remembered(keys: list[int]) -> None:
    buckets = Buckets(Rate(1.0, 1.0), most=3)
    for now, key in enumerate(keys):
        buckets.take(key, now / 4)
        assert len(buckets._buckets) <= 3


def test_restarts_are_allowed_again_one_by_one_as_the_window_slides() -> None:
    intensity = RestartIntensity(most=2, within=10.0)
    assert [intensity.crashed(now) for now in (0.0, 5.0, 9.0)] == [True, True, False]
    assert [intensity.crashed(now) for now in (10.0, 11.0, 15.0)] == [True, False, True]


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


def test_one_token_is_taken_where_nothing_is_said_and_a_bucket_is_full_again_when_its_burst_has_flowed_in() -> None:
    bucket = Bucket(Rate(2.0, 4.0), 10.0)
    assert bucket.full(10.0)
    bucket.take(10.0)
    assert not bucket.full(10.4)
    assert bucket.full(10.5)
    assert [bucket.take(10.5) for _ in range(5)] == [0.0, 0.0, 0.0, 0.0, 0.5]


def test_only_the_longest_unused_are_looked_at_to_find_a_full_one() -> None:
    buckets = Buckets(Rate(1.0, 5.0), most=OLDEST_LOOKED_AT + 1)
    for number in range(OLDEST_LOOKED_AT):
        buckets.take(number, 0.0, 5)
    buckets.take("idle", 0.0, 0)
    buckets.take("new", 0.1)
    assert "idle" in buckets._buckets
    assert 0 not in buckets._buckets


def test_what_is_left_is_what_whoever_counts_for_several_says() -> None:
    buckets = Buckets(Rate(10, 20))
    assert buckets.take("a", 0.0, 5) == 0.0
    buckets.settle("a", -10.0, 0.0)
    assert buckets.take("a", 0.0) == pytest.approx(1.1)
    assert buckets.take("a", 1.2) == 0.0
    buckets.settle("nobody", 0.0, 0.0)
    assert buckets.take("nobody", 0.0, 20) == 0.0
