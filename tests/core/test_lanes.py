"""core/lanes.py against a naive model: a list in which an item can go when nothing before it shares a lane."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sower.core.lanes import Lanes, Place

ADD = st.tuples(st.just("add"), st.sets(st.sampled_from("abcd"), min_size=1, max_size=3))
STEPS = st.lists(st.one_of(ADD, st.tuples(st.sampled_from(["done", "again", "wait"]), st.integers(0, 5))), max_size=60)


def test_one_that_waits_holds_back_its_own_lane_and_no_other() -> None:
    lanes: Lanes[str] = Lanes()
    for item in ("a1", "a2", "b1"):
        lanes.add(item, item[0], due=0.0)
    first = lanes.take(0.0)
    assert first is not None
    lanes.again(first, due=10.0)
    second = lanes.take(0.0)
    assert second is not None
    assert (first.item, second.item) == ("a1", "b1")
    assert lanes.take(9.0) is None
    assert lanes.next_due() == 10.0


@given(steps=STEPS)
def test_whatever_happens_only_what_is_first_in_all_its_lanes_is_taken_and_nothing_is_forgotten(
    steps: list[tuple[str, set[str] | int]],
) -> None:
    lanes: Lanes[int] = Lanes()
    now, added = 0.0, 0
    model: dict[int, set[str]] = {}
    due: dict[int, float] = {}
    taken: dict[int, Place[int]] = {}

    def can_go(item: int) -> bool:
        before = [model[other] for other in model if other < item]
        return item not in taken and due[item] <= now and not any(model[item] & others for others in before)

    for step, word in steps:
        if isinstance(word, set):
            model[added], due[added] = word, now
            lanes.add(added, sorted(word), now)
            added += 1
        elif step == "wait":
            now += word
        elif taken:
            item, place = sorted(taken.items())[word % len(taken)]
            del taken[item]
            if step == "done":
                del model[item]
                lanes.done(place)
            else:
                due[item] = now + word
                lanes.again(place, due[item])
        expected = {item for item in model if can_go(item)}
        while (place := lanes.take(now)) is not None:
            assert place.item in expected
            expected.remove(place.item)
            taken[place.item] = place
        assert not expected


def test_nothing_is_due_where_nothing_waits() -> None:
    assert Lanes[str]().next_due() is None
