"""The life of a daemon, from start to drained. What it is made of meets in sower/parts.py.

services      hub, keepalive, audit, webhooks, all readers  end last
  connections   what has to wait for a connection             ends within server.drain_for
    listeners     one task per address                          end first
"""

from __future__ import annotations

import hashlib
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import structlog
import trio

from sower import __version__
from sower.config import Config
from sower.core.rules import RuleBook
from sower.drain import drain
from sower.errors import ConfigError
from sower.net.listen import Listener, accept_loop, bind
from sower.net.tls import Certificate
from sower.parts import Parts
from sower.reload import Reloader
from sower.store.ages import Ages
from sower.store.audit import Audit, last_detail
from sower.store.journal import Journal
from sower.systemd import Systemd

if TYPE_CHECKING:
    from sower.cluster.node import Node

log = structlog.get_logger(__name__)

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
"""Changes when the machine starts anew, so that a power cut is told from a killed process."""


async def serve(
    config: Config,
    *,
    ready: Callable[[Sequence[Listener]], None],
    reread: Callable[[], Config] | None = None,
    systemd: Systemd | None = None,
    inherited: Sequence[socket.socket] = (),
    shared: bool = False,
    now: Callable[[], float] = time.time,
) -> None:
    """Run the daemon until SIGTERM or SIGINT, then drain; a second signal ends it at once. SIGHUP reloads.

    ready:     told of the listeners once they listen and the journal has answered
    reread:    reads and checks the config file anew, or raises ConfigError
    inherited: sockets that listen already, from a socket unit
    shared:    other workers listen at the same ports
    Raises ConfigError, StoreError, AddressInUse.
    """
    systemd = systemd or Systemd()
    reread = reread or (lambda: config)
    certificate = Certificate()
    certificate.load(config.server)
    listeners = await bind(config.server.listen, inherited, certificate, shared=shared)
    rules = RuleBook(config.channels)
    try:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            async with (
                Journal.open(
                    config.store.path,
                    sync=config.store.sync,
                    remember_ids=config.store.remember_ids,
                    keep_audit=config.store.keep_audit,
                    rules_fingerprint=_history_rules(config),
                    boot_id=_boot_id(),
                    now=now,
                    ages=Ages(now),
                    history_of=rules.kept,
                ) as journal,
                _node(config, rules) as node,
            ):
                audit = Audit(journal)
                _note_start(config, audit)
                await _serve(config, journal, node, audit, listeners, ready, certificate, reread, systemd, signals, now)
                audit.count_publishes()
                audit.record("stopped", detail=f"sower {__version__}")
    finally:
        for listener in listeners:
            listener.close()


async def _serve(
    config: Config,
    journal: Journal,
    node: Node | None,
    audit: Audit,
    listeners: Sequence[Listener],
    ready: Callable[[Sequence[Listener]], None],
    certificate: Certificate,
    reread: Callable[[], Config],
    systemd: Systemd,
    signals: AsyncIterator[int],
    now: Callable[[], float],
) -> None:
    async with trio.open_nursery() as services:
        async with trio.open_nursery() as connections:
            parts = Parts(config, journal, audit, systemd, connections, certificate, reread, node, now=now)
            await parts.load()
            await services.start(parts.hub.run, name="hub")
            for name, run in parts.services.items():
                services.start_soon(run, name=name)
            async with trio.open_nursery() as accepting:
                for listener in listeners:
                    loop = partial(accept_loop, listener, parts.welcome, parts.caps)
                    accepting.start_soon(loop, name=f"listener {listener}")
                await journal.ping()
                ready(listeners)
                systemd.ready(f"listening at {' '.join(map(str, listeners))}")
                await _until_told_to_end(signals, parts.reloader)
                accepting.cancel_scope.cancel()
            for listener in listeners:
                listener.close()  # who comes now is refused at once, and does not wait in the kernel for nothing
            drain_for = parts.config.server.drain_for
            systemd.stopping(f"draining {len(parts.clients)} sessions within {drain_for:g} s")
            connections.cancel_scope.deadline = trio.current_time() + drain_for
            services.start_soon(_second_signal, signals, connections.cancel_scope, name="second signal")
            parts.begin_closing()
            await drain(parts.clients, within=drain_for)
            await parts.server.gone()
        parts.server.cut_off()
        parts.clients.reader.cut_off()
        services.cancel_scope.cancel()


def _node(config: Config, rules: RuleBook) -> AbstractAsyncContextManager[Node | None]:
    """This daemon among others, where the config has a cluster; what that takes is not even imported where it has none.

    Raises ConfigError, and ClusterFailed when entered.
    """
    if not config.cluster.url:
        return nullcontext()
    try:
        from sower.cluster.facts import Facts
        from sower.cluster.node import Node
    except ImportError as error:
        raise ConfigError("A [cluster] needs the extra of that name: pip install 'sower[cluster]'.") from error
    facts = Facts(config.apps, rules)
    return Node.open(config.cluster, rules.kept, float(config.store.remember_ids), facts)


async def _until_told_to_end(signals: AsyncIterator[int], reloader: Reloader | None = None) -> None:
    """Wait for SIGTERM or SIGINT. At each SIGHUP the config is reloaded, where there is a reloader."""
    async for number in signals:
        if number != signal.SIGHUP:
            log.info("draining" if reloader is not None else "ending_at_once", signal=signal.Signals(number).name)
            return
        if reloader is not None:
            with suppress(ConfigError):  # told already; the config from before stays in force
                reloader.reload()


async def _second_signal(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await _until_told_to_end(signals)
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
