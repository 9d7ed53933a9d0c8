"""The native WebSocket: `GET /ws/{channel}?key=&token=&user=&since=`, JSON text frames with a `type`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import msgspec

from sower.core.answer import Receipt, SocketAnswer, Watched, Welcome
from sower.core.command import Ping, Publish, Renew, SocketCommand, Subscribe, UpdateMeta
from sower.core.message import Position, check_channel_name, check_event_name
from sower.dialects.interface import Conversation, HttpCall, Named, Opened, Refusal, SocketRoute
from sower.dialects.native.credentials import read_credentials
from sower.dialects.native.words import ENCODER
from sower.errors import BadFrame, SowerError

SUBPROTOCOL = "sower.v1"

MAX_ID = 200
"""Characters of a publish id. Ably's are 2 times a random base of 9 bytes, a UUID is 36."""

CONVERSATIONS = 10_000
"""Channels whose conversation is shared by all who come."""

_encode = msgspec.json.Encoder().encode


class _Publish(msgspec.Struct, tag_field="type", tag="publish"):
    event: str
    data: msgspec.Raw = msgspec.Raw(b"null")
    id: str | None = None
    echo: bool = False


class _Presence(msgspec.Struct, tag_field="type", tag="presence"):
    meta: msgspec.Raw = msgspec.Raw(b"null")
    id: str | None = None


class _Token(msgspec.Struct, tag_field="type", tag="token"):
    token: str
    id: str | None = None


class _Ping(msgspec.Struct, tag_field="type", tag="ping"):
    id: str | None = None


_decode = msgspec.json.Decoder(_Publish | _Presence | _Token | _Ping).decode


class NativeConversation(Conversation):
    """A socket on one channel. It goes on after a refusal, unless that is of its subscription."""

    __slots__ = ("_channel", "_since")

    def __init__(self, channel: str, since: Position | None) -> None:
        self._channel = channel
        self._since = since

    def begin(self) -> Sequence[SocketCommand]:
        """Opening the socket is subscribing."""
        return (Subscribe(self._channel, self._since),)

    def receive(self, session: Named, payload: bytes, *, is_text: bool) -> Sequence[SocketCommand]:
        """One frame, one command. Raises BadFrame, BadEvent."""
        if not is_text:
            raise BadFrame("Binary frames are not part of this protocol.")
        try:
            frame = _decode(payload)
        except (msgspec.DecodeError, RecursionError) as error:
            raise BadFrame(f"The frame cannot be read: {error}.") from error
        if isinstance(frame, _Publish):
            check_event_name(frame.event)
            return (Publish(self._channel, frame.event, bytes(frame.data), id=_checked_id(frame.id), echo=frame.echo),)
        if isinstance(frame, _Presence):
            return (UpdateMeta(self._channel, bytes(frame.meta), _checked_id(frame.id)),)
        if isinstance(frame, _Token):
            return (Renew(frame.token, _checked_id(frame.id)),)
        return (Ping(_checked_id(frame.id)),)

    def answer(self, session: Named, command: SocketCommand, answer: SocketAnswer) -> bytes:
        """welcome, ack or pong."""
        if isinstance(answer, Welcome):
            return _welcome(session.id, answer)
        said: dict[str, object] = {"type": "pong" if isinstance(command, Ping) else "ack"}
        command_id = _id_of(command)
        if command_id is not None:
            said["id"] = command_id
        if isinstance(answer, Receipt):
            said["serial"] = str(answer.serial)
        elif command_id is None and not isinstance(command, Ping):
            return b""
        return _encode(said)

    def refuse(self, command: SocketCommand | None, error: SowerError) -> bytes:
        """An error frame, with the id of the command that it answers."""
        return _error(error, _id_of(command))

    def ends(self, command: SocketCommand | None) -> bool:
        """A socket whose subscription is refused has nothing left to do."""
        return isinstance(command, Subscribe)

    def close(self, error: SowerError) -> int:
        """Each error has its own code."""
        return error.close

    def tell(self, word: Watched) -> bytes:
        """This protocol has no watchlists."""
        return b""

    def gap(self, channel: str, since: Position, position: Position) -> bytes:
        """A gap frame."""
        return _encode({"type": "gap", "since": str(since), "position": str(position)})


def refuse(call: HttpCall, error: SowerError) -> Refusal:
    """An error frame."""
    return Refusal(_error(error), error.close)


def _error(error: SowerError, command_id: str | None = None) -> bytes:
    said: dict[str, object] = {"type": "error", **error.as_dict()}
    if command_id is not None:
        said["id"] = command_id
    return _encode(said)


def open_socket(call: HttpCall) -> Opened:
    """Take a socket. Raises BadChannelName, BadPosition, NotAuthorised."""
    since = call.query.get("since")
    channel = call.params["channel"]
    conversation = NativeConversation(check_channel_name(channel), Position.parse(since)) if since else _fresh(channel)
    return Opened(read_credentials(call.headers, call.query), conversation, ENCODER)


@lru_cache(CONVERSATIONS)
def _fresh(channel: str) -> NativeConversation:
    """A conversation remembers nothing, so all who follow a channel from now on have the same one."""
    return NativeConversation(check_channel_name(channel), None)


def _welcome(session: str, welcome: Welcome) -> bytes:
    said: dict[str, object] = {
        "type": "welcome",
        "session": session,
        "channel": welcome.channel,
        "position": str(welcome.position),
    }
    if welcome.user is not None:
        said["user"] = welcome.user
    if welcome.members is not None:
        said["members"] = {member.user: msgspec.Raw(member.meta) for member in welcome.members}
    return _encode(said)


def _id_of(command: SocketCommand | None) -> str | None:
    return command.id if isinstance(command, Publish | UpdateMeta | Renew | Ping) else None


def _checked_id(given: str | None) -> str | None:
    if given is not None and not 0 < len(given) <= MAX_ID:
        raise BadFrame(f"An id has 1 to {MAX_ID} characters, this one {len(given)}.")
    return given


SOCKET_ROUTES = (SocketRoute("/ws/{channel}", open_socket, refuse, (SUBPROTOCOL,)),)
