"""Listening: addresses to sockets, and sockets to connections.

Rule 1: what waits is accepted before the loop rests, but never so much at once that other tasks starve.
Rule 2: running out of files is weather, not an error: accepting pauses and goes on (the errno list is trio's).
Rule 3: who is over a cap is told so in one canned answer; that costs no task.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog
import trio

from sower.config import Limits
from sower.core.limits import Buckets
from sower.errors import AddressInUse, ConfigError, RateLimited, SowerError, TooManyConnections
from sower.net.http import Response
from sower.net.proxies import UNIX as LOCAL
from sower.net.proxies import trusted
from sower.net.tls import Certificate, TlsWire
from sower.net.wire import READ_AT_ONCE, Wire

log = structlog.get_logger(__name__)

BACKLOG = 4096
"""Connections that may wait to be accepted; the kernel's somaxconn is the bound. nginx: 511."""

HIGHEST_PORT = 65535

UNIX = "unix:"
"""What an address begins with that is a file."""

TLS = "tls:"
"""What an address begins with whose connections are encrypted."""

FILE_MODE = 0o666
"""Of a unix socket's file, as nginx makes it: who may connect is said by the folder that it is in."""

Where = tuple[str | int | bytes, ...]
"""(host, port), or (path,) of a unix socket."""

OVERLOADED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))

PEER_GONE = frozenset(
    (
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOSR,
        errno.ESOCKTNOSUPPORT,
        errno.EPROTONOSUPPORT,
        errno.ETIMEDOUT,
        errno.ECONNRESET,
    )
)
"""What accept says about one connection that is lost already (accept(2), and trio's list)."""

ACCEPT_AT_ONCE = 64
"""Connections accepted or turned away before other tasks run: 2 ms of work."""

PAUSE = 0.1
"""Seconds to rest when out of files, as trio's serve_listeners does."""

REMEDIES = {
    errno.EACCES: " Ports below 1024 take CAP_NET_BIND_SERVICE; choose a higher one.",
    errno.EADDRNOTAVAIL: " No interface of this machine has this address; 0.0.0.0 or [::] stands for all.",
}

LOG_EVERY = 1.0
"""Seconds between two log lines about it."""


class Listener:
    """One listening socket. str() is HOST:PORT, tls:HOST:PORT or unix:PATH.

    own_file:    the unix socket's file is ours to remove
    certificate: what its connections show, where they speak TLS
    """

    def __init__(self, sock: socket.socket, *, own_file: bool = False, certificate: Certificate | None = None) -> None:
        self.sock = sock
        self.certificate = certificate
        self.port = 0
        self._file: tuple[Path, int] | None = None
        if sock.family == socket.AF_UNIX:
            path = str(sock.getsockname())
            self._name = UNIX + path
            if own_file:
                self._file = Path(path), Path(path).stat().st_ino
        else:
            host, port = sock.getsockname()[:2]
            self.port = int(port)
            self._name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # and so for whatever it accepts
            if certificate is not None:
                self._name = TLS + self._name

    def __str__(self) -> str:
        return self._name

    def wire(self, sock: socket.socket, address: str, on_close: Callable[[str], None]) -> Wire:
        """A connection that was accepted here."""
        if self.certificate is not None:
            return TlsWire(sock, address, on_close, self.certificate)
        return Wire(sock, address, on_close)

    def close(self) -> None:
        """Stop listening. Whoever accepts gets ClosedResourceError."""
        if self.sock.fileno() < 0:
            return
        trio.lowlevel.notify_closing(self.sock)
        self.sock.close()
        if self._file is not None:
            path, inode = self._file
            with suppress(OSError):
                if path.stat().st_ino == inode:  # not that of a daemon that has taken over
                    path.unlink()


async def bind(
    addresses: Sequence[str],
    inherited: Sequence[socket.socket] = (),
    certificate: Certificate | None = None,
    *,
    shared: bool = False,
) -> list[Listener]:
    """Listen at each HOST:PORT, tls:HOST:PORT or unix:PATH. Raises AddressInUse, ConfigError; then none stays open.

    certificate: for those that begin with tls:
    inherited: sockets that listen already: each stands for the address that it is bound to, also where no address
    names it
    shared: other processes that say so too may listen at the same ports, and each gets its part (SO_REUSEPORT)
    """
    listeners: list[Listener] = []
    ready = {_where(sock): sock for sock in inherited}
    for sock in inherited:
        sock.setblocking(False)
    try:
        for address in addresses:
            for family, where in await _resolve(address):
                shown = certificate if address.startswith(TLS) else None
                own_file = family == socket.AF_UNIX and where not in ready
                sock = ready.pop(where, None) or _listen(address, family, where, shared=shared)
                listeners.append(Listener(sock, own_file=own_file, certificate=shown))
        listeners.extend(Listener(sock) for sock in ready.values())
    except SowerError:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _where(sock: socket.socket) -> Where:
    """What a socket is bound to: (path,) or (host, port)."""
    name = sock.getsockname()
    return (name,) if sock.family == socket.AF_UNIX else tuple(name[:2])


async def _resolve(address: str) -> list[tuple[int, Where]]:
    """The families and addresses of one entry of server.listen."""
    if address.startswith(UNIX):
        return [(socket.AF_UNIX, (address.removeprefix(UNIX),))]
    host, _, port = address.removeprefix(TLS).rpartition(":")
    try:
        if not 0 <= int(port) <= HIGHEST_PORT:
            raise ValueError(f"a port is 0 to {HIGHEST_PORT}")
        found = await trio.socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"server.listen: {address!r} is no address to listen on: {error}.") from error
    return list(dict.fromkeys((int(family), tuple(where[:2])) for family, _, _, _, where in found))


def _listen(address: str, family: int, where: Where, *, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        if family == socket.AF_UNIX:
            _bind_file(sock, str(where[0]))
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(where)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise AddressInUse(f"Another process listens at {address}.") from error
        remedy = REMEDIES.get(error.errno or 0, "")
        why = error.strerror or str(error)
        raise ConfigError(f"server.listen: cannot listen at {address}: {why}.{remedy}") from error
    return sock


def _bind_file(sock: socket.socket, path: str) -> None:
    """Bind a unix socket. A file that a killed daemon left is replaced; one that somebody answers at is in use."""
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.setblocking(False)
                if probe.connect_ex(path) == errno.ECONNREFUSED:
                    os.unlink(path)
    sock.bind(path)
    os.chmod(path, FILE_MODE)


class Caps:
    """How many connections there are, in all (`total`) and by address, and how fast they come."""

    def __init__(self, limits: Limits, proxies: tuple[str, ...] = ()) -> None:
        self.use(limits, proxies)
        self._open: Counter[str] = Counter()
        self.total = 0

    def use(self, limits: Limits, proxies: tuple[str, ...] = ()) -> None:
        """Count by these limits from now on; the address of a trusted proxy is that of many."""
        self._limits = limits
        self._proxies = trusted(proxies)
        self._rate = Buckets(limits.connects)

    def enter(self, address: str, now: float) -> SowerError | None:
        """Count a connection, or say why it may not come."""
        limits = self._limits
        if self.total >= limits.connections:
            return TooManyConnections(f"{self.total} connections are open, limits.connections.", retry_after=5)
        if not self._proxies.covers(address):
            refusal = self._enter_by_address(address, now)
            if refusal is not None:
                return refusal
        self.total += 1
        self._open[address] += 1
        return None

    def _enter_by_address(self, address: str, now: float) -> SowerError | None:
        limits = self._limits
        if self._open[address] >= limits.connections_per_address:
            most = limits.connections_per_address
            return TooManyConnections(
                f"{most} are open from this address, limits.connections_per_address.", retry_after=5
            )
        wait = self._rate.take(address, now)
        if wait:
            return RateLimited("Connections of this address come faster than limits.connects.", retry_after=wait)
        return None

    def leave(self, address: str) -> None:
        """A connection ended."""
        self.total -= 1
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


async def accept_loop(listener: Listener, welcome: Callable[[Wire], None], caps: Caps) -> None:
    """Accept until cancelled, and have each connection welcomed. What that raises is logged and ends it alone."""
    told = -LOG_EVERY
    leave = caps.leave  # one object for all wires, not one each
    turns = 0
    while True:
        turns += 1
        if turns % ACCEPT_AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
        try:
            sock, peer = listener.sock.accept()
        except BlockingIOError:
            await trio.lowlevel.wait_readable(listener.sock)
        except OSError as error:
            if error.errno in OVERLOADED:
                if trio.current_time() - told >= LOG_EVERY:
                    told = trio.current_time()
                    log.warning("accepting_paused", why=error.strerror, seconds=PAUSE)
                await trio.sleep(PAUSE)
            elif error.errno not in PEER_GONE:
                raise
        else:
            address = str(peer[0]) if peer else LOCAL
            refusal = caps.enter(address, trio.current_time())
            if refusal is None:
                sock.setblocking(False)
                _welcome(listener.wire(sock, address, leave), welcome)
            elif listener.certificate is None:
                _turn_away(sock, refusal)
            else:
                sock.close()  # to say why would take a handshake


def _welcome(wire: Wire, welcome: Callable[[Wire], None]) -> None:
    try:
        welcome(wire)
    except Exception as error:
        log.error("connection_failed", address=wire.address, exc_info=error)
        wire.close()


def _turn_away(sock: socket.socket, error: SowerError) -> None:
    with sock:
        sock.setblocking(False)
        try:
            sock.send(Response.error(error).encode(keep_alive=False))
            sock.shutdown(socket.SHUT_WR)
            sock.recv(READ_AT_ONCE)  # closed with bytes unread, it would be reset and the answer lost
        except OSError:
            return
