"""core/appearances.py: what a connection did is read from the journal as it was written."""

from __future__ import annotations

import pytest

from sower.core.appearances import read, record
from sower.core.message import Appearance, Did, Message


@pytest.mark.parametrize("did", list(Did))
@pytest.mark.parametrize(("event", "extra"), [(None, None), ("c:0:1", b'{"encoding":"x"}')])
def test_what_a_connection_did_is_read_as_it_was_written(did: Did, event: str | None, extra: bytes | None) -> None:
    seen = Appearance(did, "ada", "c", b'{"a":1}', 5, event, extra)
    row = record(seen, 7)
    assert (row.serial, row.event, row.data, row.user) == (7, did.name, b'{"a":1}', "ada")
    assert read(row) == Appearance(did, "ada", "c", b'{"a":1}', 7, event, extra)


def test_a_row_without_a_user_is_of_one_without_a_name() -> None:
    assert read(Message(1, "LEFT", b"1", extra=b'{"connection":"c"}')).user == ""
