"""Who a client behind a proxy is: X-Forwarded-For, and HAProxy's PROXY protocol, versions 1 and 2.

Rule 1: only a peer in server.trusted_proxies is believed; whoever else says something is who it connects as.
Rule 2: of a chain of proxies the nearest address that is no trusted proxy is the client: what stands before it was
        said by somebody who is not trusted.
Rule 3: whether a PROXY header comes is configured and never guessed (its specification, section 2).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

UNIX = "unix"
"""What stands for all who come through a unix socket."""

V1 = b"PROXY "
V2 = b"\r\n\r\n\0\r\nQUIT\n"

MOST_V1 = 107
"""Bytes of a header of version 1, its line's end among them."""

MOST_HEADER = 16 + 512
"""Bytes of a header that are read: those of version 2 may carry more than addresses (TLVs), mostly far less."""

FAMILIES = {0x11: (4, 12), 0x12: (4, 12), 0x21: (16, 36), 0x22: (16, 36)}
"""Version 2: bytes of one address, and of all addresses, of TCP or UDP over IPv4 and IPv6."""


class Trusted:
    """The proxies that are believed: addresses, networks, and "unix". Raises ValueError for what is none."""

    def __init__(self, entries: Sequence[str]) -> None:
        self._unix = UNIX in entries
        self._networks = [ipaddress.ip_network(entry) for entry in entries if entry != UNIX]

    def covers(self, address: str) -> bool:
        """Whether an address is one of them."""
        if address == UNIX:
            return self._unix
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def client(self, peer: str, forwarded_for: str) -> str:
        """Who a request is from. forwarded_for: X-Forwarded-For, its several lines joined by commas."""
        client = peer
        for hop in reversed(forwarded_for.split(",")):
            if not self.covers(client):
                return client
            try:
                client = str(ipaddress.ip_address(hop.strip()))
            except ValueError:
                return client
        return client


@lru_cache(16)
def trusted(entries: tuple[str, ...]) -> Trusted:
    """The proxies of a config."""
    return Trusted(entries)


class ProxyHeader(NamedTuple):
    """What a proxy says before all else. length: its bytes. address: the client's, None where it is the proxy's own."""

    length: int
    address: str | None


def parse_header(data: bytes) -> ProxyHeader | None:
    """The header that these bytes begin with, None where more must come. Raises ValueError for what is none."""
    if data.startswith(V2):
        return _parse_v2(data)
    if data.startswith(V1):
        return _parse_v1(data)
    if V2.startswith(data) or V1.startswith(data):
        return None
    raise ValueError("no PROXY header")


def _parse_v1(data: bytes) -> ProxyHeader | None:
    """PROXY TCP4 SOURCE DESTINATION PORT PORT, or PROXY UNKNOWN and anything."""
    line, end, _ = data[:MOST_V1].partition(b"\r\n")
    if not end:
        if len(data) >= MOST_V1:
            raise ValueError("the line of a PROXY header does not end")
        return None
    length = len(line) + 2
    words = line.decode("ascii").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader(length, None)
    if words[1] not in ("TCP4", "TCP6") or len(words) != 6:
        raise ValueError(f"no PROXY header of version 1: {line[:50]!r}")
    return ProxyHeader(length, str(ipaddress.ip_address(words[2])))


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    version_command, family, size = struct.unpack("!BBH", data[12:16])
    if version_command not in (0x20, 0x21) or 16 + size > MOST_HEADER:
        raise ValueError("no PROXY header of version 2, or one that is too long")
    if len(data) < 16 + size:
        return None
    width, least = FAMILIES.get(family, (0, 0))
    if version_command == 0x20 or not width:  # LOCAL, such as a health check; or no address of the internet
        return ProxyHeader(16 + size, None)
    if size < least:
        raise ValueError("a PROXY header that is shorter than its addresses")
    return ProxyHeader(16 + size, str(ipaddress.ip_address(data[16 : 16 + width])))
