"""Numbers that clients send, whatever protocol they speak: finite, in a range, and never more than what is meant."""

from __future__ import annotations

import math
from typing import Any

import jwt
import msgspec
import pytest

from sower.cli.token import ends, expiry, suspicions
from sower.config import AblySettings
from sower.core.command import Complain, Mint, PublishAll, ReadAudit, SocketCommand
from sower.core.grants import Credential, Grant, sign
from sower.dialects.ably import tokens as ably
from sower.dialects.ably.channels import ChannelWords
from sower.dialects.ably.keys import PROTOCOL
from sower.dialects.ably.socket import AblyConversation, Manner
from sower.dialects.ably.wire import JSON, MSGPACK, Format
from sower.dialects.interface import HttpCall
from sower.dialects.native.http import decode_auth
from sower.dialects.native.operate import decode_audit
from sower.dialects.pubnub import tokens as pubnub
from sower.dialects.pubnub.signing import SKEW
from sower.errors import BadFrame, BadRequest, BadToken

NOW = 1_800_000_000.0
SECRET = b"a-secret-of-32-bytes-for-numbers"
KEY = Credential("1001", "app.key", SECRET, protocol=PROTOCOL)
BOTH = pytest.mark.parametrize("wire", [JSON, MSGPACK], ids=["json", "msgpack"])


def read_frame(wire: Format, payload: bytes) -> SocketCommand:
    """The one command of an Ably client's frame."""
    manner = Manner(wire, ChannelWords(wire, "e0"), "e0", AblySettings(), 25.0)
    (command,) = AblyConversation(manner, {}).receive(None, payload, is_text=not wire.binary)  # type: ignore[arg-type]
    return command


def frame(number: Any) -> dict[str, Any]:
    return {"action": 15, "channel": "room", "msgSerial": number, "messages": [{"name": "e"}]}


@BOTH
@pytest.mark.parametrize("number", [-1, 2**53, 2**64 - 1, 1.5, 1e300, math.nan, True, "1"])
def test_a_frame_of_a_number_that_no_sdk_counts_to_cannot_be_read(wire: Format, number: Any) -> None:
    payload = wire.encode(frame(number)).replace(b"null", b"NaN")
    command = read_frame(wire, payload)
    assert isinstance(command, Complain)
    assert isinstance(command.error, BadFrame)
    assert command.final, "whom should it be answered to?"


def test_no_id_is_made_of_a_number_of_thousands_of_digits() -> None:
    command = read_frame(JSON, JSON.encode(frame("x")).replace(b'"x"', b"1" + b"0" * 4000))
    assert isinstance(command, Complain)


@BOTH
def test_the_last_number_that_javascript_counts_to_is_one(wire: Format) -> None:
    command = read_frame(wire, wire.encode(frame(2**53 - 1)))
    assert isinstance(command, PublishAll)
    assert command.publishes[0].id == f":{2**53 - 1}:0"


def of_ably(**claims: Any) -> Grant:
    said = {"iat": NOW, "exp": NOW + 60, **claims}
    return ably.verify(jwt.encode(said, SECRET, "HS256", headers={"kid": KEY.key}), {KEY.key: KEY}, NOW)


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_token_of_ablys_counts_from_when_it_says_or_nobody_could_revoke_it(claim: str) -> None:
    assert of_ably(**{claim: NOW + ably.SKEW}).issued == (NOW + ably.SKEW if claim == "iat" else NOW)
    with pytest.raises(BadToken, match="in the future"):
        of_ably(**{claim: NOW + ably.SKEW + 1})


@pytest.mark.parametrize("claim", ["iat", "nbf", "exp"])
@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf, 1e12, 10**400, True, "1"])
def test_a_claim_that_is_no_moment_is_refused_whoever_signed_it(claim: str, moment: Any) -> None:
    with pytest.raises(BadToken):
        of_ably(**{claim: moment})


def of_pubnub(issued: Any, minutes: Any) -> Grant:
    content = {b"v": 2, b"t": issued, b"ttl": minutes, **{name: {b"chan": {}, b"grp": {}} for name in (b"res", b"pat")}}
    text = pubnub.text_of(content)
    return pubnub.verify_token(pubnub.seal(text, sign(SECRET, text)), KEY.key, {KEY.key: KEY}, NOW)


def test_a_token_of_pubnubs_ends_so_many_minutes_after_it_began() -> None:
    assert of_pubnub(int(NOW), pubnub.MAX_TTL).expires == NOW + 30 * 86400


def test_a_token_of_pubnubs_counts_from_when_it_says_or_nobody_could_revoke_it() -> None:
    assert of_pubnub(int(NOW + SKEW), 1).issued == NOW + SKEW
    with pytest.raises(BadToken, match="in the future"):
        of_pubnub(int(NOW + SKEW) + 1, 1)


@pytest.mark.parametrize(
    ("issued", "minutes"),
    [
        ("1", "0"),  # a 1 and sixty noughts
        (int(NOW), float(pubnub.MAX_TTL)),
        (NOW, 10),
        (int(NOW), True),
        (10**12, 10),
        (-1, pubnub.MAX_TTL),
        (10**400, 1),
        (int(NOW), pubnub.MAX_TTL + 1),
        (int(NOW), 0),
        (int(NOW), None),
        ([], 1),
    ],
)
def test_a_token_of_pubnubs_whose_end_is_no_whole_number_or_too_far_is_refused(issued: Any, minutes: Any) -> None:
    with pytest.raises(BadToken, match="when it expires"):
        of_pubnub(issued, minutes)


def asked(body: bytes = b"", **query: str) -> HttpCall:
    return HttpCall("GET", "/", {"channel": "room"}, query, {"authorization": "Basic azpz"}, body)


@pytest.mark.parametrize("ttl", ["9" * 5000 + "s", "\u0663s", "1_0s", "-1s", "nans", "infd", "31d", 0, -0.0, 1e300])
def test_a_ttl_is_a_time_of_at_most_thirty_days_and_what_is_none_is_not_said_at_length(ttl: str | float) -> None:
    command = decode_auth(asked(msgspec.json.encode({"ttl": ttl}))).command
    assert isinstance(command, Complain)
    assert isinstance(command.error, BadRequest)
    assert len(command.error.message) < 200
    minted = decode_auth(asked(b'{"ttl": "30d"}')).command
    assert isinstance(minted, Mint)
    assert minted.ttl == 30 * 86400


@pytest.mark.parametrize("before", ["nan", "inf", "-1", "1e9", "1_0", "\u0663", "9" * 13, " 1"])
def test_the_audit_is_read_before_a_moment_and_not_before_none(before: str) -> None:
    command = decode_audit(asked(before=before)).command
    assert isinstance(command, Complain)
    assert isinstance(command.error, BadRequest)
    shown = decode_audit(asked(before=repr(NOW + 0.1234567))).command
    assert isinstance(shown, ReadAudit)
    assert shown.before == NOW + 0.1234567


@pytest.mark.parametrize("end", [math.nan, math.inf, 1e12, True, "1", None])
def test_of_what_is_no_moment_inspect_says_that_the_token_never_expires(end: Any) -> None:
    claims = {"exp": end, "channels": {"a": []}}
    assert expiry(ends(claims), NOW).startswith("(never")
    assert suspicions({"alg": "HS256", "kid": "key"}, claims, NOW) == ["it never expires; a token must"]
    assert ends({"exp": -1.5}) == -1.5
