"""SockJS framing: messages as lines of a response, for clients that no WebSocket reaches (sockjs-protocol 0.3.3).

    o           the session is open            a["...",...]    messages
    h           a sign of life, to be answered  c[code,"..."]   the session is closed

Rule 1: a line is ASCII, so that its length is the same in bytes and in a browser's characters.
Rule 2: what a client sends is a JSON array of texts, whole in one request; anything else breaks the protocol.
"""

from __future__ import annotations

import json

import msgspec

from sower.net.framing import NO_FAREWELL, Farewell, Received

OPEN = b"o\n"

BAD_DATA = 1007
"""The close code for what is no array of texts (RFC 6455 section 7.4.1)."""

_decode = msgspec.json.Decoder(list[str]).decode


class SockJsFraming:
    """There is one of it."""

    ping = b"h\n"
    pongs = True
    closes = False

    def text(self, payload: bytes) -> bytes:
        """A line with one message."""
        return b"a[" + json.dumps(payload.decode()).encode() + b"]\n"

    binary = text

    def close(self, code: int, reason: str) -> bytes:
        """The last line."""
        return _close(code, reason)

    def nod(self, data: bytes) -> bytes | None:
        """An empty array is a sign of life."""
        return b"" if data == b"[]" else None

    def whole(self, data: bytes, limit: int) -> None:
        """A body may hold several messages."""

    def inbound(self, limit: int) -> SockJsInbound:
        """A reader of requests' bodies."""
        return SockJsInbound(limit)


class SockJsInbound:
    """What a client sends. A body is whole, so nothing is ever half received."""

    resting = True
    controls = 0

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failure: Farewell | None = None

    def feed(self, data: bytes) -> list[Received]:
        """The messages of one body."""
        try:
            messages = [Received(True, text.encode()) for text in _decode(data)]
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            self._failure = Farewell(BAD_DATA, "a body must be a JSON array of texts", by_peer=False)
            return []
        if any(len(message.payload) > self._limit for message in messages):
            self._failure = Farewell(1009, f"a message has over {self._limit} bytes", by_peer=False)
            return []
        return messages

    @property
    def reply_due(self) -> bool:
        """Whether the session must be closed."""
        return self.ended

    def reply(self) -> bytes:
        """The line that closes it."""
        return _close(self.farewell.code, self.farewell.reason)

    @property
    def ended(self) -> bool:
        """Whether the client broke the protocol."""
        return self._failure is not None

    @property
    def farewell(self) -> Farewell:
        """How it ended."""
        return self._failure or NO_FAREWELL


def refusal(payload: bytes, code: int, reason: str) -> bytes:
    """A whole session for a client that is not let in: why, and that it ends."""
    return OPEN + SOCKJS.text(payload) + _close(code, reason)


def _close(code: int, reason: str) -> bytes:
    return f"c[{code},{json.dumps(reason)}]\n".encode()


SOCKJS = SockJsFraming()
