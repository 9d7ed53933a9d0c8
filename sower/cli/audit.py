"""`sower audit`: who was let in, refused, published, minted, and what was changed."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Annotated

import msgspec
import trio
import typer

from sower.cli import logs
from sower.cli.client import ConfigOption, JsonOption
from sower.cli.terminal import moment, print_json, print_table, usage
from sower.config import Cluster
from sower.config_file import find_config
from sower.core.command import ReadAudit
from sower.core.record import NodeRecord
from sower.errors import ConfigError
from sower.quantities import parse_duration
from sower.store.audit import KINDS, Record, read


def audit(
    since: Annotated[str, typer.Option(help="How far back: 5m, 1h, 30d.")] = "1h",
    kind: Annotated[list[str] | None, typer.Option(help="Only records of this kind; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="The newest so many records.")] = 1000,
    here: Annotated[bool, typer.Option("--here", help="Of a cluster, only what this database has.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Read the audit record from the database, whether the daemon runs or not; of a cluster, that of all its daemons.

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
    loaded = find_config(config, dev_too=True).config
    asked = ReadAudit(tuple(kind or ()), limit=limit, since=begin)
    if loaded.cluster.url and not here:
        _show(*_ask_all(loaded.cluster, asked), as_json=as_json)
    else:
        records = read(loaded.store.path, since=begin, kinds=asked.kinds, limit=limit)
        _show(list(records), as_json=as_json)


def _ask_all(cluster: Cluster, asked: ReadAudit) -> tuple[list[Record], list[str]]:
    """What all daemons have, oldest first, and those that did not answer. Raises SowerError."""
    try:
        from sower.cluster.audits import ask_all
    except ImportError as error:
        raise ConfigError("A [cluster] needs the extra of that name: pip install 'sower[cluster]'.") from error
    logs.silence()
    found = trio.run(ask_all, cluster, None, asked)
    return list(reversed(found.records)), found.silent


def _show(records: Sequence[Record], silent: Sequence[str] = (), *, as_json: bool) -> None:
    header = ["time", "kind", "app", "who", "channel", "what"]
    if as_json:
        for record in records:
            print_json(msgspec.to_builtins(record))
    elif any(isinstance(record, NodeRecord) for record in records):
        print_table(["node", *header], [[getattr(record, "node", "-"), *row(record)] for record in records])
    else:
        print_table(header, [row(record) for record in records])
    for node in silent:
        print(f"No answer from the daemon {node}: its records are not shown.", file=sys.stderr)


def row(record: Record) -> list[str]:
    """A record as cells of a table."""
    what = " ".join(part for part in (record.code or "", record.detail) if part)
    if record.count != 1:
        what = f"{record.count} times {what}".rstrip()
    return [moment(record.time), record.kind, record.app or "-", record.who or "-", record.channel or "-", what]
