"""core/presence.py against a naive model: a dict of user -> {connection: when it is gone for good}."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sower.core.message import Appearance, Did, Joined, Left, Updated
from sower.core.presence import Change, MemberView, Presence
from sower.errors import TooMany


def said(
    user: str, connection: str, meta: bytes = b"null", did: Did = Did.ENTERED, event: str | None = None
) -> Appearance:
    return Appearance(did, user, connection, meta, 1, event)


def enter(presence: Presence, user: str, connection: str, meta: bytes = b"null", *, keep: bool = False) -> list[Change]:
    return presence.enter(said(user, connection, meta), connection, keep=keep)


def leave(
    presence: Presence, user: str, connection: str, now: float, *, at_once: bool = False, grace: float | None = None
) -> list[Change]:
    return presence.leave(user, connection, connection, now, 2, at_once=at_once, grace=grace)


def users(changes: Sequence[Change]) -> list[Change]:
    """What is told of users, without what is told of their connections."""
    return [change for change in changes if not isinstance(change, Appearance)]


def test_three_tabs_of_one_user_are_one_join_and_one_leave_and_three_connections_that_come_and_go() -> None:
    presence = Presence(grace=0.0, most=10)
    came = [change for tab in "123" for change in enter(presence, "ada", tab, b'"hi"')]
    went = [change for tab in "123" for change in leave(presence, "ada", tab, now=0.0)]
    assert users(came) == [Joined("ada", b'"hi"')]
    assert users(went) == [Left("ada", b'"hi"', lost=True)]
    assert [change.connection for change in came if isinstance(change, Appearance)] == ["1", "2", "3"]
    assert [change.did for change in went if isinstance(change, Appearance)] == [Did.LEFT] * 3


def test_a_page_reload_within_the_grace_period_is_silent() -> None:
    presence = Presence(grace=2.0, most=10)
    enter(presence, "ada", "old page", b"1")
    assert leave(presence, "ada", "old page", now=10.0) == []
    assert users(enter(presence, "ada", "new page", b"1")) == []
    assert users(presence.expire(now=100.0, serial=2)) == []
    assert len(presence) == 1


def test_a_member_who_stays_away_leaves_when_the_grace_period_is_over() -> None:
    presence = Presence(grace=2.0, most=10)
    enter(presence, "ada", "page", b"1")
    leave(presence, "ada", "page", now=10.0)
    assert presence.next_expiry() == 12.0
    assert presence.expire(now=11.9, serial=2) == []
    assert users(presence.expire(now=12.0, serial=2)) == [Left("ada", b"1", lost=True)]
    assert presence.next_expiry() is None


def test_a_connection_may_have_a_grace_period_of_its_own() -> None:
    presence = Presence(grace=2.0, most=10)
    enter(presence, "ada", "page")
    leave(presence, "ada", "page", now=10.0, grace=15.0)
    assert presence.next_expiry() == 25.0


def test_who_asks_to_leave_gets_no_grace_period() -> None:
    presence = Presence(grace=2.0, most=10)
    enter(presence, "ada", "page")
    assert users(leave(presence, "ada", "page", now=10.0, at_once=True)) == [Left("ada", b"null")]


def test_who_comes_back_under_the_same_name_is_as_if_never_gone_and_the_lost_socket_takes_nothing_away() -> None:
    presence = Presence(grace=15.0, most=10)
    presence.enter(said("ada", "c", event="c:0:0"), "old socket")
    presence.enter(said("bob", "c", event="c:1:0"), "old socket")
    for user in ("ada", "bob"):
        presence.leave(user, "c", "old socket", 10.0, 2)
    assert sorted(presence.adopt("c", "new socket")) == ["ada", "bob"]
    assert presence.leave("ada", "c", "old socket", 11.0, 3, at_once=True) == []
    assert presence.expire(now=1000.0, serial=3) == []
    assert presence.enter(said("ada", "c", event="c:0:0"), "new socket") == []


def test_last_words_that_say_nothing_of_the_member_repeat_what_it_said_before() -> None:
    presence = Presence(grace=15.0, most=10)
    presence.enter(said("ada", "c", b'"here"'), "c")
    goodbye = said("ada", "c", b"null", Did.LEFT, "c:1:0")
    told = presence.leave("ada", "c", "c", 10.0, 2, at_once=True, said=goodbye)
    assert [(t.meta, t.id) for t in told if isinstance(t, Appearance)] == [(b'"here"', "c:1:0")]


def test_a_full_channel_refuses_one_more_member_but_not_another_tab_of_one_it_has() -> None:
    presence = Presence(grace=0.0, most=1)
    enter(presence, "ada", "1")
    with pytest.raises(TooMany, match=r"limits\.members"):
        enter(presence, "bob", "2")
    assert users(enter(presence, "ada", "3")) == []


def test_a_change_of_meta_is_told_once() -> None:
    presence = Presence(grace=0.0, most=1)
    enter(presence, "ada", "1", b"1")
    assert users(presence.update(said("ada", "1", b"2"), "1")) == [Updated("ada", b"2")]
    assert presence.update(said("ada", "1", b"2"), "1") == []
    assert presence.update(said("nobody", "1", b"2"), "1") == []


USERS = st.sampled_from(["ada", "bob", "cy"])
TABS = st.sampled_from("0123")


class PresenceModel(RuleBasedStateMachine):
    """Whoever follows the changes from the beginning always knows exactly who is here, and over which connections."""

    @initialize(grace=st.sampled_from([0.0, 2.0]))
    def begin(self, grace: float) -> None:
        self.grace = grace
        self.presence = Presence(grace, most=100)
        self.now = 0.0
        self.connections: dict[str, dict[str, float | None]] = {}
        self.follower: dict[str, bytes] = {}
        self.seen: dict[tuple[str, str], bytes] = {}

    def follow(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, Appearance):
                if change.did is Did.LEFT:
                    del self.seen[change.user, change.connection]
                else:
                    self.seen[change.user, change.connection] = change.meta
            elif isinstance(change, Left):
                del self.follower[change.user]
            else:
                assert isinstance(change, Updated) == (change.user in self.follower)
                self.follower[change.user] = change.meta

    def forget(self, user: str, tab: str) -> None:
        del self.connections[user][tab]
        if not self.connections[user]:
            del self.connections[user]

    @rule(user=USERS, tab=TABS, meta=st.sampled_from([b"1", b"2"]), keep=st.booleans())
    def enter(self, user: str, tab: str, meta: bytes, keep: bool) -> None:
        self.follow(enter(self.presence, user, tab, meta, keep=keep))
        self.connections.setdefault(user, {})[tab] = None

    @rule(user=USERS, tab=TABS, at_once=st.booleans(), grace=st.sampled_from([None, 0.5]))
    def leave(self, user: str, tab: str, at_once: bool, grace: float | None) -> None:
        self.follow(leave(self.presence, user, tab, self.now, at_once=at_once, grace=grace))
        if tab in self.connections.get(user, ()):
            stays = self.grace if grace is None else grace
            if at_once or not stays:
                self.forget(user, tab)
            else:
                self.connections[user][tab] = self.now + stays

    @rule(tab=TABS)
    def come_back(self, tab: str) -> None:
        back = [user for user, tabs in self.connections.items() if tabs.get(tab) is not None]
        assert sorted(self.presence.adopt(tab, tab)) == sorted(back)
        for user in back:
            self.connections[user][tab] = None

    @rule(user=USERS, tab=TABS, meta=st.sampled_from([b"1", b"2"]))
    def update(self, user: str, tab: str, meta: bytes) -> None:
        if self.connections.get(user, {}).get(tab, 0.0) is None:
            self.follow(self.presence.update(said(user, tab, meta, Did.UPDATED), tab))

    @rule(seconds=st.floats(0.0, 3.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.follow(self.presence.expire(self.now, 3))
        for user, tabs in list(self.connections.items()):
            for tab, until in list(tabs.items()):
                if until is not None and until <= self.now:
                    self.forget(user, tab)

    @invariant()
    def the_snapshot_is_what_a_follower_knows(self) -> None:
        if not hasattr(self, "presence"):
            return
        view = self.presence.view()
        assert all(isinstance(member, MemberView) for member in view)
        assert {m.user: m.meta for m in view} == self.follower
        assert {m.user: m.connections for m in view} == {user: len(tabs) for user, tabs in self.connections.items()}
        assert {(s.user, s.connection): s.meta for s in self.presence.seen()} == self.seen
        soonest = [until for tabs in self.connections.values() for until in tabs.values() if until is not None]
        assert self.presence.next_expiry() == min(soonest, default=None)


TestPresenceModel = PresenceModel.TestCase
TestPresenceModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_a_protocols_own_limit_counts_where_it_is_lower() -> None:
    presence = Presence(grace=0.0, most=2)
    presence.enter(said("ada", "1"), "1", most=9)
    with pytest.raises(TooMany, match="has 1 members"):
        presence.enter(said("bob", "2"), "2", most=1)
    presence.enter(said("bob", "2"), "2", most=9)
    with pytest.raises(TooMany, match="allow 2"):
        presence.enter(said("cy", "3"), "3", most=9)


def test_one_member_is_found_as_it_is_shown() -> None:
    presence = Presence(grace=0.0, most=9)
    for tab in "12":
        enter(presence, "ada", tab, b"1")
    assert presence.find("ada") == MemberView("ada", b"1", 2)
    assert presence.find("bob") is None


def test_a_leave_says_when_it_was_and_what_the_connection_said_last() -> None:
    presence = Presence(grace=2.0, most=9)
    for name in ("now", "later"):
        presence.enter(Appearance(Did.ENTERED, name, name, b"1", 1, "id", b'{"x":1}'), name)
    leave(presence, "later", "later", now=0.0)
    for name, changes in (
        ("now", leave(presence, "now", "now", 0.0, at_once=True)),
        ("later", presence.expire(now=9.0, serial=2)),
    ):
        assert changes[0] == Appearance(Did.LEFT, name, name, b"1", 2, None, b'{"x":1}')


def test_last_words_that_say_something_are_told_and_silent_ones_repeat_all_that_was_said() -> None:
    for meta, extra, told in (
        (b"null", None, (b"1", b'{"x":1}')),
        (b"null", b"{}", (b"null", b"{}")),
        (b"2", None, (b"2", None)),
    ):
        presence = Presence(grace=0.0, most=9)
        presence.enter(Appearance(Did.ENTERED, "ada", "1", b"1", 1, None, b'{"x":1}'), "1")
        words = Appearance(Did.LEFT, "ada", "1", meta, 2, "bye", extra)
        gone = presence.leave("ada", "1", "1", 0.0, 2, at_once=True, said=words)[0]
        assert isinstance(gone, Appearance)
        assert (gone.meta, gone.extra) == told
        assert gone.id == "bye"


def test_what_is_said_again_is_not_told_twice_under_the_same_id_and_without_one_where_it_is_nothing_new() -> None:
    presence = Presence(grace=0.0, most=9)
    for event, meta, keep, told in (
        ("1", b"1", False, [Did.ENTERED]),
        ("1", b"2", False, []),
        ("2", b"1", False, [Did.ENTERED]),
        (None, b"1", False, []),
        (None, b"2", False, [Did.UPDATED]),
        (None, b"null", True, []),
        (None, b"2", False, []),
    ):
        changes = presence.enter(said("ada", "tab", meta, event=event), "tab", keep=keep)
        assert [change.did for change in changes if isinstance(change, Appearance)] == told
    assert [seen.meta for seen in presence.seen()] == [b"2"]


def test_of_two_users_of_one_connection_the_one_that_comes_back_ends_its_own_grace_period_alone() -> None:
    presence = Presence(grace=2.0, most=9)
    for user in ("ada", "bob"):
        enter(presence, user, "shared")
        leave(presence, user, "shared", now=10.0)
    enter(presence, "ada", "shared")
    assert presence.next_expiry() == 12.0
    assert users(presence.expire(now=12.0, serial=2)) == [Left("bob", b"null", lost=True)]
    assert presence.next_expiry() is None
    leave(presence, "ada", "shared", now=20.0)
    assert presence.next_expiry() == 22.0


def test_a_grace_period_that_ended_at_zero_is_over_at_zero() -> None:
    presence = Presence(grace=2.0, most=9)
    enter(presence, "ada", "1")
    leave(presence, "ada", "1", now=-2.0)
    assert presence.next_expiry() == 0.0
