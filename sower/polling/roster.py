"""Who is present by saying so again and again, and not by a socket.

Rule 1: an attendee is one user on one channel, whatever devices it polls from; it comes once and goes once.
Rule 2: it stays as long as a poll of its is held, and then as many seconds as its client asked for.
Rule 3: only a channel whose rule has presence knows attendees. The rest is as with any other member.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence

import trio

from sower.channel_tree import ChannelTree
from sower.config import Limits
from sower.core.answer import Acknowledged, Members
from sower.core.channel import Channel
from sower.core.grants import Can, Grant
from sower.core.message import Appearance, Delivery, Did
from sower.core.polling import Absent, Attend, FindUser, Places, ReadMembers, ReadState, Rooms, SetState, States
from sower.errors import BadRequest, PresenceOff, SowerError, TooLarge, UserMismatch
from sower.hub import Hub
from sower.inbox import Subscriber
from sower.net.keepalive import Keepalive
from sower.polling.allowing import Allowing
from sower.polling.groups import Groups


class Attendee:
    """A user on a channel. until: on trio's clock, while no poll is held. polls: how many are held."""

    __slots__ = ("_roster", "due", "polls", "tree", "until", "user")

    def __init__(self, roster: Roster, tree: ChannelTree, user: str) -> None:
        self.tree = tree
        self.user = user
        self.until = 0.0
        self.polls = 0
        self.due = -1
        self._roster = roster

    @property
    def connection(self) -> str:
        """What it is called among the connections of its user."""
        return f"poll:{self.user}"

    def tend(self, now: float, wall: float) -> float | None:
        """Look whether it is still there. Returns seconds until the next look."""
        if self.polls:
            return self._roster.longest
        if now < self.until:
            return self.until - now
        self._roster.lose(self)
        return None


class Coming:
    """An attendee comes, or says again who it is. meta: JSON bytes, None for what is known."""

    apart = departs = False
    __slots__ = ("_attendee", "_meta", "_roster")

    def __init__(self, roster: Roster, attendee: Attendee, meta: bytes | None) -> None:
        self._roster = roster
        self._attendee = attendee
        self._meta = meta

    def decide(self, state: Channel[Subscriber], now: float) -> Sequence[Delivery]:
        """A full channel has no room for one more, who is told nothing of it: a poll has no words for that."""
        if state.presence is None:
            return ()
        attendee, serial = self._attendee, self._roster.next_serial()
        said = Appearance(Did.ENTERED, attendee.user, attendee.connection, self._meta or b"null", serial)
        try:
            return state.presence.enter(said, attendee, keep=self._meta is None)
        except SowerError as error:
            self.refuse(error)
            return ()

    def refuse(self, error: SowerError) -> None:
        """It is not there."""
        self._roster.forget(self._attendee)


class Going:
    """An attendee goes. at_once: it said so."""

    apart, departs = False, True
    __slots__ = ("_at_once", "_attendee", "_roster")

    def __init__(self, roster: Roster, attendee: Attendee, *, at_once: bool) -> None:
        self._roster = roster
        self._attendee = attendee
        self._at_once = at_once

    def decide(self, state: Channel[Subscriber], now: float) -> Sequence[Delivery]:
        """Its user goes with it, unless other connections of the user stay."""
        if state.presence is None:
            return ()
        attendee, serial = self._attendee, self._roster.next_serial()
        return state.presence.leave(attendee.user, attendee.connection, attendee, now, serial, at_once=self._at_once)

    def refuse(self, error: SowerError) -> None:
        """It is never refused."""


class Roster:
    """All attendees. longest: seconds until one that polls is looked at again."""

    longest = 60.0

    def __init__(self, hub: Hub, allowing: Allowing, groups: Groups, keepalive: Keepalive, limits: Limits) -> None:
        self._hub = hub
        self._allowing = allowing
        self._groups = groups
        self._keepalive = keepalive
        self.limits = limits
        self._attendees: dict[tuple[str, str], dict[str, Attendee]] = {}
        """By app and user, then by channel."""

    def next_serial(self) -> int:
        """A serial for what an attendee does."""
        return self._hub.next_serial()

    # What clients do

    def attend(
        self, app: str, user: str, channels: Iterable[str], seconds: float, states: dict[str, bytes]
    ) -> tuple[Attendee, ...]:
        """Be present on those of these channels that have presence."""
        places = self._attendees.get((app, user), {})
        found: list[Attendee] = []
        for channel in channels:
            if not self._shown(channel):
                continue
            attendee, state = places.get(channel), states.get(channel)
            if attendee is None:
                attendee = places[channel] = Attendee(self, self._hub.tree(app, channel), user)
                attendee.tree.post(Coming(self, attendee, state), always=True)
            elif state is not None:
                attendee.tree.post(Coming(self, attendee, state), always=True)
            attendee.until = trio.current_time() + seconds
            self._keepalive.look_again(attendee, seconds)
            found.append(attendee)
        if places:
            self._attendees[app, user] = places
        return tuple(found)

    async def beat(self, grant: Grant, address: str, command: Attend) -> Acknowledged:
        """A heartbeat. Raises NamesForbidden, TooMany, TooManyChannels, TooLarge."""
        channels = self._groups.resolve(grant, command.names)
        self._allowing.demand(grant, Can.PRESENCE, command.names.channels, command.names.groups)
        self._hub.demand_room(grant.app, channels)
        states = self.states_of(grant.app, command.states)
        self.attend(grant.app, command.user, channels, command.seconds, states)
        return Acknowledged()

    async def leave(self, grant: Grant, address: str, command: Absent) -> Acknowledged:
        """Go, from all these channels at once; where somebody may not be present there is nobody of theirs."""
        places = self._attendees.get((grant.app, command.user), {})
        own = tuple(name for name in command.names.channels if self._allowing.allows(grant, Can.PRESENCE, name))
        for channel in self._groups.resolve(grant, command.names._replace(channels=own)):
            attendee = places.get(channel)
            if attendee is not None:
                self.forget(attendee)
                attendee.tree.post(Going(self, attendee, at_once=True), always=True)
        return Acknowledged()

    async def set_state(self, grant: Grant, address: str, command: SetState) -> Acknowledged:
        """Replace a user's state. Raises UserMismatch, NamesForbidden, PresenceOff, TooManyChannels, TooLarge."""
        if grant.closed and not grant.speaks_for(command.user):
            raise UserMismatch(f"The token does not speak for {command.user[:64]!r}.")
        channels = self._groups.resolve(grant, command.names)
        if not channels:
            raise BadRequest("The request names no channel.")
        self._allowing.demand(grant, Can.PRESENCE, command.names.channels, command.names.groups)
        self._hub.demand_room(grant.app, channels)
        states = self.states_of(grant.app, tuple((channel, command.state) for channel in channels))
        if not self.attend(grant.app, command.user, channels, command.seconds, states):
            raise PresenceOff(f"The channel {channels[0]!r} has no presence.")
        return Acknowledged()

    def states_of(self, app: str, given: tuple[tuple[str, bytes], ...]) -> dict[str, bytes]:
        """State by channel, from state by channel or group. Raises TooLarge."""
        states: dict[str, bytes] = {}
        for name, state in given:
            if len(state) > self.limits.meta:
                raise TooLarge(
                    f"The state for {name[:64]!r} has {len(state)} bytes; limits.meta is {self.limits.meta}."
                )
            for channel in (name, *self._groups.channels(app, name)):
                states[channel] = state
        return states

    def lose(self, attendee: Attendee) -> None:
        """Its time is over. A channel that is forgotten has nobody: this one went before, or never came."""
        self.forget(attendee)
        tree = attendee.tree
        if self._hub.look(tree.app, tree.name) is tree:
            tree.post(Going(self, attendee, at_once=False), always=True)

    def forget(self, attendee: Attendee) -> None:
        """Keep it no longer."""
        owner = (attendee.tree.app, attendee.user)
        places = self._attendees.get(owner, {})
        if places.get(attendee.tree.name) is attendee:
            del places[attendee.tree.name]
            if not places:
                del self._attendees[owner]

    # What is asked

    async def read_members(self, grant: Grant, address: str, command: ReadMembers) -> Rooms:
        """Who is where. Raises NamesForbidden, PresenceOff where one channel is asked that has none."""
        if command.names is None:
            names = self._visible(grant, await self._hub.attended(grant.app))
            return Rooms(tuple([room async for room in self._rooms(grant.app, names)]))
        self._allowing.demand(grant, Can.SUBSCRIBE, command.names.channels, command.names.groups)
        channels = self._groups.resolve(grant, command.names)
        if len(channels) == 1 and not self._hub.rules.of(channels[0]).presence:
            raise PresenceOff(f"The channel {channels[0]!r} has no presence.")
        return Rooms(tuple([room async for room in self._rooms(grant.app, channels)]))

    async def _rooms(self, app: str, channels: Iterable[str]) -> AsyncIterator[Members]:
        for channel in filter(self._shown, channels):
            presence = await self._hub.presence(app, channel)
            if presence:
                yield Members(channel, tuple(presence.view()))

    async def find(self, grant: Grant, address: str, command: FindUser) -> Places:
        """Where a user is, over whatever protocol it came. Channels that the asker may not see are left out."""
        return Places(tuple(self._visible(grant, await self._hub.whereabouts(grant.app, command.user))))

    def _visible(self, grant: Grant, channels: Iterable[str]) -> list[str]:
        seen = filter(self._shown, channels)
        return sorted(name for name in seen if self._allowing.allows(grant, Can.SUBSCRIBE, name))

    def _shown(self, channel: str) -> bool:
        """Whether users are seen there. Elsewhere there may be members too, whom their own protocol alone shows."""
        return self._hub.rules.of(channel).presence

    async def read_state(self, grant: Grant, address: str, command: ReadState) -> States:
        """A user's state by channel. Raises NamesForbidden."""
        self._allowing.demand(grant, Can.SUBSCRIBE, command.names.channels, command.names.groups)
        states: list[tuple[str, bytes]] = []
        for channel in filter(self._shown, self._groups.resolve(grant, command.names)):
            presence = await self._hub.presence(grant.app, channel)
            member = presence.find(command.user) if presence else None
            if member is not None:
                states.append((channel, member.meta))
        return States(tuple(states))
