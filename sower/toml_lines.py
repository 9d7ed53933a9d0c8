"""Where a key stands in a TOML text: tomllib reads values, this finds lines.

It walks the text as the TOML spec (toml.io/en/v1.0.0) builds it: table headers, arrays of tables, dotted and quoted
keys, inline tables and arrays. What tomllib has read is taken for granted: no rule of TOML is checked again.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple, cast

Path = tuple[str | int, ...]

_NAME = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_KEY = re.compile(rf"{_NAME}(?:[ \t]*\.[ \t]*{_NAME})*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(
    r'''"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'''  # up to two quotes may stand before the closing ones
    r"""|'''(?:[^']|'{1,2}(?!'))*'{3,5}"""
    r"""|"(?:[^"\\]|\\.)*"|'[^']*'|[^,\]}#\n]+""",
    re.DOTALL,
)


class Place(NamedTuple):
    """What stands at `start`, an offset in the text: a table's header, a key, or an entry of an array."""

    path: Path
    start: int


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line (from 1) of the key or table at `path`, or of the nearest thing that holds it.

    The text is one that tomllib reads.
    """
    wanted = tuple(path)
    best, deepest = 0, 0
    for place in places(text):
        depth = _shared(place.path, wanted)
        if depth in (len(place.path), len(wanted)) and depth > deepest:
            best, deepest = place.start, depth
    return text.count("\n", 0, best) + 1


def places(text: str) -> Iterator[Place]:
    """Every header, key and array entry, in the order of the text."""
    table: Path = ()
    counts: dict[Path, int] = {}
    at = _skip(text, 0)
    while at < len(text):
        if text[at] == "[":
            many = text.startswith("[[", at)
            key, end = _key(text, _skip(text, at + 1 + many))
            table = _resolve(key, counts)
            if many:
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            yield Place(table, at)
            at = text.index("]", end) + 1 + many
        else:
            at = yield from _entry(text, at, table)
        at = _skip(text, at)


def _entry(text: str, at: int, table: Path) -> Generator[Place, None, int]:
    """A key and its value. Returns where they end."""
    key, end = _key(text, at)
    yield Place((*table, *key), at)
    return (yield from _value(text, _skip(text, text.index("=", end) + 1), (*table, *key)))


def _value(text: str, at: int, path: Path) -> Generator[Place, None, int]:
    """What is inside a value. Returns where it ends."""
    if text[at] not in "[{":
        return _found(_SCALAR, text, at).end()
    closing = {"[": "]", "{": "}"}[text[at]]
    at = _skip(text, at + 1)
    index = 0
    while text[at] != closing:
        if closing == "}":
            at = yield from _entry(text, at, path)
        else:
            yield Place((*path, index), at)
            at = yield from _value(text, at, (*path, index))
            index += 1
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return at + 1


def _key(text: str, at: int) -> tuple[tuple[str, ...], int]:
    """The parts of a dotted key, quotes and escapes undone, and where it ends."""
    found = _found(_KEY, text, at)
    inner: Any = tomllib.loads(f"{found[0]} = 0")
    parts: list[str] = []
    while isinstance(inner, dict):
        name, inner = next(iter(cast(dict[str, Any], inner).items()))
        parts.append(name)
    return tuple(parts), found.end()


def _resolve(names: tuple[str, ...], counts: dict[Path, int]) -> Path:
    """A header's path, with the index of each array of tables that it is below."""
    path: Path = ()
    for name in names[:-1]:
        path = (*path, name)
        if path in counts:
            path = (*path, counts[path])
    return (*path, names[-1])


def _skip(text: str, at: int) -> int:
    """Where the blanks, line ends and comments at `at` end."""
    return _found(_SPACE, text, at).end()


def _found(pattern: re.Pattern[str], text: str, at: int) -> re.Match[str]:
    found = pattern.match(text, at)
    if found is None:
        raise ValueError(f"no TOML at {text[at : at + 20]!r}")
    return found


def _shared(found: Path, wanted: Path) -> int:
    shared = 0
    for a, b in zip(found, wanted, strict=False):
        if a != b:
            break
        shared += 1
    return shared
