"""dialects/pubnub/tokens.py: what a token says, what it allows, and what is no token."""

from __future__ import annotations

import base64
import math
import time

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.core.grants import Can, Credential, sign
from sower.dialects.pubnub import tokens
from sower.dialects.pubnub.tokens import Expression, draft, inspect, is_token, seal, text_of, verify_token
from sower.errors import BadGrant, BadSignature, BadToken, TokenExpired, UnknownKey

CREDENTIALS = {"sub-k": Credential("1", "sub-k", b"a-secret-0123456789")}


def made(user: str | None = "ada", secret: bytes = b"a-secret-0123456789") -> str:
    resources = {"channels": {"room": 3, "hall": 8}, "groups": {"all": 5}}
    said = draft(1000, 10, resources, {"channels": {"^chat-[a-z]+$": 1}}, {"n": 1}, user)
    return seal(said, sign(secret, said))


def test_a_token_has_byte_keys_in_the_vendors_order_and_keeps_its_padding() -> None:
    token = made()
    assert len(token) % 4 == 0
    content = cbor2.loads(base64.urlsafe_b64decode(token))
    assert list(content) == [b"v", b"t", b"ttl", b"res", b"pat", b"meta", b"uuid", b"sig"]
    assert content[b"res"] == {b"chan": {"room": 3, "hall": 8}, b"grp": {"all": 5}, b"uuid": {}}
    assert len(content[b"sig"]) == 32


def test_a_token_allows_its_bearer_what_it_names() -> None:
    grant = verify_token(made(), "sub-k", CREDENTIALS, 1001.0)
    assert (grant.user, grant.expires, grant.closed) == ("ada", 1600.0, True)
    allowed = {
        (can, name) for can in Can for name in ("room", "hall", "chat-a", "chat-1", "x") if grant.claimed(can, name)
    }
    reading = {Can.SUBSCRIBE, Can.PRESENCE, Can.HISTORY}
    assert allowed == {(can, name) for can in reading for name in ("room", "chat-a")} | {
        (Can.PUBLISH, "room"),
        (Can.DELETE, "hall"),
    }
    assert grant.allows_group(Can.MANAGE, "all")
    assert not grant.allows_group(Can.MANAGE, "other")


def test_an_altered_expired_or_foreign_token_is_refused() -> None:
    content = cbor2.loads(base64.urlsafe_b64decode(made()))
    content[b"res"][b"chan"]["secret"] = 1
    with pytest.raises(BadSignature):
        verify_token(base64.urlsafe_b64encode(cbor2.dumps(content)).decode(), "sub-k", CREDENTIALS, 1001.0)
    with pytest.raises(BadSignature):
        verify_token(made(secret=b"another-secret-01234"), "sub-k", CREDENTIALS, 1001.0)
    with pytest.raises(TokenExpired):
        verify_token(made(), "sub-k", CREDENTIALS, 1600.0)
    with pytest.raises(UnknownKey):
        verify_token(made(), "sub-x", CREDENTIALS, 1001.0)
    broken = base64.urlsafe_b64encode(cbor2.dumps({b"v": 2, b"sig": b"x"})).decode()
    with pytest.raises(BadToken):
        verify_token(broken, "sub-k", CREDENTIALS, 1001.0)
    assert is_token(broken)


@pytest.mark.parametrize(
    ("issued", "minutes"), [(math.nan, 10), (1000, math.nan), (math.inf, 10), (-math.inf, math.inf)]
)
def test_a_token_that_ends_at_no_time_is_refused_whoever_signed_it(issued: float, minutes: float) -> None:
    content = cbor2.loads(base64.urlsafe_b64decode(made()))
    del content[b"sig"]
    text = text_of({**content, b"t": issued, b"ttl": minutes})
    with pytest.raises(BadToken, match="when it expires"):
        verify_token(seal(text, sign(b"a-secret-0123456789", text)), "sub-k", CREDENTIALS, 1001.0)


def test_padding_or_not_it_is_the_same_token() -> None:
    token = made(user=None)
    one, other = (verify_token(text, "sub-k", CREDENTIALS, 1001.0) for text in (token, token.rstrip("=")))
    assert one.group == other.group
    assert other.claimed(Can.PUBLISH, "room")


def test_a_token_is_granted_that_will_be_read_and_none_that_will_not() -> None:
    deep: object = 1
    for _ in range(900):
        deep = [deep]
    with pytest.raises(BadGrant):
        draft(1000, 10, {"channels": {"room": 1}}, {}, {"deep": deep}, None)
    for count in range(1050, 1080):
        channels = {"channels": {f"channel-{number:012}": 255 for number in range(count)}}
        try:
            said = draft(1000, 10, channels, {}, None, None)
        except BadGrant:
            assert count > 1050
            return
        assert is_token(seal(said, sign(CREDENTIALS["sub-k"].secret, said)))
    raise AssertionError("a token of any length is granted")


@given(st.one_of(st.text(max_size=80), st.binary(max_size=80).map(lambda raw: base64.urlsafe_b64encode(raw).decode())))
def test_any_text_is_a_token_or_none_and_never_breaks(text: str) -> None:
    assert inspect(text) is None or is_token(text)


def test_a_pattern_is_checked_when_it_is_granted_and_cannot_be_slow() -> None:
    with pytest.raises(BadGrant):
        draft(0, 1, {}, {"channels": {"(": 1}}, None, None)
    with pytest.raises(BadGrant):
        draft(0, 1, {"channels": {"a": 256}}, {}, None, None)
    begun = time.thread_time()
    assert not Expression("^(a+)+$").matches("a" * 200 + "b")
    assert time.thread_time() - begun < 0.5
    assert not Expression(".*").matches("[meta]activity")


def shared(levels: int) -> bytes:
    """A list of two, the second of which is the first again, and so on: of 6 bytes a level, 2 ** levels when written out."""
    inner = b"\xd8\x1c\x81\x61x"
    for level in range(levels, 0, -1):
        inner = b"\xd8\x1c\x82" + inner + b"\xd8\x1d" + cbor2.dumps(level)
    return inner


def strings(count: int) -> bytes:
    """One long text, and references to it."""
    return (
        b"\xd9\x01\x00" + b"\x99" + (count + 1).to_bytes(2, "big") + cbor2.dumps("x" * 5000) + b"\xd8\x19\x00" * count
    )


@pytest.mark.parametrize("meta", [shared(40), strings(4000), b"\xd8\x23\x61a", b"\xc5\x82\x1a\x05\xff\xff\xff\x01"])
def test_a_token_in_which_few_bytes_stand_for_many_is_none(meta: bytes) -> None:
    nobody = {b"chan": {}, b"grp": {}, b"uuid": {}}
    fields = {b"v": 2, b"t": 1, b"ttl": 1, b"res": nobody, b"pat": nobody, b"sig": b"x" * 32}
    whole = b"\xa7" + b"".join(map(cbor2.dumps, (part for field in fields.items() for part in field)))
    token = base64.urlsafe_b64encode(whole + cbor2.dumps(b"meta") + meta).decode()
    begun = time.thread_time()
    assert not is_token(token)
    with pytest.raises(BadToken):
        verify_token(token, "sub-k", CREDENTIALS, 0.0)
    assert time.thread_time() - begun < 0.5
    plain = base64.urlsafe_b64encode(whole + cbor2.dumps(b"meta") + cbor2.dumps(2**70)).decode()
    assert is_token(plain), "large numbers are JSON too"


def test_of_a_token_that_is_not_proved_nothing_is_kept_or_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    said = draft(1000, 10, {}, {"channels": {f"^forged-{n}": 1 for n in range(100)}}, {}, None)

    def compiled(text: str, options: object) -> None:
        raise AssertionError(f"{text} was compiled")

    monkeypatch.setattr(tokens, "_compile", compiled)
    before = tokens._proved.cache_info().currsize
    for n in range(20):
        with pytest.raises(BadSignature):
            verify_token(seal(said, f"{n:064x}"), "sub-k", CREDENTIALS, 1001.0)
    assert tokens._proved.cache_info().currsize == before
