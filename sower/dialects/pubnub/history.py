"""History v2 and v3, message counts, and deleting. `start` is exclusive and `end` inclusive wherever both occur."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import msgspec

from sower.core.answer import HistoryPage
from sower.core.command import ReadHistory
from sower.core.message import Message, Position, check_channel_name
from sower.core.polling import (
    CountMessages,
    Counts,
    DeleteHistory,
    Histories,
    Reacted,
    Reaction,
    ReadHistories,
    ReadReacted,
)
from sower.dialects.interface import Asked, HttpCall, Reply
from sower.dialects.pubnub.asking import (
    FOREVER,
    flag,
    number,
    one_channel,
    read_credentials,
    read_list,
    read_timetoken,
    timetoken,
)
from sower.dialects.pubnub.envelopes import custom_type, payload, read_extra
from sower.dialects.pubnub.keys import Keys
from sower.dialects.pubnub.words import say
from sower.errors import BadRequest

MOST, MOST_OF_SEVERAL = 100, 25
"""Messages in a page of one channel, and of each of several; also of one with its actions (PubNub's limits)."""

MOST_CHANNELS = 500

MESSAGE_TYPES = {"signal": 1, "action": 3}


class _Item(msgspec.Struct, omit_defaults=True):
    message: msgspec.Raw
    timetoken: Any = None
    meta: Any = None


def decode_v2(keys: Keys, call: HttpCall) -> Asked:
    """GET /v2/history/sub-key/{sub}/channel/{channel}. Answers [[items], oldest, newest], oldest first."""
    start, end = timetoken(call, "start"), timetoken(call, "end")
    limit = number(call, "count", MOST, 1, MOST)
    reverse = flag(call, "reverse")
    if reverse:
        since, before = start or 0, end + 1 if end is not None else FOREVER
    else:
        since, before = end - 1 if end else 0, start if start is not None else FOREVER
    channel = check_channel_name(call.params["channel"])
    asked = _asked(channel, since, before, limit, newest_first=not reverse)
    return Asked(read_credentials(keys, call), ReadHistories((asked,)), partial(_v2_reply, call))


def _v2_reply(call: HttpCall, answer: Histories) -> Reply:
    messages = _oldest_first(answer.pages[0]) if answer.pages else []
    with_token, with_meta = flag(call, "include_token"), flag(call, "include_meta")
    as_text = flag(call, "string_message_token")
    items: list[object] = []
    for message in messages:
        if not (with_token or with_meta):
            items.append(payload(message))
            continue
        token = (str(message.serial) if as_text else message.serial) if with_token else None
        items.append(_Item(payload(message), token, _meta(message) if with_meta else None))
    oldest, newest = (messages[0].serial, messages[-1].serial) if messages else (0, 0)
    return say([items, oldest, newest])


def decode_v3(keys: Keys, call: HttpCall) -> Asked:
    """GET /v3/history/sub-key/{sub}/channel/{channels}. Answers {"channels": {name: [items]}}, oldest first."""
    channels = _channels(call)
    most = MOST if len(channels) == 1 else MOST_OF_SEVERAL
    limit = number(call, "max", most, 1, most)
    asked = ReadHistories(tuple(_range_of(call, channel, limit) for channel in channels))
    return Asked(read_credentials(keys, call), asked, partial(_v3_reply, call))


def decode_with_actions(keys: Keys, call: HttpCall) -> Asked:
    """GET /v3/history-with-actions/...: of one channel, each message with the actions on it."""
    channels = _channels(call)
    if len(channels) != 1:
        raise BadRequest("History with actions is of one channel at a time.")
    limit = number(call, "max", MOST_OF_SEVERAL, 1, MOST_OF_SEVERAL)
    asked = ReadReacted(_range_of(call, channels[0], limit))
    return Asked(read_credentials(keys, call), asked, partial(_reacted_reply, call))


def _range_of(call: HttpCall, channel: str, limit: int) -> ReadHistory:
    start, end = timetoken(call, "start"), timetoken(call, "end")
    since = end - 1 if end else 0
    return _asked(channel, since, start if start is not None else FOREVER, limit, newest_first=True)


def _asked(channel: str, since: int, before: int, limit: int, *, newest_first: bool) -> ReadHistory:
    return ReadHistory(channel, Position("", max(since, 0)), Position("", before), limit, newest_first)


def _v3_reply(call: HttpCall, answer: Histories) -> Reply:
    channels = {page.asked.channel: [_item(call, m) for m in _oldest_first(page)] for page in answer.pages}
    return _said({name: items for name, items in channels.items() if items})


def _reacted_reply(call: HttpCall, answer: Reacted) -> Reply:
    items: list[dict[str, object]] = []
    for message in _oldest_first(answer.page):
        item = _item(call, message)
        actions = _grouped(r for r in answer.reactions if r.message == message.serial)
        items.append({**item, "actions": actions} if actions else item)
    return _said({answer.page.asked.channel: items} if items else {})


def _said(channels: object) -> Reply:
    return say({"status": 200, "error": False, "error_message": "", "channels": channels})


def _grouped(reactions: Iterator[Reaction]) -> dict[str, dict[str, list[dict[str, str]]]]:
    """type -> value -> who did it when."""
    actions: dict[str, dict[str, list[dict[str, str]]]] = {}
    for r in reactions:
        actions.setdefault(r.kind, {}).setdefault(r.value, []).append({"uuid": r.user, "actionTimetoken": str(r.at)})
    return actions


def _item(call: HttpCall, message: Message) -> dict[str, object]:
    item: dict[str, object] = {"message": payload(message), "timetoken": str(message.serial)}
    if flag(call, "include_meta"):
        item["meta"] = _meta(message)
    if flag(call, "include_uuid"):
        item["uuid"] = message.user or ""
    if flag(call, "include_message_type"):
        item["message_type"] = MESSAGE_TYPES.get(str(read_extra(message).get("kind")))
    if flag(call, "include_custom_message_type") and (custom := custom_type(message)) is not None:
        item["custom_message_type"] = custom
    return item


def _meta(message: Message) -> object:
    meta = read_extra(message).get("meta")
    return "" if meta is None else meta


def _oldest_first(page: HistoryPage) -> list[Message]:
    return list(page.messages[::-1] if page.asked.newest_first else page.messages)


def _channels(call: HttpCall) -> tuple[str, ...]:
    channels = read_list(call, -1)
    if not 0 < len(channels) <= MOST_CHANNELS:
        raise BadRequest(f"The request names {len(channels)} channels; 1 to {MOST_CHANNELS} are read.")
    return channels


def decode_counts(keys: Keys, call: HttpCall) -> Asked:
    """GET /v3/history/sub-key/{sub}/message-counts/{channels}. Answers {"channels": {name: count}}."""
    channels = _channels(call)
    one = timetoken(call, "timetoken")
    several = call.query.get("channelsTimetoken", "")
    if several:
        tokens = [read_timetoken("channelsTimetoken", token) for token in several.split(",")]
        if len(tokens) == 1:
            tokens *= len(channels)
        if len(tokens) != len(channels):
            raise BadRequest("channelsTimetoken has one timetoken for each channel.")
    elif one is not None:
        tokens = [one] * len(channels)
    else:
        raise BadRequest("timetoken or channelsTimetoken says from when on messages are counted.")
    command = CountMessages(tuple(zip(channels, tokens, strict=True)))
    return Asked(read_credentials(keys, call), command, _counts_reply)


def _counts_reply(answer: Counts) -> Reply:
    return _said(dict(answer.counts))


def decode_delete(keys: Keys, call: HttpCall) -> Asked:
    """DELETE /v3/history/sub-key/{sub}/channel/{channel}?start=&end=. For whoever signs, or whose token has delete.

    Neither: all. start alone: what is older. end alone: end and what is newer. Both: what is between, and end itself.
    """
    start, end = timetoken(call, "start"), timetoken(call, "end")
    if start is not None and end is not None:
        since, before = (end - 1, start) if end < start else (start, end + 1)
        since, before = (0, 0) if start == end else (since, before)
    else:
        since, before = end - 1 if end else 0, start if start is not None else FOREVER
    command = DeleteHistory(one_channel(call), max(since, 0), before)
    return Asked(read_credentials(keys, call), command, _deleted_reply)


def _deleted_reply(answer: object) -> Reply:
    return say({"status": 200, "error": False, "error_message": ""})
