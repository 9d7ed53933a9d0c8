"""What is asked about one message is read here: how it is now, its versions, its annotations.

Each method is (grant, address, command) -> answer, or a SowerError, as in sower/api.py.
"""

from __future__ import annotations

from sower.access import Access
from sower.core.grants import Can, Grant
from sower.core.message import Message
from sower.core.revising import Found, ReadMessage, ReadVersions, Versions
from sower.errors import ChangesOff, NoSuchMessage
from sower.hub import Hub


class Revising:
    """Reads the journal's messages one by one. It needs the right to read the channel's history."""

    def __init__(self, hub: Hub, access: Access) -> None:
        self._hub = hub
        self._access = access

    async def message(self, grant: Grant, address: str, command: ReadMessage) -> Found:
        """A message as it is now. Raises Forbidden, ChangesOff, NoSuchMessage, JournalFailed."""
        return Found(await self._find(grant, command.channel, command.message))

    async def versions(self, grant: Grant, address: str, command: ReadVersions) -> Versions:
        """Its versions, or its annotations. Raises Forbidden, ChangesOff, NoSuchMessage, JournalFailed."""
        now = await self._find(grant, command.channel, command.message)
        if now.about is None:  # it was never changed or annotated
            asked = not command.annotations and command.since < now.serial < command.before
            return Versions((now,) if asked else (), None)
        found = await self._hub.log.versions(
            grant.app,
            command.channel,
            command.message,
            annotated=command.annotations,
            since=command.since,
            before=command.before,
            limit=command.limit,
            newest_first=command.newest_first,
        )
        return Versions(tuple(found.messages), found.messages[-1].serial if found.more else None)

    async def _find(self, grant: Grant, channel: str, serial: int) -> Message:
        rules = self._hub.rules.of(channel)
        if rules.history is None:
            raise ChangesOff(f"Messages of {channel!r} are not kept, so none can be read by its serial.")
        grant.demand(Can.HISTORY, channel, rules, self._access.apps[grant.app].client_events)
        page = await self._hub.log.page(
            grant.app, channel, since=serial - 1, before=serial + 1, limit=1, history=rules.history
        )
        if not page.messages:
            raise NoSuchMessage(f"The channel {channel[:64]!r} has no message {serial}, or has it no longer.")
        return page.messages[0]
