"""toml_lines.py: each key is found on the line that it stands on, however the file is written."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from sower.toml_lines import Path, line_of, places

EVERYTHING = '''\
a.b = 1
"q k" = 2
s = """
x = 1 \\""" [t]
"""""
l = [
  "y = 2", # ] }
  [3, {in = 4}],
]

[t . u] # a comment [v]
v = {w = 3, z = {y = "}"}}
'a"b' = 1979-05-27 07:32:00
"c\\u0064\\"e" = \'\'\'
[[r]]\'\'\'
[[r]]
n = 1
[[ r ]]
n = 2
[r.sub]
m = 1
[[r.many]]
[[r.many]]
o = 1
'''

LINES: dict[Path, int] = {
    ("a",): 1,
    ("a", "b"): 1,
    ("q k",): 2,
    ("s",): 3,
    ("l",): 6,
    ("l", 0): 7,
    ("l", 1, 1, "in"): 8,
    ("t",): 11,
    ("t", "u"): 11,
    ("t", "u", "v", "z", "y"): 12,
    ("t", "u", 'a"b'): 13,
    ("t", "u", 'cd"e'): 14,
    ("r",): 16,
    ("r", 0, "n"): 17,
    ("r", 1): 18,
    ("r", 1, "n"): 19,
    ("r", 1, "sub", "m"): 21,
    ("r", 1, "many", 1, "o"): 24,
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("path", LINES)
def test_a_key_is_found_in_every_kind_of_toml(path: Path, end: str) -> None:
    assert line_of(EVERYTHING.replace("\n", end), path) == LINES[path]


@pytest.mark.parametrize(
    ("path", "line"), [(("t", "u", "none"), 11), (("r", 0, "none"), 16), (("r", 1, "sub", "none"), 20), (("l", 7), 6)]
)
def test_what_is_missing_is_found_at_the_table_that_lacks_it(path: Path, line: int) -> None:
    assert line_of(EVERYTHING, path) == line


def test_what_is_nowhere_is_at_the_first_line() -> None:
    assert line_of(EVERYTHING, ("none",)) == 1
    assert line_of("", ("none", 1)) == 1


def test_nothing_inside_a_string_is_a_key() -> None:
    assert line_of(EVERYTHING, ("x",)) == 1
    assert line_of(EVERYTHING, ("y",)) == 1


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85"])
def test_a_line_ends_where_toml_and_editors_end_it(character: str) -> None:
    assert line_of(f'# {character}\na = "{character}"\nb = 1\n', ("b",)) == 3


KEYS = st.text(st.characters(codec="utf-8"), max_size=5) | st.text(alphabet="ab-_ .\"'=[]{}#\\\n", max_size=5)
SCALARS = st.one_of(
    st.integers(-5, 5),
    st.booleans(),
    st.floats(allow_nan=False),
    st.datetimes(),
    st.text(alphabet="ab\"'\n[]{}#=,\\\u2028", max_size=8),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12
)
DOCUMENTS = st.dictionaries(KEYS, VALUES, max_size=4)


@given(document=DOCUMENTS, multiline=st.booleans())
def test_every_value_of_a_generated_file_has_its_place(document: dict[str, Any], multiline: bool) -> None:
    text = tomli_w.dumps(document, multiline_strings=multiline)
    found = {place.path for place in places(text)}
    assert {path for path, value in leaves(tomllib.loads(text)) if value not in ({}, [])} <= found


@given(document=DOCUMENTS, multiline=st.booleans())
def test_a_key_of_a_generated_file_is_on_the_line_that_was_written_for_it(
    document: dict[str, Any], multiline: bool
) -> None:
    marked = mark(document, count())
    text = tomli_w.dumps(marked, multiline_strings=multiline)
    for path, value in leaves(marked):
        if isinstance(value, str):
            assert value in text.split("\n")[line_of(text, path) - 1]


def leaves(value: Any, path: Path = ()) -> list[tuple[Path, Any]]:
    """Every value that holds no other, with its path."""
    if isinstance(value, dict) and value:
        return [leaf for name, inner in value.items() for leaf in leaves(inner, (*path, name))]
    if isinstance(value, list) and value:
        return [leaf for index, inner in enumerate(value) for leaf in leaves(inner, (*path, index))]
    return [(path, value)]


def mark(value: Any, numbers: Iterator[int]) -> Any:
    """The same shape, each text in it another one."""
    if isinstance(value, dict):
        return {name: mark(inner, numbers) for name, inner in value.items()}
    if isinstance(value, list):
        return [mark(inner, numbers) for inner in value]
    return f"<{next(numbers)}>" if isinstance(value, str) else value
