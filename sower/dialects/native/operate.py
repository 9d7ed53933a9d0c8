"""The native HTTP API for whoever operates the daemon: its sessions, its numbers, its apps, a reload."""

from __future__ import annotations

import re

import msgspec

from sower.core.answer import AddedApp, AppList, AuditPage, HttpAnswer, Identity, Reloaded, SessionList, Stats, Trend
from sower.core.command import (
    AddApp,
    Identify,
    Kick,
    ListApps,
    ListSessions,
    ReadAudit,
    ReadStats,
    ReadTrend,
    Reload,
    RemoveApp,
)
from sower.dialects.interface import HttpCall, HttpRoute, Reply, Wanted
from sower.dialects.native.http import read_limit, signed
from sower.errors import BadJson, BadRequest

_encode = msgspec.json.Encoder().encode
_TIME = re.compile(r"[0-9]{1,12}(\.[0-9]{0,20})?")


@signed
def decode_sessions(call: HttpCall) -> Wanted:
    """GET /sessions?limit=&order=backlog|silence&session=. Raises BadRequest.

    Answers {"sessions": [{"session", "dialect", "user", "address", "state", "backlog", "silent", "channels",
    "subscriptions"}], "count"}; state is awake, asleep or backlogged, backlog in bytes, silent in seconds, channels
    the first ten of them.
    """
    order = call.query.get("order") or "backlog"
    if order not in ("backlog", "silence"):
        raise BadRequest(f"order is backlog or silence, not {order[:20]!r}.")
    limit, one = read_limit(call.query.get("limit") or "100"), call.query.get("session")
    command = ListSessions(limit, by_silence=order == "silence", session=one)
    return Wanted(command, _sessions_reply)


def _sessions_reply(answer: HttpAnswer) -> Reply:
    return Reply(_encode(answer if isinstance(answer, SessionList) else {}))


@signed
def decode_stats(call: HttpCall) -> Wanted:
    """GET /stats.

    Answers {"version", "uptime", "faults", "sessions", "channels", "rates", "totals", "loop_lag", "memory"}; sessions
    by dialect and state, rates of publishes, deliveries, bytes and connects in a second, totals since the start, of
    all apps.
    """
    return Wanted(ReadStats(), _stats_reply)


def _stats_reply(answer: HttpAnswer) -> Reply:
    return Reply(_encode(answer if isinstance(answer, Stats) else {}))


@signed
def decode_kick(call: HttpCall) -> Wanted:
    """DELETE /sessions/{session}. Its client may come back.

    Answers {"kicked": session}.
    """
    session = call.params["session"]

    def reply(_: HttpAnswer) -> Reply:
        return Reply(_encode({"kicked": session}))

    return Wanted(Kick(session), reply)


@signed
def decode_reload(call: HttpCall) -> Wanted:
    """POST /reload. Reads the config anew, as SIGHUP does.

    Answers {"taken", "waiting"}: the settings that are in force now, and those that need a restart; bad_config where
    the config is wrong, and then the one from before stays in force.
    """
    return Wanted(Reload(), _reloaded_reply)


def _reloaded_reply(answer: HttpAnswer) -> Reply:
    return Reply(_encode(answer if isinstance(answer, Reloaded) else {}))


@signed
def decode_trend(call: HttpCall) -> Wanted:
    """GET /trend.

    Answers {"every", "publishes", "deliveries"}: rates in a second over the last quarter of an hour, the oldest first,
    one for each `every` seconds.
    """
    return Wanted(ReadTrend(), _trend_reply)


def _trend_reply(answer: HttpAnswer) -> Reply:
    return Reply(_encode(answer if isinstance(answer, Trend) else {}))


@signed
def decode_audit(call: HttpCall) -> Wanted:
    """GET /audit?kind=&before=&limit=. Raises BadRequest.

    Answers {"records": [{"time", "kind", "app", "who", "channel", "code", "detail", "count"}]}, the newest first; kind
    may name several with commas, before is a time in seconds since 1970. Of a cluster each record has its "node", and
    "silent" lists those that did not answer.
    """
    before = call.query.get("before") or ""
    if before and not _TIME.fullmatch(before):  # float() reads nan, which is neither before nor after anything
        raise BadRequest(f"before is a time in seconds since 1970, not {before[:20]!r}.")
    kinds = tuple(filter(None, call.query.get("kind", "").split(",")))
    command = ReadAudit(kinds, float(before) if before else None, read_limit(call.query.get("limit") or "100"))
    return Wanted(command, _audit_reply)


def _audit_reply(answer: HttpAnswer) -> Reply:
    return Reply(_encode(answer if isinstance(answer, AuditPage) else {}))


@signed
def decode_identity(call: HttpCall) -> Wanted:
    """GET /identity.

    Answers {"app", "key", "expires", "others"}: whose credential this is; expires in seconds since 1970, or null;
    others are the keys that clients of other protocols show: ably, publish, subscribe.
    """
    return Wanted(Identify(), _identity_reply)


def _identity_reply(answer: HttpAnswer) -> Reply:
    return Reply(_encode(answer if isinstance(answer, Identity) else {}))


class _App(msgspec.Struct, forbid_unknown_fields=True):
    """ably: what each further Ably key allows, resource -> operations."""

    id: str | None = None
    ably: tuple[dict[str, tuple[str, ...]], ...] = ()


_decode_app = msgspec.json.Decoder(_App).decode


@signed
def decode_add_app(call: HttpCall) -> Wanted:
    """POST /apps. Adds an app while the daemon runs; `{"id": opt, "ably": [capability, ...]}`. Raises BadJson.

    Answers {"id", "key", "secret", "ably": [{"key", "capability"}]}: the first Ably key allows everything, the others
    what was asked for. Secrets are told this once.
    """
    try:
        body = _decode_app(call.body or b"{}")
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadJson(f"The body is not what this route takes: {error}.") from error
    command = AddApp(body.id, body.ably)
    return Wanted(command, _added_reply)


def _added_reply(answer: HttpAnswer) -> Reply:
    return Reply(_encode(answer if isinstance(answer, AddedApp) else {}))


@signed
def decode_apps(call: HttpCall) -> Wanted:
    """GET /apps.

    Answers {"apps": [{"id", "key", "added", "connections"}]}, the config's own first.
    """
    return Wanted(ListApps(), _apps_reply)


def _apps_reply(answer: HttpAnswer) -> Reply:
    return Reply(_encode(answer if isinstance(answer, AppList) else {}))


@signed
def decode_remove_app(call: HttpCall) -> Wanted:
    """DELETE /apps/{app}. Removes an app that was added, and ends its clients.

    Answers {"removed": app}.
    """
    app = call.params["app"]

    def reply(_: HttpAnswer) -> Reply:
        return Reply(_encode({"removed": app}))

    return Wanted(RemoveApp(app), reply)


OPERATOR_ROUTES = (
    HttpRoute("GET", "/sessions", decode_sessions),
    HttpRoute("DELETE", "/sessions/{session}", decode_kick),
    HttpRoute("GET", "/stats", decode_stats),
    HttpRoute("POST", "/reload", decode_reload),
    HttpRoute("GET", "/trend", decode_trend),
    HttpRoute("GET", "/audit", decode_audit),
    HttpRoute("GET", "/identity", decode_identity),
    HttpRoute("POST", "/apps", decode_add_app),
    HttpRoute("GET", "/apps", decode_apps),
    HttpRoute("DELETE", "/apps/{app}", decode_remove_app),
)
