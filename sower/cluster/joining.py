"""What of a daemon's parts is another where it is one of several."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import trio

from sower.activity import Activity
from sower.api import Api
from sower.apps import AddedApps, Apps
from sower.clients import Clients
from sower.cluster.audits import Audits
from sower.cluster.budgets import Budgets
from sower.cluster.hub import ClusterHub
from sower.cluster.node import Node
from sower.cluster.orders import Orders
from sower.cluster.shelf import ClusterShelf
from sower.cluster.survey import Survey
from sower.cluster.users import ClusterUsers
from sower.cluster.words import AppsChanged
from sower.core.command import Kick, ListChannels, PublishAll, ReadAudit, ReadOccupancy, ReadPresence, Terminate
from sower.errors import ClusterFailed
from sower.hub import Hub
from sower.polling.groups import Groups
from sower.revoking import Revoking
from sower.store.audit import Audit


class Joined:
    """A daemon's parts, joined to those of other nodes."""

    def __init__(
        self, node: Node, hub: Hub, api: Api, clients: Clients, activity: Activity, revoking: Revoking,
        audit: Audit, added: AddedApps, apps: Apps, groups: Groups,
    ) -> None:  # fmt: skip
        self._node = node
        if not isinstance(hub, ClusterHub) or not isinstance(hub.shelf, ClusterShelf):
            raise TypeError("a node has a hub of its own kind")
        self._shelf, self._wildcards = hub.shelf, hub.wildcards
        self._added = added
        self._apps = apps
        self._groups = groups
        self._changed = trio.Event()
        clients.users = self._users = ClusterUsers(node)
        self._orders = Orders(node, clients, activity, revoking)
        self._audits = Audits(node, audit)
        self._budgets = Budgets(node)
        api.count_by(self._budgets.of)
        node.moved.append(self._look)
        node.words.learn(AppsChanged, lambda word: self._look())
        survey = Survey(api, hub, node)
        for kind, do in (
            (ReadPresence, survey.presence),
            (ListChannels, survey.channels),
            (ReadOccupancy, survey.occupancy),
            (PublishAll, survey.publish),
            (Terminate, self._orders.terminate),
            (Kick, self._orders.kick),
            (ReadAudit, self._audits.read),
        ):
            api.learn(kind, do)

    async def load(self) -> None:
        """Know what all nodes know, before anybody is let in. Raises ClusterFailed."""
        await self._node.words.read()
        await self._read()

    @property
    def services(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """What runs beside the hub until the end, by name."""
        return {
            "users of all nodes": self._users.run,
            "answers to nodes": self._orders.run,
            "budgets of all nodes": self._budgets.run,
            "audit for all nodes": self._audits.run,
            "apps and groups of all nodes": self._follow,
            "wildcards of all nodes": self._wildcards.run,
        }

    def _look(self) -> None:
        """Apps or groups may be others."""
        self._changed.set()

    async def _follow(self) -> None:
        """Go on with the apps and groups that there are, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            with suppress(ClusterFailed):  # they are read when Redis is back
                await self._read()

    async def _read(self) -> None:
        self._apps.follow(await self._added.fresh())
        if self._groups.all() and await self._shelf.lost_groups():
            for app, group, channels in self._groups.all():
                await self._shelf.change_group(app, group, channels, ())
        else:
            await self._groups.load()
