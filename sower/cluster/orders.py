"""What a server asks of all daemons: to end a user's connections or one of any, and to accept tokens no longer.

Each method is (grant, address, command) -> answer, as in sower/api.py.
"""

from __future__ import annotations

from itertools import count

import msgspec
import trio

from sower.activity import Activity
from sower.clients import Clients
from sower.cluster.node import Node
from sower.cluster.words import Answered, Ended, Kicked, TokensRevoked, Word
from sower.core.answer import Acknowledged
from sower.core.command import Kick, Terminate
from sower.core.grants import Grant
from sower.core.revocations import Revocation
from sower.errors import Forbidden, NotFound
from sower.errors import Kicked as KickedOut
from sower.revoking import Revoking

ANSWERED_WITHIN = 3.0
"""Seconds in which each node says whether it had a connection."""


class _Asked:
    """A question to other nodes. left: how many have not answered."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.done = False
        self.settled = trio.Event()

    def note(self, *, done: bool) -> None:
        self.left -= 1
        self.done = self.done or done
        if self.done or not self.left:
            self.settled.set()


class Orders:
    """Given by this node, and done by it."""

    def __init__(self, node: Node, clients: Clients, activity: Activity, revoking: Revoking) -> None:
        self._node = node
        self._clients = clients
        self._activity = activity
        self._revoking = revoking
        self._numbers = count(1)
        self._asked: dict[int, _Asked] = {}
        self._owed: list[Word] = []
        self._work = trio.Event()
        revoking.spread = self.revoke
        learn = node.words.learn
        learn(Ended, lambda word: clients.users.end(word.app, word.user))
        learn(TokensRevoked, self._revoked)
        learn(Kicked, self._kicked)
        learn(Answered, self._answered)

    async def terminate(self, grant: Grant, address: str, command: Terminate) -> Acknowledged:
        """End a user's connections to all nodes. Raises Forbidden, ClusterFailed."""
        if not grant.server:
            raise Forbidden("Only a server may end a user's connections.")
        here = len(list(self._clients.users.sessions(grant.app, command.user)))
        await self._node.words.say(Ended(grant.app, command.user))
        self._activity.terminated(grant, address, command.user, here)
        return Acknowledged()

    async def kick(self, grant: Grant, address: str, command: Kick) -> Acknowledged:
        """End one connection, to whatever node it is. Raises Forbidden, NotFound, ClusterFailed."""
        if not grant.server:
            raise Forbidden("Only a server (Basic key:secret) may look at the daemon.")
        if not (self._end(grant.app, command.session) or await self._end_elsewhere(grant.app, command.session)):
            raise NotFound(f"No session {command.session[:64]!r} of this app is connected.")
        self._activity.kicked(grant, address, command.session)
        return Acknowledged()

    async def revoke(self, revocation: Revocation, at: float | None) -> None:
        """Have every node revoke. Raises ClusterFailed."""
        await self._node.words.say(TokensRevoked(msgspec.json.encode(revocation), at))

    async def run(self) -> None:
        """Answer what other nodes asked, until cancelled."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            owed, self._owed = self._owed, []
            for word in owed:
                await self._node.words.try_to_say(word)

    def _end(self, app: str, session_id: str) -> bool:
        session = self._clients.find(session_id)
        if session is None or session.grant.app != app:
            return False
        session.end(KickedOut())
        return True

    async def _end_elsewhere(self, app: str, session: str) -> bool:
        await self._node.look()  # a node may have come a moment ago
        others = len([name for name in self._node.living if name != self._node.name])
        if not others:
            return False
        number = next(self._numbers)
        asked = self._asked[number] = _Asked(others)
        try:
            await self._node.words.say(Kicked(app, session, self._node.name, number))
            with trio.move_on_after(ANSWERED_WITHIN):
                await asked.settled.wait()
            return asked.done
        finally:
            del self._asked[number]

    def _revoked(self, word: TokensRevoked) -> None:
        self._revoking.apply(msgspec.json.decode(word.revocation, type=Revocation), word.at)

    def _kicked(self, word: Kicked) -> None:
        if word.asker != self._node.name:
            self._owed.append(Answered(word.asker, word.number, self._end(word.app, word.session)))
            self._work.set()

    def _answered(self, word: Answered) -> None:
        asked = self._asked.get(word.number)
        if asked is not None and word.asker == self._node.name:
            asked.note(done=word.done)
