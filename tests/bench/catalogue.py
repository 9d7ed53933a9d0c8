"""All scenarios by name: which are for every server, and which take no more than the minute that --quick has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.bench import cluster, polls, scale, scenarios
from tests.bench.scenarios import Bench, Row


class Scenario(NamedTuple):
    """alone: for Sower only; quick: whether --quick has it."""

    rows: Callable[[Bench], Iterator[Row]]
    alone: bool = False
    quick: bool = True


SCENARIOS = {
    "memory": Scenario(scenarios.memory),
    "connects": Scenario(scenarios.connects),
    "attach": Scenario(scenarios.attach, quick=False),
    "fan-out": Scenario(scenarios.fan_out),
    "crowd": Scenario(scenarios.crowd, quick=False),
    "growth": Scenario(scenarios.growth, quick=False),
    "many-channels": Scenario(scenarios.many_channels),
    "neighbour": Scenario(scenarios.neighbour, quick=False),
    "publishes": Scenario(scenarios.publishes),
    "client-events": Scenario(scenarios.client_events, quick=False),
    "stalled": Scenario(scale.stalled, alone=True, quick=False),
    "storm": Scenario(scale.storm, alone=True, quick=False),
    "held": Scenario(scale.held, alone=True, quick=False),
    "polls": Scenario(polls.polls, alone=True, quick=False),
    "sleepers": Scenario(scale.sleepers, alone=True, quick=False),
    "day": Scenario(scale.day, alone=True, quick=False),
    "tls": Scenario(scale.tls, alone=True, quick=False),
    "cluster": Scenario(cluster.cluster, alone=True, quick=False),
    "records": Scenario(scale.records, alone=True, quick=False),
}
