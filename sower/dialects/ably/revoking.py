"""Ably's way to revoke tokens: POST /keys/{key}/revokeTokens, with the key itself."""

from __future__ import annotations

from typing import Any

import msgspec

from sower.core.answer import HttpAnswer, Revoked
from sower.core.command import Revoke
from sower.core.revocations import By
from sower.dialects.ably.codes import info
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
    """Revoke tokens. Each target may fail alone. Raises BadJson, BadParameter.

    Answers 201 {"successCount", "failureCount", "results": [{"target", "issuedBefore", "appliesAt" | "error"}]}.
    """
    request: Request = read_body(call, Request)
    if not 0 < len(request.targets) <= MOST_TARGETS:
        raise BadParameter(f"A request has 1 to {MOST_TARGETS} targets, this one {len(request.targets)}.")
    targets = [_target(text) for text in request.targets]
    if request.issuedBefore is not None and not 0 <= request.issuedBefore < LATEST:
        raise BadParameter(f"issuedBefore is milliseconds since 1970, below {LATEST}.")
    before = None if request.issuedBefore is None else request.issuedBefore / 1000
    margin = MARGIN if request.allowReauthMargin else 0.0

    def encode(answer: HttpAnswer) -> Reply:
        when = answer if isinstance(answer, Revoked) else Revoked(0.0, 0.0)
        done = {"issuedBefore": int(when.before * 1000), "appliesAt": int(when.applies * 1000)}
        results: list[dict[str, Any]] = [
            {"target": text, **(done if target is not None else {"error": UNKNOWN})}
            for text, target in zip(request.targets, targets, strict=True)
        ]
        failures = targets.count(None)
        told = {"successCount": len(results) - failures, "failureCount": failures, "results": results}
        return reply(call, told, 201)

    command = Revoke(call.params["key"], tuple(target for target in targets if target is not None), before, margin)
    return Asked(read_credentials(call.headers, call.query), command, encode)


def _target(text: str) -> tuple[By, str] | None:
    kind, _, value = text.partition(":")
    return (By(kind), value) if kind in list(By) and value else None


UNKNOWN = info(BadParameter("A target is clientId:X, revocationKey:X or channel:X."))


REVOKE_ROUTE = HttpRoute("POST", "/keys/{key}/revokeTokens", decode_revoke, refuse)
