"""core/rules.py: patterns, and the first rule that matches."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.config import ChannelRule, Duration, History
from sower.core.rules import Pattern, RuleBook

NAMES = st.text(alphabet="ab*.-:\n", max_size=8)


@given(pattern=NAMES, name=NAMES)
def test_a_star_stands_for_any_run_of_characters_and_all_else_for_itself(pattern: str, name: str) -> None:
    assert Pattern(pattern).matches(name) == fnmatch.fnmatchcase(name, pattern)


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
