"""Plots: which are made, and that each is a picture."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from tests.bench.plots import save_plots
from tests.bench.scenarios import Row


def test_what_was_measured_at_several_numbers_becomes_a_picture_with_a_line_for_each_server(tmp_path: Path) -> None:
    rows = [
        Row(server, f"growth, {at} subscribers", 1000.0 * at, "deliveries/s", at=at)
        for server in ("sower", "nchan")
        for at in (100, 1000)
    ]
    rows += [Row("sower", "memory, 10 idle sockets", 0.7, "KiB each", at=10), Row("sower", "connect", 9.0, "/s")]
    (made,) = save_plots(rows, tmp_path)
    assert made.name == "growth.svg"
    picture = ElementTree.parse(made).getroot()
    lines = [node for node in picture if node.tag.endswith("polyline")]
    assert len(lines) == 2
    assert all(len(line.attrib["points"].split()) == 2 for line in lines)
