"""core/holdback.py: begins and ends come in pairs, and a return in time is silent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sower.core.holdback import Holdback, Standing

ROOM, ADA, BOB = Standing("1", "room"), Standing("1", "room", "ada"), Standing("1", "room", "bob")


def test_an_end_is_over_when_its_time_is() -> None:
    holdback = Holdback()
    assert holdback.begins(ROOM)
    holdback.ends(ROOM, until=3.0)
    assert holdback.next_end() == 3.0
    assert holdback.over(2.9) == []
    assert holdback.over(3.0) == [ROOM]
    assert holdback.next_end() is None


def test_a_return_within_the_time_is_no_news_and_takes_the_end_back() -> None:
    holdback = Holdback()
    holdback.begins(ROOM)
    holdback.ends(ROOM, until=3.0)
    assert not holdback.begins(ROOM)
    assert holdback.over(100.0) == []


def test_an_end_after_a_return_counts_from_then() -> None:
    holdback = Holdback()
    holdback.begins(ROOM)
    holdback.ends(ROOM, until=3.0)
    holdback.begins(ROOM)
    holdback.ends(ROOM, until=5.0)
    assert holdback.over(4.0) == []
    assert holdback.over(5.0) == [ROOM]


def test_an_end_whose_begin_was_not_told_is_not_told() -> None:
    holdback = Holdback()
    holdback.ends(ROOM, until=3.0)
    assert holdback.over(100.0) == []


def test_what_held_before_a_restart_ends_in_its_order_unless_it_begins_again() -> None:
    holdback = Holdback()
    holdback.restore([ADA, BOB, ROOM], until=30.0)
    assert not holdback.begins(BOB)
    assert holdback.over(30.0) == [ADA, ROOM]


STEPS = st.lists(
    st.tuples(st.sampled_from([ROOM, ADA, BOB]), st.sampled_from(["begins", "ends", "waits"]), st.floats(0.0, 5.0))
)


@given(steps=STEPS)
def test_whatever_happens_each_is_told_begin_and_end_in_turn_and_never_within_three_seconds(
    steps: list[tuple[Standing, str, float]],
) -> None:
    holdback, now = Holdback(), 0.0
    told: dict[Standing, list[str]] = {ROOM: [], ADA: [], BOB: []}
    ended: dict[Standing, float] = {}
    for one, step, wait in steps:
        if step == "begins":
            ended.pop(one, None)
            told[one] += ["begin"] * holdback.begins(one)
        elif step == "ends":
            ended.setdefault(one, now)
            holdback.ends(one, now + 3.0)
        else:
            now += wait
            for over in holdback.over(now):
                assert ended[over] + 3.0 <= now
                told[over].append("end")
    for one, words in told.items():
        assert words == ["begin", "end"] * (len(words) // 2) + ["begin"] * (len(words) % 2), one


def test_of_two_ends_the_earlier_counts() -> None:
    holdback, one = Holdback(), Standing("1", "a")
    holdback.begins(one)
    holdback.ends(one, 30.0)
    holdback.ends(one, 3.0)
    holdback.ends(one, 40.0)
    assert holdback.over(2.9) == []
    assert holdback.over(3.0) == [one]
    assert holdback.over(50.0) == []


def test_what_was_over_is_news_when_it_begins_again() -> None:
    holdback = Holdback()
    holdback.begins(ROOM)
    holdback.ends(ROOM, 3.0)
    assert holdback.over(3.0) == [ROOM]
    assert holdback.begins(ROOM)
