"""The WebSocket handshake (RFC 6455 section 4.2): whether a request is one, and the 101 that accepts it.

Rule: websockets' sans-IO judge decides. What it agrees to depends on a few headers that most clients send alike, so it
is asked once for each combination of them; the key alone is every client's own.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import NamedTuple

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake
from websockets.http11 import Request as HandshakeRequest
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.utils import accept_key

from sower.errors import BadUpgrade
from sower.net.frames import OFFER, Compression

SWITCHING = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"

ASKED = ("Connection", "Upgrade", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol")
"""The headers that say what a client asks for."""

_ASKED = tuple(name.lower() for name in ASKED)

ALIKE = 64
"""Combinations of them that are remembered: there are a handful of browsers and libraries."""

SOME_KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The RFC's sample, for a judge that looks at the other headers."""

KEY_SIZE = 16
"""Bytes of a key."""


class Agreed(NamedTuple):
    """The 101 up to its Sec-WebSocket-Accept, and what both sides agreed on."""

    head: str
    compression: Compression


def accept(headers: Mapping[str, str], subprotocols: tuple[str, ...]) -> tuple[bytes, Compression]:
    """The whole 101. headers: with lower-case names. Raises BadUpgrade."""
    key = headers.get("sec-websocket-key", "")
    try:
        agreed = _agree(subprotocols, tuple(map(headers.get, _ASKED)))
        if len(b64decode(key, validate=True)) != KEY_SIZE:
            raise ValueError(f"Sec-WebSocket-Key is not {KEY_SIZE} bytes in base64")
    except (InvalidHandshake, ValueError) as error:
        raise BadUpgrade(f"The handshake is not one of WebSocket 13: {error}.") from error
    return f"{agreed.head}Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode("latin-1"), agreed.compression


@lru_cache(ALIKE)
def _agree(subprotocols: tuple[str, ...], asked: tuple[str | None, ...]) -> Agreed:
    """What is agreed on with clients that ask for this. Raises InvalidHandshake."""
    headers = Headers({name: value for name, value in zip(ASKED, asked, strict=True) if value is not None})
    headers["Sec-WebSocket-Key"] = SOME_KEY
    judge = _judge(subprotocols)
    _, extensions, subprotocol = judge.process_request(HandshakeRequest("/", headers))
    said = {"Sec-WebSocket-Extensions": extensions, "Sec-WebSocket-Protocol": subprotocol}
    lines = [f"{name}: {value}\r\n" for name, value in said.items() if value is not None]
    return Agreed(SWITCHING + "".join(lines), Compression.agreed(judge.extensions))


@cache
def _judge(subprotocols: tuple[str, ...]) -> ServerProtocol:
    """One for all of a route, because it keeps nothing between two handshakes."""
    known = [Subprotocol(name) for name in subprotocols]
    return ServerProtocol(extensions=[OFFER], subprotocols=known or None, select_subprotocol=_first_known)


def _first_known(protocol: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """A client that offers none, or none that is known, is served without one."""
    known = protocol.available_subprotocols or ()
    return next((name for name in known if name in offered), None)
