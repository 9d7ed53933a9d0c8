"""dialects/ably/channels.py, serials.py: names with qualifiers, rewind, modes, serials."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.core.command import Rewind
from sower.core.message import Position
from sower.dialects.ably import serials
from sower.dialects.ably.channels import MAX_QUALIFIER, read_name, read_rewind, wanted_modes
from sower.dialects.ably.wire import MODES, Flag
from sower.errors import BadChannelName, BadParameter


def test_a_qualifier_is_read_and_the_name_is_what_follows() -> None:
    assert read_name("[?rewind=1&x=y]a room/of,one") == ("a room/of,one", {"rewind": "1", "x": "y"})
    assert read_name("plain") == ("plain", {})


@pytest.mark.parametrize(
    "name", [None, "", ":a", "[meta]log", "[?rewind=1", "a\nb", "[?rewind=1]", f"[?{MAX_QUALIFIER * 'x'}x]a"]
)
def test_names_that_are_not_allowed(name: str | None) -> None:
    with pytest.raises(BadChannelName):
        read_name(name)


def test_rewind_is_a_number_or_a_period() -> None:
    assert read_rewind("7") == Rewind(messages=7)
    assert read_rewind("700") == Rewind(messages=100)
    assert read_rewind("2m") == Rewind(seconds=120.0)
    for text in ("", "x", "-1", "1d", "10 s"):
        with pytest.raises(BadParameter):
            read_rewind(text)


def test_no_modes_are_the_usual_ones_and_unknown_ones_are_none() -> None:
    assert wanted_modes(None, {}) == wanted_modes(32, {}) == MODES
    assert wanted_modes(int(Flag.PUBLISH) | 32, {}) == Flag.PUBLISH
    assert wanted_modes(None, {"modes": "subscribe,publish"}) == Flag.SUBSCRIBE | Flag.PUBLISH
    assert wanted_modes(1 << 24, {}) == Flag(0)


@given(st.lists(st.integers(0, 10**17 - 1), min_size=2))
def test_serials_sort_as_their_texts_do_and_are_read_back(numbers: list[int]) -> None:
    texts = [serials.write(number, "e") for number in numbers]
    assert sorted(texts) == [serials.write(number, "e") for number in sorted(numbers)]
    assert [serials.read(text) for text in texts] == [Position("e", number) for number in numbers]


@given(st.text())
def test_what_is_no_serial_is_nowhere(text: str) -> None:
    assert serials.read(text) == serials.NOWHERE or "@" in text


def test_where_a_client_attached_is_a_position_of_messages_and_a_moment_for_members() -> None:
    where = Position("e", 7)
    text = serials.attached(where, 9)
    assert serials.read(text) == where
    assert serials.read_moment(text) == Position("e", 9)
    assert serials.read_moment(serials.position(where)) == where
    assert serials.read_moment("7~9") == serials.NOWHERE
    assert serials.read("7@e~junk") == serials.NOWHERE
