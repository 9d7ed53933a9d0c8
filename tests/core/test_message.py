"""core/message.py: names, positions and serials."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.core.message import (
    DEEPEST,
    MAX_CHANNEL_NAME,
    Message,
    Position,
    check_channel_name,
    check_event_name,
    is_shallow,
    next_serial,
)
from sower.errors import BadChannelName, BadEvent, BadPosition


@pytest.mark.parametrize("name", ["a", "a b", "ünï·cödé", "日本", "a/b?c#d", "[meta]x", "\u2028", "é" * 128])
def test_a_channel_name_is_any_text_up_to_256_bytes_without_control_characters(name: str) -> None:
    assert check_channel_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "a\nb", "\x00", "a\x7f", "\x85", "\ud800", "a" * (MAX_CHANNEL_NAME + 1), "é" * 129]
)
def test_any_other_channel_name_is_an_error_that_shows_what_is_allowed(name: str) -> None:
    with pytest.raises(BadChannelName) as caught:
        check_channel_name(name)
    assert "256 bytes of UTF-8 without control characters" in caught.value.hint
    assert caught.value.detail


def test_an_event_name_has_up_to_200_bytes() -> None:
    assert check_event_name("a" * 200)
    with pytest.raises(BadEvent):
        check_event_name("a" * 201)


@given(epoch=st.text(alphabet="0123456789abcdef", min_size=1, max_size=8), serial=st.integers(0, 10**17 - 1))
def test_a_position_is_read_as_it_was_written(epoch: str, serial: int) -> None:
    assert Position.parse(str(Position(epoch, serial))) == Position(epoch, serial)
    assert Position.parse(str(serial)) == Position("", serial)


@pytest.mark.parametrize(
    "text", ["", "a", "1:", "a:b", "-1", "1.5", "1" * 18, "٣", "e" * 33 + ":1", "1:2:x", "e\n:1", "e&f:1", "é:1"]
)
def test_what_is_no_position_is_told_so(text: str) -> None:
    with pytest.raises(BadPosition):
        Position.parse(text)


@given(clock=st.lists(st.floats(1.6e9, 1.9e9), min_size=2, max_size=30))
def test_serials_rise_strictly_whatever_the_clock_does(clock: list[float]) -> None:
    last, serials = 0, []
    for now in clock:
        last = next_serial(last, now)
        serials.append(last)
    assert serials == sorted(set(serials))
    assert all(len(str(serial)) == 17 for serial in serials)


def test_the_time_of_a_message_is_in_its_serial() -> None:
    assert Message(17_000_000_001_234_567, "e", b"").time_ms == 1_700_000_000_123


def test_a_position_without_an_epoch_is_its_serial_alone_and_the_longest_of_both_are_read() -> None:
    assert str(Position("", 17)) == "17"
    assert str(Position("e", 17)) == "e:17"
    assert Position.parse("e" * 32 + ":" + "1" * 17) == Position("e" * 32, 11111111111111111)


def test_what_is_refused_is_shown_up_to_64_characters() -> None:
    for check, error in (
        (Position.parse, BadPosition),
        (check_channel_name, BadChannelName),
        (check_event_name, BadEvent),
    ):
        with pytest.raises(error) as caught:
            check("\x00" + "a" * 300)
        assert "a" * 63 + "'" in caught.value.detail
        assert "a" * 64 not in caught.value.detail


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", " is empty."),
        ("\x1f", " holds a control character or half a surrogate pair."),
        ("a" * 201, " is longer than 200 bytes of UTF-8."),
    ],
)
def test_a_refusal_says_what_is_wrong_with_a_name(name: str, why: str) -> None:
    with pytest.raises(BadEvent) as caught:
        check_event_name(name)
    assert caught.value.detail.startswith("The event name '")
    assert caught.value.detail.endswith(why)


def test_the_first_and_the_last_of_the_control_characters_and_of_the_surrogates_are_refused() -> None:
    for code in (0x00, 0x1F, 0x7F, 0x80, 0x9F, 0xD800, 0xDFFF):
        with pytest.raises(BadChannelName):
            check_channel_name(chr(code))


@pytest.mark.parametrize("name", [" Yes\u2028", "\xa0", "\ue000", "\ud7ff"])
def test_what_is_beside_them_is_taken(name: str) -> None:
    assert check_channel_name(name) == name


def test_serials_count_on_by_one_where_the_clock_stands() -> None:
    assert next_serial(17, 0.0) == 18
    assert next_serial(17, 1.0) == 10_000_000


@pytest.mark.parametrize(
    "around", [lambda inner: [0, inner], lambda inner: {"a": 0, "b": inner}], ids=["array", "object"]
)
def test_a_value_is_shallow_up_to_so_many_levels_of_arrays_and_objects(around: Callable[[object], object]) -> None:
    value: object = "text"
    for _ in range(DEEPEST):
        assert is_shallow(value)
        value = around(value)
    assert is_shallow(value)
    assert not is_shallow(around(value))
    assert is_shallow([[1], {"a": []}], 3)
    assert not is_shallow([[1], {"a": []}], 2)
    assert is_shallow(1, 0)
    assert not is_shallow([], 0)
