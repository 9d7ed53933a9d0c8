"""The bodies of Pusher's webhooks, and their signatures ("Webhooks" in its documentation).

A signature is of the raw body, so a body is made once and sent as it is, however often.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Sequence

import msgspec

from sower.core.happening import Fact, Happening
from sower.core.message import Kind
from sower.dialects.pusher.names import is_presence, socket_id

_encode = msgspec.json.Encoder().encode


class _Event(msgspec.Struct, omit_defaults=True):
    name: Fact
    channel: str
    event: str | None = None
    data: msgspec.Raw | None = None
    socket_id: str | None = None
    user_id: str | None = None
    subscription_count: int | None = None


def event(happening: Happening) -> bytes:
    """One event of a body, as JSON."""
    h = happening
    # A client's event says who sent it on presence channels alone, where it is proved.
    user = None if h.fact is Fact.CLIENT_EVENT and not is_presence(h.channel) else h.user
    return _encode(
        _Event(
            h.fact,
            h.channel,
            event=h.event,
            data=None if h.data is None else msgspec.Raw(_json(h.data, h.kind)),
            socket_id=None if h.session is None else socket_id(h.session),
            user_id=user,
            subscription_count=h.count,
        )
    )


def body(time: float, events: Sequence[bytes]) -> bytes:
    """The body with some events. time: seconds since 1970."""
    return b'{"time_ms":%d,"events":[%s]}' % (time * 1000, b",".join(events))


def headers(key: str, secret: str, body: bytes) -> dict[str, str]:
    """The headers of a body. The SDKs compare Content-Type as a whole, so it has no charset."""
    return {
        "Content-Type": "application/json",
        "X-Pusher-Key": key,
        "X-Pusher-Signature": hmac.digest(secret.encode(), body, "sha256").hex(),
    }


def _json(data: bytes, kind: Kind) -> bytes:
    """Data as JSON: a client's own as it came, text as a string, bytes in base64."""
    if kind is Kind.JSON:
        return data
    return _encode(data.decode(errors="replace") if kind is Kind.TEXT else base64.b64encode(data).decode())
