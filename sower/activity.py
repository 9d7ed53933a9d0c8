"""What happens is told twice: to the audit record, which stays, and to the activity feed, which is live.

The feed is the channel `[meta]activity` of each app; it costs nothing while nobody follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from sower.core.answer import Receipt
from sower.core.command import Publish
from sower.core.grants import Grant
from sower.core.revocations import Revocation
from sower.dialects.interface import Named
from sower.errors import SowerError
from sower.hub import Hub
from sower.store.audit import Audit

FEED = "[meta]activity"

_encode = msgspec.json.Encoder().encode


class Activity:
    """now: seconds since 1970."""

    def __init__(self, hub: Hub, audit: Audit, *, now: Callable[[], float]) -> None:
        self._hub = hub
        self._audit = audit
        self._now = now

    def connected(self, grant: Grant, session: str, address: str, channel: str) -> None:
        """A socket was let in."""
        self._audit.record("connected", app=grant.app, who=_who(grant, address), channel=channel, detail=session)
        self._say(grant.app, "connected", session=session, address=address, channel=channel, user=grant.user)

    def subscribed(self, grant: Grant, session: Named, address: str, channel: str, *, proved: bool) -> None:
        """A connected client follows one more channel; what it had to prove itself for is on record."""
        if proved:
            self._audit.record(
                "subscribed", app=grant.app, who=_who(grant, address), channel=channel, detail=session.id
            )
        if self._followed(grant.app):
            self._say(grant.app, "subscribed", session=session.id, address=address, channel=channel, user=grant.user)

    def signed_in(self, grant: Grant, session: str, address: str) -> None:
        """A connected client said and proved who it is."""
        self._audit.record("signed_in", app=grant.app, who=_who(grant, address), detail=session)
        self._say(grant.app, "signed_in", session=session, address=address, user=grant.user)

    def terminated(self, grant: Grant, address: str, user: str, sessions: int) -> None:
        """A server ended all connections of a user."""
        self._audit.record("terminated", app=grant.app, who=_who(grant, address), detail=user, count=sessions)
        self._say(grant.app, "terminated", user=user, sessions=sessions)

    def disconnected(self, grant: Grant, session: str, address: str, code: int, reason: str) -> None:
        """A socket ended."""
        detail = f"{session} {code} {reason}".rstrip()
        self._audit.record("disconnected", app=grant.app, who=_who(grant, address), detail=detail)
        self._say(grant.app, "disconnected", session=session, address=address, code=code, reason=reason)

    def refused(self, app: str | None, address: str, where: str, error: SowerError) -> None:
        """Somebody was not let in, or not allowed what they asked for."""
        self._hub.tally.refusals[error.code] += 1
        self._audit.record("refused", app=app, who=address, channel=where, code=error.code, detail=error.message)
        if app is not None:
            self._say(app, "refused", address=address, channel=where, code=error.code, message=error.message)

    def published(self, grant: Grant, publish: Publish, receipt: Receipt) -> None:
        """A message was accepted: counted for the audit, told to the feed."""
        self._audit.published(grant.app, grant.key)
        if self._hub.look(grant.app, FEED) is not None:
            self._say(
                grant.app,
                "published",
                channel=publish.channel,
                name=publish.event,
                serial=str(receipt.serial),
                bytes=len(publish.data),
                user=publish.user or grant.user,
            )

    def kicked(self, grant: Grant, address: str, session: str) -> None:
        """A server ended one connection."""
        self._audit.record("kicked", app=grant.app, who=_who(grant, address), detail=session)
        self._say(grant.app, "kicked", session=session)

    def watched(self, grant: Grant, address: str, session: str) -> None:
        """Somebody looks at a session's frames."""
        self._audit.record("frames_watched", app=grant.app, who=_who(grant, address), detail=session)
        self._say(grant.app, "frames_watched", address=address, session=session)

    def admitted(self, grant: Grant, address: str) -> None:
        """Somebody was let into the dashboard."""
        self._audit.record("dashboard_opened", app=grant.app, who=_who(grant, address))
        self._say(grant.app, "dashboard_opened", address=address)

    def minted(self, grant: Grant, address: str, channel: str, user: str | None) -> None:
        """A token was made over HTTP."""
        detail = f"for {user}" if user else "for nobody in particular"
        self._audit.record("token_minted", app=grant.app, who=_who(grant, address), channel=channel, detail=detail)
        self._say(grant.app, "token_minted", channel=channel, user=user)

    def revoked(self, grant: Grant, address: str, revocation: Revocation) -> None:
        """Tokens were revoked."""
        detail = msgspec.json.encode(revocation).decode()
        self._audit.record("token_revoked", app=grant.app, who=_who(grant, address), detail=detail)
        self._say(grant.app, "token_revoked", by=revocation.by, value=revocation.value)

    def app_added(self, grant: Grant, address: str, app: str) -> None:
        """An app was added. The record is of the app whose secret was shown for it."""
        self._audit.record("app_added", app=grant.app, who=_who(grant, address), detail=app)
        self._say(grant.app, "app_added", added=app)

    def app_removed(self, grant: Grant, address: str, app: str, sessions: int) -> None:
        """An app was removed, and its sessions ended."""
        self._audit.record("app_removed", app=grant.app, who=_who(grant, address), detail=app, count=sessions)
        self._say(grant.app, "app_removed", removed=app, sessions=sessions)

    def failed(self, kind: str, app: str, channel: str, why: str) -> None:
        """A channel was restarted or quarantined."""
        self._audit.record(kind, app=app, channel=channel, detail=why)
        self._say(app, kind.removeprefix("channel_"), channel=channel, reason=why)

    def _followed(self, app: str) -> bool:
        return self._hub.look(app, FEED) is not None

    def _say(self, app: str, event: str, **told: Any) -> None:
        if self._followed(app):
            word = {"time": self._now(), **{name: value for name, value in told.items() if value is not None}}
            self._hub.say(app, FEED, event, _encode(word))


def _who(grant: Grant, address: str) -> str:
    return f"{address} {grant.user}" if grant.user else f"{address} {grant.key}"
