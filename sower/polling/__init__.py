"""What serves clients that poll: they hold no socket that things could be written to, and come again and again.

poll -> polls.py (held until something comes) <- feeds.py (a channel's latest, encoded once) <- the channel's tree
heartbeat -> roster.py (who is present until when) -> the channel's presence
all else -> groups.py, archive.py, vouching.py -> the database
"""

from __future__ import annotations

import trio

from sower.access import Access
from sower.activity import Activity
from sower.api import Api
from sower.config import Config
from sower.core import polling as commands
from sower.hub import Hub
from sower.net.keepalive import Keepalive
from sower.polling.allowing import Allowing
from sower.polling.archive import Archive
from sower.polling.groups import Groups
from sower.polling.places import Places
from sower.polling.polls import Polls
from sower.polling.roster import Roster
from sower.polling.vouching import Vouching


class Polling:
    """All of its parts, once. groups: of channels. connections: the nursery in which journals are read for polls."""

    def __init__(
        self,
        config: Config,
        hub: Hub,
        access: Access,
        activity: Activity,
        api: Api,
        keepalive: Keepalive,
        connections: trio.Nursery,
    ) -> None:
        allowing = Allowing(hub, access)
        self.groups = Groups(hub.shelf, allowing)
        self._places = Places(hub, self.groups, config)
        self._vouching = Vouching(access, activity, hub.journal, hub.shelf)
        roster = self._roster = Roster(hub, allowing, self.groups, keepalive, config.limits)
        archive = Archive(hub, allowing, api.count)
        self.polls = Polls(hub, allowing, self.groups, roster, self._places, connections)
        self._vouching.ended = self.polls.end_token
        for kind, do in (
            (commands.ReadClock, archive.clock),
            (commands.ReadHistories, archive.read),
            (commands.CountMessages, archive.count),
            (commands.DeleteHistory, archive.delete),
            (commands.React, archive.react),
            (commands.ReadReactions, archive.reactions),
            (commands.ReadReacted, archive.read_reacted),
            (commands.Attend, roster.beat),
            (commands.Absent, roster.leave),
            (commands.ReadMembers, roster.read_members),
            (commands.FindUser, roster.find),
            (commands.ReadState, roster.read_state),
            (commands.SetState, roster.set_state),
            (commands.ChangeGroup, self.groups.change),
            (commands.DeleteGroup, self.groups.delete),
            (commands.ReadGroup, self.groups.read),
            (commands.Vouch, self._vouching.vouch),
            (commands.Withdraw, self._vouching.revoke),
        ):
            api.learn(kind, do)

    async def load(self) -> None:
        """Read what is kept on disk. Raises JournalFailed."""
        await self.groups.load()
        await self._vouching.load()

    def use(self, config: Config) -> None:
        """Go on with this config."""
        self._places.use(config)
        self._roster.limits = config.limits

    async def run(self) -> None:
        """Answer polls, and look after where they wait, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._places.run, name="places of polls")
            nursery.start_soon(self.polls.run, name="answers to polls")
