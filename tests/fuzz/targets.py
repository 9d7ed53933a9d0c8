"""What is fuzzed. Each target states its invariant in one sentence, and raises AssertionError, or anything, where it breaks."""

from __future__ import annotations

import json
from collections.abc import Callable

from sower.config import Server
from sower.core.grants import Credential, verify
from sower.core.message import Position
from sower.dialects.native.socket import NativeConversation
from sower.errors import SowerError
from sower.net.frames import Inbound
from sower.net.http import decode_segment
from sower.net.parser import RequestParser
from sower.net.sockjs import SOCKJS

LIMIT = 4096
SETTINGS = Server()
CREDENTIALS = {"key": Credential("1001", "key", b"a-secret-of-32-bytes-for-the-fuzz")}


def frames(data: bytes) -> None:
    """Whole or byte by byte, the same messages come out, none over its limit, and never an exception."""
    whole = Inbound(LIMIT, inflates=True)
    heard = [(m.is_text, m.payload) for m in whole.feed(data)]
    assert all(len(payload) <= LIMIT for _, payload in heard)
    cut = Inbound(LIMIT, inflates=True)
    pieces: list[tuple[bool, bytes]] = []
    for at in range(len(data)):
        if cut.ended:
            break
        pieces += [(m.is_text, m.payload) for m in cut.feed(data[at : at + 1])]
    assert pieces == heard
    assert cut.ended == whole.ended


def http(data: bytes) -> None:
    """Whole or byte by byte, the same requests are read up to the same fault, and what was read has a length that is allowed."""
    seen = []
    for size in (len(data) or 1, 1):
        parser = RequestParser(SETTINGS, "127.0.0.1")
        for at in range(0, len(data), size):
            if parser.fault is None and parser.left is None:
                parser.feed(data[at : at + size])
        for request in parser.requests:
            assert len(request.body) <= SETTINGS.max_body
            assert len(request.target) <= SETTINGS.max_uri
            try:
                assert isinstance(request.query, dict)
                decode_segment(request.path)
            except SowerError:
                pass
        seen.append([(r.method, r.target, dict(r.headers), r.body) for r in parser.requests])
        parser.close()
    assert seen[0] == seen[1]


def native(data: bytes) -> None:
    """A frame of a client is commands or an error of the tree, and each refusal can be said."""
    conversation = NativeConversation("room", None)
    for is_text in (_is_utf8(data), False):
        try:
            for command in conversation.receive("session", data, is_text=is_text):
                json.loads(conversation.refuse(command, SowerError()))
        except SowerError as error:
            json.loads(conversation.refuse(None, error))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def sockjs(data: bytes) -> None:
    """A body is texts or the end of the session, and a text comes back as it was."""
    inbound = SOCKJS.inbound(LIMIT)
    for message in inbound.feed(data):
        assert len(message.payload) <= LIMIT
        line = SOCKJS.text(message.payload)
        assert line.isascii()
        assert json.loads(line[1:]) == [message.payload.decode()]
    assert inbound.ended == inbound.reply().startswith(b"c[") or not inbound.ended


def tokens(data: bytes) -> None:
    """Nobody makes up a token: it is refused with an error of the tree."""
    try:
        verify(data.decode("utf-8", "surrogateescape"), CREDENTIALS, now=1_800_000_000.0)
    except SowerError:
        return
    raise AssertionError("a token that nobody signed was taken")


def positions(data: bytes) -> None:
    """A position that is read is written as it was, but for leading zeros."""
    try:
        text = data.decode()
        position = Position.parse(text)
    except (UnicodeDecodeError, SowerError):
        return
    assert Position.parse(str(position)) == position


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (frames, http, native, sockjs, tokens, positions)
}
