"""dialects/pubnub/filters.py: the vendor's expressions, a model, and what hostile expressions cost."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.core.message import Kind, Message
from sower.dialects.pubnub import filters
from sower.dialects.pubnub.filters import MAX_DEPTH, MAX_FILTER, compiled
from sower.errors import BadFilter

META: dict[str, Any] = {
    "region": "east",
    "priority": 5,
    "label": "special-offer",
    "tags": ["new", "sale", 3],
    "nested": {"deep": {"key": "v"}, "odd key": 1},
    "enabled": True,
    "path": "a*b",
}
DATA: dict[str, Any] = {"text": "Hello World", "n": 10, "list": [1, {"x": 2}], "nothing": None}


def message(meta: Any = META, data: Any = DATA, user: str | None = "ada") -> Message:
    extra = None if meta is None else json.dumps({"meta": meta}).encode()
    return Message(1, "message", json.dumps(data).encode(), user=user, extra=extra)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        # of the vendor's page
        ("meta.region == 'east'", True),
        ('meta.region == "west"', False),
        ("region == 'east'", True),
        ("uuid != 'ada'", False),
        ("uuid != 'bob'", True),
        ("meta.priority > 4", True),
        ("meta.priority >= 5 && meta.priority <= 5", True),
        ("meta.priority < 5", False),
        ("meta.region == 'west' || meta.priority == 5", True),
        ("!(meta.region == 'west')", True),
        ("meta.label LIKE 'special*'", True),
        ("meta.label LIKE '*OFFER'", True),
        ("meta.label LIKE '*-*'", True),
        ("meta.label LIKE 'special'", False),
        ("meta.tags CONTAINS 'sale'", True),
        ("meta.tags CONTAINS 'old'", False),
        ("meta.label CONTAINS 'offer'", True),
        ("meta.tags[0] == 'new'", True),
        ("meta.tags[9] == 'new'", False),
        ('meta.nested["odd key"] == 1', True),
        ('meta["nested"]["deep"]["key"] == \'v\'', True),
        ("meta.nested.deep.key == 'v'", True),
        ("data.n % 3 == 1", True),
        ("data.n * 2 - 5 == 15", True),
        ("(data.n + 2) / 4 == 3", True),
        ("data.list[1].x == 2", True),
        ("data.list[0] == 1", True),
        ("data.text LIKE 'hello*'", True),
        # booleans
        ("meta.enabled == true", True),
        ("meta.enabled == 'true'", True),
        ("meta.enabled == 1", True),
        ("meta.enabled == false", False),
        ("meta.enabled", True),
        # precedence
        ("meta.region == 'west' && false || true", True),
        ("true || false && false", True),
        ("1 + 2 * 3 == 7", True),
        ("-1 < 0", True),
        ("2 - -2 == 4", True),
        # what is missing or of another kind
        ("meta.gone == 1", False),
        ("meta.gone != 1", True),
        ("meta.gone", False),
        ("!meta.gone", True),
        ("meta.region > 1", False),
        ("meta.region == 5", False),
        ("meta.priority == '5'", False),
        ("meta.priority LIKE '5'", False),
        ("data.n / 0 == 1", False),
        ("data.n % 0 != 1", True),
        ("data.nothing == 1", False),
        # an escaped asterisk is itself
        (r"meta.path LIKE 'a\*b'", True),
        (r"meta.label LIKE 'special\*'", False),
        (r"meta.region == 'e\ast'", True),
    ],
)
def test_the_expressions_of_the_vendors_page(text: str, passes: bool) -> None:
    assert compiled(text)(message()) is passes


def test_text_bytes_and_odd_messages_are_judged_too() -> None:
    assert compiled("data LIKE 'plain*'")(Message(1, "e", b"plain text", Kind.TEXT))
    assert not compiled("data LIKE 'x'")(Message(1, "e", b"\xff", Kind.BINARY))
    assert compiled("meta.a != 1")(message(meta=None))
    assert not compiled("uuid == 'ada'")(message(user=None))
    assert compiled("data.big > 1")(message(data={"big": 10**400})) is False


@pytest.mark.parametrize(
    "text",
    [
        "meta.a ==",
        "== 1",
        "(meta.a",
        "meta.a)",
        "meta.a = 1",
        "'open",
        "meta.a == 1 1",
        "meta.",
        "a LIKE",
        "#",
        "a[",
        "a['b'",
        "a[b]",
        "a[1.5]",
        "!",
        "LIKE",
    ],
)
def test_a_malformed_expression_is_told_where(text: str) -> None:
    with pytest.raises(BadFilter, match="at character"):
        compiled(text)


def test_expressions_are_bounded_in_length_and_depth() -> None:
    with pytest.raises(BadFilter, match="characters"):
        compiled("a" * (MAX_FILTER + 1))
    for hostile in ("(" * 900 + "1" + ")" * 900, "!" * 900 + "a", "-" * 900 + "1"):
        with pytest.raises(BadFilter, match="stand in each other"):
            compiled(hostile)
    compiled("(" * MAX_DEPTH + "1" + ")" * MAX_DEPTH)


@pytest.mark.parametrize(
    ("part", "sign", "passes"),
    [("1", "+", True), ("1", "*", True), ("1", "-", True), ("a", "||", False), ("1", "&&", True)],
)
def test_a_chain_may_be_as_long_as_an_expression(part: str, sign: str, passes: bool) -> None:
    text = sign.join([part] * (MAX_FILTER // (len(part) + len(sign))))
    assert compiled(text)(message()) is passes


def test_what_comes_to_no_number_is_missing() -> None:
    beyond = "9" * 400
    for text in (f"{beyond} % 2 == 1", f"1{'0' * 308} * 100 % 7 >= 0", f"{beyond} - {beyond} == 0", f"1 < {beyond}"):
        assert compiled(text)(message()) is False, text
    assert compiled("7 - 2 - 1 == 4 && 7 % 4 * 2 == 6 && 8 / 2 / 2 == 2")(message())


def test_only_short_expressions_and_patterns_are_remembered() -> None:
    short, long = "meta.a == 1", "meta.a == 1 || " * 20 + "meta.b == 2"
    assert compiled(short) is compiled(short)
    assert compiled(long) is not compiled(long)
    before = filters._remembered_wildcards.cache_info().currsize
    assert compiled("data.t LIKE data.p")(message(data={"t": "x" * 60_000, "p": "x" * 60_000}))
    assert filters._remembered_wildcards.cache_info().currsize == before


def test_no_pattern_is_slow() -> None:
    test = compiled(f"data.t LIKE '{'*a' * 200}*b'")
    begun = time.thread_time()
    assert not test(message(data={"t": "a" * 60_000}))
    assert time.thread_time() - begun < 1


NUMBERS = st.integers(-5, 5)


def sums(depth: int) -> st.SearchStrategy[tuple[str, float]]:
    leaf = NUMBERS.map(lambda n: (str(n) if n >= 0 else f"({n})", float(n)))
    if not depth:
        return leaf
    below = sums(depth - 1)
    joined = st.tuples(below, st.sampled_from("+-*"), below).map(
        lambda t: (
            f"({t[0][0]} {t[1]} {t[2][0]})",
            {"+": t[0][1] + t[2][1], "-": t[0][1] - t[2][1], "*": t[0][1] * t[2][1]}[t[1]],
        )
    )
    return st.one_of(leaf, joined)


def conditions(depth: int) -> st.SearchStrategy[tuple[str, bool]]:
    leaf = st.tuples(sums(2), st.sampled_from(["==", "!=", "<", ">", "<=", ">="]), sums(2)).map(
        lambda t: (
            f"{t[0][0]} {t[1]} {t[2][0]}",
            {
                "==": t[0][1] == t[2][1],
                "!=": t[0][1] != t[2][1],
                "<": t[0][1] < t[2][1],
                ">": t[0][1] > t[2][1],
                "<=": t[0][1] <= t[2][1],
                ">=": t[0][1] >= t[2][1],
            }[t[1]],
        )
    )
    if not depth:
        return leaf
    below = conditions(depth - 1)
    return st.one_of(
        leaf,
        below.map(lambda t: (f"!({t[0]})", not t[1])),
        st.tuples(below, below).map(lambda t: (f"({t[0][0]}) && ({t[1][0]})", t[0][1] and t[1][1])),
        st.tuples(below, below).map(lambda t: (f"({t[0][0]})||({t[1][0]})", t[0][1] or t[1][1])),
    )


@given(conditions(3))
def test_an_expression_means_what_a_model_of_it_means(pair: tuple[str, bool]) -> None:
    text, passes = pair
    if len(text) <= MAX_FILTER:
        assert compiled(text)(message()) is passes


@given(st.text(alphabet="meta.data uuid'\"\\()[]!&|=<>+-*/%LIKECONTAINS0123", max_size=60))
def test_any_text_is_read_or_refused_and_never_breaks(text: str) -> None:
    try:
        test = compiled(text)
    except BadFilter:
        return
    assert test(message()) in (True, False)
