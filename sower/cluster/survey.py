"""What is asked about channels, answered for all nodes: by whichever of them is asked.

Each method is (grant, address, command) -> answer: what may be asked, and what is so here, is the API's to say.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import msgspec

from sower.api import Api
from sower.cluster.node import Node
from sower.core.answer import ChannelList, Members, Occupancy
from sower.core.command import ListChannels, ReadOccupancy, ReadPresence
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

    async def _members(self, app: str, command: ReadPresence) -> Members:
        presence = await self._hub.presence(app, command.channel)
        if presence is None:
            return Members(command.channel, ())
        return Members(command.channel, tuple(presence.view()), tuple(presence.seen()) if command.seen else ())

    async def _list(self, app: str, command: ListChannels, here: ChannelList) -> ChannelList:
        found = {occupancy.channel: occupancy for occupancy in here.channels}
        elsewhere = await self._node.counts.elsewhere(app, self._node.living)
        names = sorted(found.keys() | {name for name in elsewhere if name.startswith(command.prefix)})
        listed: list[Occupancy] = []
        for name in names[: command.limit]:
            listed.append(await self._whole(app, found.get(name) or Occupancy(name, 0, None), elsewhere[name]))
        return ChannelList(tuple(listed))

    async def _occupancy(self, app: str, here: Occupancy) -> Occupancy:
        elsewhere = await self._node.counts.elsewhere_on(app, here.channel, self._node.living)
        return await self._whole(app, here, elsewhere)

    async def _whole(self, app: str, here: Occupancy, elsewhere: int) -> Occupancy:
        """What is so here, and elsewhere too."""
        members = here.members
        if self._hub.rules.of(here.channel).presence:
            members = len(await self._hub.presence(app, here.channel) or ())
        return msgspec.structs.replace(here, subscribers=here.subscribers + elsewhere, members=members)
