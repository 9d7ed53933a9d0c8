"""The table on stdout, and the same as JSON in a folder."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median

from tests.bench.scenarios import Row

BUSY = 0.9
"""From this share of its core on, the generator may be what limits a figure."""

COLUMNS = ("server", "scenario", "figure", "", "load cpu", "server cpu", "others", "ack", "each", "last")


def as_table(rows: list[Row]) -> str:
    """Aligned columns; latencies as p50/p99 in ms. A `*`: the generator may have limited this figure."""
    lines = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS))]
    to_the_left = (0, 1, 3)
    table = "\n".join(
        "  ".join(
            cell.ljust(width) if column in to_the_left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
    notes = "p50/p99 in ms from a publish to its ack, each delivery, the last delivery"
    if any(row.load_cpu >= BUSY for row in rows):
        notes += f"\n* the generator was busy for {BUSY:.0%} of the time: read the figure as `at least`"
    return f"{table}\n{notes}"


def medians(rows: list[Row]) -> list[Row]:
    """One row for each server and scenario: the median of its rounds, with the latencies of that round's medians."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.server, row.scenario), []).append(row)
    return [_median(group) for group in groups.values()]


def _median(group: list[Row]) -> Row:
    names = {name for row in group for name in row.latency}
    return replace(
        group[0],
        figure=median(row.figure for row in group),
        load_cpu=median(row.load_cpu for row in group),
        server_cpu=median(row.server_cpu for row in group),
        others=median(row.others for row in group),
        latency={name: median(row.latency[name] for row in group if name in row.latency) for name in names},
    )


OURS = ("sower", "sower-pusher")


def as_ratios(rows: list[Row]) -> str:
    """How many times each peer's figure Sower's is, where both were measured: in Pusher's protocol too."""
    lines: list[str] = []
    for name in OURS:
        ours = {row.scenario: row for row in rows if row.server == name}
        for row in rows:
            mine = ours.get(row.scenario)
            if mine is not None and row.server not in (*OURS, "ceiling") and row.figure:
                lines.append(f"{name} / {row.server}: {row.scenario}: {mine.figure / row.figure:.2f} x")
    return "\n".join(lines)


def save(rows: list[Row], folder: Path) -> Path:
    """Write bench.json in `folder` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version()}
    document = {"time": int(time.time()), "machine": machine, "rows": [asdict(row) for row in rows]}
    path = folder / "bench.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path


def _cells(row: Row) -> tuple[str, ...]:
    figure = f"{row.figure:,.2f}" if row.figure < 100 else f"{row.figure:,.0f}"
    if row.load_cpu >= BUSY:
        figure += "*"
    return (
        row.server,
        row.scenario,
        figure,
        row.unit,
        _share(row.load_cpu),
        _share(row.server_cpu),
        _share(row.others),
        *(_pair(row.latency, name) for name in ("ack", "each", "last")),
    )


def _share(share: float) -> str:
    return f"{share:.0%}" if share else ""


def _pair(latency: dict[str, float], name: str) -> str:
    if f"{name}50" not in latency:
        return ""
    return f"{latency[f'{name}50']:.2f}/{latency[f'{name}99']:.2f}"
