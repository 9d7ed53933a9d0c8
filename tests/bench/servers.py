"""What is measured: each server is a block in which it runs, and after which it is gone."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.build import program
from tests.bench.dialects import DIALECTS, NATIVE, PUSHER, Dialect, Target
from tests.certificates import make_certificate
from tests.e2e.daemon import free_port

START_WITHIN = 30.0
"""Seconds that a server may take until it answers."""

LOOK_EVERY = 0.01
"""Seconds between two looks whether it does."""

APP, KEY, SECRET = "1001", "bench-key", "bench-secret-0123456789"

KEPT = "kept-*"
"""Channels with history; all others have none."""

CONFIG = """\
[server]
listen = [{listen}]
{certificate}

[store]
path = "{database}"
sync = "{sync}"

[limits]
connections = 2000000
connections_per_address = 100000
connects = "1000000/s"
publishes = "10000000/s"
frames = "1000000/s"
client_events = "1000000/s"

[[apps]]
id = "{app}"
key = "{key}"
secret = "{secret}"
connections = 2000000

[[channels]]
match = "{kept}"
client_events = true
history = {{messages = {messages}, age = "1h"}}

[[channels]]
match = "*"
client_events = true
"""


class ServerFailed(Exception):
    """The server did not start, or is gone; the text says what it said last."""


@dataclass(frozen=True)
class Server:
    """A running server. pid is None for one that somebody else started."""

    name: str
    target: Target
    dialect: Dialect
    pid: int | None
    kept: str = ""
    """A channel with history, "" where there is none."""
    has_channels: bool = True
    tls_port: int = 0
    """Where it speaks TLS, 0 for nowhere."""

    def memory(self) -> int:
        """Bytes of memory that are the process's own (PSS: shared pages count by their share)."""
        with Path(f"/proc/{self.pid}/smaps_rollup").open() as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))

    def cpu(self) -> float:
        """Seconds of processor that the process took, all threads."""
        if self.pid is None:
            return 0.0
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime: proc(5)


def write_config(folder: Path, port: int, *, tls_port: int = 0, sync: str = "normal", messages: int = 1000) -> Path:
    """A config with limits that one address does not reach. Its database lies in `folder`."""
    path = folder / "sower.toml"
    listen, certificate = f'"127.0.0.1:{port}"', ""
    if tls_port:
        listen += f', "tls:127.0.0.1:{tls_port}"'
        certificate = 'certificate = "{}"\ncertificate_key = "{}"'.format(*make_certificate(folder))
    filled = CONFIG.format(
        listen=listen,
        certificate=certificate,
        database=folder / "sower.db",
        sync=sync,
        messages=messages,
        app=APP,
        key=KEY,
        secret=SECRET,
        kept=KEPT,
    )
    path.write_text(filled)
    path.chmod(0o600)
    return path


def start_sower(config: Path, log: Path, core: int | None = None) -> subprocess.Popen[bytes]:
    """Start `sower serve --config`, on `core` alone if one is named. What it says is appended to `log`."""
    command = [sys.executable, "-c", "from sower.cli import main; main()", "serve", "--config", str(config)]
    with log.open("ab") as talk:
        return spawn(command, talk.fileno(), core)


def wait_until_it_answers(process: subprocess.Popen[bytes], target: Target, log: Path) -> None:
    """Return when GET /channels answers 200. Raises ServerFailed."""
    until = time.monotonic() + START_WITHIN
    credential = b64encode(f"{target.key}:{target.secret}".encode()).decode()
    while time.monotonic() < until and process.poll() is None:
        connection = http.client.HTTPConnection(target.host, target.port, timeout=5)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/channels", headers={"Authorization": f"Basic {credential}"})
            if connection.getresponse().status == 200:
                connection.close()
                return
        connection.close()
        time.sleep(LOOK_EVERY)
    raise ServerFailed("the daemon did not start:\n" + log.read_text(errors="replace")[-2000:])


@contextmanager
def sower(core: int | None, dialect: Dialect = NATIVE) -> Iterator[Server]:
    """A Sower with a config and a database of its own, spoken to in one of its protocols."""
    with tempfile.TemporaryDirectory(prefix="sower-bench-") as name:
        folder = Path(name)
        port, tls_port = free_port(), free_port()
        target = Target(port, KEY, SECRET)
        log = folder / "log"
        process = start_sower(write_config(folder, target.port, tls_port=tls_port), log, core)
        try:
            wait_until_it_answers(process, target, log)
            name = "sower" if dialect is NATIVE else f"sower {dialect.name}"
            yield Server(name, target, dialect, process.pid, kept="kept-bench", tls_port=tls_port)
        finally:
            stop(process)


@contextmanager
def sower_pusher(core: int | None) -> Iterator[Server]:
    """The same, spoken to in Pusher's protocol."""
    with sower(core) as server:
        yield replace(server, name="sower-pusher", dialect=PUSHER, kept="")


@contextmanager
def ceiling(core: int | None) -> Iterator[Server]:
    """The server that does the least: what the generator and the kernel can do."""
    target = Target(free_port(), KEY, SECRET)
    process = spawn([str(program("ceiling")), str(target.port)], subprocess.DEVNULL, core)
    try:
        wait_for_port(process, target)
        yield Server("ceiling", target, replace(NATIVE, event="", ack=""), process.pid, has_channels=False)
    finally:
        stop(process)


def wait_for_port(process: subprocess.Popen[bytes], target: Target) -> None:
    """Return when something listens. Raises ServerFailed."""
    until = time.monotonic() + START_WITHIN
    while time.monotonic() < until and process.poll() is None:
        with suppress(ConnectionRefusedError), socket.create_connection((target.host, target.port)):
            return
        time.sleep(LOOK_EVERY)
    raise ServerFailed("the server did not start")


def already_running(target: Target, dialect: str, pid: int | None) -> Server:
    """A server that somebody else started and stops. Without its pid, its memory is not measured."""
    return Server(f"{target.host}:{target.port}", target, DIALECTS[dialect], pid)


def spawn(
    command: list[str], output: int, core: int | None, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a server, on `core` alone if one is named."""
    pin = None if core is None else lambda: os.sched_setaffinity(0, {core})
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, preexec_fn=pin, env=environment
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server that was started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
