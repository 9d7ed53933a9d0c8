"""Forged, altered, swapped, expired and replayed credentials of every dialect, as one table on one daemon with two apps."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.abuse import credentials as c
from tests.abuse.credentials import (
    ABLY_OTHER,
    CONFIG,
    FORGED,
    OTHER,
    OTHER_SECRET,
    ably,
    ably_history,
    altered,
    asking_for_a_token,
    auth,
    basic,
    fetching,
    history,
    http,
    native,
    pubnub,
    request_token,
    signed,
    signing_in,
    subscribing,
    trigger,
    triggering,
    widened,
)
from tests.e2e.daemon import KEY, SECRET, Daemon, running

Try = Callable[[Daemon], Awaitable[str]]

MEMBER = json.dumps({"user_id": "ada"})
EVE = json.dumps({"user_id": "eve"})
USER, EVIL = json.dumps({"id": "ada"}), json.dumps({"id": "eve"})


async def _replayed_auth(daemon: Daemon) -> str:
    """What one socket was given is shown on another."""
    kept: list[str] = []

    def once(socket_id: str) -> str:
        kept.append(auth(f"{socket_id}:private-a"))
        return kept[0]

    assert "subscription_succeeded" in await subscribing(daemon, once)
    return await subscribing(daemon, once)


async def _twice(daemon: Daemon) -> str:
    """A TokenRequest is used, and used again."""
    request = request_token(nonce="used-twice-0123456789")
    assert (await asking_for_a_token(daemon, request)).startswith("201 ")
    return await asking_for_a_token(daemon, request)


async def _again(daemon: Daemon) -> str:
    """A signed request of Pusher's is sent twice."""
    target, body = trigger()
    assert (await triggering(daemon, target, body)).startswith("200 ")
    return await triggering(daemon, target, body)


async def _same_again(daemon: Daemon) -> str:
    target = signed()
    assert (await http(daemon, "GET", target)).startswith("200 ")
    return await http(daemon, "GET", target)


async def _other_body(daemon: Daemon) -> str:
    target, _ = trigger()
    return await triggering(daemon, target, json.dumps({**c.EVENT, "data": '"other"'}).encode())


async def _other_digest(daemon: Daemon) -> str:
    """Another body and its MD5, with the signature of the first."""
    target, _ = trigger()
    other, body = trigger(event={**c.EVENT, "data": '"other"'})
    digest = other.partition("body_md5=")[2][:32]
    old = target.partition("body_md5=")[2][:32]
    return await triggering(daemon, target.replace(old, digest), body)


ROWS: dict[str, tuple[Try, str, str]] = {
    # Sower's own
    "native: a token": (lambda d: history(d, native()), "200", "events"),
    "native: a token, replayed until it ends": (lambda d: history(d, native()), "200", "events"),
    "native: a token that another secret signed": (lambda d: history(d, native(FORGED)), "401", "bad_token"),
    "native: a token with other claims": (
        lambda d: history(d, altered(native(), channels={"*": ["*"]})),
        "401",
        "bad_token",
    ),
    "native: a token that is over": (lambda d: history(d, native(exp=1_000_000_000)), "401", "token_expired"),
    "native: a token without an end": (lambda d: history(d, native(exp=None)), "401", "bad_token"),
    "native: a token that begins later": (lambda d: history(d, native(nbf=3_900_000_000)), "401", "bad_token"),
    "native: a token without a signature": (lambda d: history(d, native(alg="none")), "401", "bad_token"),
    "native: a token of another algorithm": (lambda d: history(d, native(alg="HS512")), "401", "bad_token"),
    "native: another app's token under this app's key": (
        lambda d: history(d, native(OTHER_SECRET, OTHER), f"key={KEY}"),
        "401",
        "unknown_key",
    ),
    "native: a token that another app's secret signed for this key": (
        lambda d: history(d, native(OTHER_SECRET)),
        "401",
        "bad_token",
    ),
    "native: a token for another channel": (
        lambda d: history(d, native(channel="private-b")),
        "403",
        "forbidden",
    ),
    "native: a token for another user": (lambda d: history(d, native(), "user=eve"), "403", "user_mismatch"),
    "native: a wrong secret": (
        lambda d: http(d, "GET", "/history/private-a", Authorization=basic(KEY, FORGED)),
        "401",
        "wrong_secret",
    ),
    "native: another app's secret": (
        lambda d: http(d, "GET", "/history/private-a", Authorization=basic(KEY, OTHER_SECRET)),
        "401",
        "wrong_secret",
    ),
    "native: no secret": (
        lambda d: http(d, "GET", "/history/private-a", Authorization=basic(KEY, "")),
        "401",
        "wrong_secret",
    ),
    # Pusher's sockets
    "pusher: an auth string": (lambda d: subscribing(d, lambda s: auth(f"{s}:private-a")), "", "succeeded"),
    "pusher: an auth string that another secret signed": (
        lambda d: subscribing(d, lambda s: auth(f"{s}:private-a", FORGED)),
        "",
        "AuthError",
    ),
    "pusher: an auth string of another socket, replayed": (_replayed_auth, "", "AuthError"),
    "pusher: an auth string for another channel": (
        lambda d: subscribing(d, lambda s: auth(f"{s}:private-b")),
        "",
        "AuthError",
    ),
    "pusher: an auth string of another app": (
        lambda d: subscribing(d, lambda s: auth(f"{s}:private-a", OTHER_SECRET, OTHER)),
        "",
        "AuthError",
    ),
    "pusher: another app's signature under this key": (
        lambda d: subscribing(d, lambda s: auth(f"{s}:private-a", OTHER_SECRET)),
        "",
        "AuthError",
    ),
    "pusher: a member": (
        lambda d: subscribing(d, lambda s: auth(f"{s}:presence-a:{MEMBER}"), "presence-a", MEMBER),
        "",
        "succeeded",
    ),
    "pusher: another member than was signed": (
        lambda d: subscribing(d, lambda s: auth(f"{s}:presence-a:{MEMBER}"), "presence-a", EVE),
        "",
        "AuthError",
    ),
    "pusher: a user": (lambda d: signing_in(d, lambda s: auth(f"{s}::user::{USER}"), USER), "", "signin_success"),
    "pusher: another user than was signed": (
        lambda d: signing_in(d, lambda s: auth(f"{s}::user::{USER}"), EVIL),
        "",
        "4009",
    ),
    "pusher: a channel's auth string as a user's": (
        lambda d: signing_in(d, lambda s: auth(f"{s}:private-a"), USER),
        "",
        "4009",
    ),
    # Pusher's requests
    "pusher: a signed request": (lambda d: triggering(d, *trigger()), "200", "{}"),
    "pusher: a signed request, replayed within clock_skew as the vendor's": (_again, "200", "{}"),
    "pusher: a request that another secret signed": (lambda d: triggering(d, *trigger(secret=FORGED)), "401", ""),
    "pusher: a request of 11 minutes ago": (lambda d: triggering(d, *trigger(off=-660)), "401", ""),
    "pusher: a request of in 11 minutes": (lambda d: triggering(d, *trigger(off=660)), "401", ""),
    "pusher: another body": (_other_body, "401", ""),
    "pusher: another body with its MD5": (_other_digest, "401", ""),
    "pusher: a signature of another method": (lambda d: triggering(d, *trigger(method="GET")), "401", ""),
    "pusher: this app's key on another app's path": (lambda d: triggering(d, *trigger(app="1002")), "401", ""),
    "pusher: another app's key and secret on this path": (
        lambda d: triggering(d, *trigger(key=OTHER, secret=OTHER_SECRET)),
        "401",
        "",
    ),
    # Ably
    "ably: a token request": (lambda d: asking_for_a_token(d, request_token()), "201", "token"),
    "ably: a token request, replayed": (_twice, "401", "40105"),
    "ably: a token request that another secret signed": (
        lambda d: asking_for_a_token(d, request_token(secret=FORGED)),
        "401",
        "",
    ),
    "ably: a token request for more than was signed": (
        lambda d: asking_for_a_token(d, request_token(capability='{"*":["*"]}')),
        "401",
        "",
    ),
    "ably: a token request for another user than was signed": (
        lambda d: asking_for_a_token(d, request_token(clientId="eve")),
        "401",
        "",
    ),
    "ably: a token request of 3 minutes ago": (
        lambda d: asking_for_a_token(d, request_token(off=-180)),
        "401",
        "",
    ),
    "ably: a token request of in 3 minutes": (lambda d: asking_for_a_token(d, request_token(off=180)), "401", ""),
    "ably: a token request of another app's key on this key's path": (
        lambda d: asking_for_a_token(d, request_token(ABLY_OTHER, OTHER_SECRET)),
        "40",
        "",
    ),
    "ably: a JWT": (lambda d: ably_history(d, ably()), "200", ""),
    "ably: a JWT that another secret signed": (lambda d: ably_history(d, ably(FORGED)), "401", ""),
    "ably: a JWT with other claims": (
        lambda d: ably_history(d, altered(ably(), **{"x-ably-capability": '{"*":["*"]}'})),
        "401",
        "",
    ),
    "ably: a JWT that is over": (lambda d: ably_history(d, ably(exp=1_000_000_000)), "401", "40142"),
    "ably: a JWT for another channel": (lambda d: ably_history(d, ably(), "private-b"), "401", "40160"),
    "ably: a JWT of this key that another app's secret signed": (
        lambda d: ably_history(d, ably(OTHER_SECRET)),
        "401",
        "",
    ),
    "ably: a JWT for another user": (
        lambda d: ably_history(
            d, ably(**{"x-ably-clientId": "ada"}), X_Ably_ClientId=base64.b64encode(b"eve").decode()
        ),
        "40",
        "",
    ),
    "ably: a wrong secret": (
        lambda d: http(d, "GET", "/channels/private-a/messages", Authorization=basic(c.ABLY, FORGED)),
        "401",
        "",
    ),
    "ably: a socket with a JWT": (lambda d: c.ably_socket(d, ably()), "", '"action": 4'),
    "ably: a socket with a JWT that another secret signed": (
        lambda d: c.ably_socket(d, ably(FORGED)),
        "",
        '"statusCode": 401',
    ),
    "ably: a socket with a JWT that is over": (
        lambda d: c.ably_socket(d, ably(exp=1_000_000_000)),
        "",
        '"code": 40142',
    ),
    # PubNub
    "pubnub: a poll with a token": (lambda d: c.polling(d, pubnub()), "200", ""),
    "pubnub: a poll with a token that another secret signed": (lambda d: c.polling(d, pubnub(FORGED)), "403", ""),
    "pubnub: a poll with a token for another channel": (
        lambda d: c.polling(d, pubnub(channel="private-b")),
        "403",
        "",
    ),
    "pubnub: a token": (lambda d: fetching(d, pubnub()), "200", ""),
    "pubnub: a token that another secret signed": (lambda d: fetching(d, pubnub(FORGED)), "403", ""),
    "pubnub: a token with a channel more": (
        lambda d: fetching(d, widened(pubnub()), "private-b"),
        "403",
        "",
    ),
    "pubnub: a token that is over": (lambda d: fetching(d, pubnub(issued=-3600)), "403", "expired"),
    "pubnub: a token for another channel": (lambda d: fetching(d, pubnub(channel="private-b")), "403", ""),
    "pubnub: a token of another keyset": (lambda d: fetching(d, pubnub(OTHER_SECRET)), "403", ""),
    "pubnub: this keyset's token on another's path": (
        lambda d: fetching(d, pubnub(), sub=f"sub-{OTHER}"),
        "403",
        "",
    ),
    "pubnub: a token for another user": (lambda d: fetching(d, pubnub(), uuid="eve"), "403", ""),
    "pubnub: a signed request": (lambda d: http(d, "GET", signed()), "200", ""),
    "pubnub: a signed request, replayed within a minute as the vendor's": (_same_again, "200", ""),
    "pubnub: a request that another secret signed": (lambda d: http(d, "GET", signed(secret=FORGED)), "403", ""),
    "pubnub: a request of 2 minutes ago": (lambda d: http(d, "GET", signed(off=-120)), "4", ""),
    "pubnub: a request of in 2 minutes": (lambda d: http(d, "GET", signed(off=120)), "4", ""),
    "pubnub: a signature of another channel's request": (
        lambda d: http(d, "GET", signed().replace("private-a", "private-b")),
        "403",
        "",
    ),
    "pubnub: a signature of another user's request": (
        lambda d: http(d, "GET", signed().replace("uuid=server", "uuid=other")),
        "403",
        "",
    ),
}
"""What is tried, and what its answer begins with and holds. Sockets have no status."""


async def test_each_credential_that_proves_nothing_is_refused_and_each_good_one_beside_it_is_taken(
    tmp_path: Path,
) -> None:
    wrong: list[str] = []
    async with running(tmp_path, CONFIG) as daemon:
        for name, (attempt, begins, holds) in ROWS.items():
            said = await attempt(daemon)
            if not (said.startswith(begins) and holds in said):
                wrong.append(f"{name}: {said[:300]}")
        assert daemon.alive
        assert (await daemon.request("GET", "/history/private-a", headers={"X": SECRET})).status_code == 200
    assert not wrong, "\n" + "\n".join(wrong)


async def test_a_request_that_was_used_is_used_up_for_the_next_daemon_though_this_one_is_killed_at_once(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, CONFIG) as daemon:
        request = request_token()
        assert (await asking_for_a_token(daemon, request)).startswith("201 ")
        await daemon.stop(signal.SIGKILL)
        await daemon.start()
        again = await asking_for_a_token(daemon, request)
        assert again.startswith("401 ")
        assert "40105" in again
        assert (await asking_for_a_token(daemon, request_token())).startswith("201 ")
