"""core/rules.py: patterns, and the first rule that matches."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.config import ChannelRule, Duration, History
from sower.core.rules import Pattern, RuleBook, presence_of

NAMES = st.text(alphabet="ab*.-:[\n", max_size=8)
ALIKE = st.text(alphabet="ab*", max_size=12)


@given(pattern=NAMES | ALIKE, name=NAMES | ALIKE)
def test_a_star_stands_for_any_run_of_characters_and_all_else_for_itself(pattern: str, name: str) -> None:
    model = ".*".join(map(re.escape, pattern.split("*")))
    assert Pattern(pattern).matches(name) == bool(re.fullmatch(model, name, re.DOTALL))


@given(parts=st.lists(ALIKE, max_size=6), runs=st.lists(ALIKE, min_size=6, max_size=6))
def test_a_pattern_matches_what_was_made_from_it(parts: list[str], runs: list[str]) -> None:
    literal = [part.replace("*", "") for part in parts]
    name = "".join(part + run for part, run in zip(literal, [*runs[: max(len(literal) - 1, 0)], ""], strict=False))
    assert Pattern("*".join(literal)).matches(name)


def test_a_pattern_of_many_stars_does_not_backtrack() -> None:
    # A regular expression of this shape would still run when the sun is out.
    assert not Pattern("*a" * 40 + "*b").matches("a" * 256)
    assert Pattern("*a" * 40 + "*b").matches("a" * 255 + "b")


def test_the_two_ends_of_a_pattern_do_not_share_a_character() -> None:
    assert not Pattern("aba*aba").matches("aba")
    assert not Pattern("aba*aba").matches("ababa")
    assert Pattern("aba*aba").matches("abaaba")


def test_the_first_rule_that_matches_is_the_channels_rule() -> None:
    book = RuleBook([ChannelRule(match="a-*", history=History(messages=1)), ChannelRule(match="*")])
    assert book.of("a-1").match == "a-*"
    assert book.of("b").match == "*"
    assert book.of("a-1").history == History(messages=1)


def test_a_channel_without_a_rule_is_public_without_presence_or_history() -> None:
    rules = RuleBook([]).of("room")
    assert (rules.private, rules.presence, rules.client_events, rules.history) == (False, False, False, None)


@pytest.mark.parametrize("name", ["private-a", "presence-a"])
def test_private_and_presence_channels_are_private_whatever_a_rule_says(name: str) -> None:
    rules = RuleBook([ChannelRule(match="*", private=False, presence=False)]).of(name)
    assert rules.private
    assert rules.presence == name.startswith("presence-")


def test_private_channels_take_client_events_unless_their_rule_says_no() -> None:
    assert RuleBook([]).of("private-a").client_events
    assert not RuleBook([ChannelRule(match="*", client_events=False)]).of("private-a").client_events


def test_the_daemons_own_channels_are_private_and_keep_nothing() -> None:
    rules = RuleBook([ChannelRule(match="*", history=History(), presence=True, client_events=True)]).of("[meta]x")
    assert (rules.private, rules.presence, rules.client_events, rules.history) == (True, False, False, None)


def test_grace_is_the_rules_own() -> None:
    assert RuleBook([ChannelRule(match="*", grace=Duration(7))]).of("presence-a").grace == 7.0


@pytest.mark.parametrize("prefix", ["cache-", "private-cache-", "private-encrypted-cache-", "presence-cache-"])
def test_pushers_cache_channels_remember_their_last_event_unless_a_rule_says_else(prefix: str) -> None:
    assert RuleBook([]).of(prefix + "a").cache == 1800.0
    assert RuleBook([ChannelRule(match="*", cache=Duration(5))]).of(prefix + "a").cache == 5.0
    assert RuleBook([ChannelRule(match="*", cache=Duration(0))]).of(prefix + "a").cache == 0.0


def test_other_channels_remember_theirs_where_a_rule_says_so() -> None:
    assert RuleBook([]).of("private-a-cache-").cache == 0.0
    assert RuleBook([ChannelRule(match="price-*", cache=Duration(60))]).of("price-a").cache == 60.0


def test_a_users_own_channel_is_private_without_presence_and_clients_do_not_speak_there() -> None:
    rules = RuleBook([ChannelRule(match="*", private=False, presence=True, client_events=True)]).of("#server-to-user-a")
    assert (rules.private, rules.presence, rules.client_events) == (True, False, False)


@given(name=NAMES | ALIKE, other=NAMES | ALIKE)
def test_the_pattern_of_exactly_one_name_is_no_pattern(name: str, other: str) -> None:
    assert Pattern.exactly(name).matches(other) is (name == other)


def test_the_journals_name_for_comings_and_goings_is_kept_as_the_channel_is() -> None:
    book = RuleBook([ChannelRule(match="kept-*", history=History(messages=3))])
    assert presence_of("kept-a") == "[meta]presence:kept-a"
    assert book.kept("kept-a") == book.kept(presence_of("kept-a")) == History(messages=3)
    assert book.kept("other") is None
    assert book.kept("kept-[meta]presence:") == History(messages=3)


def test_a_pattern_is_written_as_it_was_given() -> None:
    assert Pattern("a*b").text == "a*b"
    assert Pattern.exactly("a*").text == "a*"
    assert not Pattern.exactly("a").matches("")


def test_a_part_of_a_pattern_is_looked_for_behind_the_one_before_and_before_the_end() -> None:
    assert not Pattern("a*b*c").matches("abac"[::-1])
    assert not Pattern("x*a*b*y").matches("xbay")
    assert not Pattern("*ab*b").matches("ab")
    assert not Pattern("a*a*a").matches("aa")


def test_a_channel_without_a_rule_has_the_usual_grace_and_names_no_pattern() -> None:
    rules = RuleBook([]).of("presence-a")
    assert (rules.grace, rules.match) == (2.0, "")


@pytest.mark.parametrize(
    ("name", "presence", "shown", "members"),
    [
        ("a", None, False, True),
        ("a", True, True, True),
        ("a", False, False, False),
        ("#a", True, False, False),
        ("#a", None, False, False),
    ],
)
def test_clients_may_be_members_unless_a_rule_says_no_or_the_channel_is_one_users_own(
    name: str, presence: bool | None, shown: bool, members: bool
) -> None:
    rules = RuleBook([ChannelRule(match="*", presence=presence)]).of(name)
    assert (rules.presence, rules.members) == (shown, members)


def test_a_rule_makes_a_channel_private_whatever_it_is_called() -> None:
    assert RuleBook([ChannelRule(match="a", private=True)]).of("a").private


def test_channels_that_have_the_same_rules_share_them() -> None:
    book = RuleBook([ChannelRule(match="kept-*", history=History()), ChannelRule(match="*", presence=True)])
    assert book.of("kept-a") is book.of("kept-b")
    assert book.of("a") is book.of("b")
    assert book.of("presence-a") is not book.of("a")
