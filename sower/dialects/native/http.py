"""The native HTTP API: publish, mint, presence, history, channels. Requests into commands, answers into JSON."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import quote

import msgspec

from sower.core.answer import ChannelList, HistoryPage, HttpAnswer, Members, Minted, Published
from sower.core.command import Complain, ListChannels, Mint, Publish, PublishAll, ReadHistory, ReadPresence
from sower.core.message import Position, check_channel_name, check_count, check_event_name
from sower.dialects.interface import Asked, HttpCall, HttpRoute, Reply, Wanted
from sower.dialects.native.credentials import check_user, read_credentials
from sower.dialects.native.socket import MAX_ID
from sower.dialects.native.words import event_frame
from sower.errors import BadJson, BadRequest, SowerError

MAX_PAGE = 1000
"""Events in a page of history. Ably: 1000."""

MAX_CHANNELS = 10_000
"""Channels in a list: some milliseconds of work."""

MAX_TTL = 30 * 86400.0
"""Seconds. PubNub's grants end after 30 days, Ably's tokens after one."""

_encode = msgspec.json.Encoder().encode
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class _Event(msgspec.Struct, forbid_unknown_fields=True):
    event: str | None = None
    channel: str | None = None
    channels: list[str] | None = None
    data: msgspec.Raw = msgspec.Raw(b"null")
    id: str | None = None
    user: str | None = None
    exclude: str | None = None
    events: list[_Event] | None = None


class _Auth(msgspec.Struct, forbid_unknown_fields=True):
    user: str | None = None
    ttl: str | float = 3600.0
    can: list[str] | None = None
    meta: Any = None


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_auth = msgspec.json.Decoder(_Auth).decode


def signed(read: Callable[[HttpCall], Wanted]) -> Callable[[HttpCall], Asked]:
    """How a request is decoded. What is wrong with it, those alone are told whose credentials are right."""

    @wraps(read)
    def decode(call: HttpCall) -> Asked:
        credentials = read_credentials(call.headers, call.query)
        try:
            wanted = read(call)
        except SowerError as error:
            wanted = Wanted(Complain(error), _nothing)
        return Asked(credentials, wanted.command, wanted.encode)

    return decode


def _nothing(answer: HttpAnswer) -> Reply:
    return Reply(b"{}")


@signed
def decode_publish(call: HttpCall) -> Wanted:
    """POST /events/publish. Raises BadJson, BadChannelName, BadEvent, BadRequest.

    Answers {"published": [{"channel", "serial"}]}, in the order of the request.
    """
    body = _read(call.body, _decode_event)
    check_count(sum(map(_count, body.events or (body,))))
    if body.events is None:
        publishes = _publishes(body)
    elif body.channel is None and body.channels is None and body.event is None:
        publishes = tuple(publish for event in body.events for publish in _publishes(event))
    else:
        raise BadRequest("`events` stands alone: its entries name their channels and events.")
    if not publishes:
        raise BadRequest("There is nothing to publish: `events` or `channels` is empty.")
    return Wanted(PublishAll(publishes), _published_reply)


def _count(event: _Event) -> int:
    return 1 if event.channels is None else len(event.channels)


def _publishes(body: _Event) -> tuple[Publish, ...]:
    if body.event is None or (body.channel is None) == (body.channels is None) or body.events is not None:
        raise BadRequest("Each event needs `event`, and either `channel` or `channels`.")
    if body.id is not None and not 0 < len(body.id) <= MAX_ID:
        raise BadRequest(f"An id has 1 to {MAX_ID} characters, this one {len(body.id)}.")
    event = check_event_name(body.event)
    user = check_user(body.user) if body.user is not None else None
    data = bytes(body.data)
    channels = [body.channel] if body.channels is None else body.channels
    return tuple(
        Publish(check_channel_name(channel or ""), event, data, user=user, id=body.id, exclude=body.exclude)
        for channel in channels
    )


def _published_reply(answer: HttpAnswer) -> Reply:
    receipts = answer.receipts if isinstance(answer, Published) else ()
    return Reply(_encode({"published": [{"channel": r.channel, "serial": str(r.serial)} for r in receipts]}))


@signed
def decode_auth(call: HttpCall) -> Wanted:
    """POST /channels/{channel}/auth. Raises BadJson, BadChannelName, BadRequest.

    Answers {"channel", "token", "expires"}; expires in seconds since 1970.
    """
    body = _read(call.body or b"{}", _decode_auth)
    channel = check_channel_name(call.params["channel"])
    user = check_user(body.user) if body.user is not None else None
    can = tuple(body.can) if body.can is not None else None
    command = Mint(channel, user, _ttl(body.ttl), can, body.meta)
    return Wanted(command, _minted_reply)


def _ttl(given: str | float) -> float:
    if isinstance(given, str):
        number, unit = given[:-1], given[-1:]
        is_number = number.isascii() and number.isdecimal() and len(number) < 10
        seconds = float(number) * _SECONDS[unit] if is_number and unit in _SECONDS else 0.0
    else:
        seconds = given
    if not 0 < seconds <= MAX_TTL:
        raise BadRequest(
            f'ttl is seconds or a text such as "1h", above 0 and at most 30d; this is {str(given)[:20]!r}.'
        )
    return seconds


def _minted_reply(answer: HttpAnswer) -> Reply:
    if not isinstance(answer, Minted):
        return Reply(b"{}")
    return Reply(_encode({"channel": answer.channel, "token": answer.token, "expires": int(answer.expires)}))


@signed
def decode_presence(call: HttpCall) -> Wanted:
    """GET /presence/{channel}. Raises BadChannelName.

    Answers {"channel", "members": [{"user", "meta", "connections"}], "count"}.
    """
    command = ReadPresence(check_channel_name(call.params["channel"]))
    return Wanted(command, _members_reply)


def _members_reply(answer: HttpAnswer) -> Reply:
    if not isinstance(answer, Members):
        return Reply(b"{}")
    members = [{"user": m.user, "meta": msgspec.Raw(m.meta), "connections": m.connections} for m in answer.members]
    return Reply(_encode({"channel": answer.channel, "members": members, "count": len(members)}))


@signed
def decode_history(call: HttpCall) -> Wanted:
    """GET /history/{channel}?since=&before=&limit=&order=. Raises BadChannelName, BadPosition, BadRequest.

    Answers {"channel", "position", "events", "gap", "next"}; next is the path of the next page, or null.
    """
    query = call.query
    order = query.get("order") or "asc"
    if order not in ("asc", "desc"):
        raise BadRequest(f"order is asc or desc, not {order[:20]!r}.")
    command = ReadHistory(
        check_channel_name(call.params["channel"]),
        since=Position.parse(query["since"]) if query.get("since") else None,
        before=Position.parse(query["before"]) if query.get("before") else None,
        limit=read_limit(query.get("limit") or "100"),
        newest_first=order == "desc",
    )
    return Wanted(command, _history_reply)


def _history_reply(answer: HttpAnswer) -> Reply:
    if not isinstance(answer, HistoryPage):
        return Reply(b"{}")
    asked = answer.asked
    following = None
    if answer.next is not None:
        bounds = {"since": asked.since, "before": asked.before}
        bounds["before" if asked.newest_first else "since"] = Position(answer.position.epoch, answer.next)
        limits = "".join(f"&{name}={bound}" for name, bound in bounds.items() if bound is not None)
        order = "desc" if asked.newest_first else "asc"
        following = f"/history/{quote(asked.channel, safe='')}?limit={asked.limit}&order={order}{limits}"
    page = {
        "channel": asked.channel,
        "position": str(answer.position),
        "events": [event_frame(message) for message in answer.messages],
        "gap": answer.gap,
        "next": following,
    }
    return Reply(_encode(page))


@signed
def decode_channels(call: HttpCall) -> Wanted:
    """GET /channels?prefix=&limit=. Raises BadRequest.

    Answers {"channels": [{"channel", "subscribers", "published", "members"?}], "count"}; published since it woke.
    """
    command = ListChannels(call.query.get("prefix", ""), read_limit(call.query.get("limit") or "1000", MAX_CHANNELS))
    return Wanted(command, _channels_reply)


def _channels_reply(answer: HttpAnswer) -> Reply:
    channels: list[dict[str, object]] = []
    for channel in answer.channels if isinstance(answer, ChannelList) else ():
        row: dict[str, object] = {
            "channel": channel.channel,
            "subscribers": channel.subscribers,
            "published": channel.published,
        }
        if channel.members is not None:
            row["members"] = channel.members
        channels.append(row)
    return Reply(_encode({"channels": channels, "count": len(channels)}))


def read_limit(given: str, most: int = MAX_PAGE) -> int:
    """How many rows a list may have. Raises BadRequest."""
    limit = int(given) if given.isascii() and given.isdecimal() and len(given) < 6 else 0
    if not 1 <= limit <= most:
        raise BadRequest(f"limit is a number from 1 to {most}, not {given[:20]!r}.")
    return limit


def _read(body: bytes, decode: Any) -> Any:
    """A body as text first: what is passed on verbatim is not looked into, and must be UTF-8 all the same."""
    try:
        return decode(body.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJson(f"The body cannot be read: {error}.") from error


HTTP_ROUTES = (
    HttpRoute("POST", "/events/publish", decode_publish),
    HttpRoute("POST", "/channels/{channel}/auth", decode_auth),
    HttpRoute("GET", "/presence/{channel}", decode_presence),
    HttpRoute("GET", "/history/{channel}", decode_history),
    HttpRoute("GET", "/channels", decode_channels),
)
