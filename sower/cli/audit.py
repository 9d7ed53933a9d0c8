"""`sower audit`: who was let in, refused, published, minted, and what was changed."""

from __future__ import annotations

import time
from typing import Annotated

import msgspec
import typer

from sower.cli.client import ConfigOption, JsonOption
from sower.cli.terminal import moment, print_json, print_table, usage
from sower.config_file import find_config
from sower.quantities import parse_duration
from sower.store.audit import KINDS, Record, read


def audit(
    since: Annotated[str, typer.Option(help="How far back: 5m, 1h, 30d.")] = "1h",
    kind: Annotated[list[str] | None, typer.Option(help="Only records of this kind; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many records.")] = 1000,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Read the audit record from the database, whether the daemon runs or not.

    \b
      sower audit --since 1h --kind refused
      sower audit --since 30d --json
    """
    for name in kind or []:
        if name not in KINDS:
            raise typer.BadParameter(
                f"{name!r} is no kind of record; the kinds are {', '.join(KINDS)}.", param_hint="--kind"
            )
    with usage("--since"):
        begin = time.time() - parse_duration(since)
    records = read(find_config(config, dev_too=True).config.store.path, since=begin, kinds=kind or (), limit=limit)
    if as_json:
        for record in records:
            print_json(msgspec.to_builtins(record))
    else:
        print_table(["time", "kind", "app", "who", "channel", "what"], [row(record) for record in records])


def row(record: Record) -> list[str]:
    """A record as cells of a table."""
    what = " ".join(part for part in (record.code or "", record.detail) if part)
    if record.count != 1:
        what = f"{record.count} times {what}".rstrip()
    return [moment(record.time), record.kind, record.app or "-", record.who or "-", record.channel or "-", what]
