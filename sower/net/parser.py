"""Bytes -> requests, on httptools (llhttp), with the limits that a parser of its own has not.

Rule 1: whatever is ambiguous is refused (RFC 9112 section 11.2, request smuggling). llhttp refuses both length headers,
        two lengths, bad chunking, folded headers, bare CR or LF and NUL. What it lets through is refused here: a
        missing, doubled or malformed Host, other versions than 1.0 and 1.1, other transfer codings than chunked,
        a target that is no path, and a body behind an upgrade, which llhttp would take for the next protocol's bytes.
Rule 2: a limit is checked while bytes come, so that nothing over it is ever held.
Rule 3: trailers are read and dropped: a header that comes behind the body was seen by nobody who checked headers.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from functools import lru_cache

import httptools

from sower.config import Server
from sower.errors import BadRequest, BodyTooLarge, HeadersTooLarge, SowerError, UriTooLong
from sower.net.http import Request
from sower.net.proxies import trusted

MOST_HEADERS = 100
"""Headers of one request. nginx and httptools' users take 100, websockets 128."""

SINGLE = frozenset(("host", "content-length", "authorization", "origin", "sec-websocket-key", "transfer-encoding"))
"""Headers that may come once: two of them mean different things to different readers."""

A_CHUNK = 16
"""Bytes of a chunk besides what is in it; extensions may have more, together as much as a head. So does Go."""

HOST = re.compile(r"(?:[\w.~!$&'()*+,;=%-]*|\[[\dA-Fa-f:.]+\])(?::\d*)?", re.ASCII)
"""uri-host [":" port] (RFC 9112 section 3.2)."""

HOSTS_AT_HAND = 64
"""Hosts that are known to be well-formed: clients call a daemon by a name or two."""


@lru_cache(HOSTS_AT_HAND)
def _is_host(host: str) -> bool:
    return HOST.fullmatch(host) is not None


def client_of(settings: Server, peer: str, headers: Mapping[str, str]) -> str:
    """Who a request is from: the peer, or whom a trusted proxy names."""
    proxies = settings.trusted_proxies
    return trusted(proxies).client(peer, headers.get("x-forwarded-for", "")) if proxies else peer


def path_of(settings: Server, target: str) -> str:
    """The target without server.path_prefix, which clients sign and routes match without it."""
    prefix = settings.path_prefix
    return target[len(prefix) :] if prefix and target.startswith(prefix + "/") else target


class RequestParser:
    """One connection's inbound half.

    requests:       what is complete, in order
    fault:          what is wrong with the bytes behind those; nothing more is read then
    in_head:        whether part of a head is here; in_body: whether part of a body is awaited
    wants_continue: whether the client waits for a 100 before it sends that body
    left:           after an upgrade, the bytes behind the request
    spent:          whether it reads no other request
    address:        the peer's
    """

    def __init__(self, settings: Server, address: str) -> None:
        self.requests: deque[Request] = deque()
        self.fault: SowerError | None = None
        self.in_head = False
        self.in_body = False
        self.wants_continue = False
        self.left: bytes | None = None
        self.spent = False
        self.address = address
        self._settings = settings
        self._parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._headers: dict[str, str] = {}
        self._body: bytes | bytearray = b""
        self._head_size = 0
        self._fields = 0
        self._in_trailers = False
        self._unfinished = 0
        self._chunks = 0
        self._extensions = 0

    def feed(self, data: bytes) -> None:
        """Take bytes. Raises nothing: what is wrong is a `fault`, so that the requests before it are answered."""
        awaited, chunks, size = self.in_body, self._chunks, len(self._body)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.left = data[upgrade.args[0] :]
        except httptools.HttpParserError as error:
            self.fault = self.fault or BadRequest(f"The request cannot be read: {error}.")
        else:
            if self.in_head or self._in_trailers:
                self._count_unfinished(data)
            if awaited and self.in_body:
                self._count_extensions(len(data) - (len(self._body) - size) - A_CHUNK * (self._chunks - chunks))
        if not self.in_body and not self.requests:
            self.in_head = True

    @property
    def idle(self) -> bool:
        """Whether all that was read is taken, so that another parser may go on in this one's place, or it elsewhere."""
        return not self.requests and self.whole

    @property
    def whole(self) -> bool:
        """Whether nothing is behind the requests that are complete."""
        return not (self.in_head or self.in_body or self.fault)

    def close(self) -> None:
        """Let go of httptools' parser, which refers to this one: a cycle would wait for the collector."""
        del self._parser

    def _count_unfinished(self, data: bytes) -> None:
        """A header is only seen when it is whole, so the bytes of one that never ends are counted here."""
        line_end = data.rfind(b"\n")
        unfinished = self._unfinished = len(data) - line_end - 1 if line_end >= 0 else self._unfinished + len(data)
        # Before the first header the unfinished bytes are mostly those of the target, which count once.
        begun = len(self._target) + unfinished if self._fields else max(len(self._target), unfinished)
        if self._head_size + begun > self._settings.max_head:
            self.fault = self._head_error()

    def _count_extensions(self, more: int) -> None:
        """A chunk's extension is never seen, so what comes and is no body is counted here, but for a first read."""
        self._extensions = max(0, self._extensions + more)
        if self._extensions > self._settings.max_head:
            self.fault = HeadersTooLarge(f"The chunks' extensions have over {self._settings.max_head} bytes.")

    def _head_error(self) -> HeadersTooLarge:
        return HeadersTooLarge(f"The head has over {self._settings.max_head} bytes or over {MOST_HEADERS} headers.")

    # What httptools calls

    def on_message_begin(self) -> None:
        self.in_head = True
        self._target = b""
        self._headers = {}
        self._body = b""
        self._head_size = 0
        self._fields = 0
        self._extensions = 0

    def on_url(self, url: bytes) -> None:
        self._target += url
        if len(self._target) > self._settings.max_uri:
            self._fail(UriTooLong(f"The target has over {self._settings.max_uri} bytes."))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + 4
        self._fields += 1
        if self._head_size + len(self._target) > self._settings.max_head or self._fields > MOST_HEADERS:
            self._fail(self._head_error())
        if self.in_body:
            return  # a trailer
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
        if key in self._headers:
            if key in SINGLE:
                self._fail(BadRequest(f"The header {key} is there twice."))
            text = f"{self._headers[key]}, {text}"
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        version = self._parser.get_http_version()
        self._refuse_ambiguous(version)
        length = self._headers.get("content-length", "0")
        if int(length) > self._settings.max_body:
            self._fail(BodyTooLarge(f"The body has {length} bytes; server.max_body is {self._settings.max_body}."))
        self.in_head = False
        self.in_body = True
        if "expect" in self._headers:
            self.wants_continue = self._headers["expect"].lower() == "100-continue" and version == "1.1"

    def on_chunk_header(self) -> None:
        self._chunks += 1
        self._in_trailers = True  # unless a body follows: the last chunk is the one without

    def on_body(self, body: bytes) -> None:
        self._in_trailers = False
        if len(self._body) + len(body) > self._settings.max_body:
            self._fail(BodyTooLarge(f"The body has over {self._settings.max_body} bytes, server.max_body."))
        if not self._body:
            self._body = body  # mostly it comes whole
            return
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += body

    def on_message_complete(self) -> None:
        self.in_body = False
        self.wants_continue = False
        self._in_trailers = False
        self._headers.pop("content-length", None)
        keep_alive, upgrade = self._parser.should_keep_alive(), self._parser.should_upgrade()
        self.spent = upgrade or not keep_alive
        self.requests.append(
            Request(
                self._parser.get_method().decode("ascii"),
                path_of(self._settings, self._target.decode("ascii")),
                self._headers,
                bytes(self._body),
                address=client_of(self._settings, self.address, self._headers),
                keep_alive=keep_alive,
                upgrade=upgrade,
            )
        )

    def _refuse_ambiguous(self, version: str) -> None:
        """Rule 1, for what llhttp lets through."""
        headers = self._headers
        coding = headers.get("transfer-encoding")
        host = headers.get("host")
        if version not in ("1.1", "1.0"):
            self._fail(BadRequest(f"Version {version} of HTTP is not spoken here, only 1.1 and 1.0."))
        if not self._target.startswith(b"/") or b"#" in self._target or not self._target.isascii():
            self._fail(BadRequest("The target is no path: it begins with / and is percent-encoded ASCII."))
        if host is None and version == "1.1":
            self._fail(BadRequest("The Host header is missing (RFC 9112 section 3.2)."))
        if host is not None and not _is_host(host):
            self._fail(BadRequest("The Host header is no host (RFC 9112 section 3.2)."))
        if coding is not None and (coding.lower() != "chunked" or version == "1.0" or "content-length" in headers):
            self._fail(BadRequest("Transfer-Encoding is chunked alone, in HTTP/1.1, without a Content-Length."))
        if self._parser.should_upgrade():
            if version == "1.0":
                self._fail(BadRequest("An upgrade takes HTTP/1.1."))
            if coding is not None or headers.get("content-length", "0") != "0":
                self._fail(BadRequest("A request for an upgrade has no body."))

    def _fail(self, error: SowerError) -> None:
        self.fault = error
        raise error
