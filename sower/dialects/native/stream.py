"""The native stream: `GET /sse/{channel}?key=&token=&user=&since=`, the words of the WebSocket as server-sent events.

Each word is an event (WHATWG HTML section 9.2) named as its `type`, with the same JSON as its data. The id of an event
is the position from which its client goes on after it, so that a browser's EventSource resumes by itself:

    id: 1f0c9a3e:17324812345678901
    event: event
    data: {"type":"event","event":"greet","data":{"hello":"world"},...}
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sower.core.answer import SocketAnswer, Watched, Welcome
from sower.core.command import SocketCommand, Subscribe
from sower.core.message import Delivery, Joined, Left, Message, Position, Updated, check_channel_name
from sower.dialects.interface import EVENT_STREAM, Conversation, HttpCall, Named, Opened, StreamRoute
from sower.dialects.native.credentials import read_credentials
from sower.dialects.native.socket import NativeConversation
from sower.dialects.native.words import said
from sower.errors import SowerError

RETRY = 2000
"""Milliseconds after which a client comes back. Browsers take 3000 to 5000 where they are not told."""

STREAM = EVENT_STREAM._replace(preamble=b"retry: %d\n\n" % RETRY)

NAMES: dict[type[Delivery], str] = {Message: "event", Joined: "join", Left: "leave", Updated: "update"}


class StreamEncoder(msgspec.Struct, frozen=True):
    """Server-sent events. epoch: of all positions."""

    epoch: str

    @property
    def is_text(self) -> bool:
        """JSON."""
        return True

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> list[bytes]:
        """An event each."""
        return [self._event(delivery) for delivery in deliveries]

    def _event(self, delivery: Delivery) -> bytes:
        """Only messages have a position."""
        word = said(delivery)
        if not word:
            return b""
        position = Position(self.epoch, delivery.serial) if isinstance(delivery, Message) else None
        return event(NAMES[type(delivery)], word, position)


class StreamConversation(Conversation):
    """A stream of one channel, which says what a socket says and hears nothing.

    replays: whether what it missed is told before anything else
    """

    __slots__ = ("_replays", "_socket")

    def __init__(self, channel: str, since: Position | None) -> None:
        self._socket = NativeConversation(channel, since)
        self._replays = False

    def begin(self) -> Sequence[SocketCommand]:
        """Asking for the stream is subscribing."""
        return self._socket.begin()

    def receive(self, session: Named, payload: bytes, *, is_text: bool) -> Sequence[SocketCommand]:
        """Nothing is said over a stream."""
        return ()

    def answer(self, session: Named, command: SocketCommand, answer: SocketAnswer) -> bytes:
        """A welcome."""
        if not isinstance(command, Subscribe) or not isinstance(answer, Welcome):
            return b""
        self._replays = answer.follows is not None
        # Cut off before a gap is told, the client asks for the same again, and is told then.
        position = answer.position if answer.follows is None else command.since or answer.follows
        return event("welcome", self._socket.answer(session, command, answer), position)

    def refuse(self, command: SocketCommand | None, error: SowerError) -> bytes:
        """An error, after which the stream ends."""
        return event("error", self._socket.refuse(command, error))

    def ends(self, command: SocketCommand | None) -> bool:
        """Whatever is refused is the subscription."""
        return True

    def close(self, error: SowerError) -> int:
        """For the audit alone, because a stream has no close code."""
        return self._socket.close(error)

    def tell(self, word: Watched) -> bytes:
        """This protocol has no watchlists."""
        return b""

    def gap(self, channel: str, since: Position, position: Position) -> bytes:
        """A gap. Where a replay follows, the client is not yet at `position`."""
        return event("gap", self._socket.gap(channel, since, position), None if self._replays else position)


def event(name: str, word: bytes, position: Position | None = None) -> bytes:
    """The lines of one event. A line break within JSON is white space, and begins another line of data."""
    if b"\n" in word or b"\r" in word:
        word = word.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    place = f"id: {position}\n" if position is not None else ""
    return f"{place}event: {name}\ndata: ".encode() + word


def stream_routes(epoch: str) -> tuple[StreamRoute, ...]:
    """The route, for a node whose positions have this epoch."""
    encoder = StreamEncoder(epoch)

    def open_stream(call: HttpCall) -> Opened:
        """Follow a channel as server-sent events, from since= or the Last-Event-ID header on.

        Raises BadChannelName, BadPosition, NotAuthorised.
        """
        since = call.headers.get("last-event-id") or call.query.get("since")
        conversation = StreamConversation(
            check_channel_name(call.params["channel"]), Position.parse(since) if since else None
        )
        return Opened(read_credentials(call.headers, call.query), conversation, encoder, stream=STREAM)

    return (StreamRoute("/sse/{channel}", open_stream),)
