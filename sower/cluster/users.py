"""Who is signed in on any node: online from the first of a user's sockets on whatever node to the end of the last.

Rule 1: each node says which users it has, on a board, and then on the user's topic, which those hear that watch.
Rule 2: a user whose node is gone is offline when its lease is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import partial

import trio

from sower.cluster.entries import NODE
from sower.cluster.keys import user_of
from sower.cluster.node import Node
from sower.core.answer import Watched
from sower.errors import ClusterFailed
from sower.net.session import Session
from sower.users import User, Users

HERE, GONE = b"+", b"-"


class ClusterUsers(Users):
    """Those of one node, and where else those are whom its sockets watch."""

    def __init__(self, node: Node) -> None:
        super().__init__()
        self._node = node
        self._where: dict[User, dict[str, bool]] = {}
        """Of each watched user: on which node it is online, as far as it is known."""
        self._unread: dict[User, bool] = {}
        """Those of whom that is to be read, and whether a change of it is told then."""
        self._beginning: deque[tuple[Session, Sequence[User]]] = deque()
        self._work = trio.Event()
        node.moved.append(self._read_again)

    async def run(self) -> None:
        """Find out where watched users are, until cancelled."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            for user in list(self._unread):
                if user in self._unread:  # and was not let go meanwhile
                    await self._read(user)
            while self._beginning:
                session, watchlist = self._beginning.popleft()
                self._tell(session, watchlist, [self._online(user) for user in watchlist])

    def _online(self, user: User) -> bool:
        return user in self._sessions or any(self._where.get(user, {}).values())

    def _appeared(self, user: User) -> None:
        self._node.signed_in.say(user[0], user[1], b"1", (self._topic(user), HERE + self._node.name.encode()))
        self._note(user, self._node.name, online=True)

    def _vanished(self, user: User) -> None:
        self._node.signed_in.say(user[0], user[1], None, (self._topic(user), GONE + self._node.name.encode()))
        self._note(user, self._node.name, online=False)

    def _begin(self, session: Session, watchlist: Sequence[User]) -> None:
        for user in watchlist:
            if user not in self._where:
                self._where[user] = {self._node.name: user in self._sessions}
                self._unread[user] = False
                self._node.listen(self._topic(user), partial(self._hear, user))
        self._beginning.append((session, watchlist))
        self._work.set()

    def _unwatched(self, user: User) -> None:
        if self._where.pop(user, None) is not None:
            self._unread.pop(user, None)
            self._node.unlisten(self._topic(user))

    def _hear(self, user: User, payload: bytes) -> None:
        self._note(user, payload[1 : 1 + NODE].decode(), online=payload[:1] == HERE)

    def _note(self, user: User, node: str, *, online: bool) -> None:
        where = self._where.get(user)
        if where is not None:
            before = any(where.values())
            where[node] = online
            self._changed(user, before)

    def _changed(self, user: User, before: bool) -> None:
        online = any(self._where[user].values())
        if online != before and user not in self._unread:
            self._say(user, Watched(online=(user[1],)) if online else Watched(offline=(user[1],)))

    def _read_again(self) -> None:
        """Nodes came or went, or something was not heard."""
        for user in self._where:
            self._unread.setdefault(user, True)
        self._work.set()

    async def _read(self, user: User) -> None:
        """Where a user is now; where Redis cannot be asked, that is read when it is back."""
        known = self._where[user]
        heard = self._where[user] = {self._node.name: user in self._sessions}
        try:
            found = await self._node.signed_in.elsewhere_on(user[0], user[1], self._node.living)
        except ClusterFailed:
            heard.update({node: online for node, online in known.items() if node not in heard})
            return
        if self._where.get(user) is heard:
            self._where[user] = {**dict.fromkeys(found, True), **heard}
            if self._unread.pop(user):
                self._changed(user, any(known.values()))

    def _topic(self, user: User) -> bytes:
        return user_of(self._node.prefix, *user)
