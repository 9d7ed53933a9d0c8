"""time, publish, signal and fire: `/publish/{pub}/{sub}/0/{channel}/0/{json}` and its kin.

A message's custom type is its event's name in the core; its meta travels in `extra`, and a signal says there that it
is one.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sower.core.answer import Published
from sower.core.command import Publish, PublishAll
from sower.core.message import DEEPEST, is_shallow
from sower.core.polling import Clock, ReadClock
from sower.dialects.interface import Asked, HttpCall, Reply
from sower.dialects.pubnub.asking import decode, flag, one_channel, read_body, read_credentials, read_user
from sower.dialects.pubnub.keys import Keys
from sower.dialects.pubnub.words import encode, say
from sower.errors import BadJson, BadRequest, MessageTooLarge

MESSAGE, SIGNAL = "message", "signal"
"""The events of messages and signals that have no type of their own."""

MAX_SIGNAL = 64
"""Bytes of a signal's JSON, PubNub's limit."""

CUSTOM_TYPE = re.compile("[A-Za-z0-9_-]{3,50}")
"""What may be a custom message type (PubNub's "Messages", Custom Message Type)."""

_read_json = msgspec.json.Decoder(msgspec.Raw).decode
_read_object = msgspec.json.Decoder(dict[str, Any]).decode


def decode_time(call: HttpCall) -> Asked:
    """GET /time/0. Answers [now]; nobody needs to show anything."""
    return Asked(None, ReadClock(), _time_reply)


def _time_reply(answer: Clock) -> Reply:
    return say([answer.serial])


def decode_publish(keys: Keys, call: HttpCall) -> Asked:
    """GET with the message in the path, or POST with it in the body, deflated or not.

    Answers [1, "Sent", timetoken]. Raises BadJson, BadChannelName, BadRequest, MessageTooLarge.
    """
    data = read_body(call) if call.method == "POST" else _in_path(call)
    meta = call.query.get("meta")
    publish = Publish(
        one_channel(call),
        _custom_type(call) or MESSAGE,
        _json(data),
        user=read_user(call),
        extra=_extra(meta) if meta else None,
        stored=call.query.get("store") != "0",
        told=not flag(call, "norep"),
    )
    return Asked(read_credentials(keys, call), PublishAll((publish,)), _published_reply)


def decode_signal(keys: Keys, call: HttpCall) -> Asked:
    """GET /signal/...: a small message that is never stored. Answers and raises as decode_publish."""
    data = _in_path(call)
    if len(data) > MAX_SIGNAL:
        raise MessageTooLarge(f"A signal has at most {MAX_SIGNAL} bytes of JSON, this one {len(data)}.")
    kind = _custom_type(call) or SIGNAL
    publish = Publish(
        one_channel(call), kind, _json(data), user=read_user(call), extra=b'{"kind":"signal"}', stored=False
    )
    return Asked(read_credentials(keys, call), PublishAll((publish,)), _published_reply)


def _published_reply(answer: Published) -> Reply:
    return say([1, "Sent", str(answer.receipts[0].serial)])


def _in_path(call: HttpCall) -> bytes:
    """The message is all that follows the callback's segment: one segment as the SDKs write it."""
    return decode(call.path.split("/", 7)[7]).encode()


def _json(data: bytes) -> bytes:
    try:
        _read_json(data)
        data.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJson(f"Invalid JSON: {error}.") from error
    return data


def _extra(meta: str) -> bytes | None:
    """Only an object says something: the SDKs send it as it was given to them."""
    try:
        said = _read_object(meta)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadJson(f"meta is not a JSON object: {error}.") from error
    if not is_shallow(said):
        raise BadJson(f"meta is nested {DEEPEST} levels deep at most.")
    return encode({"meta": msgspec.Raw(meta.encode())})


def _custom_type(call: HttpCall) -> str | None:
    given = call.query.get("custom_message_type")
    if given and not CUSTOM_TYPE.fullmatch(given):
        raise BadRequest("A custom message type has 3 to 50 letters, digits, dashes and underscores.")
    return given or None
