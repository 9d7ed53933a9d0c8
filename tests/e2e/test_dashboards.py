"""config/grafana.json and config/alerts.yml ask for what the daemon tells, and sower-operations(7) explains it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.daemon import running

ROOT = Path(__file__).parents[2]
METRIC = re.compile(r"\b(?:sower|process)_[a-z_]+\b")


def asked_for(name: str) -> set[str]:
    """Every metric in the expressions of a file."""
    text = (ROOT / "config" / name).read_text()
    if name.endswith(".json"):
        dashboard = json.loads(text)
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    else:
        expressions = re.findall(r"^ +expr: (.*)$", text, re.MULTILINE)
    return {metric for expression in expressions for metric in METRIC.findall(expression)}


@pytest.fixture
async def told(tmp_path: Path) -> dict[str, str]:
    """Every metric of a daemon that has just begun: the names of its samples, and its family's name."""
    async with running(tmp_path) as daemon:
        text = (await daemon.request("GET", "/metrics")).text
    found: dict[str, str] = {}
    for family in text_string_to_metric_families(text):
        name = family.name + ("_total" if family.type == "counter" else "")
        suffixes = ("_bucket", "_sum", "_count") if family.type == "histogram" else ("",)
        found |= {name + suffix: name for suffix in suffixes}
    return found


async def test_the_daemon_has_every_metric_that_is_asked_for_and_every_one_of_its_own_is_shown(
    told: dict[str, str],
) -> None:
    for name in ("grafana.json", "alerts.yml"):
        assert len(asked_for(name)) > 5
        assert asked_for(name) <= told.keys()
    shown = {told[metric] for metric in asked_for("grafana.json")}
    assert {family for family in told.values() if family.startswith("sower_")} <= shown


async def test_every_metric_is_in_the_manual(told: dict[str, str]) -> None:
    manual = (ROOT / "man" / "sower-operations.7").read_text()
    for family in set(told.values()):
        if family.startswith("sower_"):
            assert re.search(rf"^\.It (Li|Ic) {family}\b", manual, re.MULTILINE), family
