"""core/grants.py: tokens that prove something and those that prove nothing."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sower
from sower.config import ChannelRule
from sower.core.grants import (
    ALL,
    LEEWAY,
    MAX_TOKEN,
    Can,
    Credential,
    Grant,
    anonymous,
    check_secret,
    check_signature,
    inspect,
    key_grant,
    mint,
    server_grant,
    sign,
    verify,
)
from sower.core.rules import Pattern, RuleBook
from sower.errors import (
    BadSignature,
    BadToken,
    ClientEventsOff,
    Forbidden,
    NotAuthorised,
    TokenExpired,
    UnknownKey,
    WrongSecret,
)

NOW = 1_800_000_000.0
KEY = Credential("1001", "key", b"current-secret-0123456789-0123456", b"older-secret-0123456789-012345678")
KEYS = {"key": KEY}
BOOK = RuleBook([ChannelRule(match="open-*", client_events=True)])


def token(secret: bytes = KEY.secret, *, kid: str | None = "key", alg: str = "HS256", **claims: Any) -> str:
    claims = {"exp": NOW + 60, "channels": {"private-*": ["subscribe"]}, **claims}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, secret, alg, headers={"kid": kid} if kid is not None else {})


def raw(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def allows(grant: Grant, can: Can, channel: str, *, client_events: bool = True) -> bool:
    return grant.allows(can, channel, BOOK.of(channel), client_events)


def test_a_minted_token_allows_what_it_says_and_no_more() -> None:
    made = mint(
        KEY,
        channels={"private-a*": [Can.SUBSCRIBE]},
        user="ada",
        issued=NOW,
        expires=NOW + 60,
        token_id="1",
        meta={"x": 1},
    )
    grant = verify(made, KEYS, now=NOW)
    assert (grant.app, grant.key, grant.user, grant.meta) == ("1001", "key", "ada", b'{"x":1}')
    assert allows(grant, Can.SUBSCRIBE, "private-abc")
    assert not allows(grant, Can.HISTORY, "private-abc")
    assert not allows(grant, Can.SUBSCRIBE, "private-b")
    assert allows(grant, Can.SUBSCRIBE, "public")


def test_a_star_is_every_capability_and_unknown_ones_are_ignored() -> None:
    assert verify(token(channels={"*": ["*"]}), KEYS, now=NOW).claims[0][1] == ALL
    assert verify(token(channels={"*": ["fly", "subscribe"]}), KEYS, now=NOW).claims[0][1] == {Can.SUBSCRIBE}


@pytest.mark.parametrize(
    "forged",
    [
        "",
        "a.b.c",
        "x" * (MAX_TOKEN + 1),
        token(b"another-secret-0123456789-01234567"),
        token(kid=None),
        token(alg="HS512"),
        token(exp=None),
        token(exp="soon"),
        token(exp=True),
        token(exp=10**400),
        token(exp=NOW * 1000),
        token(iat=True),
        token(nbf="now"),
        token(jti=7),
        token(sub=7),
        token(sub="é" * 101),
        token(meta="\ud800"),
        token(meta={"\ud800": 1}),
        token(sub="x" * MAX_TOKEN),
        "\ud800.a.b",
        token(nbf=NOW + 3600),
        token(iat=NOW + 3600),
        token(sub="a\nb"),
        token(sub=""),
        token(channels=["private-a"]),
        token(channels={"private-a": "subscribe"}),
        raw({"alg": "none", "kid": "key"}, {"exp": NOW + 60}),
        raw({"alg": "none", "kid": "key"}, {"exp": NOW + 60}, b"x"),
        raw({"alg": ["HS256"], "kid": "key"}, {"exp": NOW + 60}, b"x"),
        raw({"alg": "HS384", "kid": "key"}, {"exp": NOW + 60}, b"x"),
        raw({"alg": "None", "kid": "key"}, {"exp": NOW + 60}),
        raw({"alg": "HS256", "kid": "key"}, {"exp": NOW + 60}),
        raw({"alg": "HS256", "kid": ["key"]}, {"exp": NOW + 60}, b"x"),
        raw({"kid": "key"}, {"exp": NOW + 60}, b"x"),
        raw({"alg": "RS256", "kid": "key"}, {"exp": NOW + 60}, b"x"),
    ],
)
def test_a_token_that_proves_nothing_is_refused(forged: str) -> None:
    with pytest.raises(BadToken):
        verify(forged, KEYS, now=NOW)


@given(position=st.integers(0, 400), letter=st.sampled_from("AZaz09-_"))
def test_a_token_with_one_letter_changed_is_refused(position: int, letter: str) -> None:
    good = token(sub="ada")
    changed = good[:position] + letter + good[position + 1 :]
    # The last letter of a part holds bits that base64 does not use, so only what decodes otherwise is a change.
    if position < len(good) and _decoded(changed) != _decoded(good):
        with pytest.raises((BadToken, UnknownKey)):
            verify(changed, KEYS, now=NOW)


def _decoded(made: str) -> list[bytes]:
    return [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in made.split(".")]


@pytest.mark.parametrize("claim", ["NaN", "Infinity", "1e400"])
def test_an_expiry_that_is_no_number_is_refused(claim: str) -> None:
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"key"}').rstrip(b"=")
    claims = base64.urlsafe_b64encode(b'{"exp":' + claim.encode() + b"}").rstrip(b"=")
    signature = jwt.get_algorithm_by_name("HS256").sign(header + b"." + claims, KEY.secret)
    made = b".".join((header, claims, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()
    with pytest.raises(BadToken):
        verify(made, KEYS, now=NOW)


def test_a_token_expires_after_the_leeway_for_clocks() -> None:
    made = token(exp=NOW)
    assert verify(made, KEYS, now=NOW + LEEWAY - 1).expires == NOW + LEEWAY
    with pytest.raises(TokenExpired):
        verify(made, KEYS, now=NOW + LEEWAY)


@pytest.mark.parametrize(
    "claims", [b"[" * 3000, b'{"exp":1' + b"0" * 5000 + b"}", b"[]", b"null", b'{"exp":1e11,"sub":"\xff"}']
)
def test_claims_that_are_no_object_that_can_be_read_are_refused_though_signed(claims: bytes) -> None:
    parts = b".".join(base64.urlsafe_b64encode(p).rstrip(b"=") for p in (b'{"alg":"HS256","kid":"key"}', claims))
    signature = jwt.get_algorithm_by_name("HS256").sign(parts, KEY.secret)
    made = b".".join((parts, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()
    for reader in (inspect, lambda made: verify(made, KEYS, now=NOW)):
        with pytest.raises(BadToken):
            reader(made)


def test_a_token_that_is_too_long_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt, "get_unverified_header", lambda _: pytest.fail("it was parsed"))
    with pytest.raises(BadToken, match="at most 8192"):
        verify("a" * (MAX_TOKEN + 1), KEYS, now=NOW)


def test_one_apps_secret_proves_nothing_for_the_key_of_another() -> None:
    other = Credential("1002", "other", b"other-secret-0123456789-012345678")
    with pytest.raises(BadToken, match="signature"):
        verify(token(other.secret, kid="key"), {**KEYS, "other": other}, now=NOW)


@pytest.mark.parametrize("user", ["ada", "李\u3000明", "👩\u200d🚀", "x" * 200])
def test_whatever_may_be_a_user_id_may_be_a_tokens_user(user: str) -> None:
    made = mint(KEY, channels={}, user=user, issued=NOW, expires=NOW + 9, token_id="1")
    assert verify(made, KEYS, now=NOW).user == user


def test_an_empty_secret_opens_nothing() -> None:
    careless = Credential("1001", "key", KEY.secret, b"")
    with pytest.raises(WrongSecret):
        check_secret(careless, b"")
    head, claims, _ = token().split(".")
    signature = jwt.get_algorithm_by_name("HS256").sign(f"{head}.{claims}".encode(), b"")
    with pytest.raises(BadToken, match="signature"):
        verify(
            f"{head}.{claims}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}", {"key": careless}, now=NOW
        )


def test_grants_share_what_tokens_have_in_common() -> None:
    first, second = (verify(token(sub=user), KEYS, now=NOW) for user in ("ada", "bob"))
    assert first.claims[0] is second.claims[0]
    assert first.key is KEY.key
    assert not hasattr(first, "__dict__")


def test_a_key_that_no_app_has_is_named() -> None:
    with pytest.raises(UnknownKey, match="stranger"):
        verify(token(kid="stranger"), KEYS, now=NOW)


def test_two_secrets_overlap_while_an_app_rotates_and_only_the_new_one_mints() -> None:
    old = Credential("1001", "key", KEY.old_secret or b"")
    assert verify(token(old.secret), KEYS, now=NOW)
    check_secret(KEY, old.secret)
    check_secret(KEY, KEY.secret)
    made = mint(KEY, channels={}, user=None, issued=NOW, expires=NOW + 9, token_id="1")
    with pytest.raises(BadToken):
        verify(made, {"key": old}, now=NOW)
    with pytest.raises(WrongSecret):
        check_secret(old, KEY.secret)


def test_a_server_may_do_everything_and_nobody_else_reads_the_daemons_channels() -> None:
    everybody = verify(token(channels={"*": ["*"]}), KEYS, now=NOW)
    assert allows(server_grant("1001", "key"), Can.SUBSCRIBE, "[meta]activity")
    assert not allows(everybody, Can.SUBSCRIBE, "[meta]activity")
    assert not allows(anonymous("1001", "key", None), Can.SUBSCRIBE, "[meta]activity")


def test_without_a_token_public_channels_are_open_and_private_ones_need_one() -> None:
    nobody = anonymous("1001", "key", None)
    assert allows(nobody, Can.SUBSCRIBE, "room")
    assert allows(nobody, Can.PUBLISH, "open-room")
    with pytest.raises(NotAuthorised):
        nobody.demand(Can.SUBSCRIBE, "private-a", BOOK.of("private-a"), True)
    with pytest.raises(ClientEventsOff):
        nobody.demand(Can.PUBLISH, "room", BOOK.of("room"), True)
    with pytest.raises(ClientEventsOff):
        nobody.demand(Can.PUBLISH, "open-room", BOOK.of("open-room"), False)


def test_a_token_for_another_channel_is_forbidden() -> None:
    with pytest.raises(Forbidden, match="private-b"):
        verify(token(channels={"private-a": ["*"]}), KEYS, now=NOW).demand(
            Can.SUBSCRIBE, "private-b", BOOK.of("private-b"), True
        )


def test_inspecting_needs_no_secret() -> None:
    shown = inspect(token(sub="ada"))
    assert (shown["header"]["kid"], shown["claims"]["sub"]) == ("key", "ada")
    with pytest.raises(BadToken):
        inspect("nonsense")


def test_secrets_are_compared_in_one_place() -> None:
    files = Path(sower.__file__).parent.rglob("*.py")
    assert [file.name for file in files for line in file.read_text().splitlines() if "compare_digest" in line] == [
        "grants.py"
    ]


def test_what_is_proved_for_one_channel_is_for_that_one_alone_whatever_it_is_called() -> None:
    grant = (
        Grant("1001", "key", expires=NOW).proved("private-*").proved("#server-to-user-*", frozenset({Can.SUBSCRIBE}))
    )
    assert grant.expires is None
    for name, may in (
        ("private-*", True),
        ("private-a", False),
        ("#server-to-user-*", True),
        ("#server-to-user-a", False),
    ):
        assert grant.allows(Can.SUBSCRIBE, name, BOOK.of(name), True) is may, name
    assert grant.allows(Can.PUBLISH, "private-*", BOOK.of("private-*"), True)
    assert not grant.allows(Can.PUBLISH, "#server-to-user-*", BOOK.of("#server-to-user-*"), True)
    left = grant.without("private-*")
    assert not left.allows(Can.SUBSCRIBE, "private-*", BOOK.of("private-*"), True)
    assert left.allows(Can.SUBSCRIBE, "#server-to-user-*", BOOK.of("#server-to-user-*"), True)
    assert left.without("private-*") is left


@pytest.mark.parametrize("more", [{}, {"admin": True}])
def test_a_key_that_may_do_only_some_things_makes_no_token_that_could_say_more(more: dict[str, Any]) -> None:
    limited = Credential("1", "1.limited", b"limited-secret-012345", claims=())
    forged = token(limited.secret, kid=limited.key, exp=2000, channels={"*": ["*"]}, **more)
    with pytest.raises(BadToken, match="only some things"):
        verify(forged, {limited.key: limited}, now=1000)


CLAIM = ((Pattern("a*"), frozenset({Can.SUBSCRIBE})),)


def test_a_group_is_open_to_all_but_a_token_that_is_closed_and_does_not_name_it() -> None:
    closed = Grant("1", "k", closed=True, groups=CLAIM)
    assert closed.allows_group(Can.SUBSCRIBE, "abc")
    assert not closed.allows_group(Can.SUBSCRIBE, "b")
    assert not closed.allows_group(Can.MANAGE, "abc")
    assert Grant("1", "k", groups=CLAIM).allows_group(Can.MANAGE, "b")
    assert Grant("1", "k", closed=True, server=True).allows_group(Can.MANAGE, "b")


def test_a_closed_token_and_a_capability_that_only_tokens_give_are_asked_for_both_channel_and_deed() -> None:
    closed = Grant("1", "k", closed=True, claims=CLAIM)
    given = Grant("1", "k", claims=((Pattern("a*"), frozenset({Can.DELETE})),))
    assert allows(closed, Can.SUBSCRIBE, "abc")
    assert not allows(closed, Can.SUBSCRIBE, "b")
    assert not allows(closed, Can.HISTORY, "abc")
    assert allows(given, Can.DELETE, "abc")
    assert not allows(given, Can.DELETE, "b")
    assert not allows(given, Can.MANAGE, "abc")


def test_who_speaks_for_whom() -> None:
    for grant, user, expected in (
        (Grant("1", "k", "ada"), "ada", True),
        (Grant("1", "k", "ada"), "bob", False),
        (Grant("1", "k", "ada", server=True, any_user=True), "bob", False),
        (Grant("1", "k"), "bob", False),
        (Grant("1", "k", server=True), "bob", True),
        (Grant("1", "k", any_user=True), "bob", True),
    ):
        assert grant.speaks_for(user) is expected


def test_who_shows_a_key_gets_what_the_key_allows() -> None:
    limited = Credential("1", "k", b"s", claims=CLAIM)
    assert anonymous("1", "k", "ada") == Grant("1", "k", "ada")
    assert key_grant(Credential("1", "k", b"s"), "ada") == Grant("1", "k", "ada", server=True, keyed=True)
    assert key_grant(limited, "ada") == Grant("1", "k", "ada", claims=CLAIM, closed=True, keyed=True)
    assert key_grant(limited, None) == Grant("1", "k", None, claims=CLAIM, closed=True, any_user=True, keyed=True)


def test_what_is_missing_is_said() -> None:
    private, public = BOOK.of("private-a"), BOOK.of("a")
    for grant, can, rules, events, error, said in (
        (Grant("1", "k"), Can.PUBLISH, public, True, ClientEventsOff, "Clients may not publish on 'x'."),
        (
            Grant("1", "k", claims=CLAIM),
            Can.PUBLISH,
            private,
            False,
            ClientEventsOff,
            "Clients may not publish on 'x'.",
        ),
        (
            Grant("1", "k"),
            Can.SUBSCRIBE,
            private,
            True,
            NotAuthorised,
            "A token that allows subscribe on 'x' is needed.",
        ),
        (
            Grant("1", "k", claims=CLAIM),
            Can.PUBLISH,
            private,
            True,
            Forbidden,
            "The credential does not allow publish on 'x'.",
        ),
        (
            Grant("1", "k", claims=CLAIM),
            Can.HISTORY,
            private,
            False,
            Forbidden,
            "The credential does not allow history on 'x'.",
        ),
        (
            Grant("1", "k", closed=True),
            Can.PUBLISH,
            public,
            True,
            Forbidden,
            "The credential does not allow publish on 'x'.",
        ),
    ):
        with pytest.raises(error) as caught:
            grant.demand(can, "x", rules, events)
        assert type(caught.value) is error
        assert caught.value.detail == said
    Grant("1", "k", claims=((Pattern("x"), ALL),)).demand(Can.PUBLISH, "x", private, True)


def test_a_token_says_when_it_was_made_and_what_it_is_called_and_an_admins_that_it_is_one() -> None:
    made = mint(KEY, channels={}, user=None, issued=NOW + 0.9, expires=NOW + 1.1, token_id="7", admin=True)
    told = inspect(made)
    assert told["claims"] == {"iat": int(NOW), "exp": int(NOW) + 2, "jti": "7", "channels": {}, "admin": True}
    assert told["header"] == {"alg": "HS256", "kid": "key", "typ": "JWT"}
    assert verify(made, KEYS, now=NOW).server
    for other in ("true", 1, False, None):
        assert not verify(token(admin=other), KEYS, now=NOW).server


def test_a_token_that_expired_long_ago_can_be_inspected() -> None:
    assert inspect(token(exp=1, nbf=None))["claims"]["exp"] == 1


LONG = "k" * 70


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (token(alg="HS512"), "The token is signed with 'HS512'; only HS256 is accepted."),
        (raw({"alg": "x" * 20, "kid": "key"}, {}), f"The token is signed with '{'x' * 16}'; only HS256 is accepted."),
        (token(kid=None), "The token's header has no `kid`, which names the key."),
        (token(kid=LONG), f"No app has the key '{'k' * 64}' that the token names."),
        (token(exp=None), "The token has no `exp`: a token must expire."),
        (token(exp=NOW - 60), "The token expired 60 s ago."),
        (token(iat=NOW + 90), "The token's `iat` is 90 s in the future."),
        (token(nbf=NOW + 90), "The token's `nbf` is 90 s in the future."),
        (token(exp="soon"), "The token's `exp` is not a time in seconds."),
        (token(sub=""), "The token's `sub` is not a text of 1 to 200 bytes without control characters."),
        (token(meta="\ud800"), "The token's `meta` cannot be written as JSON."),
        (token(channels=[]), "The token's `channels` is not an object of pattern -> capabilities."),
        (token(channels={LONG: 1}), f"The token's capabilities on '{'k' * 64}' are not a list."),
        ("a.b", "The token is not a JWT: three base64url parts with dots between them."),
        (token(b"another-secret-0123456789-012345678"), "The token's signature is not one of the key 'key'."),
    ],
)
def test_a_refusal_says_what_is_wrong_with_a_token(made: str, said: str) -> None:
    with pytest.raises(NotAuthorised) as caught:
        verify(made, KEYS, now=NOW)
    assert caught.value.detail == said


def test_what_cannot_be_read_says_why() -> None:
    for read in (inspect, lambda made: verify(made, KEYS, now=NOW)):
        payload = base64.urlsafe_b64encode(b"[]").decode().rstrip("=")
        made = raw({"alg": "HS256", "kid": "key"}, {}).split(".")[0] + "." + payload
        made += "." + base64.urlsafe_b64encode(bytes.fromhex(sign(KEY.secret, made))).decode().rstrip("=")
        with pytest.raises(BadToken, match=r"The token(?:'s claims)? cannot be read: .+\."):
            read(made)


def test_other_claims_than_those_that_count_are_not_looked_at() -> None:
    grant = verify(token(aud="x", sub=None, iat=NOW + 29, nbf=NOW + 30, channels=None), KEYS, now=NOW)
    assert (grant.claims, grant.expires) == ((), NOW + 60 + LEEWAY)
    with pytest.raises(BadToken, match="sub"):
        verify(token(sub=5), KEYS, now=NOW)
    assert verify(token(exp=1e12 - 1), KEYS, now=NOW).expires == 1e12 - 1 + LEEWAY
    for bound in (1e12, -1e12):
        with pytest.raises(BadToken, match="is not a time"):
            verify(token(exp=bound), KEYS, now=NOW)


def test_a_key_whose_secret_is_empty_is_still_opened_by_the_one_that_retires() -> None:
    credentials = {"key": Credential("1001", "key", b"", KEY.old_secret)}
    assert verify(token(KEY.old_secret or b""), credentials, now=NOW).key == "key"


def test_a_secret_or_a_signature_that_is_wrong_names_its_key() -> None:
    with pytest.raises(WrongSecret, match="The secret shown is not the one of the key 'key'"):
        check_secret(KEY, b"wrong")
    with pytest.raises(BadSignature) as caught:
        check_signature(KEY, ("x" * 300,), "00")
    assert caught.value.detail == f"The signature is not one of the key 'key' over '{'x' * 200}'."


def test_the_longest_token_is_read() -> None:
    with pytest.raises(BadToken, match="three base64url parts"):
        verify("a" * MAX_TOKEN, KEYS, now=NOW)
