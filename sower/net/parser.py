"""Bytes -> requests, on httptools (llhttp), with the limits that a parser of its own has not.

Rule 1: whatever is ambiguous is refused (RFC 9112 section 11.2, request smuggling): llhttp refuses both length
        headers, bad chunking, folded headers, bare CR or LF and NUL; here it is a missing or doubled Host.
Rule 2: a limit is checked while bytes come, so that nothing over it is ever held.
"""

from __future__ import annotations

from collections import deque

import httptools

from sower.config import Server
from sower.errors import BadRequest, BodyTooLarge, HeadersTooLarge, SowerError, UriTooLong
from sower.net.http import Request

MOST_HEADERS = 100
"""Headers of one request. nginx and httptools' users take 100, websockets 128."""

SINGLE = frozenset(("host", "content-length", "authorization", "origin", "sec-websocket-key", "transfer-encoding"))
"""Headers that may come once: two of them mean different things to different readers."""


class RequestParser:
    """One connection's inbound half.

    requests:  what is complete, in order
    in_head:   whether part of a head is here; in_body: whether part of a body is awaited
    left:      after an upgrade, the bytes behind the request
    fault:     why nothing more can be read
    """

    def __init__(self, settings: Server, address: str) -> None:
        self.requests: deque[Request] = deque()
        self.in_head = False
        self.in_body = False
        self.wants_continue = False
        self.left: bytes | None = None
        self.fault: SowerError | None = None
        self._settings = settings
        self._address = address
        self._error: SowerError | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._head_size = 0
        self._body_size = 0
        self._unfinished = 0

    def feed(self, data: bytes) -> None:
        """Take bytes. What cannot be read is a `fault`: BadRequest, HeadersTooLarge, UriTooLong, BodyTooLarge."""
        unfinished = self._unfinished
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.left = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self.fault = self._error or BadRequest(f"The request cannot be read: {error}.")
            return
        # A header is only seen when it is whole, so the bytes of one that never ends are counted here.
        self._unfinished = unfinished + len(data) if self.in_head else 0
        if self._unfinished > self._settings.max_head + len(data):
            self.fault = HeadersTooLarge(f"The head has over {self._settings.max_head} bytes.")
        if not self.in_body and not self.requests:
            self.in_head = True

    def close(self) -> None:
        """Let go of httptools' parser, which refers to this one: a cycle would wait for the collector."""
        del self._parser

    # What httptools calls

    def on_message_begin(self) -> None:
        self.in_head = True
        self._target = b""
        self._headers = {}
        self._body = []
        self._head_size = 0
        self._body_size = 0
        self.wants_continue = False

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self._settings.max_uri:
            self._fail(UriTooLong(f"The target has over {self._settings.max_uri} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + 4
        if self._head_size + len(self._target) > self._settings.max_head or len(self._headers) >= MOST_HEADERS:
            limit = self._settings.max_head
            self._fail(HeadersTooLarge(f"The head has over {limit} bytes or over {MOST_HEADERS} headers."))
        key, text = name.decode("latin-1").lower(), value.decode("latin-1")
        before = self._headers.get(key)
        if before is not None:
            if key in SINGLE:
                self._fail(BadRequest(f"The header {key} is there twice."))
            text = f"{before}, {text}"
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        headers = self._headers
        if "host" not in headers and self._parser.get_http_version() != "1.0":
            self._fail(BadRequest("The Host header is missing (RFC 9112 section 3.2)."))
        if "content-length" in headers and "transfer-encoding" in headers:
            self._fail(BadRequest("Content-Length and Transfer-Encoding exclude each other."))
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._settings.max_body:
            self._fail(BodyTooLarge(f"The body has {length} bytes; server.max_body is {self._settings.max_body}."))
        self.in_head = False
        self.in_body = True
        self.wants_continue = headers.get("expect", "").lower() == "100-continue"

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        if self._body_size > self._settings.max_body:
            self._fail(BodyTooLarge(f"The body has over {self._settings.max_body} bytes, server.max_body."))
        self._body.append(body)

    def on_message_complete(self) -> None:
        self.in_body = False
        self.wants_continue = False
        self.requests.append(
            Request(
                self._parser.get_method().decode("latin-1"),
                self._target.decode("latin-1"),
                self._headers,
                self._body[0] if len(self._body) == 1 else b"".join(self._body),
                address=self._address,
                keep_alive=self._parser.should_keep_alive(),
                upgrade=self._parser.should_upgrade(),
            )
        )

    def _fail(self, error: SowerError) -> None:
        self._error = error
        raise error
