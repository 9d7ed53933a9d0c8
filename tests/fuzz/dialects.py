"""The targets of the four protocols: what their clients send over sockets and over HTTP."""

from __future__ import annotations

import hashlib

import msgspec

from sower.config import AblySettings
from sower.core.message import Kind, Message
from sower.dialects.ably.channels import ChannelWords
from sower.dialects.ably.socket import AblyConversation, Manner
from sower.dialects.ably.wire import JSON, MSGPACK
from sower.dialects.native.socket import NativeConversation
from sower.dialects.pubnub.filters import compiled
from sower.dialects.pusher.socket import PusherConversation
from sower.errors import SowerError
from sower.net.http import Request
from sower.web.dashboard import dashboard
from tests.fuzz.house import (
    ABLYS,
    APP,
    EPOCH,
    OWN,
    PUBNUBS,
    PUSHERS,
    SERIAL,
    STORED,
    House,
    checked,
    converse,
    is_json,
    request_of,
)

NATIVE_HOUSE, PUSHER_HOUSE, ABLY_HOUSE, PUBNUB_HOUSE = (
    House(OWN, dashboard(OWN)),
    House(PUSHERS),
    House(ABLYS),
    House(PUBNUBS),
)
MANNERS = {wire: Manner(wire, ChannelWords(wire, EPOCH), EPOCH, AblySettings(), 25.0) for wire in (JSON, MSGPACK)}


def native(data: bytes) -> None:
    """A client's frames, one a line, are commands that every protocol can tell of, or errors that can be said."""
    texts = [line for line in data.split(b"\n") if _is_utf8(line)]
    converse(NativeConversation("room", None), [*((line, True) for line in texts), (data, False)], is_json)


def pusher(data: bytes) -> None:
    """A client's frames, one a line, are commands that every protocol can tell of, or errors that can be said."""
    texts = [line for line in data.split(b"\n") if _is_utf8(line)]
    converse(PusherConversation(APP), [*((line, True) for line in texts), (data, False)], is_json)


def ably(data: bytes) -> None:
    """A client's frames, as JSON one a line, are commands that every protocol can tell of, or errors that can be said."""
    texts = [line for line in data.split(b"\n") if _is_utf8(line)]
    query = {"echo": "false", "heartbeatInterval": "9" * len(texts), "remainPresentFor": "1" * len(texts)}
    converse(AblyConversation(MANNERS[JSON], query), [(line, True) for line in texts], is_json)


def ably_binary(data: bytes) -> None:
    """The same in MessagePack, with the byte C1 between two frames, which is in none."""
    converse(AblyConversation(MANNERS[MSGPACK], {}), [(f, False) for f in data.split(b"\xc1")], msgspec.msgpack.decode)


def native_http(data: bytes) -> None:
    """A request is a command whose answer and refusal can be said, or an error of the table."""
    _serve(NATIVE_HOUSE, request_of(data))


def pusher_http(data: bytes) -> None:
    """A request, its body's digest made right, is a command whose answer and refusal can be said, or an error of the table."""
    request = request_of(data)
    if request is not None and "auth_key" not in request.target:
        digest = hashlib.md5(request.body, usedforsecurity=False).hexdigest()
        signed = f"auth_key={APP.key}&auth_timestamp=1800000000&auth_signature=x&body_md5={digest}"
        target = request.target + ("&" if "?" in request.target else "?") + signed
        request = Request(request.method, target, request.headers, request.body, address="127.0.0.1")
    _serve(PUSHER_HOUSE, request)


def ably_http(data: bytes) -> None:
    """A request is a command whose answer and refusal can be said in its format, or an error of the table."""
    _serve(ABLY_HOUSE, request_of(data))


def pubnub_http(data: bytes) -> None:
    """A request or a poll is a command whose answer and refusal can be said, or an error of the table."""
    _serve(PUBNUB_HOUSE, request_of(data))


def filters(data: bytes) -> None:
    """A filter, before the first line feed, is refused with BadFilter, or says yes or no to any message."""
    text, _, body = data.partition(b"\n")
    try:
        chosen = compiled(text.decode("utf-8", "surrogateescape"))
    except SowerError as error:
        checked(error)
        return
    extra = b'{"meta":' + body + b"}"
    for message in (
        *STORED,
        Message(SERIAL, "e", body, user="ada", extra=extra),
        Message(SERIAL, "e", body, Kind.TEXT),
    ):
        assert chosen(message) in (True, False)
        assert chosen(message) == chosen(message)


def _serve(house: House, request: Request | None) -> None:
    if request is not None:
        house.serve(request)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
