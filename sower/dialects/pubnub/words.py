"""How PubNub's API answers, and how it says each error (the SDKs read the status first, then the body).

Rule 1: every answer is JSON that calls itself JavaScript, errors included: no SDK copes with anything else.
Rule 2: a credential that is missing, wrong or not enough is 403; 401 is not known there.
Rule 3: 400, 403 and 404 end a client's loop for good, so nothing that passes by itself is told with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from sower.dialects.interface import HttpCall, Reply
from sower.errors import (
    BadGrant,
    BadRequest,
    Forbidden,
    HistoryOff,
    NamesForbidden,
    NotAuthorised,
    PresenceOff,
    SowerError,
    TokenExpired,
    TokenRevoked,
    TooLarge,
    UnknownKey,
)

JAVASCRIPT = (("Content-Type", 'text/javascript; charset="UTF-8"'),)
"""The SDKs look for `javascript` or `json` in it."""

encode = msgspec.json.Encoder().encode

NOT_ABOUT_ACCESS = (UnknownKey, HistoryOff, PresenceOff)
"""What is told in the words of the service that was asked."""

Refuse = Callable[[HttpCall, SowerError], Reply]


def say(value: object, status: int = 200) -> Reply:
    """An answer in JSON."""
    return Reply(encode(value), status, JAVASCRIPT)


def status_of(error: SowerError) -> int:
    """The HTTP status with which the SDKs do what the error is meant to make them do."""
    if isinstance(error, UnknownKey):
        return 400
    return 403 if isinstance(error, NotAuthorised) else error.status


def _refused(shape: Callable[[HttpCall, SowerError, int], object]) -> Refuse:
    def refuse(call: HttpCall, error: SowerError) -> Reply:
        status = status_of(error)
        denied = isinstance(error, NotAuthorised | Forbidden) and not isinstance(error, NOT_ABOUT_ACCESS)
        body = _denied(call, error) if denied else shape(call, error, status)
        more = (("Retry-After", str(math.ceil(error.retry_after or 1))),) if status in (429, 503) else ()
        return Reply(encode(body), status, JAVASCRIPT + more)

    return refuse


def _denied(call: HttpCall, error: SowerError) -> Mapping[str, object]:
    """Access Manager's shape. Channels and groups that are not allowed are named."""
    body: dict[str, object] = {"message": "Forbidden", "error": True, "service": "Access Manager", "status": 403}
    if isinstance(error, TokenRevoked):
        body["message"] = "Token is revoked"
    elif isinstance(error, TokenExpired):
        body["message"] = "Token is expired."
    elif isinstance(error, NamesForbidden):
        payload: dict[str, object] = {"channels": list(error.channels)} if error.channels else {}
        if error.groups:
            payload["channel-groups"] = list(error.groups)
        body["payload"] = payload
    elif "channel" in call.params:
        body["payload"] = {"channels": [call.params["channel"]]}
    body["details"] = error.message
    return body


def _of_publish(call: HttpCall, error: SowerError, status: int) -> object:
    said = error.message
    if isinstance(error, UnknownKey):
        said = "Invalid Key"
    elif isinstance(error, TooLarge):
        said = f"Message Too Large: {error.message}"
    return [0, said, "0"]


def _of_service(service: str) -> Callable[[HttpCall, SowerError, int], object]:
    def shape(call: HttpCall, error: SowerError, status: int) -> object:
        said = "Invalid Subscribe Key" if isinstance(error, UnknownKey) else error.message
        return {"status": status, "error": 1, "message": said, "service": service}

    return shape


def _of_subscribe(call: HttpCall, error: SowerError, status: int) -> object:
    said = "Invalid Subscribe Key" if isinstance(error, UnknownKey) else error.message
    return {"status": status, "error": True, "message": said, "service": "Balancer"}


def _of_history(call: HttpCall, error: SowerError, status: int) -> object:
    said = "Invalid Subscribe Key" if isinstance(error, UnknownKey) else error.message
    return {"status": status, "error": True, "error_message": said, "channels": {}}


def _of_access(call: HttpCall, error: SowerError, status: int) -> object:
    shape: dict[str, Any] = {"message": error.message, "source": "grant"}
    if isinstance(error, BadGrant):
        shape = {
            "message": f"Invalid {error.where}",
            "source": "grant",
            "details": [{"message": error.message, "location": error.where, "locationType": "body"}],
        }
    elif isinstance(error, BadRequest):
        shape["details"] = [{"message": error.message, "location": "request", "locationType": "path"}]
    return {"error": shape, "service": "Access Manager", "status": status}


refuse_publish = _refused(_of_publish)
refuse_subscribe = _refused(_of_subscribe)
refuse_presence = _refused(_of_service("Presence"))
refuse_groups = _refused(_of_service("channel-registry"))
refuse_history = _refused(_of_history)
refuse_access = _refused(_of_access)
