"""TLS: a wire that encrypts, with the same one call for a write; and the certificate, which may be exchanged.

Rule 1: OpenSSL works on the socket itself, so there is no copy through buffers of our own, and an idle connection
        keeps none (Python sets SSL_MODE_RELEASE_BUFFERS).
Rule 2: a record that the socket took in part must be offered again, whatever is sent next: it is kept here.
Rule 3: reads take a whole record (at most 16 KiB), so that nothing decrypted waits where no epoll sees it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

import trio

from sower.config import Server
from sower.errors import ConfigError
from sower.net.wire import Wire

RECORD = 16 * 1024
"""Bytes of one TLS record at most (RFC 8446 section 5.1)."""


class Certificate:
    """The certificate in force. load() exchanges it for new connections; those that there are keep theirs."""

    def __init__(self) -> None:
        self.context: ssl.SSLContext | None = None

    def load(self, server: Server) -> None:
        """Read server.certificate and its key. Raises ConfigError, and then the one from before stays."""
        if not server.certificate:
            self.context = None
            return
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.options |= ssl.OP_NO_RENEGOTIATION
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(server.certificate, server.certificate_key or None, _no_password)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise ConfigError(f"server.certificate: {server.certificate} cannot be used: {error}.") from error
        self.context = context


def _no_password() -> str:
    """OpenSSL would ask the terminal for it, and a reload would wait there with all clients."""
    raise ValueError("its key has a password")


class TlsWire(Wire):
    """A wire that speaks TLS once `handshake` was awaited."""

    __slots__ = ("_certificate", "_retry", "_tls")

    shakes_hands = True

    def __init__(
        self, sock: socket.socket, address: str, on_close: Callable[[str], None] | None, certificate: Certificate
    ) -> None:
        super().__init__(sock, address, on_close)
        self._certificate = certificate
        self._tls: ssl.SSLSocket | None = None
        self._retry = b""

    async def handshake(self) -> bool:
        """Agree on keys. Whether the client did."""
        context = self._certificate.context
        if context is None:
            return False
        try:
            self.sock = self._tls = context.wrap_socket(self.sock, server_side=True, do_handshake_on_connect=False)
            while True:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    await trio.lowlevel.wait_readable(self.sock)
                except ssl.SSLWantWriteError:
                    await trio.lowlevel.wait_writable(self.sock)
                else:
                    return True
        except OSError:
            return False

    def send_now(self, data: bytes | memoryview) -> int:
        """As Wire.send_now."""
        sent = 0
        rest = memoryview(data)
        try:
            if self._retry:
                self.sock.send(self._retry)
                if bytes(rest[: len(self._retry)]) == self._retry:
                    sent = len(self._retry)
                self._retry = b""
            while sent < len(rest):
                sent += self.sock.send(rest[sent : sent + RECORD])
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self._retry = self._retry or bytes(rest[sent : sent + RECORD])
        except OSError as error:
            raise trio.BrokenResourceError from error
        return sent

    def recv_now(self, most: int) -> bytes | None:
        """As Wire.recv_now."""
        try:
            return self.sock.recv(max(most, RECORD))
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except OSError:
            return b""

    def finish(self) -> None:
        """Say that nothing more will be sent: close_notify, then the end."""
        self._say_goodbye()
        with suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_WR)

    def close(self) -> None:
        """As Wire.close."""
        if not self.closed:
            self._say_goodbye()
        super().close()

    def _say_goodbye(self) -> None:
        if self._tls is not None and not self._retry:
            with suppress(OSError, ValueError):
                self._tls.unwrap()  # sends close_notify, and does not wait for the client's
            self._tls = None
