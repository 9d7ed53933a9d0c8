"""What an operator asks for: to look at the daemon, to end a connection, to reload, or to be let into the dashboard."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from sower.access import Access
from sower.activity import Activity
from sower.clients import Clients
from sower.core.answer import Acknowledged, AuditPage, HttpAnswer, Identity, Minted, Reloaded
from sower.core.command import Admit, Kick, ListSessions, OperatorCommand, ReadAudit, ReadStats, ReadTrend, Reload
from sower.core.grants import Grant, mint
from sower.dialects.ably.keys import key_names
from sower.dialects.pubnub.keys import publish_key, subscribe_key
from sower.errors import Forbidden, Kicked, NotFound
from sower.overview import Overview
from sower.store.audit import Audit


class Operations:
    """now: seconds since 1970."""

    def __init__(
        self,
        access: Access,
        clients: Clients,
        activity: Activity,
        audit: Audit,
        overview: Overview,
        reload: Callable[[], Reloaded],
        *,
        now: Callable[[], float],
    ) -> None:
        self._access = access
        self._clients = clients
        self._activity = activity
        self._audit = audit
        self._overview = overview
        self._reload = reload
        self._now = now

    def perform(
        self, grant: Grant, address: str, command: OperatorCommand
    ) -> HttpAnswer | Coroutine[Any, Any, HttpAnswer]:
        """Do what an operator asks. Raises Forbidden at once, SowerError when awaited."""
        if not grant.server:
            raise Forbidden("Only a server (Basic key:secret) may look at the daemon.")
        if isinstance(command, ListSessions):
            return self._overview.sessions(grant.app, command)
        if isinstance(command, ReadStats):
            return self._overview.stats()
        if isinstance(command, ReadTrend):
            return self._overview.trend()
        if isinstance(command, ReadAudit):
            return self._read_audit(grant, command)
        if isinstance(command, Kick):
            return self._kick(grant, address, command)
        if isinstance(command, Reload):
            return self._read_config()
        if isinstance(command, Admit):
            return self._admit(grant, address, command)
        return self._identify(grant)

    async def _read_audit(self, grant: Grant, command: ReadAudit) -> AuditPage:
        records = await self._audit.recent(
            app=grant.app, kinds=command.kinds, before=command.before, limit=command.limit
        )
        return AuditPage(tuple(records))

    def _kick(self, grant: Grant, address: str, command: Kick) -> Acknowledged:
        session = self._clients.find(command.session)
        if session is None or session.grant.app != grant.app:
            raise NotFound(f"No session {command.session[:64]!r} of this app is connected.")
        session.end(Kicked())
        self._activity.kicked(grant, address, command.session)
        return Acknowledged()

    def _read_config(self) -> Reloaded:
        return self._reload()

    def _admit(self, grant: Grant, address: str, command: Admit) -> Minted:
        """Who came with such a token gets none that lasts longer."""
        now = self._now()
        expires = now + command.ttl if grant.expires is None else min(now + command.ttl, grant.expires)
        token = mint(
            self._access.credential(grant.key),
            channels={},
            user=None,
            issued=now,
            expires=expires,
            token_id=secrets.token_hex(8),
            admin=True,
        )
        self._activity.admitted(grant, address)
        return Minted("", token, expires)

    def _identify(self, grant: Grant) -> Identity:
        app = self._access.apps[grant.app]
        others = {"ably": key_names(app)[0], "publish": publish_key(app), "subscribe": subscribe_key(app)}
        return Identity(app.id, app.key, grant.expires, others)
