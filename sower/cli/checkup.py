"""What `sower doctor` looks at. Each look is one function: what it found, and the remedy where it is not good."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import ssl
import stat
import time
from pathlib import Path
from typing import Any, NamedTuple, cast

import httpx
import trio
from trio_websocket import ConnectionClosed

from sower.cli.client import Daemon, find_daemon
from sower.config import Config
from sower.config_file import Loaded
from sower.errors import SowerError
from sower.there import is_there

GOOD, UNSURE, BAD = "good", "unsure", "bad"

DIAL_WITHIN = 5.0
"""Seconds for one look over the network."""

LEAST_FREE = 0.05
"""Part of the disk that is free."""

LARGE_WAL = 64 * 1024 * 1024
"""Bytes of a write-ahead log; the daemon folds it into the database at 8 MiB."""

RENEW_WITHIN = 14 * 86400.0
"""Seconds before a certificate's end at which it should have been renewed; Let's Encrypt's clients do at 30 days."""

PROBE = "doctor-probe"


class Finding(NamedTuple):
    """One thing that was looked at."""

    name: str
    state: str
    text: str
    remedy: str = ""


async def examine(loaded: Loaded, public: str | None) -> list[Finding]:
    """Everything, in the order in which an operator would look."""
    daemon = find_daemon(loaded.path, None, None, None, None)
    findings = [_config(loaded), _files(loaded.config), _disk(loaded.config), _wal(loaded.config), await _clock()]
    findings.append(await _daemon(daemon))
    if loaded.config.cluster.url:
        findings += await _redis(loaded.config)
    certificate = await _certificate(loaded.config)
    if certificate is not None:
        findings.append(certificate)
    if public is not None:
        findings += [await _stream(daemon, public), await _address(daemon, loaded.config, public)]
    return findings


async def _redis(config: Config) -> list[Finding]:
    try:
        from sower.cli.redis import examine_redis
    except ImportError:
        return [Finding("redis", BAD, "the extra of a [cluster] is missing", "pip install 'sower[cluster]'")]
    return await examine_redis(config.cluster)


def _config(loaded: Loaded) -> Finding:
    mode = loaded.path.stat().st_mode
    if mode & stat.S_IROTH:
        text = f"{loaded.path} can be read by everybody, and it holds secrets"
        return Finding("config", BAD, text, f"chmod o= {loaded.path}")
    return Finding("config", GOOD, f"{loaded.path} is valid")


def _files(config: Config) -> Finding:
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(config.limits.connections, 100_000)
    if most < wanted:
        remedy = "LimitNOFILE=262144 in the unit (ours has it), or ulimit -n before sower serve"
        return Finding("files", UNSURE, f"this shell may open {most:,} files, limits.connections is {wanted:,}", remedy)
    return Finding("files", GOOD, f"{most:,} files may be open")


def _disk(config: Config) -> Finding:
    folder = Path(config.store.path).parent
    if not is_there(folder) or os.path.isfile(folder):
        return Finding("disk", BAD, f"the folder {folder} does not exist", f"mkdir -p {folder}")
    if not os.access(folder, os.W_OK):
        remedy = f"run as the daemon's user, or chown the folder {folder}"
        return Finding("disk", UNSURE, f"{folder} cannot be written by this user", remedy)
    usage = shutil.disk_usage(folder)
    text = f"{usage.free / 2**30:,.1f} GiB of {usage.total / 2**30:,.1f} GiB are free in {folder}"
    if usage.free < usage.total * LEAST_FREE:
        return Finding("disk", BAD, text, "make room, or move store.path: a full disk refuses messages")
    return Finding("disk", GOOD, text)


def _wal(config: Config) -> Finding:
    wal = Path(config.store.path + "-wal")
    try:
        size = wal.stat().st_size
    except FileNotFoundError:
        size = 0
    except OSError as error:
        return Finding("wal", UNSURE, f"{wal} cannot be seen: {error.strerror}", "run as the daemon's user")
    text = f"the write-ahead log has {size / 2**20:,.1f} MiB"
    if size > LARGE_WAL:
        return Finding("wal", BAD, text, "end what reads the database for long (a backup, an open sqlite3), or restart")
    return Finding("wal", GOOD, text)


async def _clock() -> Finding:
    if shutil.which("timedatectl") is None:
        return Finding("clock", UNSURE, "nothing here says whether the clock is set", "run chrony or systemd-timesyncd")
    ask = ["timedatectl", "show", "--property=NTPSynchronized", "--value"]
    asked = await trio.run_process(ask, capture_stdout=True, capture_stderr=True, check=False)
    said = asked.stdout.decode().strip()
    if said == "yes":
        return Finding("clock", GOOD, "the clock is synchronised")
    remedy = "timedatectl set-ntp true: tokens and signatures are refused where clocks differ"
    return Finding("clock", UNSURE, f"the clock is not known to be synchronised ({said or 'no answer'})", remedy)


async def _daemon(daemon: Daemon) -> Finding:
    try:
        with trio.fail_after(DIAL_WITHIN):
            stats = await daemon.request("GET", "/stats")
    except SowerError as error:
        return Finding("daemon", BAD, error.message, error.hint)
    except trio.TooSlowError:
        return Finding("daemon", BAD, f"{daemon.url} does not answer in {DIAL_WITHIN:.0f} s", "look at its log")
    if stats["faults"]:
        text = "; ".join(f"{check}: {detail}" for check, detail in stats["faults"])
        return Finding("daemon", BAD, text, "sower-operations(7) says what each check means")
    return Finding("daemon", GOOD, f"sower {stats['version']} serves at {daemon.url}")


async def _certificate(config: Config) -> Finding | None:
    entry = next((entry for entry in config.server.listen if entry.startswith("tls:")), None)
    if entry is None:
        return None
    host, _, port = entry.removeprefix("tls:").rpartition(":")
    host = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))
    remedy = "renew the certificate, then `sower reload`"
    try:
        ends = await trio.to_thread.run_sync(_certificate_end, config.server.certificate, host, int(port))
    except OSError as error:
        return Finding("tls", BAD, f"{entry} cannot be dialled: {error}", remedy)
    days = (ends - time.time()) / 86400
    text = f"the certificate ends in {days:.0f} days"
    return Finding("tls", BAD, text, remedy) if days * 86400 < RENEW_WITHIN else Finding("tls", GOOD, text)


def _certificate_end(file: str, host: str, port: int) -> float:
    """When the certificate that is shown there ends, in seconds since 1970. Raises OSError."""
    context = ssl.create_default_context(cafile=file)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    with socket.create_connection((host, port), DIAL_WITHIN) as sock, context.wrap_socket(sock) as tls:
        shown = cast(dict[str, Any], tls.getpeercert())
    return ssl.cert_time_to_seconds(shown["notAfter"])


async def _stream(daemon: Daemon, public: str) -> Finding:
    """Whether a proxy passes events on as they come: a stream's first words must arrive while it is open."""
    remedy = "proxy_buffering off (nginx), flush_interval -1 (Caddy): the recipes are in sower-operations(7)"
    try:
        with trio.fail_after(DIAL_WITHIN):
            async with (
                httpx.AsyncClient(timeout=DIAL_WITHIN, auth=(daemon.key, daemon.secret)) as client,
                client.stream("GET", f"{public}/sse/{PROBE}") as answer,
            ):
                if answer.status_code != 200:
                    return Finding("proxy", BAD, f"{public} answered {answer.status_code}", "is it this daemon's?")
                await anext(answer.aiter_bytes())
    except (trio.TooSlowError, httpx.TimeoutException):
        return Finding("proxy", BAD, f"{public} holds a stream back", remedy)
    except httpx.HTTPError as error:
        return Finding("proxy", BAD, f"{public} cannot be dialled: {error}", "look at DNS, firewall and proxy")
    return Finding("proxy", GOOD, f"{public} passes a stream on as it comes")


async def _address(daemon: Daemon, config: Config, public: str) -> Finding:
    """A WebSocket through the public address, and whom the daemon takes its client for."""
    through = Daemon(public, daemon.key, daemon.secret)
    try:
        with trio.fail_after(DIAL_WITHIN):
            async with through.socket(PROBE, None) as connection:
                await connection.get_message()
                listed = await daemon.request("GET", "/sessions?limit=1000")
    except (SowerError, OSError, ConnectionClosed, trio.TooSlowError) as error:
        remedy = "pass Upgrade and Connection on: the recipes are in sower-operations(7)"
        return Finding("websocket", BAD, f"{public} opens no WebSocket: {error}", remedy)
    addresses = {s["address"] for s in listed["sessions"] if PROBE in s["channels"]}
    if addresses <= {"127.0.0.1", "::1", "unix"} and not config.server.trusted_proxies:
        remedy = "name the proxy in server.trusted_proxies, else all clients share one address and its limits"
        return Finding("websocket", UNSURE, f"clients come as {', '.join(sorted(addresses))}", remedy)
    return Finding("websocket", GOOD, f"a WebSocket opens through {public}")
