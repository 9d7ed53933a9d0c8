"""What of a daemon's parts is another where it is one of several."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from sower.activity import Activity
from sower.api import Api
from sower.clients import Clients
from sower.cluster.audits import Audits
from sower.cluster.budgets import Budgets
from sower.cluster.node import Node
from sower.cluster.orders import Orders
from sower.cluster.survey import Survey
from sower.cluster.users import ClusterUsers
from sower.core.command import Kick, ListChannels, PublishAll, ReadAudit, ReadOccupancy, ReadPresence, Terminate
from sower.hub import Hub
from sower.revoking import Revoking
from sower.store.audit import Audit


class Joined:
    """A daemon's parts, joined to those of other nodes."""

    def __init__(
        self, node: Node, hub: Hub, api: Api, clients: Clients, activity: Activity, revoking: Revoking, audit: Audit
    ) -> None:
        self._node = node
        clients.users = self._users = ClusterUsers(node)
        self._orders = Orders(node, clients, activity, revoking)
        self._audits = Audits(node, audit)
        self._budgets = Budgets(node)
        api.count_by(self._budgets.of)
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

    @property
    def services(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """What runs beside the hub until the end, by name."""
        return {
            "users of all nodes": self._users.run,
            "answers to nodes": self._orders.run,
            "budgets of all nodes": self._budgets.run,
            "audit for all nodes": self._audits.run,
        }
