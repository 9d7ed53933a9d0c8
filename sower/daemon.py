"""Where everything meets: the journal, the hub, the clients and the listeners, from start to drained.

services      hub, keepalive, audit, health  end last
  connections   one task per connection        end within server.drain_for
    listeners     one task per address           end first
"""

from __future__ import annotations

import hashlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio

from sower import __version__
from sower.access import Access
from sower.activity import Activity
from sower.api import Api
from sower.clients import Clients
from sower.collector import Collector
from sower.config import Config
from sower.core.rules import RuleBook
from sower.dialects.native import native
from sower.dialects.pusher import pusher
from sower.drain import drain
from sower.health import Health
from sower.hub import Hub
from sower.net.connection import Closing, serve_connection
from sower.net.held import GivenBack, WaitingRoom
from sower.net.keepalive import Keepalive
from sower.net.listen import Caps, Listener, accept_loop, attend, bind
from sower.net.routing import Router
from sower.net.wire import Wire
from sower.routes import Routes
from sower.store.audit import Audit, last_detail
from sower.store.journal import Journal
from sower.systemd import Systemd
from sower.web import files

log = structlog.get_logger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Changes when the machine starts anew, so that a power cut is told from a killed process."""


async def serve(
    config: Config,
    *,
    ready: Callable[[Sequence[Listener]], None],
    systemd: Systemd | None = None,
    inherited: Sequence[socket.socket] = (),
    now: Callable[[], float] = time.time,
) -> None:
    """Run the daemon until SIGTERM or SIGINT, then drain. A second signal ends it at once.

    ready: told of the listeners once they listen and the journal has answered
    inherited: sockets that listen already, from a socket unit
    Raises ConfigError, StoreError, AddressInUse.
    """
    systemd = systemd or Systemd()
    listeners = await bind(config.server.listen, inherited)
    rules = RuleBook(config.channels)
    try:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with Journal.open(
                config.store.path,
                sync=config.store.sync,
                remember_ids=config.store.remember_ids,
                keep_audit=config.store.keep_audit,
                rules_fingerprint=_history_rules(config),
                boot_id=_boot_id(),
                now=now,
                history_of=lambda name: rules.of(name).history,
            ) as journal:
                audit = Audit(journal)
                _note_start(config, audit)
                await _serve(config, journal, audit, listeners, ready, systemd, signals, now)
                audit.count_publishes()
                audit.record("stopped", detail=f"sower {__version__}")
    finally:
        for listener in listeners:
            listener.close()


async def _serve(
    config: Config,
    journal: Journal,
    audit: Audit,
    listeners: Sequence[Listener],
    ready: Callable[[Sequence[Listener]], None],
    systemd: Systemd,
    signals: AsyncIterator[int],
    now: Callable[[], float],
) -> None:
    hub = Hub(config, journal, now=now)
    activity = Activity(hub, audit, now=now)
    hub.failed = activity.failed
    access = Access(config.apps, config.limits, now=now)
    keepalive = Keepalive(now)
    collector = Collector()
    health = Health(hub, journal, systemd)
    closing = Closing()
    caps = Caps(config.limits)
    async with trio.open_nursery() as services:
        await services.start(hub.run, name="hub")
        services.start_soon(keepalive.run, name="keepalive")
        services.start_soon(audit.run, name="audit")
        services.start_soon(collector.run, name="collector")
        services.start_soon(health.run, name="health")
        async with trio.open_nursery() as connections:
            clients = Clients(config, hub, access, activity, keepalive, collector, connections, now=now)
            services.start_soon(clients.reader.run, name="reader")

            async def serve_on(wire: Wire, given_back: GivenBack) -> None:
                await attend(wire, partial(handle, given_back=given_back))

            waiting = WaitingRoom(connections, serve_on)
            services.start_soon(waiting.run, name="held requests")
            router = Router()
            routes = Routes(access, Api(hub, access, clients, activity, config.limits, now=now), clients, activity)
            for dialect in (native(hub.epoch_of), pusher(config.apps)):
                routes.install(dialect, router)
            files.install(router, config.web)

            async def handle(wire: Wire, given_back: GivenBack | None = None) -> None:
                await serve_connection(wire, router, config.server, closing=closing, given_back=given_back)

            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    accepting.start_soon(accept_loop, listener, connections, handle, caps, name=f"listener {listener}")
                await journal.ping()
                ready(listeners)
                systemd.ready(f"listening at {' '.join(map(str, listeners))}")
                await _signal(signals)
                accepting.cancel_scope.cancel()
            health.draining = True
            systemd.stopping(f"draining {len(clients)} sessions within {config.server.drain_for:g} s")
            closing.begin()
            waiting.end_all()
            connections.cancel_scope.deadline = trio.current_time() + config.server.drain_for
            services.start_soon(_second_signal, signals, connections.cancel_scope, name="second signal")
            await drain(clients, within=config.server.drain_for)
        clients.reader.cut_off()
        services.cancel_scope.cancel()


async def _signal(signals: AsyncIterator[int]) -> None:
    number = await anext(signals)
    log.info("draining", signal=signal.Signals(number).name)


async def _second_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await _signal(signals)
    scope.cancel()


def _history_rules(config: Config) -> str:
    """Changes when the set of channels that keep history does: then an old position may have a gap behind it."""
    return "|".join(f"{rule.match}={'kept' if rule.history else 'not'}" for rule in config.channels)


def _note_start(config: Config, audit: Audit) -> None:
    """Note the start, and whether the config is another one than at the last start."""
    before, current = last_detail(config.store.path, "config_changed"), _fingerprint(config)
    if before != current:
        audit.record("config_changed", detail=current)
    audit.record("started", detail=f"sower {__version__}")


def _fingerprint(config: Config) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.to_builtins(config, enc_hook=str))).hexdigest()[:16]


def _boot_id() -> str:
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
