"""Heads that were read before: a client that keeps its connection sends the same again, but for target and length.

    bytes -> taken apart -> the headers are known, byte for byte -> Request, in a fifth of what reading takes

Rule 1: nothing is judged here. What is known was read by llhttp and parser.py and found good. What is no
        single whole request, or is not as plain as can be, is theirs to read, and theirs to refuse.
Rule 2: a head that says something about what follows it is not remembered: another coding, a wait, an upgrade, an end.
"""

from __future__ import annotations

from collections.abc import Mapping

from sower.config import Server
from sower.net.http import Request
from sower.net.parser import RequestParser, client_of, path_of

AT_HAND = 256
"""Heads that are remembered. One more, and all are forgotten: those that come again are soon known again."""

LONGEST = 1024
"""Bytes of a head's headers that are remembered: together a quarter of a megabyte."""

LENGTH = b"Content-Length: "
"""As SDKs write it. Where it is written otherwise, each length is a head of its own."""

SAYS_MORE = ("transfer-encoding", "expect")

Key = tuple[str, bytes, bytes, bytes]
"""A head but for its target and its length: the method, the headers before the length, the length's name, and those
behind it."""


class Heads:
    """What requests of one config's clients begin with."""

    def __init__(self, settings: Server) -> None:
        self._settings = settings
        self._most_head = int(settings.max_head) // 2
        self._most_uri = int(settings.max_uri)
        self._most_body = int(settings.max_body)
        self._direct = not settings.trusted_proxies and not settings.path_prefix
        self._known: dict[Key, Mapping[str, str]] = {}

    def read(self, data: bytes, address: str) -> Request | None:
        """The request, where these bytes are one, and its head is known. address: the peer's."""
        parts = self._take_apart(data)
        if parts is None:
            return None
        key, target, body = parts
        headers = self._known.get(key)
        if headers is None:
            return None
        if not self._direct:
            target, address = path_of(self._settings, target), client_of(self._settings, address, headers)
        return Request(key[0], target, headers, body, address=address)

    def learn(self, data: bytes, parser: RequestParser) -> None:
        """Remember the head of the request that a fresh parser made of these bytes, where it is that one alone."""
        parts = self._take_apart(data)
        if parts is None or not parser.whole or len(parser.requests) != 1:
            return
        (method, before, announced, after), _, body = parts
        request = parser.requests[0]
        begins_a_line = not before or before.endswith(b"\r\n")
        if request.upgrade or not request.keep_alive or request.body != body or not (begins_a_line or not announced):
            return
        if len(before) + len(after) > LONGEST or any(name in request.headers for name in SAYS_MORE):
            return
        if len(self._known) >= AT_HAND:
            self._known.clear()
        self._known[method, before, announced, after] = request.headers

    def _take_apart(self, data: bytes) -> tuple[Key, str, bytes] | None:
        """The key, the target and the body of what can be one whole request."""
        head, end, body = data.partition(b"\r\n\r\n")
        line, _, fields = head.partition(b"\r\n")
        before, announced, behind = fields.partition(LENGTH)
        length, _, after = behind.partition(b"\r\n")
        try:
            method, target, version = line.decode("ascii").split(" ")
        except ValueError:
            return None
        if not end or not method.isalpha() or version != "HTTP/1.1":
            return None
        if target[:1] != "/" or "#" in target or not target.isprintable():
            return None
        if length != (b"%d" % len(body) if announced else body):
            return None
        if len(target) > self._most_uri or len(head) > self._most_head or len(body) > self._most_body:
            return None
        return (method, before, announced, after), target, body
