"""How what a session says and hears is framed on its connection: one object for all sessions of a kind.

Rule 1: a frame is the same bytes for every receiver of a kind, so that a delivery is framed once for all of them.
Rule 2: a session is the same whatever its framing: its backlog, its bounds, its sleep and its end do not depend on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from sower.core.command import Wording
from sower.core.message import Delivery
from sower.dialects.interface import Stream


class Received(NamedTuple):
    """A whole message.

    is_text: it was sent as text, and its payload is valid UTF-8
    owed:    what is due to be answered before it: the pongs for pings that came within it
    """

    is_text: bool
    payload: bytes
    owed: bytes = b""


class Farewell(NamedTuple):
    """The close code and reason that a socket ended with."""

    code: int
    reason: str
    by_peer: bool


NO_FAREWELL = Farewell(1006, "the connection was lost", by_peer=True)
"""No close frame came (RFC 6455 section 7.1.5)."""


class Inbound(Protocol):
    """The inbound half of one connection. Made when bytes arrive; droppable when `resting`."""

    def feed(self, data: bytes) -> list[Received]:
        """The whole messages that these bytes complete. What must be sent in answer is in `reply`."""
        ...

    @property
    def controls(self) -> int:
        """Frames without a message, such as pings, that the last bytes held."""
        ...

    @property
    def reply_due(self) -> bool:
        """Whether the framing itself owes an answer."""
        ...

    def reply(self) -> bytes:
        """What it owes."""
        ...

    @property
    def resting(self) -> bool:
        """Whether nothing is half received, so that this parser can be dropped and another begun later."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it says that the connection ends."""
        ...

    @property
    def farewell(self) -> Farewell:
        """How it ended."""
        ...


class Framing(Protocol):
    """One kind of connection.

    ping:   asks a silent client for a sign of life
    pongs:  whether the client answers it; where it cannot, the kernel finds out that it is gone
            (Wire.acknowledged_within)
    closes: whether the client answers the last frame; where it does not, the bytes end behind it
    """

    @property
    def ping(self) -> bytes: ...
    @property
    def pongs(self) -> bool: ...
    @property
    def closes(self) -> bool: ...

    def text(self, payload: bytes) -> bytes:
        """A whole message of text."""
        ...

    def binary(self, payload: bytes) -> bytes:
        """A whole message of bytes."""
        ...

    def close(self, code: int, reason: str) -> bytes:
        """The last frame."""
        ...

    def nod(self, data: bytes) -> bytes | None:
        """The answer to what needs no parser, empty where there is none to give; None for all else."""
        ...

    def whole(self, data: bytes, limit: int) -> Received | None:
        """The one message that these bytes are, where that is plain to see; None for all that needs a parser.

        limit: bytes of the message, after inflation
        """
        ...

    def inbound(self, limit: int) -> Inbound:
        """A parser. limit: as of `whole`."""
        ...


class Silent:
    """The encoder of who may be on a channel and not follow it."""

    is_text = True

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> Sequence[bytes]:
        """Nothing."""
        return ()


SILENT = Silent()


class FramedAudience:
    """All sessions that share an encoder and a framing: their deliveries are framed once.

    dialect: the name of the protocol that they speak
    """

    __slots__ = ("_encoder", "dialect", "frame", "framing")

    def __init__(self, encoder: Wording, framing: Framing, dialect: str = "native") -> None:
        self._encoder = encoder
        self.dialect = dialect
        self.framing = framing
        self.frame = framing.text if encoder.is_text else framing.binary

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, FramedAudience):
            return False
        return self.framing is other.framing and self._encoder == other._encoder

    def __hash__(self) -> int:
        return hash((self._encoder, self.framing))

    def of(self, encoder: Wording) -> FramedAudience:
        """Sessions of this kind, told in other words."""
        return FramedAudience(encoder, self.framing, self.dialect)

    @property
    def silent(self) -> FramedAudience:
        """Sessions of this kind that may be there, and are told nothing."""
        return self.of(SILENT)

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> bytes:
        """The whole frames for deliveries; empty where the protocol does not say them."""
        return b"".join([self.frame(payload) for payload in self._encoder.encode(channel, deliveries) if payload])


class StreamFraming:
    """A response that goes on and on: messages one after the other, out only."""

    pongs = False
    closes = False

    def __init__(self, stream: Stream) -> None:
        self.ping = stream.keepalive
        self._end = stream.end

    def text(self, payload: bytes) -> bytes:
        """The message and what ends it."""
        return payload + self._end

    binary = text

    def close(self, code: int, reason: str) -> bytes:
        """The end of the response says it."""
        return b""

    def nod(self, data: bytes) -> bytes:
        """Whatever is said is dropped."""
        return b""

    def whole(self, data: bytes, limit: int) -> None:
        """Nothing is left to see."""

    def inbound(self, limit: int) -> Inbound:
        """Never asked for: `nod` takes everything, and the end is not answered."""
        raise AssertionError("what the client of a stream says is not parsed")
