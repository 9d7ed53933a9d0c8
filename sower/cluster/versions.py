"""Which version each node is of. Two neighbouring protocols run together, so that daemons are upgraded one by one.

Rule 1: PROTOCOL is raised by a release that says something new to other nodes. That release says it only where all
        living nodes know it, or in a way that older ones read past: a field at the end, a kind of its own.
Rule 2: whoever finds a node that is two protocols away does not start.
"""

from __future__ import annotations

import structlog

from sower import __version__
from sower.cluster.line import Line
from sower.errors import ClusterFailed

log = structlog.get_logger(__name__)

PROTOCOL = 1


class Versions:
    """Of all nodes. name: of this one. nodes: the key in which they are."""

    def __init__(self, line: Line, prefix: str, name: str, nodes: bytes) -> None:
        self._line = line
        self._key = f"{prefix}:{{all}}:versions".encode()
        self._name = name
        self._nodes = nodes

    async def join(self) -> None:
        """Say which one this is. Raises ClusterFailed where another cannot be understood."""
        there = {name.decode() for name in await self._line.ask(b"ZRANGE", self._nodes, 0, -1)}
        said = await self._line.ask(b"HGETALL", self._key)
        for name, text in sorted((name.decode(), text.decode()) for name, text in said.items()):
            protocol, _, version = text.partition(" ")
            if name in there and abs(int(protocol) - PROTOCOL) > 1:
                raise ClusterFailed(
                    f"A daemon of version {version} is in this cluster and speaks protocol {protocol}; this one, "
                    f"version {__version__}, speaks {PROTOCOL}. Upgrade to a version between the two first."
                )
        await self._line.ask(b"HSET", self._key, self._name, f"{PROTOCOL} {__version__}")

    async def forget(self, name: str) -> None:
        """This node is gone. Raises ClusterFailed."""
        await self._line.ask(b"HDEL", self._key, name)
