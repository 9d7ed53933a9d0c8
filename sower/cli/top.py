"""`sower top`: what the daemon does now."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, NamedTuple

import trio
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sower.cli.client import (
    AppOption,
    ConfigOption,
    Daemon,
    JsonOption,
    KeyOption,
    SecretOption,
    UrlOption,
    find_daemon,
)
from sower.cli.terminal import out, plain, print_json

EVERY = 1.0
"""Seconds between two looks."""

NARROW = 60
"""Columns below which each number has a line of its own."""

STATES = ("awake", "asleep", "backlogged")


class Look(NamedTuple):
    """What was seen at one moment. at: seconds on any clock that only goes on."""

    at: float
    stats: dict[str, Any]
    channels: list[dict[str, Any]]
    sessions: list[dict[str, Any]]


def top(
    once: Annotated[bool, typer.Option("--once", help="Look once, and end.")] = False,
    rows: Annotated[int, typer.Option(help="Rows of each table.", min=1, max=100)] = 5,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """Watch rates, sessions, the biggest and the busiest channels, and who reads slowest. In a pipe it looks once.

    \b
      sower top
      sower top --once --json
    """
    daemon = find_daemon(config, url, app, key, secret_file)
    if as_json or once or not out.is_terminal:
        look = trio.run(_look, daemon, rows)
        if as_json:
            print_json({"stats": look.stats, "channels": look.channels, "sessions": look.sessions})
        else:
            out.print(screen(look, None, rows, out.width))
        return
    try:
        trio.run(_watch, daemon, rows)
    except KeyboardInterrupt:
        return


async def _watch(daemon: Daemon, rows: int) -> None:
    before: Look | None = None
    with Live(console=out, screen=True, auto_refresh=False) as live:
        while True:
            look = await _look(daemon, rows)
            live.update(screen(look, before, rows, out.width), refresh=True)
            before = look
            await trio.sleep(EVERY)


async def _look(daemon: Daemon, rows: int) -> Look:
    stats = await daemon.request("GET", "/stats")
    channels = await daemon.request("GET", "/channels")
    sessions = await daemon.request("GET", f"/sessions?limit={rows}")
    return Look(trio.current_time(), stats, channels["channels"], sessions["sessions"])


def screen(look: Look, before: Look | None, rows: int, width: int) -> RenderableType:
    """What is shown. before: the look before this one, from which channels' rates are told."""
    biggest = sorted(look.channels, key=lambda channel: -channel["subscribers"])[:rows]
    busiest = sorted(_speeds(look, before).items(), key=lambda one: -one[1])[:rows]
    slowest = [session for session in look.sessions if session["backlog"]][:rows]
    unit = "messages" if before is None else "messages/s"
    tables = (
        (["sessions", *STATES], _sessions(look.stats)),
        (["biggest channels", "subscribers"], [[c["channel"], f"{c['subscribers']:,}"] for c in biggest]),
        (["busiest channels", unit], [[name, f"{speed:,.0f}"] for name, speed in busiest if speed]),
        (["slowest sessions", "waiting"], [[f"{s['session']} {s['dialect']}", _size(s["backlog"])] for s in slowest]),
    )
    head = (_head(look.stats), _numbers(look.stats, narrow=width < NARROW))
    parts = (*head, *(_table(header, cells, width) for header, cells in tables))
    return Group(*(spaced for part in parts for spaced in (part, "")))


def _head(stats: dict[str, Any]) -> Text:
    head = Text(f"Sower {stats['version']}, up {_span(stats['uptime'])}: ", style="bold")
    faults = [f"{check}: {detail}" for check, detail in stats["faults"]]
    return head + (Text(plain("; ".join(faults)), style="bold red") if faults else Text("ready", style="green"))


def _numbers(stats: dict[str, Any], *, narrow: bool) -> Table:
    rates = stats["rates"]
    cells = [
        ("publishes/s", f"{rates['publishes']:,.0f}"),
        ("deliveries/s", f"{rates['deliveries']:,.0f}"),
        ("bytes/s", _size(rates["bytes"])),
        ("connects/s", f"{rates['connects']:,.0f}"),
        ("loop lag", f"{stats['loop_lag'] * 1000:,.0f} ms"),
        ("memory", _size(stats["memory"])),
        ("channels", f"{stats['channels']:,}"),
        ("refusals", f"{stats['totals']['refusals']:,}"),
        ("slow consumers", f"{stats['totals']['slow_consumers']:,}"),
    ]
    columns = 1 if narrow else 3
    grid = Table.grid(padding=(0, 2))
    for _ in range(columns):
        grid.add_column(style="dim")
        grid.add_column(justify="right")
    for start in range(0, len(cells), columns):
        grid.add_row(*(word for cell in cells[start : start + columns] for word in cell))
    return grid


def _sessions(stats: dict[str, Any]) -> list[list[str]]:
    """A row for each dialect, and one for all where there are several."""
    total: Counter[str] = Counter()
    found: list[list[str]] = []
    for dialect, states in sorted(stats["sessions"].items()):
        total.update(states)
        found.append([dialect, *(f"{states.get(state, 0):,}" for state in STATES)])
    return found if len(found) == 1 else [*found, ["all", *(f"{total[state]:,}" for state in STATES)]]


def _table(header: list[str], rows: list[list[str]], width: int) -> Table:
    """Names to the left, which are cut where there is no room, and numbers to the right, which are not."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    room = width - sum(widths[1:]) - 2 * len(widths[1:])
    table.add_column(header[0], no_wrap=True, overflow="ellipsis", max_width=max(room, 1))
    for title, least in zip(header[1:], widths[1:], strict=True):
        table.add_column(title, no_wrap=True, justify="right", min_width=least)
    for row in rows:
        table.add_row(*map(plain, row))
    return table


def _speeds(look: Look, before: Look | None) -> dict[str, float]:
    """Messages a second of each channel; all that it had since it woke, where there was no look before."""
    now = {c["channel"]: float(c["published"]) for c in look.channels}
    if before is None:
        return now
    then = {c["channel"]: c["published"] for c in before.channels}
    took = max(look.at - before.at, 0.001)
    return {name: max(0.0, count - then.get(name, count)) / took for name, count in now.items()}


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:,.0f} {unit}"
        size /= 1024
    return f"{size:,.1f} GiB"


def _span(seconds: float) -> str:
    days, rest = divmod(int(seconds), 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    return f"{days}d {hours}h" if days else f"{hours}h {minutes}m" if hours else f"{minutes}m {left}s"
