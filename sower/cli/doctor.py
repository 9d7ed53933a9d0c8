"""`sower doctor`: what is wrong with this installation, and what to do about it."""

from __future__ import annotations

from typing import Annotated

import trio
import typer
from rich.table import Table
from rich.text import Text

from sower.cli.checkup import BAD, GOOD, UNSURE, Finding, examine
from sower.cli.client import ConfigOption, JsonOption, checked_url
from sower.cli.terminal import out, plain, print_json, usage
from sower.config_file import find_config

MARKS = {GOOD: ("ok", "green"), UNSURE: ("look", "yellow"), BAD: ("bad", "bold red")}


def doctor(
    public: Annotated[
        str | None, typer.Option(help="The address at which clients connect, https://HOST, to dial through it.")
    ] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Examine config, limits, clock, disk, database, certificate, and the way through a proxy. Exit code 1 where
    something is bad.

    \b
      sower doctor
      sower doctor --public https://realtime.example.com
    """
    with usage("--public"):
        public = public and checked_url(public)
    findings = trio.run(examine, find_config(config, dev_too=True), public)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    elif out.is_terminal:
        out.print(screen(findings))
    else:
        for finding in findings:
            print("\t".join(map(plain, (MARKS[finding.state][0], finding.name, finding.text, finding.remedy))))
    if any(finding.state == BAD for finding in findings):
        raise typer.Exit(1)


def screen(findings: list[Finding]) -> Table:
    """Each finding with its remedy below it."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = MARKS[finding.state]
        said = Text(plain(finding.text))
        if finding.remedy:
            said.append("\n" + plain(finding.remedy), style="dim")
        table.add_row(Text(mark, style=style), finding.name, said)
    return table
