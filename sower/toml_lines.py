"""Where a key stands in a TOML text: tomllib reads values, this finds lines.

It reads what the TOML spec calls tables, arrays of tables, dotted and quoted keys, and passes over strings and
arrays of several lines. A key inside an inline table is on the line of the key that holds it, or of itself
where that is found there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Path = tuple[str | int, ...]

_BARE = r"[A-Za-z0-9_-]+"
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'[^']*'"
_KEY = re.compile(rf"\s*((?:{_BARE}|{_QUOTED})(?:\s*\.\s*(?:{_BARE}|{_QUOTED}))*)\s*=")
_TABLE = re.compile(rf"\s*(\[\[?)\s*((?:{_BARE}|{_QUOTED})(?:\s*\.\s*(?:{_BARE}|{_QUOTED}))*)\s*\]\]?\s*(?:#.*)?$")
_PART = re.compile(rf"{_BARE}|{_QUOTED}")
_STRINGS = re.compile(r"\"\"\"|'''|\"(?:[^\"\\]|\\.)*\"|'[^']*'|#.*|[\[\]{}]")


def line_of(text: str, path: Sequence[str | int]) -> int:
    """The line (from 1) of the key or table at `path`, or of the nearest thing that holds it."""
    wanted = tuple(path)
    best, best_depth = 1, 0
    for line, found in _keys(text):
        depth = _shared(found, wanted)
        if depth in (len(found), len(wanted)) and depth > best_depth:
            best, best_depth = line, depth
    return best


def _keys(text: str) -> Iterator[tuple[int, Path]]:
    """Every table header and key with its line."""
    table: Path = ()
    counts: dict[Path, int] = {}
    inside = ""  # the closing mark of a string over several lines
    depth = 0  # brackets of a value over several lines
    for number, line in enumerate(text.splitlines(), 1):
        if not inside and not depth:
            header = _TABLE.match(line)
            if header is not None:
                names = _parts(header[2])
                table = _resolve(names, counts)
                if header[1] == "[[":
                    counts[table] = counts.get(table, -1) + 1
                    table = (*table, counts[table])
                yield number, table
                continue
            key = _KEY.match(line)
            if key is not None:
                full = (*table, *_parts(key[1]))
                yield number, full
                for inner in re.finditer(rf"[{{,]\s*({_BARE})\s*=", line[key.end() :]):
                    yield number, (*full, inner[1])
        inside, depth = _after(line, inside, depth)


def _resolve(names: Path, counts: dict[Path, int]) -> Path:
    """A header's path, with the index of the array of tables that it is below."""
    path: Path = ()
    for name in names[:-1]:
        path = (*path, name)
        if path in counts:
            path = (*path, counts[path])
    return (*path, names[-1])


def _parts(dotted: str) -> Path:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _after(line: str, inside: str, depth: int) -> tuple[str, int]:
    """What is still open at the end of a line."""
    position = 0
    while True:
        if inside:
            end = line.find(inside, position)
            if end < 0:
                return inside, depth
            position, inside = end + 3, ""
        found = _STRINGS.search(line, position)
        if found is None:
            return "", depth
        position = found.end()
        if found[0] in ('"""', "'''"):
            inside = found[0]
        elif found[0] in ("[", "{"):
            depth += 1
        elif found[0] in ("]", "}"):
            depth -= 1


def _shared(found: Path, wanted: Path) -> int:
    shared = 0
    for a, b in zip(found, wanted, strict=False):
        if a != b:
            break
        shared += 1
    return shared
