"""Rows as line plots, written as SVG: one file for each scenario that was measured at several numbers of sockets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

from tests.bench.scenarios import Row

WIDTH, HEIGHT, MARGIN = 720, 420, 70
"""Pixels."""

COLOURS = ("#0b6e4f", "#c8553d", "#3d5a98", "#8f6a00", "#6b3d87")

TITLES = {"growth": "Deliveries per second against subscribers", "memory": "Memory of an idle connection"}
"""What is plotted: the first word of the rows' names, and what stands above."""


class Scale(NamedTuple):
    """Logarithmic, from `low` to `high`, over `pixels` from `start` on (negative: upwards)."""

    low: float
    high: float
    start: float
    pixels: float

    def at(self, value: float) -> float:
        """Where a value is."""
        span = math.log10(self.high / self.low) or 1.0
        return self.start + self.pixels * math.log10(value / self.low) / span

    def marks(self) -> list[float]:
        """1, 2 and 5 of each power of ten within."""
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        marks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        return [mark for mark in marks if self.low <= mark <= self.high]


def save_plots(rows: list[Row], folder: Path) -> list[Path]:
    """Write NAME.svg for each of TITLES of which there are rows. Returns their paths."""
    made: list[Path] = []
    for name, title in TITLES.items():
        points = [row for row in rows if row.at and row.scenario.startswith(name) and row.figure > 0]
        if len({row.at for row in points}) > 1:
            made.append(folder / f"{name}.svg")
            made[-1].write_text(_plot(title, points))
    return made


def _plot(title: str, points: list[Row]) -> str:
    figures, counts = [row.figure for row in points], [row.at for row in points]
    x = Scale(min(counts), max(counts), MARGIN, WIDTH - 2 * MARGIN)
    y = Scale(min(figures) / 1.2, max(figures) * 1.2, HEIGHT - MARGIN, 2 * MARGIN - HEIGHT)
    parts = [_text(WIDTH / 2, 30, title, "middle"), _text(WIDTH / 2, HEIGHT - 20, "sockets", "middle")]
    parts.append(_text(MARGIN, MARGIN - 15, points[0].unit, "middle"))
    for mark in y.marks():
        parts.append(_line(MARGIN, y.at(mark), WIDTH - MARGIN, y.at(mark), "#ddd"))
        parts.append(_text(MARGIN - 8, y.at(mark) + 4, f"{mark:,g}", "end"))
    for mark in sorted(set(counts)):
        parts.append(_line(x.at(mark), MARGIN, x.at(mark), HEIGHT - MARGIN, "#ddd"))
        parts.append(_text(x.at(mark), HEIGHT - MARGIN + 18, f"{mark:,}", "middle"))
    for number, server in enumerate(dict.fromkeys(row.server for row in points)):
        colour = COLOURS[number % len(COLOURS)]
        line = sorted((row.at, row.figure) for row in points if row.server == server)
        path = " ".join(f"{x.at(at):.1f},{y.at(figure):.1f}" for at, figure in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        at, figure = line[-1]
        parts.append(_text(x.at(at) - 4, y.at(figure) - 6, server, "end", colour))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif"'
        f' font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str, colour: str = "#222") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(text)}</text>'
