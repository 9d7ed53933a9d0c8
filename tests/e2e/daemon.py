"""A real daemon for tests: an own process, config and database, on a free loopback port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import cycle
from pathlib import Path
from random import sample
from typing import Any

import httpx
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

KEY, SECRET = "test-key", "test-secret-0123456789"
PATIENCE = 60.0
"""Seconds until a test gives up waiting for the daemon."""

CONFIG = f"""
[[apps]]
id = "1001"
key = "{KEY}"
secret = "{SECRET}"

[[channels]]
match = "kept-*"
client_events = true
history = {{messages = 1000, age = "1h"}}

[[channels]]
match = "private-kept-*"
history = {{messages = 1000, age = "1h"}}

[[channels]]
match = "presence-*"
grace = "0s"

[[channels]]
match = "open-*"
client_events = true
"""


PORTS = cycle(sample(range(12_000, 32_000), 20_000))
"""Below those that the kernel gives to who connects, 32768 on: one stays free until somebody listens at it."""


def free_port() -> int:
    """A port of 127.0.0.1 that is free, each time another one."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port := next(PORTS)))
            return port


SESSION = ""
"""A [session] table for every daemon, where a test module wants one."""


HAND_OVER = (
    "-c",
    "import os, sys; fd = int(os.environ['SOWER_TEST_FD']); fd == 3 or os.dup2(fd, 3); os.set_inheritable(3, True);"
    "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1');"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
)
"""Starts what follows as a socket unit would, with one listening socket (sd_listen_fds(3))."""


class Daemon:
    """`sower serve` on a folder. The port stays the same over restarts."""

    def __init__(self, folder: Path, config: str = CONFIG, server: str = "") -> None:
        self.folder = folder
        self.config = folder / "sower.toml"
        self._text = config
        self._server = server
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        self.program: tuple[str, ...] = ("-m", "sower")
        self.options: tuple[str, ...] = ()
        self.inherits: socket.socket | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self, *, keep_config: bool = False) -> None:
        """Start it and wait until it says that it is ready. keep_config: with the file as it stands."""
        if not keep_config:
            self.port = self.port or free_port()
            listen = f'[server]\nlisten = ["127.0.0.1:{self.port}"]\n{self._server}\n'
            self.config.write_text(listen + '[store]\npath = "sower.db"\n' + SESSION + self._text)
            self.config.chmod(0o600)
        handed = () if self.inherits is None else (self.inherits.fileno(),)
        self.process = subprocess.Popen(  # noqa: ASYNC220 - starting it takes no time
            [
                sys.executable,
                *(HAND_OVER if handed else ()),
                *self.program,
                "serve",
                "--config",
                str(self.config),
                *self.options,
            ],
            cwd=self.folder,
            env={**os.environ, **self.environment, "SOWER_TEST_FD": "".join(map(str, handed))},
            pass_fds=handed,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        with self._patience():
            self.port = await trio.to_thread.run_sync(self._read_port, abandon_on_cancel=True)

    def _read_port(self) -> int:
        assert self.process is not None
        assert self.process.stderr is not None
        lines: list[str] = []
        for raw in self.process.stderr:
            lines.append(raw.decode())
            if raw.startswith(b"{"):
                said = json.loads(raw)
                if said.get("event") == "ready":
                    return int(said["listen"][0].rpartition(":")[2])
        raise AssertionError("the daemon did not start:\n" + "".join(lines))

    @contextmanager
    def _patience(self) -> Iterator[None]:
        """Kill it where it does not do what a thread waits for, so that the thread ends too."""
        try:
            with trio.fail_after(PATIENCE):
                yield
        except trio.TooSlowError:
            assert self.process is not None
            self.process.kill()
            raise

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal and wait for its end. Returns its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        with self._patience():
            code = await trio.to_thread.run_sync(self.process.wait, abandon_on_cancel=True)
        if self.process.stderr is not None:
            self.process.stderr.close()
        return code

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    # Speaking to it

    async def request(self, method: str, path: str, *, auth: bool = True, **more: Any) -> httpx.Response:
        # To read the authorities' certificates takes many times as long as a request, and no TLS is spoken here.
        async with httpx.AsyncClient(base_url=self.url, timeout=PATIENCE, trust_env=False, verify=False) as client:
            return await client.request(method, path, auth=(KEY, SECRET) if auth else None, **more)

    async def publish(self, channel: str, data: Any, event: str = "e", **more: Any) -> str:
        """Publish over HTTP. Returns the serial."""
        answer = await self.request(
            "POST", "/events/publish", json={"channel": channel, "event": event, "data": data, **more}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["published"][0]["serial"]

    @asynccontextmanager
    async def socket(
        self, channel: str, *, headers: Mapping[str, str] | None = None, **query: str
    ) -> AsyncIterator[Client]:
        target = f"ws://127.0.0.1:{self.port}/ws/{channel}?{httpx.QueryParams({'key': KEY, **query})}"
        extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        with trio.fail_after(PATIENCE * 3):
            async with open_websocket_url(target, extra_headers=extra) as connection:
                yield Client(connection)


class Client:
    """A native client over trio-websocket."""

    def __init__(self, connection: WebSocketConnection) -> None:
        self.connection = connection

    async def send(self, **frame: Any) -> None:
        await self.connection.send_message(json.dumps(frame))

    async def hear(self) -> dict[str, Any]:
        """The next frame."""
        with trio.fail_after(PATIENCE):
            return json.loads(await self.connection.get_message())

    async def expect(self, kind: str) -> dict[str, Any]:
        """The next frame, which must be of this type."""
        frame = await self.hear()
        assert frame["type"] == kind, frame
        return frame

    async def events(self, count: int) -> list[Any]:
        """The data of so many events."""
        return [(await self.expect("event"))["data"] for _ in range(count)]

    async def closing(self) -> tuple[int, str]:
        """Read until the server closes. Returns close code and reason."""
        try:
            while True:
                await self.hear()
        except ConnectionClosed as closed:
            reason = closed.reason
        return (reason.code, reason.reason or "") if reason is not None else (1006, "")


@asynccontextmanager
async def running(folder: Path, config: str = CONFIG, server: str = "") -> AsyncIterator[Daemon]:
    """A daemon for as long as the block runs."""
    daemon = Daemon(folder, config, server)
    await daemon.start()
    try:
        yield daemon
    finally:
        if daemon.alive:
            with trio.CancelScope(shield=True):
                await daemon.stop(signal.SIGKILL)
