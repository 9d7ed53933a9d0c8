"""What Pusher's clients are told, and the codes that make each SDK do the right thing.

Rule 1: what the server says itself has its data as JSON text in a string; pusher:error alone has an object, and never
        a channel: Pysher looks for both.
Rule 2: a publisher's data passes verbatim. JSON, which others publish as JSON, is told as its text in a string; a
        client's event alone keeps the shape that its client gave it.
Rule 3: nobody but the server speaks in the names that begin with pusher: or pusher_internal:.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec

from sower.core.answer import Watched, Welcome
from sower.core.message import CacheMiss, Counted, Delivery, Joined, Kind, Left, Message
from sower.dialects.pusher.names import is_presence
from sower.errors import (
    AppDisabled,
    AppFull,
    BadEvent,
    BadRequest,
    BadVersion,
    Draining,
    Forbidden,
    MessageTooLarge,
    NoPong,
    NoProtocol,
    NotAuthorised,
    SlowConsumer,
    SowerError,
    TokenExpired,
    TooLarge,
    TooMany,
    TooSlow,
    UnknownKey,
    UnknownProtocol,
    WatchlistTooLong,
)

CLIENT = "client-"
"""What the names of clients' events begin with."""

RESERVED = ("pusher:", "pusher_internal:")
"""What the names of the protocol's own words begin with."""

CLOSE_CODES: tuple[tuple[type[SowerError], int], ...] = (
    (UnknownKey, 4001),
    (AppDisabled, 4003),
    (AppFull, 4004),
    (BadVersion, 4006),
    (UnknownProtocol, 4007),
    (NoProtocol, 4008),
    (NotAuthorised, 4009),
    (Forbidden, 4009),
    (BadRequest, 4009),
    (TooLarge, 4009),
    (Draining, 4200),
    (NoPong, 4201),
    (SlowConsumer, 4100),
    (TooMany, 4100),
    (TooSlow, 4100),
    (SowerError, 4100),
)
"""The first that fits. 4000-4099: do not come back; 4100-4199: come back after a second; 4200-4299: at once."""

EVENT_REJECTED = 4301

ERROR_CODES: tuple[tuple[type[SowerError], int], ...] = (
    (WatchlistTooLong, 4302),
    (MessageTooLarge, EVENT_REJECTED),
    (BadEvent, EVENT_REJECTED),
    (SowerError, 4300),
)
"""For what does not end the socket. As a close code, 4300 and above would keep pusher-js from coming back."""

SUCCEEDED, NO_DATA = b'{"event":"pusher_internal:subscription_succeeded","channel":', b',"data":"{}"}'
"""Before and behind the name of a channel without members."""

PONG = b'{"event":"pusher:pong","data":"{}"}'

_encode = msgspec.json.Encoder().encode


class EventFrame(msgspec.Struct, omit_defaults=True):
    """encoding: "base64" where data is the base64 text of bytes, which no Pusher SDK publishes."""

    event: str
    channel: str
    data: str | msgspec.Raw
    user_id: str | None = None
    encoding: str | None = None


class PusherEncoder:
    """JSON text, one message a delivery. There is one of it."""

    is_text = True

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> list[bytes]:
        """A frame each."""
        return [said(channel, delivery) for delivery in deliveries]


ENCODER = PusherEncoder()


def said(channel: str, delivery: Delivery) -> bytes:
    """The frame for a delivery; empty for what this protocol does not say."""
    if isinstance(delivery, Message):
        return b"" if delivery.follows_up else _event(channel, delivery)
    if isinstance(delivery, CacheMiss):
        return _encode({"event": "pusher:cache_miss", "channel": channel})
    if isinstance(delivery, Counted):
        return _internal("subscription_count", channel, {"subscription_count": delivery.subscribers})
    if isinstance(delivery, Joined) and is_presence(channel):
        member = {"user_id": delivery.user, "user_info": msgspec.Raw(delivery.meta)}
        return _internal("member_added", channel, member)
    if isinstance(delivery, Left) and is_presence(channel):
        return _internal("member_removed", channel, {"user_id": delivery.user})
    return b""


def said_data(message: Message) -> tuple[str | msgspec.Raw, str | None]:
    """A message's data as this protocol says it, and how it is encoded where it is not the publisher's own text."""
    if message.kind == Kind.BINARY:
        return base64.b64encode(message.data).decode(), "base64"
    if message.kind == Kind.JSON and message.event.startswith(CLIENT):
        return msgspec.Raw(message.data), None
    return message.data.decode(), None


def _event(channel: str, message: Message) -> bytes:
    if message.event.startswith(RESERVED):
        return b""
    data, encoding = said_data(message)
    user = message.user if is_presence(channel) else None
    return _encode(EventFrame(message.event, channel, data, user, encoding))


def _internal(event: str, channel: str, data: object) -> bytes:
    return _encode(EventFrame(f"pusher_internal:{event}", channel, _encode(data).decode()))


def established(socket_id: str, activity_timeout: float) -> bytes:
    """The first frame, without which pusher-js breaks off. activity_timeout: seconds."""
    seconds = max(1, round(activity_timeout))
    data = rf"{{\"socket_id\":\"{socket_id}\",\"activity_timeout\":{seconds}}}"  # two numbers and a dot, one number
    return f'{{"event":"pusher:connection_established","data":"{data}"}}'.encode()


def succeeded(welcome: Welcome) -> bytes:
    """A subscription began; on presence channels, with the members that are there, the newcomer included."""
    if welcome.members is None or not is_presence(welcome.channel):
        return SUCCEEDED + _encode(welcome.channel) + NO_DATA
    members = {member.user: msgspec.Raw(member.meta) for member in welcome.members}
    data = {"presence": {"ids": list(members), "hash": members, "count": len(members)}}
    return _internal("subscription_succeeded", welcome.channel, data)


def signed_in(user_data: str) -> bytes:
    """A sign-in was accepted. user_data: as it came."""
    return _encode({"event": "pusher:signin_success", "data": _encode({"user_data": user_data}).decode()})


def watched(word: Watched) -> bytes:
    """Users on the client's watchlist came or went."""
    changes = (("online", word.online), ("offline", word.offline))
    events = [{"name": name, "user_ids": users} for name, users in changes if users]
    if not events:
        return b""
    return _encode({"event": "pusher_internal:watchlist_events", "data": _encode({"events": events}).decode()})


def subscription_error(channel: str, error: SowerError) -> bytes:
    """A subscription was refused; the client may try again."""
    if isinstance(error, NotAuthorised | Forbidden):
        kind = "AuthError"
    elif isinstance(error, TooMany | TooLarge):
        kind = "LimitReached"
    else:
        kind = "SubscriptionError"
    data = {"type": kind, "error": error.message, "status": error.status}
    return _encode({"event": "pusher:subscription_error", "channel": channel, "data": data})


def last_words(error: SowerError) -> bytes:
    """What a socket is told before it is closed; the code is that of the close frame."""
    why = "The connection was not authorised in time." if isinstance(error, TokenExpired) else error.message
    return _error(close_code(error), why)


def complaint(error: SowerError, *, of_event: bool) -> bytes:
    """What was wrong with a frame; the socket goes on. of_event: whether it was a client's event."""
    return _error(EVENT_REJECTED if of_event else _first_fit(ERROR_CODES, error), error.message)


def close_code(error: SowerError) -> int:
    """The code that a socket which ends for this error is closed with."""
    return _first_fit(CLOSE_CODES, error)


def _error(code: int, message: str) -> bytes:
    return _encode({"event": "pusher:error", "data": {"code": code, "message": message}})


def _first_fit(codes: tuple[tuple[type[SowerError], int], ...], error: SowerError) -> int:
    return next(code for kind, code in codes if isinstance(error, kind))
