"""PubNub's filter expressions (its "Message filters" page): text -> a test of one message.

Rule 1: an expression is read by recursive descent into closures: or, and, not, comparison, sum, product, operand.
Rule 2: it is bounded in length and depth, and LIKE is matched without backtracking, so that no client makes it slow.
        What is chained is no deeper for that, and what comes to no number is missing: nothing is raised by a message.
Rule 3: a comparison with a missing field is false, but for `!=`, which is true; order is of numbers only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, cast

import msgspec

from sower.core.message import Kind, Message
from sower.core.rules import Pattern
from sower.errors import BadFilter

MAX_FILTER = 2048
"""Characters of an expression; it travels in a URL."""

MAX_DEPTH = 50
"""Parentheses and negations in each other."""

COMPILED = 1000
"""Expressions that are remembered: most clients of an app filter alike."""

SHORT = 256
"""Characters of an expression or a pattern up to which it is among them, compiled in some 30 KiB. Anybody may send one,
and a long one is ten times that."""

TOKEN = re.compile(
    r"""\s*(?:(?P<number>\d+(?:\.\d+)?)|(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')"""
    r"""|(?P<name>[A-Za-z_][A-Za-z0-9_]*)|(?P<sign>==|!=|<=|>=|&&|\|\||[<>!()+\-*/%.\[\]]))""",
    re.ASCII,
)

COMPARISONS = ("==", "!=", "<=", ">=", "<", ">", "LIKE", "CONTAINS")


class Facts(NamedTuple):
    """What an expression may ask of a message."""

    data: Any
    meta: Any
    user: str | None


class _Missing:
    """A field that is not there."""


MISSING = _Missing()

Value = Callable[[Facts], Any]


class Filter:
    """A compiled expression. Equal texts are one object where they are short."""

    __slots__ = ("_test", "text")

    def __init__(self, text: str, test: Value) -> None:
        self.text = text
        self._test = test

    def __call__(self, message: Message) -> bool:
        """Whether a message passes."""
        return _truth(self._test(_facts(message)))


def compiled(text: str) -> Filter:
    """Read an expression. Raises BadFilter, which says where it is wrong."""
    if len(text) > MAX_FILTER:
        raise BadFilter(f"The filter has {len(text)} characters; at most {MAX_FILTER} are read.")
    return (_remembered if len(text) <= SHORT else _compiled)(text)


def _compiled(text: str) -> Filter:
    return Filter(text, _Parser(text).whole())


_remembered = lru_cache(COMPILED)(_compiled)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._at = 0
        self._depth = 0

    def whole(self) -> Value:
        value = self._either()
        if self._at < len(self._tokens):
            raise self._wrong("an operator was expected")
        return value

    def _either(self) -> Value:
        values = [self._both()]
        while self._take("||"):
            values.append(self._both())
        return _either(tuple(values)) if len(values) > 1 else values[0]

    def _both(self) -> Value:
        values = [self._not()]
        while self._take("&&"):
            values.append(self._not())
        return _both(tuple(values)) if len(values) > 1 else values[0]

    def _not(self) -> Value:
        if not self._take("!"):
            return self._comparison()
        self._go_deeper()
        value = self._not()
        self._depth -= 1
        return lambda facts: not _truth(value(facts))

    def _comparison(self) -> Value:
        left = self._sum()
        sign = self._peek()
        if sign in COMPARISONS:
            self._at += 1
            return _comparison(sign, left, self._sum())
        return left

    def _sum(self) -> Value:
        return self._reckoning(("+", "-"), self._product)

    def _product(self) -> Value:
        return self._reckoning(("*", "/", "%"), self._operand)

    def _reckoning(self, signs: tuple[str, ...], part: Callable[[], Value]) -> Value:
        first, steps = part(), list[tuple[str, Value]]()
        while (sign := self._peek()) in signs:
            self._at += 1
            steps.append((sign, part()))
        return _arithmetic(first, tuple(steps)) if steps else first

    def _operand(self) -> Value:
        kind, text = self._tokens[self._at][:2] if self._at < len(self._tokens) else ("end", "")
        self._at += 1
        if text == "(":
            self._go_deeper()
            value = self._either()
            self._depth -= 1
            self._expect(")")
            return value
        if text == "-":
            self._go_deeper()
            value = self._operand()
            self._depth -= 1
            return _arithmetic(_constant(0), (("-", value),))
        if kind == "number":
            return _constant(float(text))
        if kind == "text":
            return _constant(_Quoted(text[1:-1]))
        if kind == "name" and text not in COMPARISONS:
            return self._field(text)
        self._at -= 1
        raise self._wrong("a value was expected")

    def _field(self, name: str) -> Value:
        if name in ("true", "false"):
            return _constant(name == "true")
        bare = name not in ("data", "meta", "uuid")
        steps: list[str | int] = [name] if bare else []  # a bare name is one of meta's: the language of old clients
        while (sign := self._peek()) in (".", "["):
            self._at += 1
            kind, text = self._tokens[self._at][:2] if self._at < len(self._tokens) else ("end", "")
            if sign == "." and kind == "name":
                steps.append(text)
            elif sign == "[" and (kind == "text" or text.isdigit()):
                steps.append(_unquoted(text[1:-1]) if kind == "text" else int(text))
            else:
                raise self._wrong('a name was expected, or a number or a quoted name as in ["key"]')
            self._at += 1
            if sign == "[":
                self._expect("]")
        return _field("meta" if bare else name, tuple(steps))

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _take(self, sign: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at][:2] == ("sign", sign):
            self._at += 1
            return True
        return False

    def _expect(self, sign: str) -> None:
        if not self._take(sign):
            raise self._wrong(f"{sign} was expected")

    def _go_deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(f"more than {MAX_DEPTH} parts stand in each other")

    def _wrong(self, why: str) -> BadFilter:
        at = self._tokens[self._at][2] if self._at < len(self._tokens) else len(self._text)
        return BadFilter(f"The filter is wrong at character {at + 1}: {why}, before {self._text[at : at + 20]!r}.")


def _tokens(text: str) -> list[tuple[str, str, int]]:
    tokens: list[tuple[str, str, int]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        found = TOKEN.match(text, at)
        if found is None:
            raise BadFilter(f"The filter is wrong at character {at + 1}: {text[at : at + 20]!r} cannot be read.")
        kind = found.lastgroup or ""
        tokens.append((kind, found.group(kind), found.start(kind)))
        at = found.end()
    return tokens


class _Quoted(str):
    """The inside of a quoted text, its backslashes as they came: LIKE reads `\\*` otherwise than `*`."""


def _unquoted(inside: str) -> str:
    return re.sub(r"\\(.)", r"\1", inside)


def _constant(value: object) -> Value:
    return lambda facts: value


def _field(source: str, steps: tuple[str | int, ...]) -> Value:
    def read(facts: Facts) -> Any:
        value: Any = facts.data if source == "data" else facts.meta if source == "meta" else facts.user
        if source == "uuid" and value is None:
            return MISSING
        for step in steps:
            if isinstance(step, str) and isinstance(value, Mapping):
                value = cast(Mapping[str, Any], value).get(step, MISSING)
            elif isinstance(step, int) and isinstance(value, list) and step < len(cast(list[Any], value)):
                value = cast(list[Any], value)[step]
            else:
                return MISSING
        return value

    return read


def _plain(value: Any) -> Any:
    return _unquoted(value) if isinstance(value, _Quoted) else value


def _truth(value: Any) -> bool:
    value = _plain(value)
    return value is not MISSING and bool(value)


def _either(values: tuple[Value, ...]) -> Value:
    return lambda facts: any(_truth(value(facts)) for value in values)


def _both(values: tuple[Value, ...]) -> Value:
    return lambda facts: all(_truth(value(facts)) for value in values)


def _arithmetic(first: Value, steps: tuple[tuple[str, Value], ...]) -> Value:
    def compute(facts: Facts) -> Any:
        result = _number(first(facts))
        for sign, value in steps:
            result = _reckoned(result, sign, _number(value(facts)))
        return MISSING if result is None else result

    return compute


def _reckoned(a: float | None, sign: str, b: float | None) -> float | None:
    if a is None or b is None or (sign in "/%" and b == 0):
        return None
    if sign in "+-":
        return _number(a + b if sign == "+" else a - b)
    return _number(a * b if sign == "*" else a / b if sign == "/" else math.fmod(a, b))


def _comparison(sign: str, left: Value, right: Value) -> Value:
    def compare(facts: Facts) -> bool:
        a, b = left(facts), right(facts)
        if a is MISSING or b is MISSING:
            return sign == "!="
        if sign == "LIKE":
            return _like(_plain(a), b)
        a, b = _plain(a), _plain(b)
        if sign == "CONTAINS":
            return _contains(a, b)
        if sign in ("==", "!="):
            return _equal(a, b) == (sign == "==")
        x, y = _number(a), _number(b)
        if x is None or y is None:
            return False
        return x < y if sign == "<" else x > y if sign == ">" else x <= y if sign == "<=" else x >= y

    return compare


def _number(value: Any) -> float | None:
    """A number that can be computed with: no boolean, no text, and nothing beyond a double."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _equal(a: Any, b: Any) -> bool:
    """Equal in kind and value; `true` is what the text "true" and the number 1 compare equal to."""
    if isinstance(a, bool) != isinstance(b, bool):
        flag, other = (a, b) if isinstance(a, bool) else (b, a)
        return other == ("true" if flag else "false") or (not isinstance(other, str) and other == int(flag))
    return (type(a) is type(b) and a == b) or (_number(a) is not None and _number(a) == _number(b))


def _contains(a: Any, b: Any) -> bool:
    if isinstance(a, str):
        return isinstance(b, str) and b in a
    return isinstance(a, list) and any(_equal(member, b) for member in cast(list[Any], a))


def _like(value: Any, pattern: Any) -> bool:
    if not isinstance(value, str) or not isinstance(pattern, str):
        return False
    read = _remembered_wildcards if len(pattern) <= SHORT else _wildcards
    return read(pattern.lower(), isinstance(pattern, _Quoted)).matches(value.lower().replace("*", STAR))


STAR = "\x00"
"""Stands for an asterisk that is meant as itself; a message's own NUL is as good as one."""


def _wildcards(pattern: str, quoted: bool) -> Pattern:
    if not quoted:
        return Pattern(pattern)
    return Pattern(re.sub(r"\\(.)", lambda found: STAR if found[1] == "*" else found[1], pattern))


_remembered_wildcards = lru_cache(COMPILED)(_wildcards)


def _facts(message: Message) -> Facts:
    if message.kind is Kind.BINARY:
        return Facts(None, _meta(message), message.user)
    data = _decoded(message.data) if message.kind is Kind.JSON else message.data.decode(errors="replace")
    return Facts(data, _meta(message), message.user)


def _meta(message: Message) -> Any:
    extra = _decoded(message.extra) if message.extra is not None else None
    return cast(dict[str, Any], extra).get("meta") if isinstance(extra, dict) else None


def _decoded(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
