"""What the generator says in each protocol. A protocol is one table; to add one is to write one.

In every text `$channel`, `$key` and `$secret` are filled in from the target, `$data` with the payload
as JSON and `$data_text` with the same payload as JSON text inside a JSON string. Each run of twelve
zeros is a hole for a number, which the generator fills (see load.c); the payload holds one after MARK. A channel's
name may hold CHANNEL_HOLE: then it stands for many channels.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from string import Template

import msgspec

HOLE = "000000000000"
"""Where load.c writes a number."""

MARK = "seq~"
"""What stands before the number in the payload, the same as in load.c."""

CHANNEL_HOLE = "999999999999"
"""Where load.c writes a channel's number, in a channel's name."""

SIGNED_REQUESTS = 2000
"""Distinct requests for a protocol that signs each: more than are ever in flight, so none is ambiguous, and a
multiple of the channels, so that a request is always for the same one."""

NONCE = "dGhlIHNhbXBsZSBub25jZQ=="
"""RFC 6455's sample nonce: load.c knows its answer without SHA-1."""


@dataclass(frozen=True)
class Target:
    """Where a server is and what it knows its publisher by."""

    port: int
    key: str = ""
    secret: str = ""
    host: str = "127.0.0.1"


Sign = Callable[[Target, str, bytes], str]
"""(target, path, body) -> the path with what proves the request, for protocols that sign each one."""


@dataclass(frozen=True)
class Dialect:
    """One protocol as texts.

    path:      the WebSocket's
    protocol:  its subprotocol, "" for none
    greeting:  what the server's first frame holds, if the client must wait for it
    hello:     frames that subscribe
    ready:     what a frame holds once the socket is subscribed
    publish:   path and body of the POST that publishes; basic: whether with `Authorization: Basic`
    sign:      see Sign
    enter:     the frame, after `hello`, with which a socket becomes a member, "" where there is none
    entered:   what a frame holds once it is one
    event:     the frame that publishes over a socket, "" where there is none
    ack:       what the frame holds that acknowledges it
    packed:    whether `hello`, written as JSON, is said in MessagePack
    """

    name: str
    path: str
    ready: str
    publish: tuple[str, str]
    protocol: str = ""
    greeting: str = ""
    hello: tuple[str, ...] = ()
    basic: bool = True
    sign: Sign | None = None
    enter: str = ""
    entered: str = ""
    event: str = ""
    ack: str = ""
    packed: bool = False

    def handshake(self, target: Target, channel: str) -> bytes:
        """The request that opens a socket."""
        lines = [
            f"GET {_fill(self.path, target, channel)} HTTP/1.1",
            f"Host: {target.host}:{target.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {NONCE}",
            "Sec-WebSocket-Version: 13",
        ]
        if self.protocol:
            lines.append(f"Sec-WebSocket-Protocol: {self.protocol}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def subscribe(self, target: Target, channel: str) -> bytes:
        """The frames that subscribe, one after another."""
        said = (_fill(text, target, channel) for text in self.hello)
        if self.packed:
            return b"".join(masked_frame(0x82, msgspec.msgpack.encode(json.loads(text))) for text in said)
        return b"".join(client_frame(text) for text in said)

    def requests(self, target: Target, channel: str, payload: str, channels: int = 1) -> list[bytes]:
        """The requests that publish: one with holes, or many signed ones with their numbers."""
        path, body = (_fill(text, target, channel, payload) for text in self.publish)
        if self.sign is None:
            return [self._request(target, path, body.encode())]
        if SIGNED_REQUESTS % channels:
            raise ValueError(f"{channels} channels do not divide {SIGNED_REQUESTS}")
        bodies = (
            body.replace(HOLE, _digits(n)).replace(CHANNEL_HOLE, _digits(n % channels)).encode()
            for n in range(SIGNED_REQUESTS)
        )
        return [self._request(target, self.sign(target, path, body), body) for body in bodies]

    def client_event(self, target: Target, channel: str, payload: str) -> bytes:
        """The frame that publishes over a socket; empty where the protocol has none."""
        return client_frame(_fill(self.event, target, channel, payload)) if self.event else b""

    def _request(self, target: Target, path: str, body: bytes) -> bytes:
        lines = [
            f"POST {path} HTTP/1.1",
            f"Host: {target.host}:{target.port}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        ]
        if self.basic:
            credential = base64.b64encode(f"{target.key}:{target.secret}".encode()).decode()
            lines.append(f"Authorization: Basic {credential}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def payload(size: int) -> str:
    """A JSON object of `size` bytes (at least 40) with the numbered hole in it."""
    bare = {"n": f"{MARK}{HOLE}", "pad": ""}
    bare["pad"] = "x" * (size - len(json.dumps(bare, separators=(",", ":"))))
    return json.dumps(bare, separators=(",", ":"))


def client_frame(text: str) -> bytes:
    """A masked text frame."""
    return masked_frame(0x81, text.encode())


def masked_frame(first: int, body: bytes) -> bytes:
    """A masked frame (RFC 6455 section 5.2). The mask is zero, so a hole stays a hole."""
    if len(body) < 126:
        return bytes((first, 0x80 | len(body), 0, 0, 0, 0)) + body
    return bytes((first, 0x80 | 126)) + len(body).to_bytes(2, "big") + bytes(4) + body


def _digits(number: int) -> str:
    return f"{number:0{len(HOLE)}}"


def _fill(text: str, target: Target, channel: str, data: str = "") -> str:
    inside_a_string = json.dumps(data)[1:-1]
    return Template(text).substitute(
        channel=channel, key=target.key, secret=target.secret, data=data, data_text=inside_a_string
    )


NATIVE = Dialect(
    name="native",
    path="/ws/$channel?key=$key",
    ready='"type":"welcome"',
    publish=("/events/publish", '{"channel":"$channel","event":"tick","data":$data}'),
    event=f'{{"type":"publish","event":"tick","id":"e{HOLE}","data":$data}}',
    ack='"type":"ack"',
)

NCHAN = Dialect(name="nchan", path="/sub/$channel", ready="", publish=("/pub/$channel", "$data"), basic=False)
"""nginx with nchan: a location that subscribes and one that publishes, see nchan.conf in peers.py."""


def _pusher_signature(target: Target, path: str, body: bytes) -> str:
    """The path with Pusher's signature (its HTTP API, "Authentication")."""
    words = {
        "auth_key": target.key,
        "auth_timestamp": str(int(time.time())),
        "auth_version": "1.0",
        "body_md5": hashlib.md5(body).hexdigest(),
    }
    query = "&".join(f"{name}={value}" for name, value in sorted(words.items()))
    signed = hmac.new(target.secret.encode(), f"POST\n{path}\n{query}".encode(), hashlib.sha256).hexdigest()
    return f"{path}?{query}&auth_signature={signed}"


PUSHER = Dialect(
    name="pusher",
    path="/app/$key?protocol=7&client=js&version=8.6.0&flash=false",
    greeting="connection_established",
    hello=('{"event":"pusher:subscribe","data":{"auth":"","channel":"$channel"}}',),
    ready="subscription_succeeded",
    publish=("/apps/1001/events", '{"name":"tick","channels":["$channel"],"data":"$data_text"}'),
    basic=False,
    sign=_pusher_signature,
)

ABLY = Dialect(
    name="ably",
    path="/?v=6&format=json&key=1001.$key:$secret",
    greeting='"action":4',
    hello=('{"action":10,"channel":"$channel"}',),
    ready='"action":11',
    enter=f'{{"action":14,"channel":"$channel","msgSerial":0,"presence":[{{"action":2,"clientId":"c{HOLE}"}}]}}',
    entered='"msgSerial":0',
    publish=(
        "/channels/$channel/messages?key=1001.$key:$secret",
        '{"name":"tick","data":"$data_text","encoding":"json"}',
    ),
    basic=False,
)

ABLY_PACKED = replace(
    ABLY,
    name="ably-msgpack",
    path="/?v=6&format=msgpack&key=1001.$key:$secret",
    greeting="action\x04",
    ready="action\x0b",
    entered="msgSerial\x00",
    packed=True,
)

DIALECTS = {dialect.name: dialect for dialect in (NATIVE, NCHAN, PUSHER, ABLY, ABLY_PACKED)}
