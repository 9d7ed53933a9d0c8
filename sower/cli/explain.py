"""`sower explain`: what an error code means, and what to do about it."""

from __future__ import annotations

import difflib
from typing import Annotated

import typer

from sower.cli.client import JsonOption
from sower.cli.terminal import out, print_json
from sower.errors import NotFound, SowerError, tree


def explain(
    code: Annotated[str, typer.Argument(help="A code (token_expired), a close code (4001) or a status (429).")],
    as_json: JsonOption = False,
) -> None:
    """Explain an error: its cause, its fix, and whether to try again.

    \b
      sower explain token_expired
      sower explain 4001
    """
    found = matching(code)
    if as_json:
        print_json([shape(error) for error in found])
        return
    for error in found:
        again = "may be tried again" if error.retry else "will fail again until something is changed"
        out.print(f"[bold]{error.code}[/]  HTTP {error.status}, close code {error.close}; {again}")
        out.print(f"  {error.text}\n  {error.hint}", markup=False)


def matching(code: str) -> list[type[SowerError]]:
    """The errors with this code, close code or status. Raises NotFound, which names the nearest."""
    errors = list(tree().values())
    found = [error for error in errors if code in (error.code, str(error.close), str(error.status))]
    if not found:
        near = difflib.get_close_matches(code, list(tree()), n=1, cutoff=0.4)
        raise NotFound(f"No error has the code {code!r}.{f' The nearest is {near[0]}.' if near else ''}")
    return found


def shape(error: type[SowerError]) -> dict[str, object]:
    """An error as JSON."""
    return {
        "code": error.code,
        "text": error.text,
        "status": error.status,
        "close": error.close,
        "retry": error.retry,
        "hint": error.hint,
    }
