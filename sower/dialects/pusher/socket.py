"""The WebSocket: `GET /app/{key}?protocol=7`. JSON text frames, each an event with its data.

Rule 1: a conversation remembers nothing, so all sockets of an app have the same one.
Rule 2: whatever is wrong with a subscription is said on its channel, and the socket goes on; a sign-in that fails
        ends it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec

from sower.config import App
from sower.core.answer import SocketAnswer, Watched, Welcome
from sower.core.command import (
    Complain,
    Credentials,
    Ping,
    Proof,
    Publish,
    SignIn,
    SocketCommand,
    Subscribe,
    Unsubscribe,
)
from sower.core.message import Position
from sower.core.rules import OF_USER
from sower.dialects.interface import Conversation, HttpCall, Named, Opened, Refusal, SocketRoute
from sower.dialects.pusher import words
from sower.dialects.pusher.names import check_channel, check_event, check_user, is_presence, socket_id
from sower.errors import (
    BadFrame,
    BadRequest,
    BadVersion,
    MessageTooLarge,
    NoProtocol,
    NotAuthorised,
    SowerError,
    TooLarge,
    UnknownKey,
    UnknownProtocol,
    WatchlistTooLong,
)

PROTOCOLS = ("7", "6", "5")
"""The versions that are spoken; from 5 on they differ in nothing that a server sees. 1 to 3 are dead."""

T = TypeVar("T")

_VERSION = re.compile(r"[\w.+-]{1,64}\Z", re.ASCII)
_NOTHING = msgspec.Raw(b"{}")
_PING = (Ping(),)


class _Frame(msgspec.Struct):
    event: str
    channel: str | None = None
    data: msgspec.Raw = _NOTHING


class _Subscribe(msgspec.Struct):
    channel: str
    auth: str | None = None
    channel_data: str | None = None


class _Unsubscribe(msgspec.Struct):
    channel: str


class _SignIn(msgspec.Struct):
    auth: str
    user_data: str


class _Member(msgspec.Struct):
    user_id: str | int
    user_info: msgspec.Raw = msgspec.Raw(b"null")


class _User(msgspec.Struct):
    id: str | int
    user_info: msgspec.Raw = msgspec.Raw(b"null")
    watchlist: list[str | int] = []


_decode_frame = msgspec.json.Decoder(_Frame).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_subscribe = msgspec.json.Decoder(_Subscribe).decode
_decode_unsubscribe = msgspec.json.Decoder(_Unsubscribe).decode
_decode_sign_in = msgspec.json.Decoder(_SignIn).decode
_decode_member = msgspec.json.Decoder(_Member).decode
_decode_user = msgspec.json.Decoder(_User).decode


class PusherConversation(Conversation):
    """What the sockets of one app say and are told."""

    __slots__ = ("_settings",)

    def __init__(self, app: App) -> None:
        self._settings = app.pusher

    def greeting(self, session: Named) -> bytes:
        """The server speaks first."""
        return words.established(socket_id(session.id), self._settings.activity_timeout)

    def begin(self) -> Sequence[SocketCommand]:
        """Opening the socket asks for nothing else."""
        return ()

    def receive(self, session: Named, payload: bytes, *, is_text: bool) -> Sequence[SocketCommand]:
        """One frame. Raises BadFrame, BadChannelName, BadEvent, MessageTooLarge."""
        if not is_text:
            raise BadFrame("Binary frames are not part of this protocol.")
        frame = _read(payload, _decode_frame, "frame")
        if frame.event.startswith(words.CLIENT):
            return (self._client_event(frame),)
        data = bytes(frame.data)
        match frame.event:
            case "pusher:ping":
                return _PING
            case "pusher:pong":
                return ()
            case "pusher:subscribe":
                return self._subscribe(session, data)
            case "pusher:unsubscribe":
                return self._unsubscribe(data)
            case "pusher:signin":
                return self._sign_in(session, data)
            case _:
                raise BadFrame(f"The event {frame.event[:64]!r} is none of pusher:..., and not a client-... event.")

    def answer(self, session: Named, command: SocketCommand, answer: SocketAnswer) -> bytes:
        """The words for what succeeded; a client's event is not acknowledged."""
        if isinstance(answer, Welcome):
            return words.succeeded(answer)
        if isinstance(command, Ping):
            return words.PONG
        if isinstance(command, SignIn):
            return words.signed_in(command.said)
        return b""

    def refuse(self, command: SocketCommand | None, error: SowerError) -> bytes:
        """On the channel where it is about one, else as pusher:error."""
        if isinstance(command, Subscribe):
            return words.subscription_error(command.channel, error)
        if isinstance(command, Complain) and command.channel is not None:
            return words.subscription_error(command.channel, error)
        if command is None and not isinstance(error, BadRequest | TooLarge):
            return words.last_words(error)
        return words.complaint(error, of_event=isinstance(command, Publish))

    def ends(self, command: SocketCommand | None) -> bool:
        """Who is not whom they say they are is not talked to."""
        return isinstance(command, SignIn) or (isinstance(command, Complain) and command.final)

    def close(self, error: SowerError) -> int:
        """In the range that makes SDKs do what helps."""
        return words.close_code(error)

    def tell(self, word: Watched) -> bytes:
        """Watchlist events."""
        return words.watched(word)

    def gap(self, channel: str, since: Position, position: Position) -> bytes:
        """This protocol does not resume, so it knows no gaps."""
        return b""

    def _client_event(self, frame: _Frame) -> Publish:
        if frame.channel is None:
            raise BadFrame(f"The event {frame.event[:64]!r} names no channel.")
        data, most = bytes(frame.data), self._settings.event_data
        if len(data) > most:
            raise MessageTooLarge(f"The event's data has {len(data)} bytes; event_data in [apps.pusher] is {most}.")
        return Publish(check_channel(frame.channel), check_event(frame.event), data)

    def _subscribe(self, session: Named, data: bytes) -> Sequence[SocketCommand]:
        said = _read(_opened(data), _decode_subscribe, "data of pusher:subscribe")
        try:
            return (self._subscription(session, said),)
        except SowerError as error:
            return (Complain(error, channel=said.channel),)

    def _subscription(self, session: Named, said: _Subscribe) -> Subscribe:
        name, member = check_channel(said.channel), said.channel_data
        if name.startswith(OF_USER):
            return Subscribe(name)  # for who is signed in: servers that sign any channel are asked for this one too
        proof = _proof(said.auth, _signed(session, name, member)) if said.auth else None
        if not is_presence(name):
            return Subscribe(name, proof=proof)
        user, meta = (None, None) if member is None else self._member(member)
        return Subscribe(name, proof=proof, user=user, meta=meta, as_member=True, most=self._settings.members)

    def _member(self, channel_data: str) -> tuple[str, bytes]:
        """user_id and user_info. Raises BadFrame, TooLarge."""
        member = _read(channel_data.encode(), _decode_member, "channel_data")
        return self._user(member.user_id), self._info(member.user_info)

    def _unsubscribe(self, data: bytes) -> Sequence[SocketCommand]:
        said = _read(_opened(data), _decode_unsubscribe, "data of pusher:unsubscribe")
        return (Unsubscribe(said.channel),)

    def _sign_in(self, session: Named, data: bytes) -> Sequence[SocketCommand]:
        try:
            said = _read(_opened(data), _decode_sign_in, "data of pusher:signin")
            told = _read(said.user_data.encode(), _decode_user, "user_data")
            user, info = self._user(told.id), self._info(told.user_info)
            watchlist = tuple(map(str, told.watchlist))
        except SowerError as error:
            return (Complain(NotAuthorised(error.message), final=True),)
        proof = _proof(said.auth, f"{socket_id(session.id)}::user::{said.user_data}")
        most = self._settings.watchlist
        signing = SignIn(proof, user, info, watchlist[:most], said.user_data)
        if len(watchlist) <= most:
            return (signing,)
        return signing, Complain(WatchlistTooLong(f"The watchlist has {len(watchlist)} users; the first {most} count."))

    def _user(self, given: str | int) -> str:
        return check_user(str(given), self._settings.user_id)

    def _info(self, given: msgspec.Raw) -> bytes:
        info, most = bytes(given), self._settings.user_info
        if len(info) > most:
            raise TooLarge(f"The user_info has {len(info)} bytes; user_info in [apps.pusher] is {most}.")
        return info


def _proof(auth: str, signed: str) -> Proof:
    key, _, signature = auth.partition(":")
    return Proof(key, signature, signed)


def _signed(session: Named, name: str, member: str | None) -> str:
    text = f"{socket_id(session.id)}:{name}"
    return text if member is None else f"{text}:{member}"


def _opened(data: bytes) -> bytes:
    """Old clients write the data of their own events as JSON text in a string too."""
    return _read(data, _decode_text, "data").encode() if data.startswith(b'"') else data


def _read(text: bytes, decode: Callable[[bytes], T], what: str) -> T:
    try:
        return decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFrame(f"The {what} cannot be read: {error}.") from error


class Sockets:
    """The sockets of these apps."""

    def __init__(self, apps: Sequence[App]) -> None:
        self._apps = {app.key: app for app in apps}
        self._conversations = {app.key: PusherConversation(app) for app in apps}

    def routes(self) -> tuple[SocketRoute, ...]:
        """The one route."""
        return (SocketRoute("/app/{key}", self.open, refuse),)

    def fallbacks(self) -> tuple[SocketRoute, ...]:
        """Where pusher-js goes without a WebSocket: to its httpPath, /pusher unless an app sets another."""
        return tuple(SocketRoute(f"{path}/app/{{key}}", self.open, refuse) for path in ("/pusher", ""))

    def open(self, call: HttpCall) -> Opened:
        """Take a socket. Raises UnknownKey, NoProtocol, UnknownProtocol, BadVersion."""
        key, query = call.params["key"], call.query
        app = self._apps.get(key)
        if app is None:
            raise UnknownKey(f"No app has the key {key[:64]!r}.")
        protocol = query.get("protocol")
        if not protocol:
            raise NoProtocol()
        if protocol not in PROTOCOLS:
            raise UnknownProtocol(f"Protocol {protocol[:16]!r} is not spoken, only {', '.join(PROTOCOLS)}.")
        if _VERSION.match(query.get("version") or "0") is None:
            raise BadVersion(f"{query['version'][:64]!r} is no version of an SDK.")
        return Opened(Credentials(key), self._conversations[key], words.ENCODER, app.pusher.authorised_within)


def refuse(call: HttpCall, error: SowerError) -> Refusal:
    """pusher:error, for clients that do not know close codes, and the close code."""
    return Refusal(words.last_words(error), words.close_code(error))
