"""Ably's Pub/Sub protocol, so that ably-js and ably-python work unmodified: the WebSocket at `/`, REST, and streams."""

from __future__ import annotations

from collections.abc import Sequence

from sower.config import App
from sower.dialects.ably.http import of_sdk, refuse
from sower.dialects.ably.opening import socket_routes
from sower.dialects.ably.rest import http_routes
from sower.dialects.ably.stream import stream_routes
from sower.dialects.interface import Dialect, Unserved


def ably(apps: Sequence[App], epoch: str, ping_every: float) -> Dialect:
    """The protocol on a node. epoch: of all positions. ping_every: seconds after which a silent client is pinged."""
    sockets, streams = socket_routes(apps, epoch, ping_every), stream_routes(epoch)
    return Dialect("ably", http_routes(epoch), sockets, streams, unserved=Unserved(of_sdk, refuse))
