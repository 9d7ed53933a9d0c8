"""dialects/ably/capability.py: which channels a resource names, and that a token never exceeds its key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.core.grants import Can
from sower.dialects.ably.capability import Resource, claims_of, cut, of_claims, read, requested, write
from sower.errors import BadParameter, Forbidden


@pytest.mark.parametrize(
    ("resource", "yes", "no"),
    [
        ("*", ["a", "a:b"], ["[meta]log"]),
        ("a:*", ["a:b", "a:b:c"], ["a", "ab"]),
        ("a:*:c", ["a:b:c"], ["a:c", "a:b:b:c"]),
        ("a*", ["a*"], ["ab"]),
        ("[*]*", ["a", "[meta]log"], []),
        ("[meta]*", ["[meta]log"], ["a"]),
        ("a", ["a"], ["a:b", "A"]),
    ],
)
def test_a_resource_names_channels(resource: str, yes: list[str], no: list[str]) -> None:
    assert all(Resource(resource).matches(name) for name in yes)
    assert not any(Resource(resource).matches(name) for name in no)


RESOURCES = st.sampled_from(["*", "a", "a:*", "a:b", "b:*", "a:*:c", "a:b:c"])
OPERATIONS = st.lists(st.sampled_from(["*", "publish", "subscribe", "history", "presence"]), min_size=1, max_size=3)
CAPABILITIES = st.dictionaries(RESOURCES, OPERATIONS, min_size=1, max_size=3)


def allows(capability: dict[str, list[str]], name: str, can: Can) -> bool:
    return any(names.matches(name) and can in allowed for names, allowed in claims_of(capability))


@given(asked=CAPABILITIES, key=CAPABILITIES)
def test_a_token_allows_no_more_than_was_asked_for_and_its_key_allows(
    asked: dict[str, list[str]], key: dict[str, list[str]]
) -> None:
    try:
        given_ = cut(asked, key)
    except Forbidden:
        given_ = {}
    for name in ("a", "a:b", "a:b:c", "b", "b:x", "a:x:c"):
        for can in Can:
            if allows(given_, name, can):
                assert allows(asked, name, can)
                assert allows(key, name, can)


def test_a_capability_is_written_in_one_way_only_and_survives_being_asked() -> None:
    text = '{"b":["subscribe","publish"],"a":["message-update-own","*"]}'
    assert write(read(text)) == '{"a":["*","message-update-own"],"b":["publish","subscribe"]}'
    assert write(of_claims(claims_of(read(text)))) == write(read(text))
    with pytest.raises(BadParameter):
        read("[1]")


def test_a_token_is_asked_for_with_operations_that_there_are() -> None:
    asked = '{"a":["publish","stats","object-publish"],"b":["*"]}'
    assert requested(asked) == read(asked)
    for refused in ('{"a":["publish_"]}', '{"a":["*","publish"]}', '{"a":[]}'):
        with pytest.raises(BadParameter):
            requested(refused)
