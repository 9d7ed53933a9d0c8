"""dialects/pusher/signing.py: each SDK's way to sign, by its own rules, and what proves nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from urllib.parse import parse_qsl, quote, quote_plus, urlencode

import pytest

from sower.core.grants import Credential, check_signature, sign
from sower.dialects.interface import HttpCall
from sower.dialects.pusher.signing import read_signature
from sower.errors import BadSignature, NotAuthorised

KEY, SECRET = "278d425bdf160c739803", "7ad3773142a6692b25b8"
CREDENTIAL = Credential("3", KEY, SECRET.encode())
BODY = b'{"name":"foo","channels":["project-3"],"data":"{\\"some\\":\\"data\\"}"}'


def call(method: str, path: str, search: str, body: bytes = b"") -> HttpCall:
    return HttpCall(method, path, {}, dict(parse_qsl(search, keep_blank_values=True)), {}, body, search)


def accepts(asked: HttpCall) -> bool:
    signature = read_signature(asked, "3", 600.0)
    try:
        check_signature(CREDENTIAL, signature.signed, signature.signature)
    except BadSignature:
        return False
    return True


def test_the_vendors_own_example_is_accepted() -> None:
    md5 = "ec365a775a4cd0599faeb73354201b6f"
    search = f"auth_key={KEY}&auth_timestamp=1353088179&auth_version=1.0&body_md5={md5}"
    proof = "da454824c97ba181a32ccc17a72625ba02771f50b50e1e7430e47a1f3f457e6c"
    assert hashlib.md5(BODY).hexdigest() == md5
    assert accepts(call("POST", "/apps/3/events", f"{search}&auth_signature={proof}", BODY))


def test_the_vendors_own_subscriptions_are_signed_so() -> None:
    secret = SECRET.encode()
    assert (
        sign(secret, "1234.1234:private-foobar") == "58df8b0c36d6982b82c3ecf6b4662e34fe8c25bba48f5369f135bf843651c3a4"
    )
    assert (
        sign(secret, '1234.1234::user::{"id":"12345"}')
        == "4708d583dada6a56435fb8bc611c77c359a31eebde13337c16ab43aa6de336ba"
    )


PARAMETERS = {
    "auth_key": KEY,
    "auth_timestamp": "1353088179",
    "auth_version": "1.0",
    "filter_by_prefix": "presence-",
    "info": "user_count,subscription_count",
    "other": "a b+c&d=e/é%41",
}


def plainly(parameters: dict[str, str]) -> str:
    """What Node's and Python's SDK sign and send: nothing is encoded."""
    return "&".join(f"{name}={value}" for name, value in sorted(parameters.items()))


@pytest.mark.parametrize(
    ("sdk", "encode"),
    [
        ("PHP: signed plainly, sent by http_build_query, a space as +", lambda p: urlencode(p, quote_via=quote_plus)),
        ("PHP: sent by Guzzle, a space as %20", lambda p: urlencode(p, quote_via=quote)),
        (
            "Ruby: signed plainly, sent by Addressable, commas as they are",
            lambda p: urlencode(p, quote_via=quote, safe=","),
        ),
        ("any: also the slash as it is", lambda p: urlencode(p, quote_via=quote, safe=",/")),
        ("any: in another order", lambda p: urlencode(dict(reversed(p.items())))),
    ],
)
def test_values_are_signed_as_they_are_before_the_query_is_encoded(
    sdk: str, encode: Callable[[dict[str, str]], str]
) -> None:
    proof = sign(SECRET.encode(), f"GET\n/apps/3/channels\n{plainly(PARAMETERS)}")
    assert accepts(call("GET", "/apps/3/channels", encode({**PARAMETERS, "auth_signature": proof}))), sdk


def test_a_query_that_is_sent_as_it_was_signed_is_accepted_whatever_is_in_it() -> None:
    for odd in ("a+b", "a%2Cb", "a b", "presence-,;=@"):
        text = plainly({"auth_key": KEY, "auth_timestamp": "1", "auth_version": "1.0", "info": odd})
        proof = sign(SECRET.encode(), f"GET\n/apps/3/channels\n{text}")
        assert accepts(call("GET", "/apps/3/channels", f"{text}&auth_signature={proof}")), odd


def test_pythons_md5_of_an_empty_body_counts_as_it_was_sent() -> None:
    md5 = hashlib.md5(b"").hexdigest()
    text = plainly({"auth_key": KEY, "auth_timestamp": "1", "auth_version": "1.0", "body_md5": md5})
    proof = sign(SECRET.encode(), f"GET\n/apps/3/channels\n{text}")
    assert accepts(call("GET", "/apps/3/channels", f"{text}&auth_signature={proof}"))


def test_names_are_signed_in_lower_case() -> None:
    proof = sign(SECRET.encode(), f"GET\n/a\nauth_key={KEY}&auth_timestamp=1&info=x")
    assert accepts(call("GET", "/a", f"auth_key={KEY}&auth_timestamp=1&Info=x&auth_signature={proof}"))


def test_what_was_not_signed_is_not_accepted() -> None:
    text = f"auth_key={KEY}&auth_timestamp=1&info=x"
    proof = sign(SECRET.encode(), f"GET\n/a\n{text}")
    assert accepts(call("GET", "/a", f"{text}&auth_signature={proof}"))
    assert not accepts(call("GET", "/b", f"{text}&auth_signature={proof}"))
    assert not accepts(call("POST", "/a", f"{text}&auth_signature={proof}"))
    assert not accepts(call("GET", "/a", f"{text}&more=1&auth_signature={proof}"))
    assert not accepts(call("GET", "/a", f"{text}&auth_signature={proof.upper()}"))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"auth_key": ""}, NotAuthorised),
        ({"auth_signature": ""}, NotAuthorised),
        ({"auth_timestamp": ""}, NotAuthorised),
        ({"auth_timestamp": "nan"}, BadSignature),
        ({"auth_timestamp": "-1"}, BadSignature),
        ({"auth_timestamp": "9" * 400}, BadSignature),
        ({"auth_version": "2.0"}, BadSignature),
        ({"body_md5": ""}, BadSignature),
        ({"body_md5": hashlib.md5(b"other").hexdigest()}, BadSignature),
    ],
)
def test_a_query_that_is_not_whole_says_what_is_missing(change: dict[str, str], error: type[Exception]) -> None:
    whole = {"auth_key": KEY, "auth_timestamp": "1", "auth_version": "1.0", "auth_signature": "0"}
    search = urlencode({**whole, "body_md5": hashlib.md5(BODY).hexdigest(), **change})
    with pytest.raises(error):
        read_signature(call("POST", "/apps/3/events", search, BODY), "3", 600.0)
