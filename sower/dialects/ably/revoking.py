"""Ably's way to revoke tokens: POST /keys/{key}/revokeTokens, with the key itself."""

from __future__ import annotations

from typing import Any

import msgspec

from sower.core.answer import HttpAnswer, Revoked
from sower.core.command import Revoke
from sower.core.revocations import By
from sower.dialects.ably.credentials import read_credentials
from sower.dialects.ably.http import read_body, refuse, reply
from sower.dialects.ably.tokens import LATEST
from sower.dialects.interface import Asked, HttpCall, HttpRoute, Reply
from sower.errors import BadParameter

MOST_TARGETS = 100
"""Targets of one request, the vendor's limit."""

MARGIN = 30.0
"""Seconds in which connected clients may get a new token, where the request allows it."""


class Request(msgspec.Struct):
    """targets: KIND:VALUE. issuedBefore: milliseconds since 1970."""

    targets: list[str]
    issuedBefore: int | None = None
    allowReauthMargin: bool = False


def decode_revoke(call: HttpCall) -> Asked:
    """Revoke tokens. Raises BadJson, BadParameter.

    Answers 201 {"successCount", "failureCount", "results": [{"target", "issuedBefore", "appliesAt"}]}.
    """
    request: Request = read_body(call, Request)
    if not 0 < len(request.targets) <= MOST_TARGETS:
        raise BadParameter(f"A request has 1 to {MOST_TARGETS} targets, this one {len(request.targets)}.")
    targets = tuple(_target(text) for text in request.targets)
    if request.issuedBefore is not None and not 0 <= request.issuedBefore < LATEST:
        raise BadParameter(f"issuedBefore is milliseconds since 1970, below {LATEST}.")
    before = None if request.issuedBefore is None else request.issuedBefore / 1000
    margin = MARGIN if request.allowReauthMargin else 0.0

    def encode(answer: HttpAnswer) -> Reply:
        when = answer if isinstance(answer, Revoked) else Revoked(0.0, 0.0)
        results: list[dict[str, Any]] = [
            {"target": text, "issuedBefore": int(when.before * 1000), "appliesAt": int(when.applies * 1000)}
            for text in request.targets
        ]
        told = {"successCount": len(results), "failureCount": 0, "results": results}
        return reply(call, told, 201)

    command = Revoke(call.params["key"], targets, before, margin)
    return Asked(read_credentials(call.headers, call.query), command, encode)


def _target(text: str) -> tuple[By, str]:
    kind, _, value = text.partition(":")
    if kind not in list(By) or not value:
        raise BadParameter(f"A target is clientId:X, revocationKey:X or channel:X; this is {text[:64]!r}.")
    return By(kind), value


REVOKE_ROUTE = HttpRoute("POST", "/keys/{key}/revokeTokens", decode_revoke, refuse)
