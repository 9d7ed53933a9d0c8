"""The debug console: what passes between one client and the daemon, shown to an operator while it passes.

Rule 1: watching is on record, and one watches one's own app's clients alone.
Rule 2: secrets are masked here, before anything goes to the watcher.
Rule 3: it ends with either of the two: then the watched session has its own wire again, and pays nothing.
Rule 4: a watcher cannot be watched: what it is told would be told to it again, without end.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec

from sower.activity import Activity
from sower.core.answer import Acknowledged
from sower.core.command import WatchFrames
from sower.errors import Forbidden, NotFound, TooMany, Unavailable
from sower.net.relay import Relay
from sower.net.session import Session
from sower.net.tap import Passing, TappedWire

MOST_SHOWN = 4096
"""Characters of a frame that are shown."""

TOKEN = re.compile(r"eyJ[\w-]{8,}\.[\w-]+\.[\w-]+")
"""A JWT: the Base64 of `{"` begins it."""

SECRET = re.compile(
    r"""(\\*"(?:access_?token|token|auth|mac|password|secret|shared_secret|signature)\\*"\s*:\s*\\*")"""
    r"""(?:[^"\\]|\\(?!\\*"))+""",
    re.IGNORECASE,
)
"""The value of a JSON field with such a name, also in JSON that is itself a text in JSON."""

MASK = "(masked)"

_encode = msgspec.json.Encoder().encode


class Console:
    """Who watches whom. find: a connected session by its id. now: seconds since 1970."""

    def __init__(self, activity: Activity, find: Callable[[str], Session | None], now: Callable[[], float]) -> None:
        self._activity = activity
        self._find = find
        self._now = now
        self._watched: dict[Session, Session] = {}
        self._watchers: dict[Session, Session] = {}

    def begin(self, watcher: Session, command: WatchFrames) -> None:
        """Show the watcher from now on what passes. Raises Forbidden, NotFound, TooMany, Unavailable."""
        session = self._checked(watcher, command.session)
        self._watched[session], self._watchers[watcher] = watcher, session

        def told(passing: Passing) -> None:
            watcher.write(watcher.audience.frame(self._words(passing)))

        session.wire = TappedWire(session.wire, session.audience.framing, told)
        self._activity.watched(watcher.grant, watcher.address, session.id)
        watcher.answer(command, Acknowledged())

    def _checked(self, watcher: Session, session_id: str) -> Session:
        if not watcher.grant.server:
            raise Forbidden("Only who holds the secret may see another's frames.")
        session = self._find(session_id)
        if session is None or session.grant.app != watcher.grant.app:
            raise NotFound(f"No session {session_id[:64]!r} of this app is connected.")
        if session is watcher or session in self._watchers:
            raise Forbidden("A session that watches another is not watched itself.")
        if session in self._watched:
            raise TooMany("Somebody watches this session already.")
        if isinstance(session.wire, Relay):
            raise Unavailable("A session over xhr_streaming or xhr_polling is made of requests, and has no frames.")
        if not session.between_frames:
            raise Unavailable(
                "The session is in the middle of a frame, or has a backlog: its frames cannot be told apart."
            )
        return session

    def went(self, session: Session) -> None:
        """A session ended: whatever it watched is left alone, and who watched it is told."""
        watched = self._watchers.pop(session, None)
        if watched is not None:
            self._release(watched)
        watcher = self._watched.get(session)
        if watcher is not None:
            self._release(session)
            del self._watchers[watcher]
            watcher.end(NotFound("The session that was watched is gone."))

    def _release(self, session: Session) -> None:
        del self._watched[session]
        if isinstance(session.wire, TappedWire):
            session.wire = session.wire.wire

    def _words(self, passing: Passing) -> bytes:
        frame = {
            "type": "frame",
            "from": "client" if passing.from_client else "daemon",
            "kind": passing.kind,
            "text": masked(_text(passing))[:MOST_SHOWN],
            "bytes": len(passing.payload),
            "time": int(self._now() * 1000),
        }
        return _encode(frame)


def masked(text: str) -> str:
    """A frame's text without what lets somebody in."""
    return TOKEN.sub(MASK, SECRET.sub(rf"\1{MASK}", text))


def _text(passing: Passing) -> str:
    """A close frame's code and reason; text as it is; other bytes in hexadecimal digits."""
    payload = passing.payload
    if passing.kind == "close" and len(payload) >= 2:
        return f"{int.from_bytes(payload[:2])} {payload[2:].decode(errors='replace')}".rstrip()
    if passing.kind == "binary":
        return payload[: MOST_SHOWN // 3].hex(" ")
    return payload.decode(errors="replace")
