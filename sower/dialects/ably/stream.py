"""Ably's streams: `/sse` as server-sent events, `/event-stream` as a JSON object a line, of one or more channels.

An event's id is SERIAL@EPOCH/CHANNEL. A stream of several channels that goes on from it has this channel exactly, and
of the others what is younger than OVERLAP before it: serials rise over all channels, and a message may be told twice
rather than not at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from sower.core.answer import SocketAnswer, Watched
from sower.core.attendance import Use
from sower.core.command import Rewind, SocketCommand, Subscribe
from sower.core.message import SERIALS_PER_SECOND, Annotation, Delivery, Message, Position
from sower.dialects.ably import messages, serials
from sower.dialects.ably.channels import read_name, read_rewind
from sower.dialects.ably.codes import info
from sower.dialects.ably.credentials import read_credentials
from sower.dialects.ably.http import refuse
from sower.dialects.ably.wire import JSON
from sower.dialects.interface import EVENT_STREAM, Conversation, HttpCall, Named, Opened, Stream, StreamRoute
from sower.errors import BadParameter, SowerError

MOST_CHANNELS = 100
"""Channels of one stream."""

OVERLAP = 5 * SERIALS_PER_SECOND

STREAM = EVENT_STREAM._replace(keepalive=b":keepalive\n\n")

LINES = Stream((("Content-Type", "application/json"), ("Cache-Control", "no-store")), end=b"\n", keepalive=b"\n")


class StreamEncoder(msgspec.Struct, frozen=True):
    """Messages of a stream. events: as server-sent events. enveloped: the message, or its bare data."""

    epoch: str
    events: bool
    enveloped: bool

    @property
    def is_text(self) -> bool:
        """JSON."""
        return True

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> list[bytes]:
        """A message each."""
        return [self._said(channel, delivery) for delivery in deliveries]

    def _said(self, channel: str, delivery: Delivery) -> bytes:
        """One message, or a change of one, which bare data could not say; presence is not part of a stream."""
        if not isinstance(delivery, Message) or isinstance(delivery.about, Annotation):
            return b""
        if delivery.follows_up and not self.enveloped:
            return b""
        message = messages.out(delivery, self.epoch, JSON, channel)
        bare = (message.data or "") if isinstance(message.data, str | None) else ""
        data = JSON.encode(message) if self.enveloped else bare.encode()
        if not self.events:
            return data
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
        return f"id: {serials.write(delivery.serial, self.epoch)}/{channel}\nevent: message\ndata: ".encode() + lines


class StreamConversation(Conversation):
    """A stream; it hears nothing."""

    __slots__ = ("_begins", "_events")

    def __init__(self, begins: Sequence[Subscribe], *, events: bool) -> None:
        self._begins = begins
        self._events = events

    def begin(self) -> Sequence[SocketCommand]:
        """Asking for the stream is subscribing."""
        return self._begins

    def receive(self, session: Named, payload: bytes, *, is_text: bool) -> Sequence[SocketCommand]:
        """Nothing is said over a stream."""
        return ()

    def answer(self, session: Named, command: SocketCommand, answer: SocketAnswer) -> bytes:
        """A stream that begins says nothing."""
        return b""

    def refuse(self, command: SocketCommand | None, error: SowerError) -> bytes:
        """An error, after which the stream ends."""
        word = JSON.encode(info(error))
        return b"event: error\ndata: " + word if self._events else JSON.encode({"error": info(error)})

    def ends(self, command: SocketCommand | None) -> bool:
        """Whatever is refused is a subscription."""
        return True

    def close(self, error: SowerError) -> int:
        """For the audit alone."""
        return error.close

    def tell(self, word: Watched) -> bytes:
        """This protocol has no watchlists."""
        return b""

    def gap(self, channel: str, since: Position, position: Position) -> bytes:
        """Clients of streams have no word for it."""
        return b""


def opens(epoch: str, call: HttpCall, *, events: bool) -> Opened:
    """Take a stream. Raises BadParameter, BadChannelName, NotAuthorised."""
    query = call.query
    separator = query.get("separator") or ","
    written = query.get("channels") or query.get("channel") or ""
    names = [read_name(name) for name in written.split(separator)]
    if not 0 < len(names) <= MOST_CHANNELS:
        raise BadParameter(f"A stream has 1 to {MOST_CHANNELS} channels, this one {len(names)}.")
    last = query.get("lastEvent") or _utf8(call.headers.get("last-event-id", ""))
    rewind = None if last else query.get("rewind")
    begins = [
        Subscribe(
            name,
            _since(last, name) if last else None,
            rewind=_rewind(params.get("rewind") or rewind),
            uses=Use.HEAR,
        )
        for name, params in names
    ]
    encoder = StreamEncoder(epoch, events, query.get("enveloped") != "false")
    conversation = StreamConversation(begins, events=events)
    shown = read_credentials(call.headers, query)
    return Opened(shown, conversation, encoder, stream=STREAM if events else LINES)


def _utf8(header: str) -> str:
    """Browsers send this header in UTF-8 (WHATWG HTML section 9.2), and it may hold a channel's name."""
    return header.encode("latin-1").decode(errors="replace")


def _rewind(text: str | None) -> Rewind | None:
    return read_rewind(text) if text else None


def _since(last: str, channel: str) -> Position:
    serial, _, own = last.partition("/")
    where = serials.read(serial)
    return where if own == channel else Position(where.epoch, max(0, where.serial - OVERLAP))


def stream_routes(epoch: str) -> tuple[StreamRoute, ...]:
    """The routes, for a node whose positions have this epoch."""

    def sse(call: HttpCall) -> Opened:
        return opens(epoch, call, events=True)

    def lines(call: HttpCall) -> Opened:
        return opens(epoch, call, events="text/event-stream" in call.headers.get("accept", ""))

    return StreamRoute("/sse", sse, refuse), StreamRoute("/event-stream", lines, refuse)
