"""Pusher Channels: its WebSocket protocol 5 to 7, and its HTTP API. Facts: the vendor's documentation and SDKs."""

from __future__ import annotations

from collections.abc import Sequence

from sower.config import App
from sower.dialects.interface import Dialect, Reply
from sower.dialects.pusher.http import HttpApi
from sower.dialects.pusher.socket import Sockets

STATS = Reply(b"{}", headers=(("Content-Type", "text/javascript"),))
"""The thanks for pusher-js' statistics (enableStats), which nobody keeps. A page without CORS runs it as a script."""


def pusher(apps: Sequence[App]) -> Dialect:
    """The dialect for these apps: each has its own limits."""
    sockets = Sockets(apps)
    return Dialect(
        "pusher",
        HttpApi(apps).routes(),
        sockets.routes(),
        fallbacks=sockets.fallbacks(),
        constants=(("/timeline/v2/{transport}/{number}", STATS),),
    )
