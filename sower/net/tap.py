"""A wire that tells what passes through it: it takes the place of a session's wire while somebody watches.

Rule 1: a session that nobody watches pays nothing for this: no flag is looked at, no hook is called.
Rule 2: bytes are told after they passed, in their order, cut into frames by parsers of this side's own, so that what
        a watcher sees is what was on the wire and not what somebody meant to send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

from sower.net.frames import WINDOW_BITS, WebSocketFraming
from sower.net.framing import Framing
from sower.net.wire import Wire


class Passing(NamedTuple):
    """One frame. from_client: which way it went. kind: text, binary, cont, ping, pong, close; or bytes, unframed."""

    from_client: bool
    kind: str
    payload: bytes


class TappedWire(Wire):
    """The same socket. told: called with each frame that passes."""

    __slots__ = ("_inbound", "_outbound", "_told", "wire")

    def __init__(self, wire: Wire, framing: Framing, told: Callable[[Passing], None]) -> None:
        super().__init__(wire.sock, wire.address)
        self.wire = wire
        framed = isinstance(framing, WebSocketFraming)
        self._inbound = _reading("client", framed=framed)
        self._outbound = _reading("daemon", framed=framed)
        self._told = told

    def send_now(self, data: bytes | memoryview) -> int:
        """As Wire."""
        sent = self.wire.send_now(data)
        for passing in self._outbound(bytes(data[:sent])):
            self._told(passing)
        return sent

    def recv_now(self, most: int) -> bytes | None:
        """As Wire."""
        data = self.wire.recv_now(most)
        for passing in self._inbound(data) if data else ():
            self._told(passing)
        return data

    async def writable(self) -> None:
        """As Wire. The wire knows who waits: it is closed after the tap was taken off."""
        await self.wire.writable()

    def finish(self) -> None:
        """As Wire."""
        self.wire.finish()


def _reading(sender: Literal["client", "daemon"], *, framed: bool) -> Callable[[bytes], Iterator[Passing]]:
    """What cuts one direction's bytes into frames. It begins between two of them."""
    from_client = sender == "client"
    protocol = Protocol(SERVER if from_client else CLIENT, state=OPEN, max_size=None)
    protocol.extensions = [PerMessageDeflate(True, True, WINDOW_BITS, WINDOW_BITS)]

    def read(data: bytes) -> Iterator[Passing]:
        if not framed or protocol.parser_exc is not None:
            yield Passing(from_client, "bytes", data)
            return
        protocol.receive_data(data)
        for frame in protocol.events_received():
            if isinstance(frame, Frame):
                yield Passing(from_client, Opcode(frame.opcode).name.lower(), bytes(frame.data))
        protocol.data_to_send()  # a reader answers nothing

    return read
