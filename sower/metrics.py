"""What Prometheus reads at /metrics. Names follow its conventions: base units, _total for what only grows.

Rule 1: everything is read from where it is counted when somebody scrapes; nothing here is on the hot path.
Rule 2: a label has a few values that the daemon chooses: no channel, user, address or event name is ever one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import trio
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sower import __version__
from sower.clients import Clients
from sower.health import Health
from sower.hub import Hub
from sower.net.listen import Caps
from sower.net.server import HttpServer
from sower.net.session import State
from sower.store.journal import Journal
from sower.webhook_sender import Sender

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

disable_created_metrics()  # when each histogram was made would be one more series for each of them

Labelled = Mapping[tuple[str, ...], float]


class Hooked(Protocol):
    """What sends webhooks. senders: one for each URL. dropped: events that a full queue had no room for."""

    @property
    def senders(self) -> Mapping[tuple[str, str], Sender]: ...
    @property
    def dropped(self) -> int: ...


class Metrics(Collector):
    """The registry of one daemon."""

    def __init__(
        self,
        hub: Hub,
        clients: Clients,
        journal: Journal,
        webhooks: Hooked,
        caps: Caps,
        server: HttpServer,
        health: Health,
    ) -> None:
        self._hub = hub
        self._clients = clients
        self._journal = journal
        self._webhooks = webhooks
        self._caps = caps
        self._server = server
        self._health = health
        self._census: Mapping[tuple[str, State], int] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    async def text(self) -> bytes:
        """All metrics in the text format."""
        self._census = await self._clients.census()
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Every family, for the registry."""
        yield from self._gauges()
        yield from self._counters()
        yield from self._journal.commit_seconds.collect()
        yield from self._journal.commit_rows.collect()
        yield from self._health.lag_seconds.collect()

    def _gauges(self) -> Iterator[Metric]:
        faults = {fault.check for fault in self._health.faults()}
        ready = {(check,): float(check not in faults) for check in self._health.CHECKS}
        yield _gauge("sower_build_info", "The version that runs.", {(__version__,): 1}, "version")
        yield _gauge("sower_ready", "Whether a check of /health/ready is well.", ready, "check")
        yield _gauge("sower_sessions", "Connected clients.", self._census, "dialect", "state")
        yield _gauge("sower_connections", "Open connections, HTTP among them.", {(): self._caps.total})
        yield _gauge(
            "sower_held_requests", "Requests whose answer is not due yet: polls.", {(): len(self._server.holding)}
        )
        yield _gauge("sower_channels", "Channels that are not forgotten.", {(): len(self._hub)})
        tasks = trio.lowlevel.current_statistics().tasks_living
        yield _gauge("sower_tasks", "Tasks of the event loop.", {(): tasks})
        high = {(): self._hub.tally.backlog_high}
        yield _gauge("sower_backlog_high_bytes", "The most bytes that ever waited for one client.", high)
        posts = sum(sender.waiting for sender in self._webhooks.senders.values())
        yield _gauge("sower_webhooks_waiting", "POSTs that wait for their receivers.", {(): posts})
        yield _gauge("sower_journal_waiting_rows", "Rows that wait for the journal.", {(): self._journal.waiting})

    def _posts(self) -> Labelled:
        """POSTs that were accepted and refused, what was given up, and what was never stored."""
        senders = self._webhooks.senders.values()
        return {
            ("accepted",): sum(sender.accepted for sender in senders),
            ("refused",): sum(sender.refused for sender in senders),
            ("given_up",): sum(sender.given_up for sender in senders),
            ("dropped",): self._webhooks.dropped,
        }

    def _counters(self) -> Iterator[Metric]:
        tally = self._hub.tally
        for name, help_text, value in (
            ("sower_connects", "Clients that came.", tally.connects),
            ("sower_publishes", "Messages accepted.", tally.published),
            ("sower_published_bytes", "Bytes of the data of accepted messages.", tally.published_bytes),
            ("sower_deliveries", "Messages handed to subscribers.", tally.deliveries),
            ("sower_delivered_bytes", "Bytes of frames handed to subscribers.", tally.delivered_bytes),
            ("sower_channel_quarantines", "Channels that failed too often.", tally.quarantines),
        ):
            yield _counter(name, help_text, {(): value})
        recoveries = {("hit",): tally.recovered, ("gap",): tally.gaps}
        yield _counter("sower_recoveries", "Clients that came back with a position.", recoveries, "outcome")
        slow = {(reason,): tally.slow[reason] for reason in ("bytes", "age")}
        yield _counter("sower_slow_consumers", "Clients closed for reading too slowly.", slow, "reason")
        refusals = {(code,): count for code, count in tally.refusals.items()}
        yield _counter("sower_refusals", "What was refused, by the error's code.", refusals, "code")
        yield _counter("sower_webhooks", "What became of webhooks.", self._posts(), "outcome")
        restarts = {("channel",): tally.restarts}
        yield _counter("sower_restarts", "Restarts by a supervisor.", restarts, "supervisor")


def _gauge(name: str, help_text: str, values: Labelled, *labels: str) -> Metric:
    family = GaugeMetricFamily(name, help_text, labels=labels)
    for given, value in values.items():
        family.add_metric(given, value)
    return family


def _counter(name: str, help_text: str, values: Labelled, *labels: str) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for given, value in values.items():
        family.add_metric(given, value)
    return family
