"""The HTTP API under /apps/{app_id}: requests, each with its signature, into commands, and answers into JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial, wraps
from typing import TypeVar

import msgspec

from sower.config import App
from sower.core.answer import ChannelList, HttpAnswer, Members, Occupancy, Published
from sower.core.command import (
    Complain,
    Credentials,
    ListChannels,
    Publish,
    PublishAll,
    ReadOccupancy,
    ReadPresence,
    Terminate,
)
from sower.core.message import Kind
from sower.core.rules import OF_ONE_USER
from sower.dialects.interface import Asked, HttpCall, HttpRoute, Reply, Wanted
from sower.dialects.pusher.names import check_channel, check_event, is_presence, session_of
from sower.dialects.pusher.signing import read_signature
from sower.dialects.pusher.words import CLIENT, RESERVED, said_data
from sower.errors import BadEvent, BadJson, BadRequest, MessageTooLarge, NotFound, SowerError, UnknownKey

USER_COUNT, SUBSCRIPTION_COUNT, CACHE = "user_count", "subscription_count", "cache"
ATTRIBUTES = (USER_COUNT, SUBSCRIPTION_COUNT, CACHE)
"""What `info` may ask for."""

T = TypeVar("T")
Info = frozenset[str]
"""Names of ATTRIBUTES."""


Read = Callable[[HttpCall, App], Wanted]

_encode = msgspec.json.Encoder().encode
_DONE = Reply(b"{}")


class _Event(msgspec.Struct):
    name: str
    data: msgspec.Raw
    channels: list[str] | None = None
    channel: str | None = None
    socket_id: str | None = None
    info: str | None = None


class _Batch(msgspec.Struct):
    batch: list[_Event]


_decode_event = msgspec.json.Decoder(_Event).decode
_decode_batch = msgspec.json.Decoder(_Batch).decode
_decode_text = msgspec.json.Decoder(str).decode
_decode_json = msgspec.json.Decoder(msgspec.Raw).decode


class HttpApi:
    """The HTTP API of these apps."""

    def __init__(self, apps: Sequence[App]) -> None:
        self._apps = {app.id: app for app in apps}
        self._by_key = {app.key: app for app in apps}

    def routes(self) -> tuple[HttpRoute, ...]:
        """All routes; the last is where the Python SDK terminates."""
        return (
            HttpRoute("POST", "/apps/{app_id}/events", self._signed(self.read_event)),
            HttpRoute("POST", "/apps/{app_id}/batch_events", self._signed(self.read_batch)),
            HttpRoute("GET", "/apps/{app_id}/channels", self._signed(self.read_channels)),
            HttpRoute("GET", "/apps/{app_id}/channels/{channel}", self._signed(self.read_channel)),
            HttpRoute("GET", "/apps/{app_id}/channels/{channel}/users", self._signed(self.read_users)),
            HttpRoute(
                "POST", "/apps/{app_id}/users/{user_id}/terminate_connections", self._signed(self.read_terminate)
            ),
            HttpRoute(
                "POST", "/users/{user_id}/terminate_connections", self._signed(self.read_terminate, self._app_of_key)
            ),
        )

    def _signed(self, read: Read, app_of: Callable[[HttpCall], App] | None = None) -> Callable[[HttpCall], Asked]:
        """How a signed request is decoded. What else is wrong with it, those alone are told who signed it."""
        app_of = app_of or self._app

        @wraps(read)
        def decode(call: HttpCall) -> Asked:
            app = app_of(call)
            signature = read_signature(call, app.id, app.pusher.clock_skew)
            try:
                wanted = read(call, app)
            except SowerError as error:
                wanted = Wanted(Complain(error), _done)
            return Asked(Credentials(signature=signature), wanted.command, wanted.encode)

        return decode

    def read_event(self, call: HttpCall, app: App) -> Wanted:
        """Publish an event on one or several channels.

        Answers {}, or with info {"channels": {name: attributes}}.
        """
        event = _read(call.body, _decode_event)
        if not event.info:
            return Wanted(PublishAll(_publishes(app, event)), _done)
        info = _info(event.info)
        return Wanted(PublishAll(_publishes(app, event), counted=True), partial(_event_reply, info))

    def read_batch(self, call: HttpCall, app: App) -> Wanted:
        """Publish several events, each on one channel.

        Answers {}, or with any info {"batch": [attributes]}, in the order of the request.
        """
        batch = _read(call.body, _decode_batch).batch
        if not 0 < len(batch) <= app.pusher.batch:
            raise BadRequest(f"A batch has 1 to {app.pusher.batch} events, batch in [apps.pusher]; this {len(batch)}.")
        if any(event.channel is None or event.channels is not None for event in batch):
            raise BadRequest("Each event of a batch names its one `channel`.")
        infos = [_info(event.info) for event in batch]
        publishes = tuple(publish for event in batch for publish in _publishes(app, event))
        command = PublishAll(publishes, counted=any(infos))
        return Wanted(command, partial(_batch_reply, infos))

    def read_channels(self, call: HttpCall, app: App) -> Wanted:
        """List the occupied channels.

        Answers {"channels": {name: attributes}}.
        """
        prefix, info = call.query.get("filter_by_prefix", ""), _info(call.query.get("info"))
        if USER_COUNT in info and not is_presence(prefix):
            raise BadRequest("user_count is known of presence channels only: add filter_by_prefix=presence-.")
        return Wanted(ListChannels(prefix, limit=None), partial(_channels_reply, info))

    def read_channel(self, call: HttpCall, app: App) -> Wanted:
        """Read how a channel is doing.

        Answers {"occupied", attributes...}.
        """
        channel, info = check_channel(call.params["channel"]), _info(call.query.get("info"))
        if USER_COUNT in info and not is_presence(channel):
            raise BadRequest(f"user_count is known of presence channels only, and {channel!r} is none.")
        return Wanted(ReadOccupancy(channel), partial(_channel_reply, info))

    def read_users(self, call: HttpCall, app: App) -> Wanted:
        """List who is in a presence channel.

        Answers {"users": [{"id"}]}.
        """
        channel = check_channel(call.params["channel"])
        if not is_presence(channel):
            raise BadRequest(f"Users are known of presence channels only, and {channel!r} is none.")
        return Wanted(ReadPresence(channel), _users_reply)

    def read_terminate(self, call: HttpCall, app: App) -> Wanted:
        """End every connection that is signed in as a user.

        Answers {}.
        """
        return Wanted(Terminate(call.params["user_id"]), _done)

    def _app(self, call: HttpCall) -> App:
        app = self._apps.get(call.params["app_id"])
        if app is None:
            raise NotFound(f"There is no app {call.params['app_id'][:64]!r}.")
        return app

    def _app_of_key(self, call: HttpCall) -> App:
        """The app where a path does not name it."""
        key = call.query.get("auth_key", "")
        app = self._by_key.get(key)
        if app is None:
            raise UnknownKey(f"No app has the key {key[:64]!r}.")
        return app


def _publishes(app: App, event: _Event) -> tuple[Publish, ...]:
    """One event as it is published on each of its channels."""
    channels = [event.channel or ""] if event.channels is None else event.channels
    most = app.pusher.channels
    if not 0 < len(channels) <= most:
        raise BadRequest(f"An event goes to 1 to {most} channels, channels in [apps.pusher]; this to {len(channels)}.")
    name = check_event(event.name)
    if name.startswith(RESERVED):
        raise BadEvent(f"The event name {name[:64]!r} is the protocol's own.")
    data, kind = _data(name, event.data)
    if len(data) > app.pusher.event_data:
        size, most = len(data), app.pusher.event_data
        raise MessageTooLarge(f"The event's data has {size} bytes; event_data in [apps.pusher] is {most}.")
    exclude = session_of(event.socket_id) if event.socket_id else None
    return tuple([Publish(check_channel(channel), name, data, kind, exclude=exclude) for channel in channels])


def _data(name: str, given: msgspec.Raw) -> tuple[bytes, Kind]:
    """A string is passed on as it is; where it holds JSON, others than Pusher's clients get the value."""
    data = bytes(given)
    if data.startswith(b'"'):
        data = _read(data, _decode_text).encode()
        try:
            _decode_json(data)
        except (msgspec.DecodeError, RecursionError):
            return data, Kind.TEXT
    # Of a server's event, even one that is called as a client's, the data is told as a string.
    return data, Kind.TEXT if name.startswith(CLIENT) else Kind.JSON


def _info(given: str | None) -> Info:
    if not given:
        return frozenset()
    asked = frozenset(name.strip() for name in given.split(","))
    unknown = asked.difference(ATTRIBUTES)
    if unknown:
        raise BadRequest(f"info asks for {min(unknown)[:32]!r}; it may ask for {', '.join(ATTRIBUTES)}.")
    return asked


def _attributes(channel: Occupancy, info: Info) -> dict[str, object]:
    """What was asked of one channel, as far as it has it."""
    attributes: dict[str, object] = {}
    if USER_COUNT in info and channel.members is not None:
        attributes[USER_COUNT] = channel.members
    if SUBSCRIPTION_COUNT in info:
        attributes[SUBSCRIPTION_COUNT] = channel.subscribers
    if CACHE in info:
        attributes[CACHE] = None
        if channel.cached is not None:
            message, seconds = channel.cached
            attributes[CACHE] = {"data": said_data(message)[0], "ttl": round(seconds)}
    return attributes


def _event_reply(info: Info, answer: HttpAnswer) -> Reply:
    if not info or not isinstance(answer, Published):
        return _DONE
    channels = {channel.channel: _attributes(channel, info) for channel in answer.occupancies}
    return Reply(_encode({"channels": channels}))


def _batch_reply(infos: Sequence[Info], answer: HttpAnswer) -> Reply:
    if not any(infos) or not isinstance(answer, Published):
        return _DONE
    batch = [_attributes(channel, info) for channel, info in zip(answer.occupancies, infos, strict=True)]
    return Reply(_encode({"batch": batch}))


def _channels_reply(info: Info, answer: HttpAnswer) -> Reply:
    listed = answer.channels if isinstance(answer, ChannelList) else ()
    followed = [channel for channel in listed if channel.subscribers and not channel.channel.startswith(OF_ONE_USER)]
    return Reply(_encode({"channels": {channel.channel: _attributes(channel, info) for channel in followed}}))


def _channel_reply(info: Info, answer: HttpAnswer) -> Reply:
    if not isinstance(answer, Occupancy):
        return _DONE
    return Reply(_encode({"occupied": answer.subscribers > 0, **_attributes(answer, info)}))


def _users_reply(answer: HttpAnswer) -> Reply:
    members = answer.members if isinstance(answer, Members) else ()
    return Reply(_encode({"users": [{"id": member.user} for member in members]}))


def _done(answer: HttpAnswer) -> Reply:
    return _DONE


def _read(body: bytes, decode: Callable[[str], T]) -> T:
    """A body as text first: what is passed on verbatim is not looked into, and must be UTF-8 all the same."""
    try:
        return decode(body.decode())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadJson(f"The body cannot be read: {error}.") from error
