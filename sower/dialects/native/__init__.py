"""Sower's own protocol: subprotocol `sower.v1`, JSON text, one channel per socket or stream, and a plain HTTP API."""

from sower.dialects.interface import Dialect
from sower.dialects.native.http import HTTP_ROUTES
from sower.dialects.native.operate import OPERATOR_ROUTES
from sower.dialects.native.socket import SOCKET_ROUTES
from sower.dialects.native.stream import stream_routes


def native(epoch: str) -> Dialect:
    """The protocol on a node. epoch: of all positions."""
    return Dialect("native", (*HTTP_ROUTES, *OPERATOR_ROUTES), SOCKET_ROUTES, stream_routes(epoch))
