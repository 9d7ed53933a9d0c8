"""WebSocket frames (RFC 6455 section 5): outbound encoded here once, inbound by websockets' sans-IO core.

This is one framing of net/framing.py.

Rule 1: a server's frames are not masked, so a frame is the same bytes for every receiver.
Rule 2: inbound limits are owned by the parser: size of a message (inflated too), fragments, UTF-8, control frames.
Rule 3: compression (RFC 7692) has no context takeover on either side, so that a deflated frame too is the same
        bytes for every receiver, and no compressor or window lives with a connection.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from types import GeneratorType
from typing import NamedTuple, cast

from websockets.extensions.permessage_deflate import PerMessageDeflate, ServerPerMessageDeflateFactory
from websockets.frames import DATA_OPCODES, Frame, Opcode
from websockets.frames import apply_mask as _apply_mask  # pyright: ignore[reportPrivateImportUsage] - the compiled one
from websockets.protocol import OPEN, SERVER, Protocol

from sower.net.framing import NO_FAREWELL, Farewell, Received

PING = b"\x89\x00"
"""An empty ping, the same bytes for everybody."""

PONG = b"\x8a\x00"
"""An empty pong."""

FRAGMENT, FRAGMENTS = 64, 1024
"""Bytes that the fragments of a message have at least, on average, where it has more of them than this: empty ones
would go on for ever. Autobahn's smallest are 64."""

TOO_BIG = 1009
"""The close code for a message of too many (RFC 6455 section 7.4.1)."""

INVALID_DATA = 1007
"""The close code for text that is no UTF-8 (RFC 6455 section 7.4.1)."""

MASKED = 0x80
"""The bit of a frame's second byte that a client's frames have."""

LONG = MASKED | 127
"""The second byte of a client's frame whose length takes eight bytes more: those are not looked at without a parser."""

SHORTEST = 6
"""Bytes of a client's frame without a payload: two of head, four of mask."""

EMPTY_BLOCK = b"\0\0\xff\xff"
"""What a deflated message ends with on the way in and out of zlib, and not on the wire (RFC 7692 section 7.2)."""

DEFLATE_FROM = 512
"""Bytes of a payload from which deflating pays: below it saves less than a packet's headers."""

DEFLATE_LEVEL = 1
"""zlib's fastest level: of JSON it saves nearly what level 6 does, in a third of the time."""

WINDOW_BITS = 15
"""The window that all receivers share; a client that asks for a smaller one is sent uncompressed frames."""

OFFER = ServerPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)
"""What the handshake answers to a client that offers permessage-deflate."""

MAX_REASON = 123
"""Bytes of a close frame's reason: a control frame carries 125 bytes, two of them the code."""


def text(payload: bytes) -> bytes:
    """A whole text frame."""
    return _head(0x81, len(payload)) + payload


def binary(payload: bytes) -> bytes:
    """A whole binary frame."""
    return _head(0x82, len(payload)) + payload


def deflated_text(payload: bytes) -> bytes:
    """A whole text frame, deflated where that pays."""
    return _deflated(0x81, payload)


def deflated_binary(payload: bytes) -> bytes:
    """A whole binary frame, deflated where that pays."""
    return _deflated(0x82, payload)


def _deflated(first: int, payload: bytes) -> bytes:
    if len(payload) >= DEFLATE_FROM:
        compressor = zlib.compressobj(DEFLATE_LEVEL, zlib.DEFLATED, -WINDOW_BITS)
        small = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]
        if len(small) < len(payload):
            return _head(first | 0x40, len(small)) + small
    return _head(first, len(payload)) + payload


def close(code: int, reason: str = "") -> bytes:
    """A close frame; a reason that is too long is cut at a character's end."""
    payload = struct.pack("!H", code) + reason.encode()[:MAX_REASON].decode(errors="ignore").encode()
    return _head(0x88, len(payload)) + payload


def _head(first: int, length: int) -> bytes:
    if length < 126:
        return bytes((first, length))
    if length < 65536:
        return struct.pack("!BBH", first, 126, length)
    return struct.pack("!BBQ", first, 127, length)


class Compression(NamedTuple):
    """What a handshake agreed on. inbound: the client may deflate. outbound: the daemon may, with the shared window."""

    inbound: bool = False
    outbound: bool = False

    @classmethod
    def agreed(cls, extensions: Sequence[object]) -> Compression:
        """What the extensions of an accepted handshake come to."""
        for extension in extensions:
            if isinstance(extension, PerMessageDeflate):
                return cls(True, extension.local_max_window_bits == WINDOW_BITS)
        return cls()


class WebSocketFraming:
    """What all sockets have in common whose handshakes agreed on the same compression."""

    ping = PING
    pongs = True
    closes = True

    def __init__(self, compression: Compression) -> None:
        self.text = deflated_text if compression.outbound else text
        self.binary = deflated_binary if compression.outbound else binary
        self._inflates = compression.inbound

    def close(self, code: int, reason: str) -> bytes:
        """A close frame."""
        return close(code, reason)

    def nod(self, data: bytes) -> bytes | None:
        """One whole ping or pong of a client without a payload."""
        if len(data) == SHORTEST and data[1] == MASKED and data[0] in (PING[0], PONG[0]):
            return PONG if data[0] == PING[0] else b""
        return None

    def whole(self, data: bytes, limit: int) -> Received | None:
        """One masked frame that is a message, and nothing behind it: nearly all that clients send comes so.

        What is wrong with others, the parser says.
        """
        if len(data) < SHORTEST or not MASKED <= data[1] < LONG:
            return None
        first, length, start = data[0], data[1] - MASKED, 2
        if length == 126:
            length, start = data[2] << 8 | data[3], 4
        deflated = first in (0xC1, 0xC2) and self._inflates
        if len(data) != start + 4 + length or length > limit or not (deflated or first in (0x81, 0x82)):
            return None
        payload = _apply_mask(data[start + 4 :], data[start : start + 4])
        if deflated:
            payload = _inflated(payload, limit)
        is_text = first & 1 == 1
        if payload is None or (is_text and not _is_utf8(payload)):
            return None
        return Received(is_text, payload)

    def inbound(self, limit: int) -> Inbound:
        """A parser."""
        return Inbound(limit, inflates=self._inflates)


class _Protocol(Protocol):
    """websockets' core, but for one thing: it takes a close within a fragmented message for an error."""

    def recv_frame(self, frame: Frame) -> None:
        """A control frame may come within a message, a close too (RFC 6455 section 5.4)."""
        if frame.opcode is Opcode.CLOSE:
            self.current_size = None
        super().recv_frame(frame)


class Inbound:
    """The inbound half of one socket. Made when bytes arrive; droppable when `resting`.

    limit:    bytes of one message, after inflation
    inflates: whether messages may be deflated
    """

    __slots__ = ("_is_text", "_most_parts", "_parts", "_protocol", "controls")

    def __init__(self, limit: int, *, inflates: bool = False) -> None:
        self._protocol = _Protocol(SERVER, state=OPEN, max_size=limit)
        if inflates:
            self._protocol.extensions = [PerMessageDeflate(True, True, WINDOW_BITS, WINDOW_BITS)]
        self._parts: list[bytes] = []
        self._most_parts = max(FRAGMENTS, limit // FRAGMENT)
        self._is_text = True
        self.controls = 0

    def __del__(self) -> None:
        """Part the protocol from its parser and its fault, which refer back to it: it may be frozen (collector.py)."""
        self._protocol.parser.close()
        self._protocol.parser_exc = None

    def feed(self, data: bytes) -> list[Received]:
        """The whole messages that these bytes complete. What must be sent in answer is in `reply`."""
        self._protocol.receive_data(data)
        messages: list[Received] = []
        pings = self.controls = 0
        for frame in self._protocol.events_received():
            if not isinstance(frame, Frame) or frame.opcode not in DATA_OPCODES:
                pings += isinstance(frame, Frame) and frame.opcode is Opcode.PING
                self.controls += 1
                continue
            if frame.opcode is not Opcode.CONT:
                self._is_text = frame.opcode is Opcode.TEXT
            self._parts.append(bytes(frame.data))
            if frame.fin:
                payload = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
                self._parts = []
                if self._is_text and not _is_utf8(payload):
                    self._protocol.fail(INVALID_DATA, "a text message must be UTF-8")
                    break
                messages.append(Received(self._is_text, payload, self._pongs(pings) if pings else b""))
                pings = 0
            elif len(self._parts) > self._most_parts:
                self._protocol.fail(TOO_BIG, "a message of too many fragments")
                break
        return messages

    def _pongs(self, count: int) -> bytes:
        """The first pongs that the protocol owes: it has one for each ping, in their order."""
        writes = self._protocol.writes
        pongs = b"".join(writes[:count])
        del writes[:count]
        return pongs

    @property
    def reply_due(self) -> bool:
        """Whether the protocol owes a pong or a close frame."""
        return bool(self._protocol.writes)

    def reply(self) -> bytes:
        """The pongs and the close frame that the protocol owes."""
        return b"".join(self._protocol.data_to_send())

    @property
    def resting(self) -> bool:
        """Whether nothing is half received, so that this parser can be dropped and another begun later."""
        # An empty buffer says nothing: a frame's header may just have been taken out of it. Between two frames the
        # parser waits to hear whether there is more.
        waits_in = cast("GeneratorType[None, None, None]", self._protocol.parser).gi_yieldfrom
        between = getattr(waits_in, "__name__", "") == "at_eof"
        return between and not self._parts and self._protocol.current_size is None

    @property
    def ended(self) -> bool:
        """Whether the closing handshake has begun, from the peer's side or because it broke the protocol."""
        return self._protocol.state is not OPEN

    @property
    def farewell(self) -> Farewell:
        """How it ended."""
        if self._protocol.close_rcvd is not None:
            return Farewell(self._protocol.close_rcvd.code, self._protocol.close_rcvd.reason, by_peer=True)
        if self._protocol.close_sent is not None:
            return Farewell(self._protocol.close_sent.code, self._protocol.close_sent.reason, by_peer=False)
        return NO_FAREWELL


def _inflated(payload: bytes, limit: int) -> bytes | None:
    """A message (RFC 7692 section 7.2.2), None for what is none and where it is longer than the limit."""
    inflator = zlib.decompressobj(-WINDOW_BITS)
    try:
        inflated = inflator.decompress(payload + EMPTY_BLOCK, limit)
    except zlib.error:
        return None
    return None if inflator.unconsumed_tail else inflated


def _is_utf8(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True
