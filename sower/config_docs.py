"""The settings' documentation, from one source: the doc lines in sower/config.py.

The commented example (config/sower.toml, `sower config init`) and the table of settings in man/sower.toml.5 are
made here, and a test finds either of them stale.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

import msgspec

from sower import config
from sower.config import Config, Duration, Rate, Size, Strict
from sower.quantities import show_duration, show_rate, show_size

EXAMPLE_KEY, EXAMPLE_SECRET = "app-key", "change-me-to-a-long-random-text"

SECTIONS = {
    "server": "Where the daemon listens, and what HTTP may cost.",
    "session": "What one connected client may cost.",
    "store": "The journal of messages and the audit record, in one SQLite file.",
    "cluster": "Several daemons that are one, sower-cluster(7). Without a url nothing of it is loaded.",
    "limits": 'Rates are token buckets: "50/s", "600/m", or "50/s burst 200": 200 at once and 50 a second after that.',
    "web": "The pages that the daemon serves to browsers.",
    "apps": "An app: who may publish and mint tokens. One table each.",
    "channels": "Rules: the first whose pattern matches a channel's name is that channel's rule. One table each.",
}
"""Each section with a sentence about it."""


class Setting(NamedTuple):
    """One setting.

    default: as it is written in TOML, None where there is none
    table:   the header of its table, where it has settings of its own, which follow
    """

    section: str
    name: str
    default: str | None
    doc: str
    table: str = ""


def settings() -> Iterator[Setting]:
    """Every setting in the order of the file."""
    structs = {field.name: _struct(field.type) for field in msgspec.structs.fields(Config)}
    for section, struct in structs.items():
        for field in msgspec.structs.fields(struct):
            table = _table(field.type)
            header = _header(section, field)
            yield Setting(section, field.name, None if header else _default(field), docs(struct)[field.name], header)
            for inner in msgspec.structs.fields(table) if table is not None else ():
                yield Setting(section, f"{field.name}.{inner.name}", _default(inner), docs(table)[inner.name])


@cache
def docs(struct: type[Strict]) -> dict[str, str]:
    """The doc line under each field of a struct."""
    tree = ast.parse(Path(config.__file__).read_text())
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == struct.__name__)
    found: dict[str, str] = {}
    for field, doc in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            said = doc.value if isinstance(doc, ast.Expr) else None
            found[field.target.id] = " ".join(str(said.value).split()) if isinstance(said, ast.Constant) else ""
    return found


def example(key: str = EXAMPLE_KEY, secret: str = EXAMPLE_SECRET) -> str:
    """The commented config: every setting with its default, and one app."""
    given = {"id": '"1001"', "key": f'"{key}"', "secret": f'"{secret}"', "match": '"*"'}
    lines = ["# Sower's config, sower.toml(5). Every setting is here with its default.", ""]
    section = ""
    for setting in settings():
        if setting.section != section:
            section = setting.section
            header = f"[[{section}]]" if section in ("apps", "channels") else f"[{section}]"
            lines += [*_comment(SECTIONS[section]), header, ""]
        parent, _, name = setting.name.rpartition(".")
        if parent == "history":
            continue
        lines += _comment(setting.doc)
        if setting.table:
            # An array's one is commented like what is in it: there may be none.
            lines += [f"# {setting.table}" if setting.table.startswith("[[") else setting.table, ""]
            continue
        value = given.get(setting.name) if section in ("apps", "channels") else None
        shown = setting.default if setting.default is not None else _shape_of(name)
        lines += [f"{name} = {value}" if value else f"# {name} = {shown}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _struct(kind: Any) -> type[Strict]:
    """The struct of a section: the field's type, or what its tuple holds."""
    candidates = (kind, *get_args(kind))
    return next(c for c in candidates if isinstance(c, type) and issubclass(c, Strict))


def _table(kind: Any) -> type[Strict] | None:
    """The struct of a setting that is a table."""
    candidates = (kind, *get_args(kind))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Strict)), None)


def _header(section: str, field: msgspec.structs.FieldInfo) -> str:
    """The header of a setting's own table, empty where it has none or is written in one line."""
    if isinstance(field.default, Strict):
        return f"[{section}.{field.name}]"
    return f"[[{section}.{field.name}]]" if get_origin(field.type) is tuple and _table(field.type) else ""


def _default(field: msgspec.structs.FieldInfo) -> str | None:
    if field.default_factory is dict:
        return "{}"
    return None if field.default is msgspec.NODEFAULT else _written(field.default)


def _written(value: Any) -> str | None:
    """A default as TOML; None for None."""
    if value is None:
        return None
    if isinstance(value, Rate):
        return f'"{show_rate(value)}"'
    if isinstance(value, Duration):
        return f'"{show_duration(value)}"'
    if isinstance(value, Size):
        return f'"{show_size(value)}"'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{entry}"' for entry in value) + "]"  # pyright: ignore[reportUnknownVariableType]
    return f'"{value}"' if isinstance(value, str) else str(value)


def _shape_of(name: str) -> str:
    shapes = {"history": '{messages = 100, age = "3d"}', "cache": '"30m"', "url": '"https://example.com/webhooks"'}
    return shapes.get(name, "true")


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 100)]
