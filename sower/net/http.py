"""HTTP/1.1 messages: a request as it was read, a response as it is written.

Rule 1: paths are split at `/` before they are percent-decoded, so that an encoded slash stays in its segment.
Rule 2: every response carries its length, but for a 204, a 304 (RFC 9110 section 8.6) and a stream, which ends with its
        connection (RFC 9112 section 6.3); every error is the same JSON.
Rule 3: a header is printable ASCII, so that nothing that a client said can begin another header or response.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from functools import lru_cache
from http import HTTPStatus
from typing import Self
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from sower.errors import BadRequest, MethodNotAllowed, NotAuthorised, SowerError
from sower.net.frames import Compression

Header = tuple[str, str]

JSON_TYPE: Header = ("Content-Type", "application/json")

MAX_FIELDS = 200
"""Fields of a query. PHP's max_input_vars is 1000, Django's 1000; no SDK sends over 20."""

HEADS_AT_HAND = 256
"""Beginnings of responses that are kept: most answers have one of a handful."""

CLOSE = b"Connection: close\r\n"

UNCOMPRESSED = Compression()

_encode = msgspec.json.Encoder().encode
_NO_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Request(msgspec.Struct):
    """One request.

    path:       raw, percent-encoded, without the query
    search:     the query as it came, without its question mark
    headers:    lower-case names; several of one name joined by ", "; without Content-Length
    address:    the peer's IP address
    keep_alive: whether the client wants another request on this connection
    upgrade:    whether it asks for another protocol
    compression: what a WebSocket handshake agreed on
    refused:    why its WebSocket is turned away once it is open
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    address: str
    keep_alive: bool = True
    upgrade: bool = False
    compression: Compression = UNCOMPRESSED
    refused: SowerError | None = None
    path: str = ""
    search: str = ""

    def __post_init__(self) -> None:
        self.path, _, self.search = self.target.partition("?")

    @property
    def query(self) -> dict[str, str]:
        """Percent-decoded, the last of a name wins. Raises BadRequest for what is not UTF-8."""
        search = self.search
        if "%" not in search and "+" not in search and search.count("&") < MAX_FIELDS:
            try:
                return dict([field.split("=", 1) for field in search.split("&")])
            except ValueError:  # a field that is empty, or has no value
                pairs = [field.partition("=") for field in search.split("&") if field]
                return {name: value for name, _, value in pairs}
        try:
            return dict(parse_qsl(search, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS))
        except ValueError as error:
            raise BadRequest(f"The query is not percent-encoded UTF-8, or has over {MAX_FIELDS} fields.") from error


def decode_segment(segment: str) -> str:
    """A path segment, percent-decoded. Raises BadRequest for what is not UTF-8."""
    if "%" not in segment:
        return segment
    if _NO_ESCAPE.search(segment):
        raise BadRequest(f"The path segment {segment[:64]!r} has a % that is not followed by two hexadecimal digits.")
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"The path segment {segment[:64]!r} is not percent-encoded UTF-8.") from error


class Response:
    """One response. Raises ValueError for a header that is not printable ASCII."""

    __slots__ = ("_head", "body", "headers", "status")

    def __init__(self, status: int, body: bytes = b"", headers: tuple[Header, ...] = ()) -> None:
        self._head = _head(status, headers)
        self.status = status
        self.body = body
        self.headers = headers

    @classmethod
    def json(cls, value: object, status: int = 200, headers: tuple[Header, ...] = ()) -> Self:
        """A JSON document."""
        return cls(status, _encode(value), (JSON_TYPE, *headers))

    @classmethod
    def error(cls, error: SowerError) -> Self:
        """{"error": ...} with the headers that go with its status (RFC 9110)."""
        headers: list[Header] = []
        if error.status in (429, 503):
            headers.append(("Retry-After", str(math.ceil(error.retry_after or 1))))
        if isinstance(error, NotAuthorised):
            headers.append(("WWW-Authenticate", 'Basic realm="sower", charset="UTF-8"'))
        if isinstance(error, MethodNotAllowed):
            headers.append(("Allow", ", ".join(error.allow)))
        if error.status == 426:
            headers.append(("Upgrade", "websocket"))
        return cls.json({"error": error.as_dict()}, error.status, tuple(headers))

    def encode(self, *, keep_alive: bool, head_only: bool = False, more: tuple[Header, ...] = ()) -> bytes:
        """The bytes on the wire. head_only: the answer to HEAD."""
        if keep_alive and not head_only and not more and self.status in (200, 201):  # most
            return b"%bContent-Length: %d\r\n\r\n%b" % (self._head, len(self.body), self.body)
        length = b"" if self.status in (204, 304) else b"Content-Length: %d\r\n" % len(self.body)
        close = b"" if keep_alive else CLOSE
        body = b"" if head_only else self.body
        return b"".join((self._head, _lines(more), length, close, b"\r\n", body))

    def encode_stream(self, more: tuple[Header, ...] = ()) -> bytes:
        """The head of a response whose body ends when its connection does."""
        return b"".join((self._head, _lines(more), CLOSE, b"\r\n", self.body))


@lru_cache(HEADS_AT_HAND)
def _head(status: int, headers: tuple[Header, ...]) -> bytes:
    """The beginning of a response. Raises ValueError for a header that is not printable ASCII."""
    for name, value in headers:
        if not (name + value).isprintable() or not (name + value).isascii():
            raise ValueError(f"the header {name!r} is not printable ASCII: {value!r}")
    first = f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}\r\nServer: sower\r\n"
    return first.encode("latin-1") + _lines(headers)


@lru_cache(HEADS_AT_HAND)
def _lines(headers: tuple[Header, ...]) -> bytes:
    return "".join([f"{name}: {value}\r\n" for name, value in headers]).encode("latin-1")
