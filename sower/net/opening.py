"""What comes before the first request: the header of a proxy, and the TLS handshake."""

from __future__ import annotations

import socket

import trio

from sower.config import Server
from sower.net.proxies import MOST_HEADER, parse_header, trusted
from sower.net.wire import Wire

PEEK_EVERY = 0.01
"""Seconds between two looks at a header of which only a part is here; proxies send it whole."""


def must_open(wire: Wire, settings: Server) -> bool:
    """Whether something comes before a new connection's first request."""
    return wire.shakes_hands or _proxied(wire, settings)


async def open_wire(wire: Wire, settings: Server) -> bool:
    """Take what comes before the first request. Whether the connection may go on."""
    return (not _proxied(wire, settings) or await _read_proxy_header(wire)) and await wire.handshake()


def _proxied(wire: Wire, settings: Server) -> bool:
    return settings.proxy_protocol and trusted(settings.trusted_proxies).covers(wire.address)


async def _read_proxy_header(wire: Wire) -> bool:
    """Take a PROXY header off the socket, and nothing behind it. Whether there was one."""
    while True:
        await trio.lowlevel.wait_readable(wire.sock)
        try:
            data = wire.sock.recv(MOST_HEADER, socket.MSG_PEEK)
            header = parse_header(data)
        except (OSError, ValueError):
            return False
        if header is not None:
            wire.sock.recv(header.length)
            wire.address = header.address or wire.address
            return True
        if not data:
            return False
        await trio.sleep(PEEK_EVERY)  # what was peeked at stays there, so the socket stays readable
