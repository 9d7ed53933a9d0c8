"""quantities.py: what is written is read, what is shown reads the same again, and nonsense is told what would be right."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.config import Duration, Rate, Size
from sower.quantities import (
    BYTES,
    LARGEST,
    LONGEST,
    PER,
    SECONDS,
    parse_duration,
    parse_rate,
    parse_size,
    show_duration,
    show_rate,
    show_size,
)

WHOLE = st.integers(0, 10**6).map(str)
NUMBER = st.builds("{}.{}".format, WHOLE, st.integers(0, 999_999).map("{:06}".format)) | WHOLE


@given(number=NUMBER, unit=st.sampled_from(list(SECONDS)))
def test_a_duration_that_is_shown_reads_the_same(number: str, unit: str) -> None:
    if float(number) * SECONDS[unit] <= LONGEST:
        duration = parse_duration(number + unit)
        assert parse_duration(show_duration(duration)) == pytest.approx(duration, rel=1e-12, abs=1e-9)


@given(number=NUMBER, unit=st.sampled_from(list(BYTES)))
def test_a_size_that_is_shown_reads_the_same(number: str, unit: str) -> None:
    if float(number) * BYTES[unit] <= LARGEST:
        size = parse_size(number + unit)
        assert parse_size(show_size(size)) == size


@given(number=NUMBER.filter(float), unit=st.sampled_from(list(PER)), burst=st.none() | st.integers(1, 10**6))
def test_a_rate_that_is_shown_reads_the_same(number: str, unit: str, burst: int | None) -> None:
    rate = parse_rate(f"{number}/{unit}" + (f" burst {burst}" if burst else ""))
    assert parse_rate(show_rate(rate)) == rate


@pytest.mark.parametrize(
    ("text", "seconds"), [("250ms", 0.25), ("10s", 10), ("5m", 300), ("72h", 259_200), ("30d", 2_592_000), ("1.5 h", 5400), ("0s", 0)]
)  # fmt: skip
def test_a_duration_is_a_number_and_a_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert isinstance(parse_duration(text), Duration)


@pytest.mark.parametrize(("text", "size"), [("512B", 512), ("64KiB", 65_536), ("1MiB", 2**20), ("2GiB", 2**31), ("1.5KiB", 1536)])  # fmt: skip
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size
    assert isinstance(parse_size(text), Size)


def test_a_rate_without_a_burst_has_one_seconds_worth_and_at_least_one() -> None:
    assert parse_rate("50/s") == Rate(50, 50)
    assert parse_rate("600/m") == Rate(10, 10)
    assert parse_rate("1/h") == Rate(1 / 3600, 1)
    assert parse_rate("50/s burst 200") == Rate(50, 200)


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0s"), (0.25, "250ms"), (90, "90s"), (3600, "1h"), (259_200, "3d"), (0.0864, "86.4ms")]
)
def test_a_duration_is_shown_in_its_largest_whole_unit(seconds: float, shown: str) -> None:
    assert show_duration(seconds) == shown


@pytest.mark.parametrize("text", ["50/s", "100/m", "1/h", "1.5/s", "50/s burst 200", "0.000001/h"])
def test_a_rate_is_shown_by_the_unit_that_fits_and_without_the_burst_it_has_anyway(text: str) -> None:
    assert show_rate(parse_rate(text)) == text


def test_a_rate_that_no_text_gives_is_shown_as_near_as_it_can_be() -> None:
    assert show_rate(Rate(1 / 7, 3)) == "0.142857/s burst 3"


NOT_TEXT = [None, 10, 1.5, True, [], "", " 1s"]


@pytest.mark.parametrize(
    "text", [*NOT_TEXT, "10", "s", "-1s", "1.s", "1e3s", "ten s", "1 fortnight", "3651d", "9" * 14 + "s", "١s"]
)
def test_what_is_no_duration_is_told_what_is_one(text: object) -> None:
    with pytest.raises(ValueError, match="a number with ms, s, m, h, d"):
        parse_duration(text)


@pytest.mark.parametrize("text", [*NOT_TEXT, "1MB", "1kib", "-1B", "KiB", "1025GiB", "1e3B"])
def test_what_is_no_size_is_told_what_is_one(text: object) -> None:
    with pytest.raises(ValueError, match="a number with B, KiB, MiB, GiB"):
        parse_size(text)


@pytest.mark.parametrize(
    "text", [*NOT_TEXT, "50", "fast", "50/d", "0/s", "-1/s", "50/s burst", "50/s burst 1.5", "50/s  burst 2"]
)
def test_what_is_no_rate_is_told_what_is_one(text: object) -> None:
    with pytest.raises(ValueError, match="is no rate: such as"):
        parse_rate(text)


def test_a_burst_that_lets_nothing_through_is_refused() -> None:
    with pytest.raises(ValueError, match="burst below 1"):
        parse_rate("5/s burst 0")
