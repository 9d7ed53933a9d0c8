"""Groups of channels, kept on the shelf: clients follow a group, and servers change what is in it.

Rule 1: a change is on disk before it is acknowledged, and acts on the polls that wait at that moment.
Rule 2: who puts a channel into a group must be allowed to read it: a group is no way round a channel's rule. Nor is it
        for who is in a channel: who follows a group is present, and sees who is, where it would be told what is said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sower.core.answer import Acknowledged
from sower.core.grants import Can, Grant
from sower.core.polling import ChangeGroup, DeleteGroup, Names, Places, Reach, ReadGroup, Source
from sower.errors import NamesForbidden, TooMany
from sower.polling.allowing import Allowing, bounded
from sower.store.shelf import Shelf

MOST_CHANNELS = 2000
"""Channels of one group, PubNub's limit."""

MOST_GROUPS = 10_000
"""Groups of one app."""

MOST_IN_ALL = 500_000
"""Channels of all groups of one app, some 100 MB: anybody may put some in."""


class Groups:
    """changed: told of each change: app, group, channels that came, channels that went."""

    def __init__(self, shelf: Shelf, allowing: Allowing) -> None:
        self.changed: Callable[[str, str, Iterable[str], Iterable[str]], None] = _unheard
        self._shelf = shelf
        shelf.regrouped = self._apply
        self._allowing = allowing
        self._groups: dict[str, dict[str, dict[str, None]]] = {}

    async def load(self) -> None:
        """Know what is kept, and no more than that. Raises JournalFailed, ClusterFailed."""
        kept: dict[tuple[str, str], dict[str, None]] = {}
        for app, group, channel in await self._shelf.groups():
            kept.setdefault((app, group), {})[channel] = None
        known = {(app, group): channels for app, groups in self._groups.items() for group, channels in groups.items()}
        for app, group in kept.keys() | known.keys():
            there, here = kept.get((app, group), {}), known.get((app, group), {})
            came, went = [name for name in there if name not in here], [name for name in here if name not in there]
            if came or went:
                self._apply(app, group, came, went)

    def all(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """Every group: app, name, channels."""
        return [(app, group, tuple(names)) for app, groups in self._groups.items() for group, names in groups.items()]

    def channels(self, app: str, group: str) -> tuple[str, ...]:
        """What is in a group; nothing where there is none."""
        return tuple(self._groups.get(app, {}).get(group, ()))

    def resolve(self, grant: Grant, names: Names) -> tuple[str, ...]:
        """Channels, and the channels of groups that are open through their group. Raises TooMany."""
        of_groups = (channel for group in names.groups for channel in self._opened(grant, group))
        return bounded((*names.channels, *of_groups))

    def _opened(self, grant: Grant, group: str) -> Iterable[str]:
        source = Source(Reach.GROUP, group)
        return (name for name in self.channels(grant.app, group) if self._allowing.opens(grant, source, name))

    async def change(self, grant: Grant, address: str, command: ChangeGroup) -> Acknowledged:
        """Put channels in and take others out. Raises NamesForbidden, TooMany."""
        group = command.group
        self._demand_manage(grant, group)
        self._allowing.demand(grant, Can.SUBSCRIBE, () if grant.closed else command.add)
        groups = self._groups.get(grant.app, {})
        if len(groups) >= MOST_GROUPS and group not in groups:
            raise TooMany(f"The app has {MOST_GROUPS} groups, as many as it may.")
        if len({*groups.get(group, ()), *command.add}) > MOST_CHANNELS:
            raise TooMany(f"A group has at most {MOST_CHANNELS} channels.")
        if command.add and sum(map(len, groups.values())) + len(command.add) > MOST_IN_ALL:
            raise TooMany(f"The groups of an app have at most {MOST_IN_ALL} channels in all.")
        await self._shelf.change_group(grant.app, group, command.add, command.remove)
        return Acknowledged()

    async def delete(self, grant: Grant, address: str, command: DeleteGroup) -> Acknowledged:
        """Forget a group. Raises NamesForbidden."""
        group = command.group
        self._demand_manage(grant, group)
        gone = self.channels(grant.app, group)
        await self._shelf.change_group(grant.app, group, (), gone)
        return Acknowledged()

    async def read(self, grant: Grant, address: str, command: ReadGroup) -> Places:
        """A group's channels, or the names of all groups. Raises NamesForbidden."""
        if command.group is None:
            return Places(tuple(self._groups.get(grant.app, ())))
        group = command.group
        if not grant.allows_group(Can.SUBSCRIBE, group):
            self._demand_manage(grant, group)
        return Places(self.channels(grant.app, group))

    def _demand_manage(self, grant: Grant, group: str) -> None:
        if not grant.allows_group(Can.MANAGE, group):
            raise NamesForbidden(f"manage is not allowed on the group {group[:64]!r}.", groups=[group])

    def _apply(self, app: str, group: str, came: Iterable[str], went: Iterable[str]) -> None:
        """A group is another one from now on."""
        self._groups.setdefault(app, {}).setdefault(group, {}).update(dict.fromkeys(came))
        self._remove(app, group, went)
        self.changed(app, group, came, went)

    def _remove(self, app: str, group: str, channels: Iterable[str]) -> None:
        groups = self._groups.get(app, {})
        for channel in channels:
            groups.get(group, {}).pop(channel, None)
        if not groups.get(group, True):
            del groups[group]


def _unheard(app: str, group: str, came: Iterable[str], went: Iterable[str]) -> None:
    """Where nobody follows groups."""
