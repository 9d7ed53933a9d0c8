"""What the daemon tells those who watch over it: health and metrics.

Rule 1: health needs no credential and says nothing about clients; metrics need a server's, as /stats does.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

from sower.access import Access
from sower.dialects.native.credentials import read_credentials
from sower.errors import Forbidden, NotAuthorised
from sower.health import Health
from sower.metrics import CONTENT_TYPE, Metrics
from sower.net.http import Request, Response
from sower.net.routing import Router

ROUTES = {
    "/health/live": 'Whether the daemon answers at all: {"live": true}. No credential is needed.',
    "/health/ready": "Whether it should get traffic: 200, or 503 with the checks that fail: journal, hub, cluster, lag,"
    ' stuck, draining. Answers {"ready", "faults": [{"check", "detail"}]}. No credential is needed.',
    "/metrics": "Metrics for Prometheus, with a server's credential (basic_auth in its scrape config).",
}
"""Every route with its meaning, for sower(1)."""


class Watching:
    """The routes."""

    def __init__(self, health: Health, metrics: Metrics, access: Access) -> None:
        self._health = health
        self._metrics = metrics
        self._access = access

    def install(self, router: Router) -> None:
        """Add them."""
        for pattern, endpoint in zip(ROUTES, (self._live, self._ready, self._read_metrics), strict=True):
            router.add("GET", pattern, endpoint)

    def _live(self, request: Request, params: Mapping[str, str]) -> Response:
        return Response.json({"live": True})

    def _ready(self, request: Request, params: Mapping[str, str]) -> Response:
        faults = [{"check": fault.check, "detail": fault.detail} for fault in self._health.faults()]
        return Response.json({"ready": not faults, "faults": faults}, 503 if faults else 200)

    def _read_metrics(self, request: Request, params: Mapping[str, str]) -> Coroutine[Any, Any, Response]:
        try:
            grant = self._access.authorise(read_credentials(request.headers, request.query))
            if not grant.server:
                raise Forbidden("Only a server (Basic key:secret) may read the metrics.")
        except NotAuthorised as error:
            raise self._access.refusal(request.address, error) from error
        return self._metrics_response()

    async def _metrics_response(self) -> Response:
        return Response(200, await self._metrics.text(), (("Content-Type", CONTENT_TYPE),))
