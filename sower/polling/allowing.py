"""Whether somebody may do something on all the channels and groups that a request names."""

from __future__ import annotations

from collections.abc import Iterable

from sower.access import Access
from sower.core.grants import Can, Grant
from sower.core.polling import Reach, Source
from sower.errors import NamesForbidden, TooMany
from sower.hub import Hub

PRESENCE = "-pnpres"
"""What a channel's comings and goings are called in a token: a name of their own."""

MOST_NAMES = 2000
"""Channels that one request may come to, its groups resolved."""


class Allowing:
    """The rules of channels, and the apps."""

    def __init__(self, hub: Hub, access: Access) -> None:
        self._hub = hub
        self._access = access

    def allows(self, grant: Grant, can: Can, channel: str) -> bool:
        """Whether this is allowed on one channel."""
        client_events = self._access.apps[grant.app].client_events
        return grant.allows(can, channel, self._hub.rules.of(channel), client_events)

    def demand(self, grant: Grant, can: Can, channels: Iterable[str], groups: Iterable[str] = ()) -> None:
        """Raise NamesForbidden, which names all that is not allowed."""
        no_channels = [name for name in channels if not self.allows(grant, can, name)]
        no_groups = [name for name in groups if not grant.allows_group(can, name)]
        _refuse(can, no_channels, no_groups)

    def demand_sources(self, grant: Grant, sources: Iterable[Source]) -> None:
        """Whether somebody may follow all these. A wildcard's channels are looked at one by one, as they speak."""
        no_channels: list[str] = []
        no_groups: list[str] = []
        for source in sources:
            if source.reach is Reach.GROUP:
                name = source.name + (PRESENCE if source.presence else "")
                if not grant.allows_group(Can.SUBSCRIBE, name):
                    no_groups.append(name)
            elif not self._may_follow(grant, source):
                no_channels.append(_shown(source))
        _refuse(Can.SUBSCRIBE, no_channels, no_groups)

    def _may_follow(self, grant: Grant, source: Source) -> bool:
        if grant.closed:
            return grant.claimed(Can.SUBSCRIBE, _shown(source))
        return source.reach is Reach.PREFIX or self.allows(grant, Can.SUBSCRIBE, source.name)

    def opens(self, grant: Grant, source: Source, channel: str) -> bool:
        """Whether what a channel says may be told to somebody who follows it through a group or a wildcard."""
        if not self._hub.rules.of(channel).private:
            return True
        if grant.server or grant.claimed(Can.SUBSCRIBE, channel):
            return True
        if source.reach is Reach.GROUP:
            return grant.closed and grant.allows_group(Can.SUBSCRIBE, source.name)
        return grant.claimed(Can.SUBSCRIBE, _shown(source))


def _refuse(can: Can, channels: list[str], groups: list[str]) -> None:
    names = [*channels, *groups]
    if names:
        told = ", ".join(repr(name[:64]) for name in names[:10])
        raise NamesForbidden(f"{can.value} is not allowed on {told}.", channels=channels, groups=groups)


def bounded(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once. Raises TooMany."""
    found = tuple(dict.fromkeys(names))
    if len(found) > MOST_NAMES:
        raise TooMany(f"The request comes to {len(found)} channels; at most {MOST_NAMES} are served at once.")
    return found


def _shown(source: Source) -> str:
    return source.name + ("*" if source.reach is Reach.PREFIX else "") + (PRESENCE if source.presence else "")
