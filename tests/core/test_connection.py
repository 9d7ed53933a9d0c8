"""core/connection.py: a statement is worth something to the key and the user whose it is, and to nobody else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.core.connection import Continued, name_of, read, state
from sower.core.grants import Credential
from sower.errors import BadSignature

ADA = Credential("1", "key", b"s" * 16)


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
