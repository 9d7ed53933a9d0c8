"""Who is signed in, over which sockets, and who wants to be told of it.

Rule 1: a user is online from the first of their sockets that signs in to the end of the last.
Rule 2: a socket that watches users is told at once who of them is online, and later of each change.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sower.core.answer import Watched
from sower.core.command import SignIn
from sower.errors import UserTerminated
from sower.net.session import Session

User = tuple[str, str]
"""An app's id and a user's."""


class _SignedIn(NamedTuple):
    user: User
    watchlist: tuple[User, ...]


class Users:
    """All signed-in users of all apps. A socket that never signs in costs nothing here."""

    def __init__(self) -> None:
        self._signed_in: dict[Session, _SignedIn] = {}
        self._sessions: dict[User, dict[Session, None]] = {}
        self._watchers: dict[User, dict[Session, None]] = {}

    def user_of(self, session: Session) -> str | None:
        """The user that a socket signed in as."""
        signed_in = self._signed_in.get(session)
        return signed_in.user[1] if signed_in is not None else None

    def sessions(self, app: str, user: str) -> Iterator[Session]:
        """The sockets that are signed in as a user."""
        return iter(tuple(self._sessions.get((app, user), ())))

    def end(self, app: str, user: str) -> int:
        """End all connections of a user. Returns how many there were."""
        sessions = list(self.sessions(app, user))
        for session in sessions:
            session.end(UserTerminated(f"A server ended all connections of {user[:64]!r}."))
        return len(sessions)

    def came(self, session: Session, command: SignIn) -> None:
        """A socket signed in: tell those who watch its user, and tell it of those whom it watches."""
        app = session.grant.app
        user = (app, command.user)
        anew = self.user_of(session) != command.user
        self.went(session, quietly=True)
        watchlist = tuple(dict.fromkeys((app, watched) for watched in command.watchlist))
        self._signed_in[session] = _SignedIn(user, watchlist)
        sessions = self._sessions.setdefault(user, {})
        sessions[session] = None
        if anew and len(sessions) == 1:
            self._appeared(user)
        for watched in watchlist:
            self._watchers.setdefault(watched, {})[session] = None
        if watchlist:
            self._begin(session, watchlist)

    def went(self, session: Session, *, quietly: bool = False) -> None:
        """A socket ended. quietly: it only signs in anew. Harmless for one that never signed in."""
        signed_in = self._signed_in.pop(session, None)
        if signed_in is None:
            return
        for watched in signed_in.watchlist:
            if _discard(self._watchers, watched, session):
                self._unwatched(watched)
        if _discard(self._sessions, signed_in.user, session) and not quietly:
            self._vanished(signed_in.user)

    def _appeared(self, user: User) -> None:
        self._say(user, Watched(online=(user[1],)))

    def _vanished(self, user: User) -> None:
        self._say(user, Watched(offline=(user[1],)))

    def _unwatched(self, user: User) -> None:
        """Nobody watches a user any more."""

    def _begin(self, session: Session, watchlist: Sequence[User]) -> None:
        """Tell a socket who of those whom it watches is online."""
        self._tell(session, watchlist, [user in self._sessions for user in watchlist])

    def _tell(self, session: Session, watchlist: Sequence[User], online: Sequence[bool]) -> None:
        pairs = list(zip(watchlist, online, strict=True))
        there = tuple(name for (_, name), is_online in pairs if is_online)
        session.tell(Watched(there, tuple(name for (_, name), is_online in pairs if not is_online)))

    def _say(self, user: User, word: Watched) -> None:
        for watcher in tuple(self._watchers.get(user, ())):
            watcher.tell(word)


def _discard(index: dict[User, dict[Session, None]], user: User, session: Session) -> bool:
    """Take a session out of an index. Whether it was the last under this user."""
    sessions = index.get(user)
    if sessions is None:
        return False
    sessions.pop(session, None)
    if not sessions:
        del index[user]
    return not sessions
