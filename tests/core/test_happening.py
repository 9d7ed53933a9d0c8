"""core/happening.py: what changes of a channel mean to webhooks, in the order that receivers rely on."""

from __future__ import annotations

import pytest

from sower.core.happening import Fact, comings_and_goings
from sower.core.message import Delivery, Joined, Left, Updated

ADA, GONE = Joined("ada"), Left("ada")


@pytest.mark.parametrize(
    ("was_vacant", "is_vacant", "changes", "expected"),
    [
        (True, False, [], [Fact.OCCUPIED]),
        (True, False, [ADA], [Fact.OCCUPIED, Fact.MEMBER_ADDED]),
        (False, False, [ADA], [Fact.MEMBER_ADDED]),
        (False, False, [Updated("ada")], []),
        (False, False, [GONE], [Fact.MEMBER_REMOVED]),
        (False, True, [GONE], [Fact.MEMBER_REMOVED, Fact.VACATED]),
        (False, True, [], [Fact.VACATED]),
        (True, True, [], []),
    ],
)
def test_a_channel_is_occupied_before_and_vacated_after_its_members(
    was_vacant: bool, is_vacant: bool, changes: list[Delivery], expected: list[Fact]
) -> None:
    told = list(comings_and_goings("c", was_vacant, is_vacant, changes))
    assert [happening.fact for happening in told] == expected
    assert {happening.channel for happening in told} <= {"c"}
    assert {happening.user for happening in told if happening.fact.startswith("member")} <= {"ada"}
