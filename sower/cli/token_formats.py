"""The tokens that vendors' SDKs take, as their own servers would make them: one function for each."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec
import typer

from sower.cli.terminal import usage
from sower.config import App
from sower.core.grants import Can, Credential
from sower.dialects.ably.capability import OPERATIONS
from sower.dialects.ably.keys import ably_keys
from sower.dialects.ably.tokens import make_request, make_token
from sower.dialects.pusher.names import check_channel, is_presence, session_of
from sower.dialects.pusher.signing import authorise
from sower.quantities import parse_duration


class Format(StrEnum):
    """What `sower token --format` makes."""

    JWT = "jwt"
    PUSHER = "pusher"
    ABLY = "ably"


class Wanted(msgspec.Struct, frozen=True):
    """The words of the command. given: the second argument. meta: JSON. ttl: with its unit. can: with commas."""

    channel: str
    given: str | None
    user: str | None
    meta: str | None
    ttl: str
    can: str


def pusher(app: App, wanted: Wanted) -> dict[str, str]:
    """An auth string, and the channel_data that it signs where there is a member."""
    if wanted.given is None:
        raise typer.BadParameter("give the client's socket_id, as pusher-js shows it.", param_hint="SOCKET_ID")
    with usage("SOCKET_ID"):
        session_of(wanted.given)
    with usage("CHANNEL"):
        check_channel(wanted.channel)
    with usage("--meta"):
        info = msgspec.json.decode(wanted.meta) if wanted.meta is not None else None
    if is_presence(wanted.channel) != (wanted.user is not None):
        raise typer.BadParameter("a presence channel needs it, and no other takes it.", param_hint="--user")
    member = (wanted.user, info) if wanted.user is not None else None
    return authorise(app, wanted.given, wanted.channel, member)


def ably(app: App, wanted: Wanted) -> dict[str, str]:
    """A JWT, and a signed TokenRequest that a client exchanges for a token."""
    with usage("--ttl"):
        seconds = parse_duration(wanted.ttl)
    with usage("--can"):
        allowed = [Can(name.strip()) for name in wanted.can.split(",")]
    credential = ably_keys(app, Credential(app.id, app.key, app.secret.encode()))[0]
    capability = {wanted.channel: [name for name, can in OPERATIONS.items() if can in allowed]}
    now, unique = time.time(), secrets.token_hex(16)
    token = make_token(credential, capability, wanted.user, now, seconds, unique)
    return {"token": token, "tokenRequest": make_request(credential, capability, wanted.user, now, seconds, unique)}


MAKERS: dict[Format, Callable[[App, Wanted], dict[str, Any]]] = {Format.PUSHER: pusher, Format.ABLY: ably}
