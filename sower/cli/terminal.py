"""What commands say: data on stdout, talk on stderr, and an exit code that a script can read."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import typer
from rich.console import Console
from rich.text import Text

from sower.errors import BadRequest, ConfigError, DaemonUnreachable, Forbidden, NotAuthorised, SowerError, StoreError

E = TypeVar("E", bound=BaseException)

OK, FAILED, USAGE, UNREACHABLE, NOT_AUTHORISED, BAD_CONFIG = range(6)
"""Exit codes."""


class Terminal(Console):
    """Ends with a BrokenPipeError, not with exit code 1 as rich would, where its reader is gone."""

    def on_broken_pipe(self) -> None:
        """Left to the `sower` command, which ends without a word."""
        raise BrokenPipeError


out = Terminal(highlight=False, soft_wrap=True)
"""For data. Colour only on a terminal, and not with NO_COLOR (no-color.org)."""

err = Terminal(stderr=True, highlight=False)
"""For people."""


def exit_code(error: SowerError) -> int:
    """The exit code that goes with an error."""
    if isinstance(error, NotAuthorised | Forbidden):
        return NOT_AUTHORISED
    if isinstance(error, ConfigError | StoreError):
        return BAD_CONFIG
    return UNREACHABLE if isinstance(error, DaemonUnreachable) else FAILED


def fail(error: SowerError) -> int:
    """Say an error and what to do about it. Returns the exit code."""
    err.print(Text("error: ", style="bold red") + Text(plain(error.message, keep="\n")), soft_wrap=True)
    err.print(Text(f"hint: {error.hint}", style="dim"), soft_wrap=True)
    return exit_code(error)


@contextmanager
def usage(words: str) -> Generator[None]:
    """What is wrong with the value of an argument or option is told as wrong usage, exit code 2."""
    try:
        yield
    except (ValueError, BadRequest) as error:
        raise typer.BadParameter(plain(str(error)), param_hint=words) from error


def refuse(ctx: typer.Context, *options: str, because: str) -> None:
    """Tell it as wrong usage where an option was written that would be ignored. options: as --name or --two-words."""
    for option in options:
        source = ctx.get_parameter_source(option.removeprefix("--").replace("-", "_"))
        if source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(because, param_hint=option)


def note(word: str, text: str) -> None:
    """Say something beside the data. The text may be anybody's."""
    err.print(Text(f"{word}: ", style="yellow") + Text(plain(text)), soft_wrap=True)


def find(kind: type[E], error: BaseException) -> E | None:
    """The error of this kind that this is, or that trio's nurseries have wrapped."""
    if isinstance(error, BaseExceptionGroup):
        inner = cast("BaseExceptionGroup[BaseException]", error).exceptions
        return next((found for found in (find(kind, e) for e in inner) if found is not None), None)
    return error if isinstance(error, kind) else None


def plain(text: str, *, keep: str = "") -> str:
    """Text without control characters, so that nobody's data steers the terminal; they are shown as escapes."""
    return "".join(c if c in keep or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clock(milliseconds: float) -> str:
    """A time of day with milliseconds, in the local zone."""
    seconds, rest = divmod(int(milliseconds), 1000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest:03d}"


def moment(seconds: float) -> str:
    """A date and time in the local zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def data_text(data: Any) -> str:
    """An event's data on one line: a string as it is, everything else as JSON."""
    return plain(data if isinstance(data, str) else json.dumps(data, ensure_ascii=False))


def parse_json(text: str | bytes) -> Any:
    """A JSON document. Raises ValueError, RecursionError.

    JSON's numbers have no bounds, and what a client published is passed on as it stands: a number that Python cannot
    hold (`1e999`, 5,000 digits) is read as the text it was written as.
    """
    return json.loads(text, parse_int=_number(int), parse_float=_number(float))


def _number(kind: type[int] | type[float]) -> Callable[[str], float | str]:
    def read(text: str) -> float | str:
        try:
            number = kind(text)
        except ValueError:
            return text  # more digits than sys.get_int_max_str_digits()
        return number if kind is int or math.isfinite(number) else text

    return read


def print_json(value: Any) -> None:
    """One JSON document on a line of its own; what steers a terminal is escaped, as JSON allows anywhere."""
    ascii_only = not sys.stdout.encoding.lower().startswith("utf")
    text = json.dumps(value, ensure_ascii=ascii_only, separators=(",", ":"))
    print(text if text.isprintable() else "".join(map(_escaped, text)), flush=True)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Aligned columns with a header on a terminal, tab-separated values in a pipe."""
    if not out.is_terminal:
        for row in rows:
            print("\t".join(map(plain, row)))
        return
    from rich.table import Table

    table = Table(*header, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    out.print(table)
