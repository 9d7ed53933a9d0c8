"""core/revocations.py: which tokens a revocation hits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.core.grants import Can, Grant
from sower.core.revocations import MOST, By, Revocation, Revocations
from sower.core.rules import Pattern
from sower.errors import TooManyRevoked

CLAIMS = ((Pattern("a*"), frozenset({Can.SUBSCRIBE})),)
TOKEN = Grant("1", "key", "ada", expires=100.0, claims=CLAIMS, issued=50.0, group="team")


def test_it_hits_tokens_of_its_key_and_target_that_were_issued_before() -> None:
    for by, value, hits in (
        (By.USER, "ada", True),
        (By.USER, "bob", False),
        (By.GROUP, "team", True),
        (By.CHANNEL, "abc", True),
        (By.CHANNEL, "b", False),
    ):
        assert Revocation("key", by, value, 60.0).hits(TOKEN) is hits
    assert not Revocation("key", By.USER, "ada", 50.0).hits(TOKEN)
    assert not Revocation("other", By.USER, "ada", 60.0).hits(TOKEN)
    assert not Revocation("key", By.USER, "ada", 60.0).hits(Grant("1", "key", "ada", keyed=True))
    assert Revocation("key", By.USER, "ada", 60.0).hits(Grant("1", "key", "ada"))


def test_the_later_of_two_counts() -> None:
    revocations = Revocations()
    for before in (60.0, 40.0):
        revocations.add(Revocation("key", By.USER, "ada", before))
    assert revocations.hit(TOKEN)


@given(st.lists(st.tuples(st.sampled_from(By), st.sampled_from(["ada", "team", "abc", "b", ""]), st.floats(0, 99))))
def test_a_token_is_hit_where_one_of_all_hits_it(added: list[tuple[By, str, float]]) -> None:
    some, revocations = [Revocation("key", *one) for one in added], Revocations()
    for one in some:
        revocations.add(one)
    for token in (TOKEN, Grant("1", "key"), Grant("1", "key", "", issued=20.0, group="b"), Grant("1", "other", "ada")):
        assert revocations.hit(token) is any(one.hits(token) for one in some)


def test_a_key_has_no_more_than_the_bound_and_one_that_is_there_needs_no_room() -> None:
    revocations = Revocations()
    for number in range(MOST):
        revocations.demand_room("key", [(By.USER, str(number))])
        revocations.add(Revocation("key", By.USER, str(number), 60.0))
    revocations.demand_room("key", [(By.USER, "0")])
    revocations.demand_room("other", [(By.USER, "ada")])
    with pytest.raises(TooManyRevoked):
        revocations.demand_room("key", [(By.USER, "0"), (By.GROUP, "0")])
