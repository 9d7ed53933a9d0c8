"""What a daemon is made of, and how its parts know each other. Nothing runs yet: sower/daemon.py does that."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import trio

from sower.access import Access
from sower.activity import Activity
from sower.api import Api
from sower.apps import AddedApps, Apps
from sower.clients import Clients
from sower.collector import Collector
from sower.config import Config
from sower.core.command import AddApp, ListApps, RemoveApp, Revoke
from sower.core.revising import ReadMessage, ReadVersions
from sower.dialects.ably import ably
from sower.dialects.interface import Dialect
from sower.dialects.native import native
from sower.dialects.pubnub import pubnub
from sower.dialects.pusher import pusher
from sower.fallbacks import Fallbacks
from sower.health import Health
from sower.hub import Hub
from sower.metrics import Metrics
from sower.net.keepalive import Keepalive
from sower.net.listen import Caps
from sower.net.routing import Router
from sower.net.server import HttpServer
from sower.net.site import Site
from sower.net.tls import Certificate
from sower.net.wire import Wire
from sower.operations import Operations
from sower.overview import Overview
from sower.polling import Polling
from sower.reload import Reloader
from sower.revising import Revising
from sower.revoking import Revoking
from sower.routes import Routes
from sower.store.audit import Audit
from sower.store.journal import Journal
from sower.store.outbox import Outbox
from sower.systemd import Systemd
from sower.tally import Pace
from sower.watching import Watching
from sower.web import files
from sower.web.dashboard import SESSION, dashboard, sign_out, tell_cookie
from sower.webhooks import Webhooks

if TYPE_CHECKING:
    from sower.cluster.hooks import Hooks
    from sower.cluster.joining import Joined
    from sower.cluster.node import Node


class Parts:
    """All of them, once.

    connections: the nursery of what is waited for on connections. node: where this daemon is one of several
    now: seconds since 1970
    """

    def __init__(
        self,
        config: Config,
        journal: Journal,
        audit: Audit,
        systemd: Systemd,
        connections: trio.Nursery,
        certificate: Certificate,
        reread: Callable[[], Config],
        node: Node | None = None,
        *,
        now: Callable[[], float],
    ) -> None:
        self.reloader = Reloader(config, reread, self._use, audit, systemd)
        self._added = _added(config, node)
        own, config = config, self._added.beside(config)
        self.config = config
        self._certificate = certificate
        self.caps = Caps(config.limits, config.server.trusted_proxies)
        self.hub = Hub(config, journal, now=now) if node is None else _hub(config, journal, node, self, now=now)
        self.health = Health(self.hub, journal, systemd, node)
        self._pace = Pace(self.hub.tally)
        self._audit = audit
        self._keepalive = Keepalive(now)
        self.server = HttpServer(connections, self._keepalive)
        self._collector = Collector()
        activity = Activity(self.hub, audit, now=now)
        self._webhooks = (
            Webhooks(config.apps, Outbox(journal), audit, now=now, ages=journal.ages)
            if node is None
            else _hooks(config, node, audit, now=now)
        )
        self.hub.failed = activity.failed
        self.hub.hears, self.hub.happened = self._webhooks.hears, self._webhooks.happened
        access = self._access = Access(config.apps, config.limits, now=now)
        self.clients = Clients(
            config, self.hub, access, activity, self._keepalive, self._collector, connections, now=now
        )
        overview = Overview(self.hub, self.clients, self.health, self._pace)
        self._revoking = Revoking(access, self.clients, activity, journal, now=now)
        operations = Operations(access, self.clients, activity, audit, overview, self.reloader.reload, now=now)
        api = self._api = Api(self.hub, access, self.clients, activity, config.limits, operations, now=now)
        api.learn(Revoke, self._revoking.do)
        revising = Revising(self.hub, access)
        api.learn(ReadMessage, revising.message)
        api.learn(ReadVersions, revising.versions)
        metrics = Metrics(self.hub, self.clients, journal, self._webhooks, self.caps, self.server, self.health)
        self._watching = Watching(self.health, metrics, access)
        self._polling = Polling(config, self.hub, access, activity, api, self._keepalive, connections)
        self._routes = Routes(access, api, self.clients, activity, self._polling.polls)
        self._fallbacks = Fallbacks(self._routes, self.clients, self._keepalive, self.caps, connections)
        self._apps = Apps(self._added, self.clients, self._polling.polls, activity, self._apps_changed)
        self._apps.own, self._apps.all = own, config
        for kind, do in ((AddApp, self._apps.add), (ListApps, self._apps.list), (RemoveApp, self._apps.remove)):
            api.learn(kind, do)
        self._joined = None if node is None else self._join(node, activity)
        self._site = Site(self._route(config), config.server)

    def _join(self, node: Node, activity: Activity) -> Joined:
        """What is told to all daemons of a cluster, and answered for all. Imported as for _hub."""
        from sower.cluster.joining import Joined

        audit, added, apps, groups = self._audit, self._added, self._apps, self._polling.groups
        return Joined(node, self.hub, self._api, self.clients, activity, self._revoking, audit, added, apps, groups)

    def _route(self, config: Config) -> Router:
        """All routes of a config's apps."""
        router = Router()
        self._watching.install(router)
        for dialect in _dialects(config, self.hub.log.epoch):
            self._routes.install(dialect, router)
            self._fallbacks.install(dialect, router)
        files.install(router, config.web)
        if config.web.dashboard:
            router.add("GET", SESSION, tell_cookie)
            router.add("DELETE", SESSION, sign_out)
        return router

    def _use(self, config: Config) -> None:
        """Go on with another config. Raises ConfigError, and then nothing has changed."""
        self._certificate.load(config.server)
        self._go_on(config)

    def _go_on(self, own: Config) -> None:
        """With this config, and the apps that were added beside its own."""
        config = self._added.beside(own)
        self._apps.own, self._apps.all = own, config
        self._site = Site(self._route(config), config.server)
        self._access.use(config.apps, config.limits)
        self._api.use(config.limits)
        self._polling.use(config)
        self._webhooks.use(config.apps)
        self.caps.use(config.limits, config.server.trusted_proxies)
        self.clients.use(config)
        self.hub.use(config)
        self.config = config

    def _apps_changed(self) -> None:
        self._go_on(self._apps.own)

    def renew(self) -> None:
        """There is another epoch: who comes from now on is told positions of it."""
        self._site = Site(self._route(self.config), self.config.server)

    async def load(self) -> None:
        """Read what is kept on disk and held in memory. Raises JournalFailed."""
        if self._joined is not None:
            await self._joined.load()
        await self._polling.load()
        await self._revoking.read()

    @property
    def services(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """What runs beside the hub until the end, by name."""
        return {
            "keepalive": self._keepalive.run,
            "audit": self._audit.run,
            "webhooks": self._webhooks.run,
            "collector": self._collector.run,
            "health": self.health.run,
            "pace": self._pace.run,
            "reader": self.clients.reader.run,
            "http": self.server.run,
            "polls": self._polling.run,
            **(self._joined.services if self._joined is not None else {}),
        }

    def welcome(self, wire: Wire) -> None:
        """Serve a new connection."""
        self.server.add(wire, self._site)

    def begin_closing(self) -> None:
        """From now on nobody is to begin anything: requests that are held are answered, those that rest end."""
        self.health.draining = True
        self._webhooks.drain()
        self.server.begin_closing()


def _hub(config: Config, journal: Journal, node: Node, parts: Parts, *, now: Callable[[], float]) -> Hub:
    """The hub of one daemon of several. Only they need what is imported here."""
    from sower.cluster.hub import ClusterHub

    hub = ClusterHub(config, journal, node, now=now)
    hub.session = lambda session_id: parts.clients.find(session_id)
    node.renewed = parts.renew
    return hub


def _hooks(config: Config, node: Node, audit: Audit, *, now: Callable[[], float]) -> Hooks:
    """The webhooks of one daemon of several."""
    from sower.cluster.hooks import Hooks

    return Hooks(config.apps, node, audit, now=now)


def _added(config: Config, node: Node | None) -> AddedApps:
    """The apps that were added, to this daemon or to any."""
    if node is None:
        return AddedApps(config.store.path)
    from sower.cluster.apps import SharedApps

    return SharedApps(node)


def _dialects(config: Config, epoch: str) -> Iterator[Dialect]:
    """Every protocol that is spoken. epoch: of all positions."""
    own = native(epoch)
    yield own
    yield pusher(config.apps)
    yield pubnub(config.apps)
    yield ably(config.apps, epoch, float(config.session.ping_every))
    if config.web.dashboard:
        yield dashboard(own)
