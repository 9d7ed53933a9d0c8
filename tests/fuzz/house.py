"""What the targets of the dialects share: one app, its routes, and an answer to whatever is asked.

A request is written as in HTTP, with bare line feeds, so that what is mutated stays a request:

    POST /events/publish?key=key
    content-type: application/json

    {"channel": "room", "event": "greet"}
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from sower.access import Access
from sower.config import App, Limits, Rate
from sower.core import answer as replies
from sower.core import appearances, command, polling, summaries, versions
from sower.core.attendance import Attendance
from sower.core.command import Credentials, Publish, PublishAll, Subscribe
from sower.core.grants import Credential, Grant
from sower.core.message import (
    Annotation,
    Appearance,
    Counted,
    Delivery,
    Did,
    Joined,
    Kind,
    Left,
    Message,
    Position,
    Revision,
    Updated,
)
from sower.core.presence import MemberView
from sower.dialects.ably import ably
from sower.dialects.ably.channels import ChannelWords
from sower.dialects.ably.keys import PROTOCOL
from sower.dialects.ably.stream import StreamEncoder as AblyStream
from sower.dialects.ably.wire import JSON, MSGPACK
from sower.dialects.interface import (
    EVENT_STREAM,
    Dialect,
    Encoder,
    HttpRoute,
    PollRoute,
    Reply,
    SocketRoute,
    StreamRoute,
)
from sower.dialects.native import native
from sower.dialects.native.stream import StreamEncoder as NativeStream
from sower.dialects.native.words import ENCODER as NATIVE
from sower.dialects.pubnub import pubnub
from sower.dialects.pubnub.envelopes import Envelopes
from sower.dialects.pusher import pusher
from sower.dialects.pusher.words import ENCODER as PUSHER
from sower.errors import BadData, NotIdentified, SowerError, TooLarge
from sower.net.http import Request, Response
from sower.net.routing import Router
from sower.routes import call_of

NOW = 1_800_000_000.0
SERIAL = 18_000_000_000_000_000
EPOCH = "1f0c9a3e"
MOST_OF_AN_ID = 256
"""Characters of what a client calls what it publishes: a connection remembers it, and so does the journal."""

SESSION = SimpleNamespace(id="00000000abcd7")
APP = App(id="1001", key="key", secret="a-secret-of-32-bytes-for-the-fuzz")
CREDENTIAL = Credential(APP.id, APP.key, APP.secret.encode())
OF_ABLY = replace(CREDENTIAL, protocol=PROTOCOL)
LIMITS = Limits()
ACCESS = Access((APP,), LIMITS, now=lambda: NOW)

OWN, PUSHERS, ABLYS, PUBNUBS = native(EPOCH), pusher((APP,)), ably((APP,), EPOCH, 25.0), pubnub((APP,))

IN_JSON, IN_MSGPACK = ChannelWords(JSON, EPOCH), ChannelWords(MSGPACK, EPOCH)
POLLED = Envelopes("sub-key")

STORED = (
    Message(SERIAL, "e", b'{"a":[1]}', user="ada", id="1"),
    Message(SERIAL + 1, "client-e", b"\xe2\x98\x83 text", Kind.TEXT, extra=b'{"meta":{"a":1},"kind":"signal"}'),
    Message(SERIAL + 2, "", b"\x00\xff", Kind.BINARY, extra=b'{"encoding":"utf-8","extras":{"a":1},"connection":"c"}'),
    Message(SERIAL + 3, "e", b"null"),
)
SEEN = (
    Appearance(Did.ENTERED, "ada", "c1", b'{"a":1}', SERIAL, "c1:0:0"),
    Appearance(Did.UPDATED, "b\u2603b", "c2", b'"text"', SERIAL, None, b'{"encoding":"x","extras":[1]}'),
    Appearance(Did.LEFT, "ada", "c1", b'"AP8="', SERIAL, None, b'{"binary":true}'),
)
MEMBERS = (MemberView("ada", b'{"a":1}', 1), MemberView("b\u2603b", b'"text"', 2))


class House:
    """A dialect's routes, and what becomes of one request."""

    def __init__(self, *dialects: Dialect) -> None:
        self._router = Router()
        for dialect in dialects:
            for route in dialect.http:
                when = route.when
                self._add(route.method, route, when and (lambda request, w=when: w(call_of(request, {}))))
            for other in (*dialect.sockets, *dialect.streams, *dialect.polls):
                self._add("GET", other, None)

    def _add(self, method: str, route: Any, when: Callable[[Request], bool] | None) -> None:
        self._router.add(method, route.pattern, route, when)

    def serve(self, request: Request) -> None:
        """Decode it, look at its credentials, answer it, and refuse it; whatever is said must be sayable."""
        try:
            route, params = self._router.match(request)
            call = call_of(request, params)
        except SowerError as error:
            said(Response.error(checked(error)))
            return
        route = cast(Any, route)
        try:
            if isinstance(route, HttpRoute):
                asked = route.decode(call)
                shown(asked.credentials)
                reply(asked.encode(answer(asked.command)))
            elif isinstance(route, PollRoute):
                polled = route.decode(call)
                shown(polled.credentials)
                sane(polled.poll)
                passed = [m for m in STORED if polled.poll.passes is None or polled.poll.passes(m)]
                envelopes = [
                    polled.words.envelope("room", m) + polled.words.reached(s)
                    for m in passed
                    for s in polled.poll.sources
                ]
                reply(polled.words.answer(SERIAL, envelopes))
            elif isinstance(route, SocketRoute | StreamRoute):
                opened = route.open(call)
                shown(opened.credentials)
                events = isinstance(route, StreamRoute) and opened.stream.headers == EVENT_STREAM.headers
                converse(opened.conversation, (), is_event if events else bytes)
        except SowerError as error:
            checked(error)
        refused = SowerError("no \u2603\n")
        if route.refuse is None:
            said(Response.error(refused))
        elif isinstance(route, SocketRoute):
            assert route.refuse(call, refused).payload
        else:
            reply(route.refuse(call, refused))


@lru_cache(1)
def codes() -> frozenset[str]:
    """Every code of the table."""

    def beneath(cls: type[SowerError]) -> Iterable[str]:
        yield cls.code
        for other in cls.__subclasses__():
            yield from beneath(other)

    return frozenset(beneath(SowerError))


def checked(error: SowerError) -> SowerError:
    """An error that is in the table, and is not the one for bugs."""
    assert error.code in codes() - {"internal_error"}, error.code
    return error


def request_of(data: bytes) -> Request | None:
    """A request in this file's spelling, None for what net/parser.py would not let through."""
    head, _, body = data.partition(b"\n\n")
    line, *fields = head.decode("latin-1").split("\n")
    method, _, target = line.partition(" ")
    if not target.startswith("/") or not target.isascii() or not target.isprintable() or {" ", "#"} & set(target):
        return None
    headers = {n.lower(): v.strip(" \t") for n, colon, v in (f.partition(":") for f in fields) if colon}
    return Request(method, target, headers, body, address="127.0.0.1", upgrade="upgrade" in headers)


def shown(credentials: Credentials | None) -> None:
    """Nobody gets more than anybody may, because nobody here knows the secret."""
    if credentials is None:
        return
    sane(credentials)
    try:
        grant = ACCESS.authorise(credentials)
    except SowerError as error:
        checked(error)
        return
    assert grant == Grant(APP.id, grant.key, grant.user), grant


def reply(given: Reply) -> None:
    """An answer that can be sent and is in the format that it says."""
    said(Response(given.status, given.body, given.headers))


def said(response: Response) -> None:
    kind = dict(response.headers).get("Content-Type", "")
    if "json" in kind or "javascript" in kind:
        is_json(response.body)
    elif "msgpack" in kind:
        msgspec.msgpack.decode(response.body)
    response.encode(keep_alive=True)


def is_json(text: bytes) -> None:
    """JSON as a browser reads it: UTF-8, and nothing that is no JSON. It counts to infinity, and nests without end."""
    with suppress(RecursionError):
        json.loads(text.decode(), parse_constant=_no_json, parse_int=float)


def _no_json(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def is_event(word: bytes) -> None:
    """A server-sent event: lines of these fields alone, and none that somebody else wrote."""
    lines = word.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert [line for line in lines if line.partition(": ")[0] not in ("id", "event", "data")] == [], word


ENCODERS: Mapping[Encoder, Callable[[bytes], Any]] = {
    NATIVE: is_json,
    PUSHER: is_json,
    NativeStream(EPOCH): is_event,
    IN_JSON: is_json,
    IN_MSGPACK: msgspec.msgpack.decode,
    AblyStream(EPOCH, events=True, enveloped=True): is_event,
    AblyStream(EPOCH, events=True, enveloped=False): is_event,
    AblyStream(EPOCH, events=False, enveloped=True): is_json,
    AblyStream(EPOCH, events=False, enveloped=False): bytes.decode,
}
"""How a delivery is said, and what must be true of the words."""


def tell(channel: str, *deliveries: Delivery) -> None:
    """Every protocol can say what this one brought in, and Ably's two formats say the same."""
    for delivery in deliveries:
        for encoder, check in ENCODERS.items():
            for word in filter(None, encoder.encode(channel, [delivery])):
                check(word)
        both = zip(IN_JSON.encode(channel, [delivery]), IN_MSGPACK.encode(channel, [delivery]), strict=True)
        assert all(meant(msgspec.json.decode, text) == meant(msgspec.msgpack.decode, word) for text, word in both)
        if isinstance(delivery, Message):
            is_json(POLLED.envelope(channel, delivery) + b"}")
        else:
            is_json((POLLED.presence(channel, delivery, SERIAL, 1) or b"{") + b"}")


def meant(decode: Callable[[bytes], Any], word: bytes) -> Any:
    """What an SDK makes of a frame of Ably's, whichever format it is in: bytes are base64 in JSON, and null is nothing."""
    frame = decode(word) if word else {}
    for one in (item for name in ("messages", "presence", "annotations") for item in frame.get(name, ())):
        inner, _, outer = ("/" + one.get("encoding", "")).rpartition("/")
        if outer == "base64" and isinstance(one["data"], str):
            one |= {"data": base64.b64decode(one["data"]), "encoding": inner[1:] or None}
        for name in [name for name, value in one.items() if value is None]:
            del one[name]
    return frame


def numbers_in(value: Any) -> Iterator[int | float]:
    """Every number of a command or a config. `meta` is any JSON value of the client's, and is not looked into."""
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, Rate):
        yield from (value.per_second, value.burst)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            if name != "meta":
                yield from numbers_in(getattr(value, name))
    elif isinstance(value, tuple):
        for one in value:
            yield from numbers_in(one)


def sane(value: Any) -> None:
    """What can be decided by, kept in SQLite and said in any format: numbers that are finite and have 64 bits."""
    odd = [number for number in numbers_in(value) if not (math.isfinite(number) and -(2**63) <= number < 2**63)]
    assert odd == [], value
    if isinstance(value, Publish | command.Appear):
        assert len(value.id or "") <= MOST_OF_AN_ID, value


def publish(one: Publish) -> None:
    """A message is told, and kept, as it was published; of a change or an annotation, what it makes of others."""
    sane(one)
    if one.about is not None:
        for stored in (STORED[0], STORED[one.kind]):
            with suppress(*REFUSALS_OF_CHANGES):
                tell(one.channel, *changed(stored, one, one.about))
        return
    tell(one.channel, Message(SERIAL, one.event, one.data, one.kind, one.user, one.id, one.extra))


REFUSALS_OF_CHANGES = BadData, TooLarge, NotIdentified


def changed(stored: Message, one: Publish, about: Revision | Annotation) -> Iterable[Message]:
    """A message that was changed or annotated, and what is told of it. Raises REFUSALS_OF_CHANGES."""
    if isinstance(about, Annotation):
        summaries.check_user(about, one.user)
    about = versions.numbered(about, SERIAL + 8, lambda: SERIAL + 9)
    change = Message(SERIAL + 8, one.event, one.data, one.kind, one.user, one.id, one.extra, about=about)
    decided = versions.decide(stored, 0, change, int(LIMITS.message))
    return decided.now, *decided.told


def member(channel: str, user: str, meta: bytes, did: Did, event_id: str | None, extra: bytes | None) -> None:
    """A member is told, and its history kept, as it came."""
    seen = Appearance(did, user, "connection", meta, SERIAL, event_id, extra)
    assert appearances.read(appearances.record(seen, SERIAL)) == seen
    tell(channel, Joined(user, meta), seen, Updated(user, meta), Left(user, meta, True), Counted(3))


def converse(conversation: Any, frames: Iterable[tuple[bytes, bool]], check: Callable[[bytes], Any] = bytes) -> None:
    """Begin, and say these frames: every other frame's commands are done, and the others refused. check: the words."""
    rounds: list[Any] = [conversation.begin()]
    for said_by_it, is_text in frames:
        try:
            rounds.append(conversation.receive(SESSION, said_by_it, is_text=is_text))
        except SowerError as error:
            refused = conversation.refuse(None, checked(error))
            conversation.close(error)
            assert refused
    for number, commands in enumerate(rounds):
        for one in commands:
            if number % 2 == 0:
                words = conversation.answer(SESSION, one, answer(one))
            else:
                told_of(one)
                words = conversation.refuse(one, SowerError("no \u2603\n"))
            for word in filter(None, (words,) if isinstance(words, bytes) else words):
                assert isinstance(word, bytes)
                check(word)
            if isinstance(one, Subscribe) and one.since is not None:
                for word in filter(None, (conversation.gap(one.channel, one.since, Position(EPOCH, SERIAL)),)):
                    check(word)
            conversation.ends(one)


def told_of(one: Any) -> None:
    """What a command makes others hear; its numbers are such that it can be decided by them."""
    sane(one)
    if isinstance(one, Publish):
        publish(one)
    elif isinstance(one, PublishAll):
        for each in one.publishes:
            publish(each)
    elif isinstance(one, Subscribe) and one.meta is not None:
        member(one.channel, one.user or "ada", one.meta, Did.ENTERED, None, None)
    elif isinstance(one, command.Appear):
        member(one.channel, one.user or "ada", one.meta, one.did, one.id, one.extra)
    elif isinstance(one, command.UpdateMeta):
        member(one.channel, "ada", one.meta, Did.UPDATED, None, None)
    elif isinstance(one, polling.SetState):
        member("room", one.user, one.state, Did.UPDATED, None, None)
    elif isinstance(one, polling.Attend):
        for _, state in one.states:
            member("room", one.user, state, Did.ENTERED, None, None)
    elif isinstance(one, polling.React):
        tell(one.channel, Message(SERIAL, "message", one.told(REACTION, True), extra=b'{"kind":"action"}'))


REACTION = polling.Reaction(SERIAL, SERIAL + 9, "ada", "reaction", "\u2603")


def answer(one: Any) -> Any:
    """A full answer to any command."""
    told_of(one)
    make = ANSWERS.get(type(one))
    return replies.Acknowledged() if make is None else make(one)


def _occupancy(channel: str) -> replies.Occupancy:
    return replies.Occupancy(channel, 2, 1, (STORED[0], 12.5), 1, Attendance(7, 6, 5, 4, 3, 2, 1, 1))


def _published(one: PublishAll) -> replies.Published:
    receipts = tuple(replies.Receipt(each.channel, SERIAL + n) for n, each in enumerate(one.publishes))
    return replies.Published(receipts, tuple(_occupancy(r.channel) for r in receipts) if one.counted else ())


def _page(one: command.ReadHistory) -> replies.HistoryPage:
    rows = tuple(appearances.record(seen, SERIAL + n) for n, seen in enumerate(SEEN)) if one.presence else STORED
    return replies.HistoryPage(one, Position(EPOCH, SERIAL + 9), rows, True, SERIAL)


def _mint(one: command.Mint) -> replies.Minted:
    return replies.Minted(one.channel, "token", NOW + one.ttl)


def _welcome(one: Subscribe) -> replies.Welcome:
    welcome = replies.Welcome(one.channel, Position(EPOCH, SERIAL), "ada", MEMBERS, SEEN, one.wants, False, True)
    return msgspec.structs.replace(welcome, follows=one.since)


def _vouched(one: polling.Vouch) -> polling.Vouched:
    return polling.Vouched(one.said(NOW), "ab" * 32)


ANSWERS: Mapping[type, Callable[[Any], Any]] = {
    Publish: lambda one: replies.Receipt(one.channel, SERIAL),
    PublishAll: _published,
    Subscribe: _welcome,
    command.Appear: lambda one: replies.Acknowledged(SEEN[0]),
    command.Connect: lambda one: replies.Connected("c", f"c!{SESSION.id}!x", "ada", True, SowerError("no \u2603\n")),
    command.Batch: lambda one: replies.Answers(tuple(map(answer, one.commands))),
    command.ReadHistory: _page,
    command.ReadPresence: lambda one: replies.Members(one.channel, MEMBERS, SEEN if one.seen else ()),
    command.ListChannels: lambda one: replies.ChannelList((_occupancy("a"), _occupancy("presence-\u2603"))),
    command.ReadOccupancy: lambda one: _occupancy(one.channel),
    command.ReadTime: lambda one: replies.Time(NOW),
    command.Mint: _mint,
    command.Issue: lambda one: replies.Issued(one.make(OF_ABLY, NOW, "id")),
    command.Revoke: lambda one: replies.Revoked(NOW if one.before is None else one.before, NOW + one.margin),
    polling.ReadClock: lambda one: polling.Clock(SERIAL),
    polling.ReadHistories: lambda one: polling.Histories(tuple(map(_page, one.asked))),
    polling.CountMessages: lambda one: polling.Counts(tuple((name, 3) for name, _ in one.since)),
    polling.ReadMembers: lambda one: polling.Rooms((replies.Members("room", MEMBERS),)),
    polling.FindUser: lambda one: polling.Places(("room", "\u2603")),
    polling.ReadState: lambda one: polling.States(tuple((name, b'{"a":1}') for name in one.names.channels)),
    polling.ReadGroup: lambda one: polling.Places(("room", "\u2603")),
    polling.Vouch: _vouched,
    polling.React: lambda one: polling.Reactions((REACTION,)),
    polling.ReadReactions: lambda one: polling.Reactions((REACTION,), True),
    polling.ReadReacted: lambda one: polling.Reacted(_page(one.asked), (REACTION,)),
}
