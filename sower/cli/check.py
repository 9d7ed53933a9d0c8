"""`sower check`: one line and an exit code for a monitoring system."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import trio
import typer

from sower.cli.client import AppOption, ConfigOption, KeyOption, SecretOption, UrlOption, find_daemon
from sower.cli.terminal import plain, print_json
from sower.errors import SowerError

OK, WARNING, CRITICAL, UNKNOWN = range(4)
"""Exit codes of Nagios' plugins (Monitoring Plugins Development Guidelines), not those of other commands."""

WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")

LATE = 0.1
"""Seconds of loop lag that are worth a warning."""


class Format(StrEnum):
    """What reads it."""

    NAGIOS = "nagios"
    JSON = "json"


def check(
    style: Annotated[Format, typer.Option("--format", help="nagios or json.")] = Format.NAGIOS,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """Say whether the daemon is well: exit code 0 well, 1 warning, 2 critical, 3 unknown, as Nagios' plugins.

    \b
      sower check
      sower check --format json
    """
    try:
        stats = trio.run(find_daemon(config, url, app, key, secret_file).request, "GET", "/stats")
        code, said = judge(stats)
    except SowerError as error:
        stats, code, said = {}, CRITICAL if error.code == "daemon_unreachable" else UNKNOWN, error.message
    if style is Format.JSON:
        print_json({"status": WORDS[code].lower(), "message": said, "stats": stats})
    else:
        print(f"SOWER {WORDS[code]} - {plain(said)}{_measures(stats) if stats else ''}")
    raise typer.Exit(code)


def judge(stats: dict[str, Any]) -> tuple[int, str]:
    """An exit code, and why."""
    if stats["faults"]:
        return CRITICAL, "; ".join(f"{name}: {detail}" for name, detail in stats["faults"])
    if stats["loop_lag"] > LATE:
        return WARNING, f"the loop was {stats['loop_lag'] * 1000:.0f} ms late"
    return OK, f"{_count(stats):,} sessions, {stats['rates']['deliveries']:,.0f} deliveries/s"


def _count(stats: dict[str, Any]) -> int:
    return sum(sum(states.values()) for states in stats["sessions"].values())


def _measures(stats: dict[str, Any]) -> str:
    rates = stats["rates"]
    values = {
        "sessions": _count(stats),
        "publishes": f"{rates['publishes']:.1f}",
        "deliveries": f"{rates['deliveries']:.1f}",
        "loop_lag": f"{stats['loop_lag']:.3f}s;{LATE}",
        "memory": f"{stats['memory']}B",
    }
    return " | " + " ".join(f"{name}={value}" for name, value in values.items())
