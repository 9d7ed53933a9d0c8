"""PubNub's API: HTTP alone, subscribing by long polls.

A request's keys are a keyset of one app; a channel's timetoken is its serial. Files, App Context and mobile push are
declined, each with an answer that the SDKs can read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from sower.config import App
from sower.dialects.interface import Asked, Dialect, HttpCall, HttpRoute, PollRoute
from sower.dialects.pubnub import access, actions, groups, history, presence, publish, subscribe, words
from sower.dialects.pubnub.keys import Keys, keys_of
from sower.errors import NotSpoken

PRESENCE = "/v2/presence/sub-key/{sub}"
GROUPS = "/v1/channel-registration/sub-key/{sub}/channel-group"
V3 = "/v3/history/sub-key/{sub}"
ACTIONS = "/v1/message-actions/{sub}/channel/{channel}"

DECLINED = (
    "/v1/files/{rest...}",
    "/v1/push/{rest...}",
    "/v2/push/{rest...}",
    "/v2/objects/{rest...}",
    "/v2/auth/{rest...}",
    "/v3/objects/{rest...}",
)
"""Files, mobile push, App Context, and the access manager before tokens."""

METHODS = ("GET", "POST", "PATCH", "DELETE")

Decode = Callable[[Keys, HttpCall], Asked]


def pubnub(apps: Iterable[App]) -> Dialect:
    """The dialect for the keysets of these apps."""
    keys = keys_of(apps)
    routes = [HttpRoute("GET", "/time/0", publish.decode_time, words.refuse_subscribe)]
    for method, pattern, decode, refuse in ROUTES:
        routes.append(HttpRoute(method, pattern, partial(decode, keys), refuse))
    for method in METHODS:
        routes += [HttpRoute(method, pattern, _declined, words.refuse_subscribe) for pattern in DECLINED]
    poll = PollRoute(
        "/v2/subscribe/{sub}/{channels}/0", partial(subscribe.decode_subscribe, keys), words.refuse_subscribe
    )
    return Dialect("pubnub", tuple(routes), (), polls=(poll,))


def _declined(call: HttpCall) -> Asked:
    raise NotSpoken(f"{call.path[:100]!r} is a part of PubNub's API that Sower does not have.")


ROUTES: tuple[tuple[str, str, Decode, words.Refuse], ...] = (
    ("GET", "/publish/{pub}/{sub}/0/{channel}/0/{message...}", publish.decode_publish, words.refuse_publish),
    ("POST", "/publish/{pub}/{sub}/0/{channel}/0", publish.decode_publish, words.refuse_publish),
    ("GET", "/signal/{pub}/{sub}/0/{channel}/0/{message...}", publish.decode_signal, words.refuse_publish),
    ("GET", PRESENCE, presence.decode_here_now_anywhere, words.refuse_presence),
    ("GET", PRESENCE + "/channel/{channels}", presence.decode_here_now, words.refuse_presence),
    ("GET", PRESENCE + "/channel/{channels}/heartbeat", presence.decode_heartbeat, words.refuse_presence),
    ("GET", PRESENCE + "/channel/{channels}/leave", presence.decode_leave, words.refuse_presence),
    ("GET", PRESENCE + "/channel/{channels}/uuid/{user}", presence.decode_get_state, words.refuse_presence),
    ("GET", PRESENCE + "/channel/{channels}/uuid/{user}/data", presence.decode_set_state, words.refuse_presence),
    ("GET", PRESENCE + "/uuid/{user}", presence.decode_where_now, words.refuse_presence),
    ("GET", GROUPS, groups.decode_groups, words.refuse_groups),
    ("GET", GROUPS + "/{group}", groups.decode_group, words.refuse_groups),
    ("GET", GROUPS + "/{group}/remove", groups.decode_delete, words.refuse_groups),
    ("GET", "/v2/history/sub-key/{sub}/channel/{channel}", history.decode_v2, words.refuse_history),
    ("GET", V3 + "/channel/{channel}", history.decode_v3, words.refuse_history),
    ("DELETE", V3 + "/channel/{channel}", history.decode_delete, words.refuse_history),
    ("GET", V3 + "/message-counts/{channels}", history.decode_counts, words.refuse_history),
    (
        "GET",
        "/v3/history-with-actions/sub-key/{sub}/channel/{channel}",
        history.decode_with_actions,
        words.refuse_history,
    ),
    ("POST", "/v3/pam/{sub}/grant", access.decode_grant, words.refuse_access),
    ("DELETE", "/v3/pam/{sub}/grant/{token}", access.decode_revoke, words.refuse_access),
    ("POST", ACTIONS + "/message/{message}", actions.decode_add, words.refuse_history),
    ("GET", ACTIONS, actions.decode_list, words.refuse_history),
    ("DELETE", ACTIONS + "/message/{message}/action/{action}", actions.decode_remove, words.refuse_history),
)
