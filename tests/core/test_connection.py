"""core/connection.py: a statement is worth something to the key and the user whose it is, and to nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.core.connection import Continued, name_of, read, state
from sower.core.grants import Credential
from sower.errors import BadSignature

ADA = Credential("1", "key", b"s" * 16)
STATED_OF_ADA = "name!session!4TU7Yestzv1KIWIexWTIAAHCApawWBsf6JtnmhpkUsw"
STATED_OF_NOBODY = "name!session!ubH83Z6DuM-u0cGNGV1lZERWOsZN-LuCs9K5Cw1zR9g"


def test_a_statement_is_read_back_by_its_own_key_and_user() -> None:
    name = name_of("0123456789ab7")
    statement = state(ADA, name, "0123456789ab7", "ada")
    assert read(ADA, statement, "ada") == Continued(name, "0123456789ab7")
    assert name not in ("0123456789ab7", statement)
    assert ":" not in name
    for credential, user in ((ADA, "bob"), (ADA, None), (Credential("1", "other", b"s" * 16), "ada")):
        with pytest.raises(BadSignature):
            read(credential, statement, user)


@given(st.text())
def test_anything_else_proves_nothing(text: str) -> None:
    with pytest.raises(BadSignature):
        read(ADA, text, None)


def test_each_session_has_a_name_of_its_own_of_twelve_characters() -> None:
    names = {name_of(session) for session in ("a", "b", "c")}
    assert len(names) == 3
    assert {len(name) for name in names} == {12}


def test_a_statement_of_an_earlier_daemon_is_read() -> None:
    # It outlives the daemon that made it, so what is signed stays as it is.
    for user, statement in (
        ("ada", STATED_OF_ADA),
        (None, STATED_OF_NOBODY),
    ):
        assert state(ADA, "name", "session", user) == statement
        assert read(ADA, statement, user) == Continued("name", "session")
    assert not STATED_OF_ADA.endswith("=")


def test_what_is_no_statement_is_told_so() -> None:
    with pytest.raises(BadSignature, match=r"This is not the key of a connection\."):
        read(ADA, "a!b!\u2603", None)


def test_a_session_ends_at_its_first_mark() -> None:
    with pytest.raises(BadSignature):
        read(ADA, STATED_OF_ADA.replace("session!", "session!more!"), "ada")
