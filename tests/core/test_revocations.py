"""core/revocations.py: which tokens a revocation hits."""

from __future__ import annotations

from sower.core.grants import Can, Grant
from sower.core.revocations import MOST, By, Revocation, Revocations
from sower.core.rules import Pattern

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


def test_the_later_of_two_counts_and_their_number_has_a_bound() -> None:
    revocations = Revocations()
    for before in (60.0, 40.0):
        revocations.add(Revocation("key", By.USER, "ada", before))
    assert revocations.hit(TOKEN)
    for number in range(MOST):
        revocations.add(Revocation("key", By.USER, str(number), 60.0))
    assert not revocations.hit(TOKEN)


def test_as_many_as_the_bound_are_remembered() -> None:
    revocations = Revocations()
    revocations.add(Revocation("key", By.USER, "ada", 60.0))
    for number in range(MOST - 1):
        revocations.add(Revocation("key", By.USER, str(number), 60.0))
    assert revocations.hit(TOKEN)
