"""What every scenario plays on: a daemon, seeded chance, and a quick way to ask the daemon things."""

from __future__ import annotations

import json
import random
import re
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt
import trio

from tests.e2e.daemon import KEY, SECRET, Daemon

CONFIG = f"""
keep_audit = "5m"
remember_ids = "3s"

[session]
backlog = "256KiB"
ping_every = "10m"

[limits]
client_events = "1000/s burst 1000"

[[apps]]
id = "1001"
key = "{KEY}"
secret = "{SECRET}"

[apps.ably]
publishes = "1000/s burst 5000"

[[channels]]
match = "kept-*"
client_events = true
history = {{messages = 2000, age = "1h"}}

[[channels]]
match = "presence-*"
grace = "0s"

[[channels]]
match = "open-*"
client_events = true
"""
"""It goes on with the [store] that the daemon of the tests begins."""

PATIENT = 'keep_alive = "1h"\nhead_timeout = "60s"\ndrain_for = "30s"'
"""Of [server], and ping_every of [session]: all clients are tasks of one process, which may be a while about the second
half of a head, and read nothing until all are there."""

PROGRAM = (
    "-c",
    """
import functools, gc, pathlib, signal
from sower import hub
from sower.core import rules
from sower.dialects.native import socket
from sower.dialects.pubnub import subscribe
from sower.polling import places

hub.SWEEP_EVERY = places.SWEEP_EVERY = 2.0
places.LINGER = 3.0
rules.CACHED_NAMES = 100
socket._fresh = functools.lru_cache(100)(socket._fresh.__wrapped__)
subscribe._shared = functools.lru_cache(100)(subscribe._shared.__wrapped__)

def count(*_):
    gc.collect()
    gc.unfreeze()
    found = gc.collect()
    gc.freeze()
    pathlib.Path("garbage.new").write_text(str(found))
    pathlib.Path("garbage.new").rename("garbage")

signal.signal(signal.SIGUSR1, count)
from sower.cli import main
main()
""",
)
"""The daemon, but it looks after quiet channels every 2 s in place of 15, and follows one for 3 s after its last poll
in place of 20 minutes: a round need not wait so long to be at rest. It remembers 100 names in place of 10,000, so that
what grows for long is no cache. At SIGUSR1 it counts what refers to itself alone:
the collector does not see what was frozen, so that would stay."""

BASIC = b64encode(f"{KEY}:{SECRET}".encode()).decode()


class Server:
    """A server's keep-alive connection to the daemon, in a few lines: scenarios publish thousands of messages."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stream: trio.SocketStream | None = None

    async def ask(self, method: str, target: str, body: Any = None, *, basic: bool = True) -> tuple[int, bytes]:
        """One request. Returns status and body. Raises OSError, trio.BrokenResourceError where the daemon is gone."""
        if self._stream is None:
            self._stream = await trio.open_tcp_stream("127.0.0.1", self._port)
        content = b"" if body is None else json.dumps(body).encode()
        who = f"Authorization: Basic {BASIC}\r\n" if basic else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: h\r\n{who}Content-Length: {len(content)}\r\n\r\n"
        try:
            await self._stream.send_all(head.encode() + content)
            return await self._answer(self._stream)
        except BaseException:
            await self.close()
            raise

    async def publish(self, channel: str, data: Any, **more: Any) -> str:
        """Publish. Returns the serial."""
        status, answer = await self.ask(
            "POST", "/events/publish", {"channel": channel, "event": "n", "data": data, **more}
        )
        assert status == 200, answer
        return json.loads(answer)["published"][0]["serial"]

    async def close(self) -> None:
        """End the connection; the next question makes another."""
        stream, self._stream = self._stream, None
        if stream is not None:
            await trio.aclose_forcefully(stream)

    async def _answer(self, stream: trio.SocketStream) -> tuple[int, bytes]:
        heard = b""
        while b"\r\n\r\n" not in heard:
            heard += await _some(stream)
        head, _, body = heard.partition(b"\r\n\r\n")
        found = re.search(rb"(?i)content-length: (\d+)", head)
        assert found is not None, head
        while len(body) < int(found[1]):
            body += await _some(stream)
        if b"connection: close" in head.lower():
            await self.close()
        return int(head.split()[1]), body


async def _some(stream: trio.SocketStream) -> bytes:
    part = await stream.receive_some(65536)
    if not part:
        raise trio.BrokenResourceError("the daemon closed the connection")
    return part


@dataclass
class Stage:
    """daemon: plays all rounds. chance: seeded. folder: for daemons of a scenario's own. round: counts from 0."""

    daemon: Daemon
    chance: random.Random
    folder: Path
    round: int = 0
    server: Server = field(init=False)

    def __post_init__(self) -> None:
        self.server = Server(self.daemon.port)

    @property
    def port(self) -> int:
        return self.daemon.port

    def name(self, kind: str, number: int = 0) -> str:
        """A channel of this round's own."""
        return f"{kind}-{self.round}-{number}"

    async def metrics(self) -> dict[str, float]:
        """/metrics by name, the values of all labels added up, and by name and labels."""
        status, text = await self.server.ask("GET", "/metrics")
        await self.server.close()  # a scenario may take longer than the daemon keeps a connection that rests
        assert status == 200
        found: dict[str, float] = {}
        for line in text.decode().splitlines():
            if line.startswith("sower_"):
                series, _, value = line.rpartition(" ")
                name = series.partition("{")[0]
                found[name] = found.get(name, 0.0) + float(value)
                found[series] = float(value)
        return found


def token(channel: str, user: str, *can: str) -> str:
    """A token for one channel."""
    claims = {"sub": user, "exp": 4_000_000_000, "channels": {channel: list(can) or ["*"]}}
    return jwt.encode(claims, SECRET, "HS256", headers={"kid": KEY})
