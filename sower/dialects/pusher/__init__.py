"""Pusher Channels: its WebSocket protocol 5 to 7, and its HTTP API. Facts: the vendor's documentation and SDKs."""

from __future__ import annotations

from collections.abc import Sequence

from sower.config import App
from sower.dialects.interface import Dialect
from sower.dialects.pusher.http import HttpApi
from sower.dialects.pusher.socket import Sockets


def pusher(apps: Sequence[App]) -> Dialect:
    """The dialect for these apps: each has its own limits."""
    return Dialect("pusher", HttpApi(apps).routes(), Sockets(apps).routes())
