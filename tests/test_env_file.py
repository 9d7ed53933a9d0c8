"""env_file.py: what dotenv, Docker and compose files write, as they mean it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.env_file import parse_env


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=x", "x"),
        ("export A = x", "x"),
        ('A="x # y"', "x # y"),
        ("A='x \\n'", "x \\n"),
        (r'A="a\"b"', 'a"b'),
        ("A=x # said", "x"),
        ("A=x#y", "x#y"),
        ("A=", ""),
        ("A=a=b", "a=b"),
        ("  A: x", "x"),
        ("  - A=x", "x"),
        ("  - 'A=x'", "x"),
        ('A="${B}-${C:-three}-${D-four}"', "two-three-four"),
    ],
)
def test_a_line_is_read_as_it_is_meant(line: str, value: str) -> None:
    assert parse_env(f"B=two\n{line}\n")["A"] == value


def test_what_is_no_variable_is_passed_over_and_the_last_of_a_name_wins() -> None:
    assert parse_env("# A=no\n\nno line\nA=1\nA=2\n9=x\n") == {"A": "2"}


def test_references_that_go_round_end() -> None:
    assert set(parse_env("A=${B}\nB=${A}\n")) == {"A", "B"}


@given(st.text())
def test_any_text_is_read_without_a_fault(text: str) -> None:
    parse_env(text)
