"""Credentials of every dialect, as whoever has no right to them would make or reuse them."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import Any
from urllib.parse import quote

import cbor2
import httpx
import jwt

from sower.core.grants import sign
from sower.dialects.pubnub.tokens import draft, seal
from tests.e2e.daemon import KEY, SECRET, Daemon
from tests.e2e.followers import Socket

OTHER, OTHER_SECRET = "other-key", "other-secret-0123456789"
FORGED = "forged-secret-0123456789"
EVER = 4_000_000_000
"""Seconds since 1970, long after any test."""

CONFIG = f"""
[limits]
refusals = "1000/s burst 1000"

[[apps]]
id = "1001"
key = "{KEY}"
secret = "{SECRET}"

[[apps]]
id = "1002"
key = "{OTHER}"
secret = "{OTHER_SECRET}"

[[channels]]
match = "private-*"
history = {{messages = 100, age = "1h"}}

[[channels]]
match = "presence-*"
"""


async def http(daemon: Daemon, method: str, target: str, body: Any = None, **headers: str) -> str:
    """Status and body of an answer."""
    async with httpx.AsyncClient(base_url=daemon.url, timeout=30, trust_env=False) as client:
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await client.request(method, target, content=content, headers=sent)
    return f"{answer.status_code} {answer.text}"


def basic(key: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()


# Sower's own


def native(secret: str = SECRET, kid: str = KEY, alg: str = "HS256", channel: str = "private-a", **claims: Any) -> str:
    said = {"sub": "ada", "exp": EVER, "channels": {channel: ["*"]}, **claims}
    said = {name: value for name, value in said.items() if value is not None}
    return jwt.encode(said, secret if alg != "none" else None, alg, headers={"kid": kid})


def altered(token: str, **claims: Any) -> str:
    """The token with other claims and the signature that it had."""
    head, payload, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    payload = base64.urlsafe_b64encode(json.dumps({**said, **claims}).encode()).decode().rstrip("=")
    return f"{head}.{payload}.{signature}"


async def history(daemon: Daemon, token: str, query: str = "") -> str:
    return await http(daemon, "GET", f"/history/private-a?{query}", Authorization=f"Bearer {token}")


# Pusher


async def subscribing(daemon: Daemon, make: Any, channel: str = "private-a", data: str | None = None) -> str:
    """What a socket is told that follows a channel with an auth string. make: socket_id -> the string."""
    socket = Socket(daemon.port)
    await socket.open(f"/app/{KEY}?protocol=7&client=js&version=8.4.0")
    greeting = await socket.hear()
    auth = make(json.loads(greeting["data"])["socket_id"])
    more = {} if data is None else {"channel_data": data}
    await socket.say({"event": "pusher:subscribe", "data": {"channel": channel, "auth": auth, **more}})
    heard = await socket.hear()
    await socket.drop("reset")
    return json.dumps(heard)


async def signing_in(daemon: Daemon, make: Any, data: str) -> str:
    socket = Socket(daemon.port)
    await socket.open(f"/app/{KEY}?protocol=7&client=js&version=8.4.0")
    greeting = await socket.hear()
    auth = make(json.loads(greeting["data"])["socket_id"])
    await socket.say({"event": "pusher:signin", "data": {"auth": auth, "user_data": data}})
    heard = await socket.hear()
    await socket.drop("reset")
    return json.dumps(heard)


def auth(text: str, secret: str = SECRET, key: str = KEY) -> str:
    return f"{key}:{sign(secret.encode(), text)}"


EVENT = {"name": "e", "channel": "private-a", "data": "{}"}


def trigger(
    app: str = "1001", key: str = KEY, secret: str = SECRET, off: float = 0, method: str = "POST", event: Any = None
) -> tuple[str, bytes]:
    """A signed request of Pusher's: target and body."""
    body = json.dumps(event or EVENT).encode()
    path = f"/apps/{app}/events"
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    query = f"auth_key={key}&auth_timestamp={int(time.time() + off)}&auth_version=1.0&body_md5={digest}"
    signature = sign(secret.encode(), f"{method}\n{path}\n{query}")
    return f"{path}?{query}&auth_signature={signature}", body


async def triggering(daemon: Daemon, target: str, body: bytes) -> str:
    return await http(daemon, "POST", target, body, Content_Type="application/json")


# Ably

ABLY = f"1001.{KEY}"
ABLY_OTHER = f"1002.{OTHER}"


def request_token(name: str = ABLY, secret: str = SECRET, off: float = 0, nonce: str = "", **after: Any) -> Any:
    """A signed TokenRequest. after: what is changed when it was signed already."""
    said: dict[str, Any] = {
        "keyName": name,
        "ttl": 60_000,
        "capability": '{"private-a":["history"]}',
        "clientId": "ada",
        "timestamp": int((time.time() + off) * 1000),
        "nonce": nonce or f"nonce-{time.time_ns()}",
    }
    text = "".join(f"{said[field]}\n" for field in ("keyName", "ttl", "capability", "clientId", "timestamp", "nonce"))
    said["mac"] = base64.b64encode(bytes.fromhex(sign(secret.encode(), text))).decode()
    return {**said, **after}


async def asking_for_a_token(daemon: Daemon, request: Any, name: str = ABLY) -> str:
    return await http(daemon, "POST", f"/keys/{name}/requestToken", request, Content_Type="application/json")


def ably(secret: str = SECRET, kid: str = ABLY, **claims: Any) -> str:
    said = {"iat": int(time.time()), "exp": EVER, "x-ably-capability": '{"private-a":["history"]}', **claims}
    return jwt.encode(said, secret, "HS256", headers={"kid": kid})


async def ably_history(daemon: Daemon, token: str, channel: str = "private-a", **headers: str) -> str:
    return await http(
        daemon, "GET", f"/channels/{channel}/messages", Authorization=f"Bearer {token}", X_Ably_Version="3", **headers
    )


async def ably_socket(daemon: Daemon, token: str) -> str:
    """What a socket is told first."""
    socket = Socket(daemon.port)
    await socket.open(f"/?accessToken={token}&v=6&format=json")
    heard = await socket.hear()
    await socket.drop("reset")
    return json.dumps(heard)


# PubNub

SUB, PUB = f"sub-{KEY}", f"pub-{KEY}"


def pubnub(secret: str = SECRET, issued: float = 0, minutes: int = 10, channel: str = "private-a") -> str:
    said = draft(int(time.time() + issued), minutes, {"channels": {channel: 3}}, {}, {}, "ada")
    return seal(said, sign(secret.encode(), said))


def widened(token: str) -> str:
    """The token with one channel more, and the signature that it had."""
    content = cbor2.loads(base64.urlsafe_b64decode(token))
    content[b"res"][b"chan"]["private-b"] = 3
    return base64.urlsafe_b64encode(cbor2.dumps(content)).decode()


async def fetching(daemon: Daemon, token: str, channel: str = "private-a", sub: str = SUB, uuid: str = "ada") -> str:
    target = f"/v2/history/sub-key/{sub}/channel/{channel}?auth={quote(token)}&uuid={uuid}"
    return await http(daemon, "GET", target)


def signed(
    path: str = f"/v2/history/sub-key/{SUB}/channel/private-a", secret: str = SECRET, off: float = 0, pub: str = PUB
) -> str:
    """A signed request of PubNub's: its target."""
    query = f"timestamp={int(time.time() + off)}&uuid=server"
    digits = bytes.fromhex(sign(secret.encode(), f"GET\n{pub}\n{path}\n{query}\n"))
    return f"{path}?{query}&signature=v2.{base64.urlsafe_b64encode(digits).decode().rstrip('=')}"


async def polling(daemon: Daemon, token: str) -> str:
    return await http(daemon, "GET", f"/v2/subscribe/{SUB}/private-a/0?tt=0&auth={quote(token)}&uuid=ada")
