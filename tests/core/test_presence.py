"""core/presence.py against a naive model: a dict of user -> set of connections."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sower.core.message import Joined, Left, Updated
from sower.core.presence import MemberView, Presence
from sower.errors import TooMany


def test_three_tabs_of_one_user_are_one_join_and_one_leave() -> None:
    presence = Presence(grace=0.0, most=10)
    came = [presence.enter("ada", tab, b'"hi"') for tab in (1, 2, 3)]
    went = [presence.leave("ada", tab, now=0.0) for tab in (1, 2, 3)]
    assert came == [Joined("ada", b'"hi"'), None, None]
    assert went == [None, None, Left("ada", b'"hi"', lost=True)]


def test_a_page_reload_within_the_grace_period_is_silent() -> None:
    presence = Presence(grace=2.0, most=10)
    presence.enter("ada", "old page", b"1")
    assert presence.leave("ada", "old page", now=10.0) is None
    assert presence.enter("ada", "new page", b"1") is None
    assert presence.expire(now=100.0) == []
    assert len(presence) == 1


def test_a_member_who_stays_away_leaves_when_the_grace_period_is_over() -> None:
    presence = Presence(grace=2.0, most=10)
    presence.enter("ada", "page", b"1")
    presence.leave("ada", "page", now=10.0)
    assert presence.next_expiry() == 12.0
    assert presence.expire(now=11.9) == []
    assert presence.expire(now=12.0) == [Left("ada", b"1", lost=True)]
    assert presence.next_expiry() is None


def test_who_asks_to_leave_gets_no_grace_period() -> None:
    presence = Presence(grace=2.0, most=10)
    presence.enter("ada", "page")
    assert presence.leave("ada", "page", now=10.0, at_once=True) == Left("ada", b"null")


def test_a_full_channel_refuses_one_more_member_but_not_another_tab_of_one_it_has() -> None:
    presence = Presence(grace=0.0, most=1)
    presence.enter("ada", 1)
    with pytest.raises(TooMany, match=r"limits\.members"):
        presence.enter("bob", 2)
    assert presence.enter("ada", 3) is None


def test_a_change_of_meta_is_told_once() -> None:
    presence = Presence(grace=0.0, most=1)
    presence.enter("ada", 1, b"1")
    assert presence.update("ada", b"2") == Updated("ada", b"2")
    assert presence.update("ada", b"2") is None
    assert presence.update("nobody", b"2") is None


USERS = st.sampled_from(["ada", "bob", "cy"])
TABS = st.integers(0, 3)


class PresenceModel(RuleBasedStateMachine):
    """Whoever follows the diffs from the beginning always knows exactly who is here."""

    @initialize(grace=st.sampled_from([0.0, 2.0]))
    def begin(self, grace: float) -> None:
        self.grace = grace
        self.presence = Presence(grace, most=100)
        self.now = 0.0
        self.connections: dict[str, set[int]] = {}
        self.gone_at: dict[str, float] = {}
        self.follower: dict[str, bytes] = {}

    def follow(self, change: Joined | Left | Updated | None) -> None:
        if isinstance(change, Joined):
            assert change.user not in self.follower
        if isinstance(change, Left):
            del self.follower[change.user]
        elif change is not None:
            self.follower[change.user] = change.meta

    @rule(user=USERS, tab=TABS, meta=st.sampled_from([None, b"1", b"2"]))
    def enter(self, user: str, tab: int, meta: bytes | None) -> None:
        self.follow(self.presence.enter(user, tab, meta))
        self.connections.setdefault(user, set()).add(tab)
        self.gone_at.pop(user, None)

    @rule(user=USERS, tab=TABS, at_once=st.booleans())
    def leave(self, user: str, tab: int, at_once: bool) -> None:
        self.follow(self.presence.leave(user, tab, self.now, at_once=at_once))
        if tab in self.connections.get(user, ()):
            self.connections[user].remove(tab)
            if not self.connections[user]:
                if at_once or not self.grace:
                    del self.connections[user]
                else:
                    self.gone_at[user] = self.now

    @rule(user=USERS, meta=st.sampled_from([b"1", b"2"]))
    def update(self, user: str, meta: bytes) -> None:
        self.follow(self.presence.update(user, meta))

    @rule(seconds=st.floats(0.0, 3.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for change in self.presence.expire(self.now):
            self.follow(change)
        for user, at in list(self.gone_at.items()):
            if at + self.grace <= self.now:
                del self.gone_at[user], self.connections[user]

    @invariant()
    def the_snapshot_is_what_a_follower_knows(self) -> None:
        view = self.presence.view() if hasattr(self, "presence") else []
        assert {m.user: m.meta for m in view} == getattr(self, "follower", {})
        assert {m.user: m.connections for m in view} == {
            user: len(tabs) for user, tabs in getattr(self, "connections", {}).items()
        }
        assert all(isinstance(member, MemberView) for member in view)


TestPresenceModel = PresenceModel.TestCase
TestPresenceModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
