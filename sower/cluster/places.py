"""Where Redis is: what a URL means.

    redis://USER:PASSWORD@HOST:PORT/DB               one server; rediss:// is TLS, unix:///PATH a socket
    redis+cluster://USER:PASSWORD@HOST:PORT,...      the masters of a Redis Cluster, as one of these says
    redis+sentinel://USER:PASSWORD@HOST:PORT,.../SERVICE/DB    whichever server one of these Sentinels names

rediss+cluster:// and rediss+sentinel:// are TLS to the servers. User, password and database are theirs; those of
Sentinels are ?sentinel_username=USER&sentinel_password=PASSWORD. What they hold is percent-encoded.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from coredis import Sentinel
from coredis.connection import TCPLocation
from coredis.pool import ConnectionPool, SentinelConnectionPool

ANSWERS_WITHIN = 2.0
"""Seconds for an answer, and for a connection. A healthy Redis takes a millisecond."""

logging.getLogger("coredis").setLevel(logging.CRITICAL)  # what fails is raised too, and told by whoever asked

PORT, SENTINEL_PORT = 6379, 26379


class Place(NamedTuple):
    """What a URL says.

    named:   Sentinels, or servers of a Redis Cluster
    service: the name under which Sentinels know the servers, empty where there are none
    """

    url: str
    named: tuple[TCPLocation, ...] = ()
    service: str = ""
    database: int = 0

    @classmethod
    def read(cls, url: str) -> Self:
        """A URL of the config, which has been checked (sower/config_sense.py)."""
        parts = urlsplit(url)
        if "+" not in parts.scheme:
            return cls(url)
        service, _, database = parts.path.strip("/").partition("/")
        port = SENTINEL_PORT if service else PORT
        named = tuple(_location(host, port) for host in parts.netloc.rpartition("@")[2].split(","))
        return cls(url, named, unquote(service), int(database or 0))

    def at(self, server: TCPLocation) -> Self:
        """One server of a Redis Cluster."""
        return self._replace(named=(server,))

    @property
    def tls(self) -> ssl.SSLContext | None:
        """What is checked of a server's certificate, where it has one."""
        return ssl.create_default_context() if self.url.startswith("rediss") else None

    @asynccontextmanager
    async def pool(self, most: int) -> AsyncGenerator[ConnectionPool[Any]]:
        """Connections to the server that decides now, so many at most."""
        common: dict[str, Any] = {
            "max_connections": most,
            "timeout": 3 * ANSWERS_WITHIN,  # longer than it connects, which fails with an error of its own
            "stream_timeout": ANSWERS_WITHIN,
            "connect_timeout": ANSWERS_WITHIN,
            "ssl_context": self.tls,
        }
        if not self.named:
            async with ConnectionPool[Any].from_url(self.url, decode_components=True, **common) as pool:
                yield pool
            return
        user, _, password = urlsplit(self.url).netloc.rpartition("@")[0].partition(":")
        common |= {"username": unquote(user) or None, "password": unquote(password) or None}
        if not self.service:
            async with ConnectionPool[Any](location=self.named[0], **common) as pool:
                yield pool
            return
        asked: dict[str, Any] = {"connect_timeout": ANSWERS_WITHIN / 2, "stream_timeout": ANSWERS_WITHIN / 2}
        for option in filter(None, urlsplit(self.url).query.split("&")):
            name, _, value = option.partition("=")
            asked[name.removeprefix("sentinel_")] = unquote(value)
        async with (
            Sentinel(self.named, sentinel_kwargs=asked) as sentinel,
            SentinelConnectionPool(self.service, sentinel, db=self.database, **common) as pool,
        ):
            yield pool


def _location(host: str, port: int) -> TCPLocation:
    parts = urlsplit(f"//{host}")
    return TCPLocation(parts.hostname or "127.0.0.1", parts.port or port)
