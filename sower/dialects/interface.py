"""What a protocol must be able to do to be spoken by Sower, and what it is given.

A dialect is a pure translator: bytes -> Command, Answer and Delivery -> bytes. It holds no socket and no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from sower.config import Rate
from sower.core.answer import HttpAnswer, SocketAnswer, Watched
from sower.core.command import Credentials, HttpCommand, SocketCommand
from sower.core.grants import Grant
from sower.core.message import Delivery, Message, Position
from sower.core.polling import Poll, PollingCommand, Source
from sower.core.revising import RevisingCommand
from sower.errors import SowerError


class HttpCall(msgspec.Struct, frozen=True):
    """A request as a dialect sees it.

    params:  the path's named segments, percent-decoded
    query:   percent-decoded, the last of a name wins
    headers: lower-case names
    search:  the query as it came, without its question mark
    """

    method: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    search: str = ""


JSON = (("Content-Type", "application/json"),)
"""The headers of most answers."""


class Reply(msgspec.Struct, frozen=True):
    """An answer over HTTP, in a protocol's words. headers: besides those that every response has."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = JSON


class Asked(msgspec.Struct, frozen=True):
    """What a request asks for, what was shown to be let in, and how its answer is worded.

    credentials: None where everybody is told
    encode:      takes the answer to this command
    """

    credentials: Credentials | None
    command: HttpCommand | PollingCommand | RevisingCommand
    encode: Callable[[Any], Reply]


class Wanted(msgspec.Struct, frozen=True):
    """As Asked, without what was shown to be let in."""

    command: HttpCommand
    encode: Callable[[HttpAnswer], Reply]


class HttpRoute(NamedTuple):
    """One HTTP route.

    decode: a request into a command and the words of its answer, or the SowerError that says what is wrong with it
    refuse: an error in the protocol's words; None where the daemon's own will do
    when:   which calls are this protocol's, where another one has the same route; None for all the others
    """

    method: str
    pattern: str
    decode: Callable[[HttpCall], Asked]
    refuse: Callable[[HttpCall, SowerError], Reply] | None = None
    when: Callable[[HttpCall], bool] | None = None


Said = bytes | tuple[bytes, ...]
"""The payload of a message, or of several, in the format of the socket's encoder; empty ones are not sent."""


class Named(Protocol):
    """A session, as far as its conversation knows it. id: what it is called, made anew each time it is asked for."""

    @property
    def id(self) -> str: ...


class Conversation(Protocol):
    """One socket's side of a protocol. It may remember what the protocol makes it remember, and must be small."""

    __slots__ = ()

    @property
    def longest(self) -> int:
        """Bytes that one message of the client may have, where that is more than limits.message."""
        return 0

    @property
    def publishes(self) -> Rate | None:
        """How fast the client may publish, where it is not limits.client_events."""
        return None

    @property
    def ping_every(self) -> float | None:
        """Seconds after which the client is pinged when it is silent, where that is not session.ping_every."""
        return None

    def asks_before(self, grant: Grant) -> float:
        """Seconds before its token expires from which on the client is asked for a new one."""
        return 0.0

    def ask(self) -> Said:
        """The words that ask for one; nothing where that was said already."""
        return b""

    def heartbeat(self) -> Said:
        """What a silent client is told besides being pinged."""
        return b""

    def greeting(self, session: Named) -> bytes:
        """The payload of the message that the server begins with, empty where it says nothing unasked."""
        return b""

    def begin(self) -> Sequence[SocketCommand]:
        """What opening the socket asks for."""
        ...

    def receive(self, session: Named, payload: bytes, *, is_text: bool) -> Sequence[SocketCommand]:
        """What a message asks for. Raises the SowerError that says what is wrong with it."""
        ...

    def answer(self, session: Named, command: SocketCommand, answer: SocketAnswer) -> Said:
        """The words for an answer."""
        ...

    def refuse(self, command: SocketCommand | None, error: SowerError) -> Said:
        """The words for an error; command is None where the message was none."""
        ...

    def ends(self, command: SocketCommand | None) -> bool:
        """Whether the socket ends when this command is refused."""
        ...

    def loses(self, command: SocketCommand | None) -> str:
        """The channel that the client follows no longer, for all it knows, when this is refused; empty for none."""
        return ""

    def close(self, error: SowerError) -> int:
        """The code that a socket which ends for this error is closed with."""
        ...

    def tell(self, word: Watched) -> bytes:
        """The words for what a client is told unasked; empty where the protocol does not say it."""
        ...

    def gap(self, channel: str, since: Position, position: Position) -> bytes:
        """The words for: something after `since` is gone for good, `position` is where the channel stands."""
        ...


class Encoder(Protocol):
    """One wire format of a protocol. Sockets with the same encoder object share each encoded delivery."""

    @property
    def is_text(self) -> bool:
        """Whether payloads go out as text messages."""
        ...

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> Sequence[bytes]:
        """The payloads of the messages that say deliveries to the same sockets, in their order: one each, or one for
        several where the format has such; empty where the protocol does not say a thing.
        """
        ...


class Stream(NamedTuple):
    """How a response is made of messages that come one after the other, for as long as the client listens.

    headers:   of the response
    end:       what follows each message
    keepalive: what is sent now and then while there is no message, and means nothing
    preamble:  what the body begins with
    """

    headers: tuple[tuple[str, str], ...]
    end: bytes
    keepalive: bytes
    preamble: bytes = b""


EVENT_STREAM = Stream(
    (
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-store"),
        ("X-Accel-Buffering", "no"),
    ),
    end=b"\n\n",
    keepalive=b":\n\n",
)
"""Server-sent events (WHATWG HTML section 9.2): each message is the lines of one event. nginx must not collect them."""


class Opened(NamedTuple):
    """A socket or a stream that a dialect took.

    proves_within: seconds in which its client must prove who it is, 0 for ever
    stream:        how the response of a StreamRoute is made
    """

    credentials: Credentials
    conversation: Conversation
    encoder: Encoder
    proves_within: float = 0.0
    stream: Stream = EVENT_STREAM


class Refusal(NamedTuple):
    """The words for a socket that is not taken, and the code that it is closed with."""

    payload: bytes
    code: int
    is_text: bool = True


class SocketRoute(NamedTuple):
    """One WebSocket route.

    open:   takes a socket, or raises the SowerError that says why not
    refuse: what a socket that is not taken is told
    """

    pattern: str
    open: Callable[[HttpCall], Opened]
    refuse: Callable[[HttpCall, SowerError], Refusal]
    subprotocols: tuple[str, ...] = ()


class StreamRoute(NamedTuple):
    """One route whose response is a stream.

    open:   takes a stream, or raises the SowerError that says why not; its conversation begins with Subscribes alone
    refuse: an error before the stream begins, in the protocol's words; None where the daemon's own will do
    """

    pattern: str
    open: Callable[[HttpCall], Opened]
    refuse: Callable[[HttpCall, SowerError], Reply] | None = None


class PollWords(Protocol):
    """How a protocol words what a poll is answered. Polls with the same words share each encoded envelope."""

    def envelope(self, channel: str, message: Message) -> bytes:
        """One message, open at its end for how it is reached."""
        ...

    def presence(self, channel: str, change: Delivery, serial: int, members: int) -> bytes:
        """Who came or went, open at its end; empty where the protocol does not say it. members: after the change."""
        ...

    def crowd(self, channel: str, serial: int, members: int, turnover: Turnover) -> bytes:
        """Who came and went in a while, open at its end."""
        ...

    def reached(self, source: Source) -> bytes:
        """The end of an envelope that a poll gets through this source."""
        ...

    def answer(self, cursor: int, envelopes: Sequence[bytes]) -> Reply:
        """The whole answer. cursor: where the next poll goes on."""
        ...


class Turnover(NamedTuple):
    """The users that came to a channel, left it, and vanished from it."""

    came: tuple[str, ...]
    left: tuple[str, ...]
    lost: tuple[str, ...]


class Polled(NamedTuple):
    """What a poll asks for, what was shown to be let in, and how it is answered."""

    credentials: Credentials
    poll: Poll
    words: PollWords


class PollRoute(NamedTuple):
    """One route on which clients poll.

    decode: a request into a poll, or the SowerError that says what is wrong with it
    refuse: an error in the protocol's words
    """

    pattern: str
    decode: Callable[[HttpCall], Polled]
    refuse: Callable[[HttpCall, SowerError], Reply]


class Unserved(NamedTuple):
    """How a protocol words that a path is none of its own.

    when:   which requests are evidently meant for it
    refuse: NotFound or MethodNotAllowed in its words
    """

    when: Callable[[HttpCall], bool]
    refuse: Callable[[HttpCall, SowerError], Reply]


class Dialect(NamedTuple):
    """A protocol: its name and its routes.

    fallbacks: sockets that are also reached without a WebSocket, over SockJS
    constants: paths of GET whose answer is always the same
    unserved:  None where the daemon's own words will do
    """

    name: str
    http: tuple[HttpRoute, ...]
    sockets: tuple[SocketRoute, ...]
    streams: tuple[StreamRoute, ...] = ()
    polls: tuple[PollRoute, ...] = ()
    fallbacks: tuple[SocketRoute, ...] = ()
    constants: tuple[tuple[str, Reply], ...] = ()
    unserved: Unserved | None = None
