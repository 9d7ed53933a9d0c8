"""Durations, sizes and rates as people write them, and back."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sower.config import Duration, Rate, Size

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
PER = {"s": 1.0, "m": 60.0, "h": 3600.0}

LONGEST = 3650 * 86400.0
"""Seconds, ten years: what is longer is a slip of the unit."""

LARGEST = 1024**4
"""Bytes, 1024 GiB: what is larger is a slip of the unit."""

_QUANTITY = re.compile(r"([0-9]{1,13}(?:\.[0-9]{1,6})?) ?([A-Za-z]+)")
_RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)/(s|m|h)(?: burst ([0-9]{1,9}))?")


def parse_duration(text: object) -> Duration:
    """Read a duration. Raises ValueError that says what is allowed."""
    found = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[2] not in SECONDS or float(found[1]) * SECONDS[found[2]] > LONGEST:
        raise ValueError(f'{text!r} is no duration: a number with {_units(SECONDS)}, such as "10s", at most 3650d')
    return Duration(float(found[1]) * SECONDS[found[2]])


def parse_size(text: object) -> Size:
    """Read a size. Raises ValueError that says what is allowed."""
    found = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if found is None or found[2] not in BYTES or float(found[1]) * BYTES[found[2]] > LARGEST:
        raise ValueError(f'{text!r} is no size: a number with {_units(BYTES)}, such as "64KiB", at most 1024GiB')
    return Size(float(found[1]) * BYTES[found[2]])


def parse_rate(text: object) -> Rate:
    """Read a rate. Raises ValueError that says what is allowed."""
    found = _RATE.fullmatch(text) if isinstance(text, str) else None
    if found is None or not float(found[1]):
        raise ValueError(f'{text!r} is no rate: such as "50/s", "600/m" or "50/s burst 200"')
    per_second = float(found[1]) / PER[found[2]]
    burst = float(found[3]) if found[3] else _usual_burst(per_second)
    if burst < 1:
        raise ValueError(f"{text!r} has a burst below 1, so that nothing would ever be let through")
    return Rate(per_second, burst)


def show_duration(seconds: float) -> str:
    """The shortest way to write a duration."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % SECONDS[unit] == 0:
            return f"{int(seconds / SECONDS[unit])}{unit}"
    return f"{_number(seconds * 1000)}ms" if seconds else "0s"


def show_size(size: int) -> str:
    """The shortest way to write a size."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % BYTES[unit] == 0:
            return f"{size // BYTES[unit]}{unit}"
    return f"{size}B"


def show_rate(rate: Rate) -> str:
    """A rate as it is written: by the first unit in which the number has at most six digits after the point."""
    shown = [f"{_number(rate.per_second * seconds)}/{unit}" for unit, seconds in PER.items()]
    text = next((t for t in shown if _is_rate(t, rate.per_second)), shown[0])
    return text if rate.burst == _usual_burst(rate.per_second) else f"{text} burst {int(rate.burst)}"


def _is_rate(text: str, per_second: float) -> bool:
    number, unit = text.split("/")
    return float(number) / PER[unit] == per_second


def _usual_burst(per_second: float) -> float:
    """What a rate without a burst lets through at once."""
    return max(per_second, 1.0)


def _number(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _units(units: Iterable[str]) -> str:
    return ", ".join(units)
