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
from functools import cached_property
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

_encode = msgspec.json.Encoder().encode
_NO_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Request:
    """One request.

    path:       raw, percent-encoded, without the query
    headers:    lower-case names; several of one name joined by ", "
    address:    the peer's IP address
    keep_alive: whether the client wants another request on this connection
    upgrade:    whether it asks for another protocol
    compression: what a WebSocket handshake agreed on
    """

    def __init__(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        address: str,
        keep_alive: bool = True,
        upgrade: bool = False,
    ) -> None:
        self.method = method
        self.path, _, self._query = target.partition("?")
        self.target = target
        self.headers = headers
        self.body = body
        self.address = address
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.compression = Compression()

    @cached_property
    def query(self) -> dict[str, str]:
        """Percent-decoded, the last of a name wins. Raises BadRequest for what is not UTF-8."""
        if "%" not in self._query and "+" not in self._query and self._query.count("&") < MAX_FIELDS:
            pairs = [field.partition("=") for field in self._query.split("&") if field]
            return {name: value for name, _, value in pairs}
        try:
            return dict(parse_qsl(self._query, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS))
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

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes = b"", headers: tuple[Header, ...] = ()) -> None:
        for name, value in headers:
            if not (name + value).isprintable() or not (name + value).isascii():
                raise ValueError(f"the header {name!r} is not printable ASCII: {value!r}")
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
        lines = self._lines(more)
        if self.status not in (204, 304):
            lines.append(f"Content-Length: {len(self.body)}")
        if not keep_alive:
            lines.append("Connection: close")
        head = _head(lines)
        return head if head_only else head + self.body

    def encode_stream(self, more: tuple[Header, ...] = ()) -> bytes:
        """The head of a response whose body ends when its connection does."""
        return _head([*self._lines(more), "Connection: close"]) + self.body

    def _lines(self, more: tuple[Header, ...]) -> list[str]:
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Unknown')}", "Server: sower"]
        return lines + [f"{name}: {value}" for name, value in (*self.headers, *more)]


def _head(lines: list[str]) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
