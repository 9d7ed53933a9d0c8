"""Sower's own protocol: subprotocol `sower.v1`, JSON text, one channel per WebSocket, and a plain HTTP API."""

from sower.dialects.interface import Dialect
from sower.dialects.native.http import HTTP_ROUTES
from sower.dialects.native.socket import SOCKET_ROUTES

NATIVE = Dialect("native", HTTP_ROUTES, SOCKET_ROUTES)
