"""The tokens that vendors' SDKs take, as their own servers would make them: one function for each."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec
import typer

from sower.cli.terminal import usage
from sower.config import App
from sower.core.grants import Can, Credential, sign
from sower.dialects.ably.capability import OPERATIONS
from sower.dialects.ably.keys import ably_keys
from sower.dialects.ably.tokens import make_request, make_token
from sower.dialects.pubnub.asking import PRESENCE, check_user
from sower.dialects.pubnub.keys import pubnub_key
from sower.dialects.pubnub.tokens import CAPABILITIES, MAX_TTL, READ, draft, seal
from sower.dialects.pusher.names import check_channel, is_presence, session_of
from sower.dialects.pusher.signing import authorise
from sower.quantities import parse_duration


class Format(StrEnum):
    """What `sower token --format` makes."""

    JWT = "jwt"
    PUSHER = "pusher"
    ABLY = "ably"
    PUBNUB = "pubnub"


NOT_SAID = {Format.PUSHER: ("--ttl", "--can"), Format.ABLY: ("--meta",)}
"""What a vendor's token has no word for. Pusher's is good for one channel and one connection, until that ends."""


class Wanted(msgspec.Struct, frozen=True):
    """The words of the command. given: the second argument. meta: JSON. ttl: with its unit. can: with commas."""

    channel: str
    given: str | None
    user: str | None
    meta: str | None
    ttl: str
    can: str


def one_at_a_time(given: str | None) -> None:
    """Where one word alone is taken."""
    if given is not None:
        raise typer.BadParameter(f"one at a time; {given[:40]!r} is too much. Use a pattern.", param_hint="CHANNEL")


def seconds_of(ttl: str) -> float:
    """How long a token is good. Raises ValueError."""
    seconds = parse_duration(ttl)
    if seconds <= 0:
        raise ValueError("a token is good for some time")
    return seconds


def abilities(text: str) -> list[Can]:
    """Capabilities with commas between them. Raises ValueError."""
    names = [name.strip() for name in text.split(",")]
    unknown = next((name for name in names if name not in list(Can)), None)
    if unknown is not None:
        raise ValueError(f"{unknown[:40]!r} is no capability; there are {', '.join(Can)}")
    return [Can(name) for name in names]


def meta_of(text: str | None) -> Any:
    """What others see beside a user. Raises ValueError."""
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{text[:40]!r} is no JSON: {error}") from error


def pusher(app: App, wanted: Wanted) -> dict[str, str]:
    """An auth string, and the channel_data that it signs where there is a member."""
    if wanted.given is None:
        raise typer.BadParameter("give the client's socket_id, as pusher-js shows it.", param_hint="SOCKET_ID")
    with usage("SOCKET_ID"):
        session_of(wanted.given)
    with usage("CHANNEL"):
        check_channel(wanted.channel)
    with usage("--meta"):
        info = meta_of(wanted.meta)
    if is_presence(wanted.channel) != (wanted.user is not None):
        raise typer.BadParameter("a presence channel needs it, and no other takes it.", param_hint="--user")
    member = (wanted.user, info) if wanted.user is not None else None
    return authorise(app, wanted.given, wanted.channel, member)


def ably(app: App, wanted: Wanted) -> dict[str, str]:
    """A JWT, and a signed TokenRequest that a client exchanges for a token."""
    one_at_a_time(wanted.given)
    with usage("--ttl"):
        seconds = seconds_of(wanted.ttl)
    with usage("--can"):
        allowed = abilities(wanted.can)
    credential = ably_keys(app, Credential(app.id, app.key, app.secret.encode()))[0]
    capability = {wanted.channel: [name for name, can in OPERATIONS.items() if can in allowed]}
    now, unique = time.time(), secrets.token_hex(16)
    token = make_token(credential, capability, wanted.user, now, seconds, unique)
    return {"token": token, "tokenRequest": make_request(credential, capability, wanted.user, now, seconds, unique)}


def pubnub(app: App, wanted: Wanted) -> dict[str, str]:
    """A token of Access Manager's third version, for one channel or a pattern, and its comings and goings."""
    one_at_a_time(wanted.given)
    with usage("--can"):
        can = set(abilities(wanted.can))
    with usage("--meta"):
        meta = meta_of(wanted.meta)
    with usage("--ttl"):
        minutes = math.ceil(parse_duration(wanted.ttl) / 60)
        if not 1 <= minutes <= MAX_TTL:
            raise ValueError(f"a token is good for 1m to {MAX_TTL // 1440}d")
    with usage("--user"):
        user = check_user(wanted.user) if wanted.user is not None else None
    names = {wanted.channel: sum(bit for bit, allowed in CAPABILITIES.items() if can.intersection(allowed))}
    if Can.PRESENCE in can:
        names[wanted.channel + PRESENCE] = READ
    patterns: dict[str, int] = {f"^{'.*'.join(map(re.escape, name.split('*')))}$": bits for name, bits in names.items()}
    named = "*" not in wanted.channel
    exact: dict[str, int] = names if named else {}
    matching: dict[str, int] = {} if named else patterns
    said = draft(int(time.time()), minutes, {"channels": exact}, {"channels": matching}, meta, user)
    secret = pubnub_key(app, Credential(app.id, app.key, app.secret.encode())).secret
    return {"token": seal(said, sign(secret, said))}


MAKERS: dict[Format, Callable[[App, Wanted], dict[str, Any]]] = {
    Format.PUSHER: pusher,
    Format.ABLY: ably,
    Format.PUBNUB: pubnub,
}
