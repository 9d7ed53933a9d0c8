"""What is asked about channels, answered for all nodes: by whichever of them is asked.

Each method is (grant, address, command) -> answer: what may be asked, and what is so here, is the API's to say.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import msgspec

from sower.api import Api
from sower.cluster.counts import Numbers
from sower.cluster.node import Node
from sower.core.answer import ChannelList, Members, Occupancy, Published
from sower.core.attendance import Attendance
from sower.core.command import ListChannels, PublishAll, ReadOccupancy, ReadPresence
from sower.core.grants import Grant
from sower.hub import Hub

ALL = 2**31


class Survey:
    """Of the channels of one hub and those of other nodes."""

    def __init__(self, api: Api, hub: Hub, node: Node) -> None:
        self._api = api
        self._hub = hub
        self._node = node

    def presence(self, grant: Grant, address: str, command: ReadPresence) -> Coroutine[Any, Any, Members]:
        """Who is on a channel. Raises as Api.presence, and ClusterFailed."""
        self._api.presence(grant, command)
        return self._members(grant.app, command)

    def channels(self, grant: Grant, address: str, command: ListChannels) -> Coroutine[Any, Any, ChannelList]:
        """The channels that somebody follows. Raises as Api.channels, and ClusterFailed."""
        here = self._api.channels(grant, msgspec.structs.replace(command, limit=ALL))
        return self._list(grant.app, command, here)

    def occupancy(self, grant: Grant, address: str, command: ReadOccupancy) -> Coroutine[Any, Any, Occupancy]:
        """Who follows a channel, in numbers. Raises as Api.occupancy, and ClusterFailed."""
        return self._occupancy(grant.app, self._api.occupancy(grant, command.channel))

    def publish(self, grant: Grant, address: str, command: PublishAll) -> Published | Coroutine[Any, Any, Published]:
        """Publish, and count where that is asked for. Raises as Api.publish, and ClusterFailed."""
        published = self._api.publish(grant, command)
        return self._counted(grant.app, published) if command.counted else published

    async def _members(self, app: str, command: ReadPresence) -> Members:
        presence = await self._hub.presence(app, command.channel)
        if presence is None:
            return Members(command.channel, ())
        return Members(command.channel, tuple(presence.view()), tuple(presence.seen()) if command.seen else ())

    async def _list(self, app: str, command: ListChannels, here: ChannelList) -> ChannelList:
        found = {occupancy.channel: occupancy for occupancy in here.channels}
        elsewhere = await self._node.counts.elsewhere(app, self._node.living)
        present = await self._hub.attended(app)
        names = sorted(found.keys() | {name for name in (*elsewhere, *present) if name.startswith(command.prefix)})
        listed: list[Occupancy] = []
        for name in names[: command.limit]:
            numbers = elsewhere.get(name, Numbers())
            known = found.get(name) or Occupancy(name, 0, 0 if self._hub.rules.of(name).presence else None)
            listed.append(await self._whole(app, known, numbers, attended=name in present))
        return ChannelList(tuple(listed))

    async def _counted(self, app: str, published: Published | Coroutine[Any, Any, Published]) -> Published:
        done = published if isinstance(published, Published) else await published
        occupancies = [await self._occupancy(app, here) for here in done.occupancies]
        return msgspec.structs.replace(done, occupancies=tuple(occupancies))

    async def _occupancy(self, app: str, here: Occupancy) -> Occupancy:
        elsewhere = await self._node.counts.elsewhere_on(app, here.channel, self._node.living)
        return await self._whole(app, here, Numbers().and_of(elsewhere.values()), attended=True)

    async def _whole(self, app: str, here: Occupancy, elsewhere: Numbers, *, attended: bool) -> Occupancy:
        """What is so here, and elsewhere too. attended: whether there may be members that are not known here."""
        members, connections = here.members, here.attendance.members
        presence = await self._hub.presence(app, here.channel) if attended else None
        if presence is not None and (presence or members is not None):
            members, connections = len(presence), presence.connections
        numbers = elsewhere.and_of([self._node.counts.own(app, here.channel)])
        now = Attendance(here.attendance.serial, here.attendance.head, *numbers, connections)
        return msgspec.structs.replace(here, subscribers=numbers.connections, members=members, attendance=now)
