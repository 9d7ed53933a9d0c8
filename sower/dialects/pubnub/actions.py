"""Message actions, under `/v1/message-actions/{sub}/channel/{channel}`: reactions to a message, each told live."""

from __future__ import annotations

from functools import partial

import msgspec

from sower.core.polling import React, Reaction, Reactions, ReadReactions
from sower.dialects.interface import Asked, HttpCall, Reply
from sower.dialects.pubnub.asking import (
    FOREVER,
    known_user,
    number,
    one_channel,
    read_body,
    read_credentials,
    timetoken,
)
from sower.dialects.pubnub.history import MOST
from sower.dialects.pubnub.keys import Keys
from sower.dialects.pubnub.words import encode, say
from sower.errors import BadJson, BadRequest

MAX_TYPE, MAX_VALUE = 15, 38
"""Characters of a type and of a value, PubNub's limits."""


class _Action(msgspec.Struct):
    type: str
    value: str


_read = msgspec.json.Decoder(_Action).decode


def decode_add(keys: Keys, call: HttpCall) -> Asked:
    """POST /message/{timetoken}. Answers the action. Raises BadJson, BadRequest."""
    try:
        action = _read(read_body(call))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJson(f"The body is an object of type and value: {error}.") from error
    if not 0 < len(action.type) <= MAX_TYPE or not 0 < len(action.value) <= MAX_VALUE:
        raise BadRequest(f"An action's type has 1 to {MAX_TYPE} characters, its value 1 to {MAX_VALUE}.")
    command = React(one_channel(call), _serial(call, "message"), known_user(call), _told, action.type, action.value)
    return Asked(read_credentials(keys, call), command, _added_reply)


def _added_reply(answer: Reactions) -> Reply:
    return say({"status": 200, "data": _shown(answer.reactions[0])})


def decode_remove(keys: Keys, call: HttpCall) -> Asked:
    """DELETE /message/{timetoken}/action/{timetoken}."""
    at = _serial(call, "action")
    command = React(one_channel(call), _serial(call, "message"), known_user(call), _told, at=at)
    return Asked(read_credentials(keys, call), command, _removed_reply)


def _removed_reply(answer: object) -> Reply:
    return say({"status": 200, "data": {}})


def decode_list(keys: Keys, call: HttpCall) -> Asked:
    """GET: the newest actions between end (inclusive) and start (exclusive), oldest first."""
    start, end = timetoken(call, "start"), timetoken(call, "end")
    limit = number(call, "limit", MOST, 1, MOST)
    before = start if start is not None else FOREVER
    command = ReadReactions(one_channel(call), end - 1 if end else 0, before, limit)
    return Asked(read_credentials(keys, call), command, partial(_list_reply, call))


def _list_reply(call: HttpCall, answer: Reactions) -> Reply:
    said: dict[str, object] = {"status": 200, "data": [_shown(reaction) for reaction in answer.reactions]}
    if answer.more:
        start, end = str(answer.reactions[0].at), call.query.get("end", "")
        url = f"{call.path}?start={start}" + (f"&end={end}" if end else "")
        said["more"] = {"url": url, "start": start, "end": end, "limit": len(answer.reactions)}
    return say(said)


def _shown(r: Reaction) -> dict[str, str]:
    return {
        "type": r.kind,
        "value": r.value,
        "uuid": r.user,
        "actionTimetoken": str(r.at),
        "messageTimetoken": str(r.message),
    }


def _told(reaction: Reaction, added: bool) -> bytes:
    """What subscribers get of it."""
    shown = _shown(reaction)
    del shown["uuid"]
    event = "added" if added else "removed"
    return encode({"source": "actions", "version": "1.0", "event": event, "data": shown})


def _serial(call: HttpCall, name: str) -> int:
    given = call.params[name]
    if not (given.isascii() and given.isdecimal() and len(given) <= 17):
        raise BadRequest(f"{given[:20]!r} is no timetoken.")
    return int(given)
