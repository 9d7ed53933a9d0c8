"""core/attendance.py: how many there are on a channel, and what for, whatever order they come and go in."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sower.core.attendance import EVERY_USE, Use
from sower.core.channel import Channel
from sower.core.message import Appearance, Did
from sower.core.rules import RuleBook
from tests.core.test_channel import Bucket, Spelled, channel

KINDS = (EVERY_USE, Use.HEAR, Use.HEAR | Use.WATCH, Use.PUBLISH, Use(0))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(KINDS))))
def test_each_who_is_there_counts_once_for_all_that_it_is_there_for(moves: list[tuple[str, Use]]) -> None:
    room: Channel[str] = Channel("room", RuleBook(()).of("room"), head=7, most_members=10)
    audience, there = Spelled(), dict[str, Use]()
    for name, uses in moves:
        before = there.pop(name, None)
        room.remove(name, audience, uses if before is None else before)
        if before != uses:
            room.add(name, audience, uses)
            there[name] = uses
    told = room.attendance(9)
    each = Counter(use for uses in there.values() for use in Use if use & uses)
    assert (told.serial, told.head, told.connections, told.members) == (9, 7, len(there), 0)
    assert (told.hear, told.watch, told.publish, told.appear) == tuple(each[use] for use in Use)


def test_who_fetches_hears_and_watches_and_a_member_counts_for_each_of_its_connections() -> None:
    room = channel("room", presence=True)
    room.begin_tap(Bucket(3))
    room.add("ada", Spelled(), Use.HEAR)
    for device in "12":
        room.present().enter(Appearance(Did.ENTERED, "ada", device, b"null", 1), device)
    told = room.attendance(9)
    assert (told.connections, told.hear, told.watch, told.publish, told.appear, told.members) == (4, 4, 3, 0, 0, 2)
