"""Changing a config file in place: one key of one table, everything else byte for byte as it was.

tomli-w writes new tables; what is there is edited as text, because writing it anew would lose its comments.
Rule: after each edit the text is read again, and must say exactly what was intended, or nothing is written.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from sower.config_file import parse, write_private
from sower.errors import ConfigError
from sower.there import is_there
from sower.toml_lines import line_of

NEW_FILE = "# Every setting that is not here has its default: see sower.toml(5).\n"


def append_table(path: Path, name: str, table: dict[str, Any]) -> None:
    """Add a table to an array of tables at the end of the file, a new one where there is none. Raises ConfigError."""
    text = _read(path) if is_there(path) else NEW_FILE
    intended = tomllib.loads(text)
    intended.setdefault(name, []).append(table)
    fragment = "\n" + tomli_w.dumps({name: table}).replace(f"[{name}]", f"[[{name}]]", 1)
    _write(path, text.rstrip("\r\n") + "\n" + fragment, intended)


def set_keys(path: Path, name: str, index: int, changes: dict[str, str | None]) -> None:
    """Set, add or (None) remove text keys of the table `name[index]`. Raises ConfigError."""
    text = _read(path)
    intended = tomllib.loads(text)
    table = intended[name][index]
    for key, value in changes.items():
        text = _with_key(text, (name, index), key, value, there=key in table)
        if value is None:
            table.pop(key, None)
        else:
            table[key] = value
    _write(path, text, intended)


def _with_key(text: str, table: tuple[str, int], key: str, value: str | None, *, there: bool) -> str:
    lines = re.findall(r"[^\n]*\n|[^\n]+", text)
    if there:
        at = line_of(text, (*table, key)) - 1
        if value is None:
            return "".join(lines[:at] + lines[at + 1 :])
        # The value is a string on one line, as the check after the edit makes sure; what follows it stays.
        written = _written(value)
        lines[at] = re.sub(
            r"(=\s*)(?:\"(?:[^\"\\]|\\.)*\"|'[^']*')", lambda found: found[1] + written, lines[at], count=1
        )
    elif value is not None:
        at = line_of(text, table)
        line_end = "\r\n" if lines[at - 1].endswith("\r\n") else "\n"
        lines.insert(at, f"{key} = {_written(value)}{line_end}")
    return "".join(lines)


def _written(value: str) -> str:
    """A text as TOML writes it."""
    return tomli_w.dumps({"": value}).partition(" = ")[2].removesuffix("\n")


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error


def _write(path: Path, text: str, intended: dict[str, Any]) -> None:
    try:
        if tomllib.loads(text) != intended:
            raise ConfigError(f"{path} is written in a way that cannot be edited safely; make the change by hand.")
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is written in a way that cannot be edited safely; make the change by hand."
        ) from error
    parse(text, path)
    write_private(path, text)
