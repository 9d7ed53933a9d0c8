"""What a client with the secret key signs (PubNub's "Access Manager v3", and what its two SDKs do in fact).

    v2:  METHOD \n publish key \n path \n query \n body      "v2." and base64url without padding
    v1:  subscribe key \n publish key \n path \n query       base64url with padding: Python's POST to /publish

Rule 1: only what some SDK sends is accepted, and a signature that is wrong is never as good as none.
Rule 2: path is the path as it came. query is every parameter but the signature, sorted, its value decoded and
        encoded anew. Python encodes three of them before it signs, so those are tried as they stand on the wire, too.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import parse_qsl, quote

from sower.core.command import Signature
from sower.dialects.interface import HttpCall
from sower.errors import BadSignature

SKEW = 60.0
"""Seconds by which a signed request's time may be off, PubNub's tolerance."""

ENCODED_TWICE = ("channel-group", "filter-expr", "state")
"""Parameters that Python's SDK has encoded already when it signs."""


def read_signature(key: str, publish_key: str, call: HttpCall, given: str) -> Signature:
    """The texts that may have been signed. Raises BadSignature for what cannot be a signature."""
    query = _query(call.search, as_it_stands=False)
    publishes = call.path.startswith("/publish/")
    if given.startswith("v2."):
        posts = call.method == "POST" and publishes  # JavaScript signs those as if they were without a body
        method, body = ("GET", "") if posts else (call.method, call.body.decode(errors="replace"))
        queries = (query, _query(call.search, as_it_stands=True))
        texts = tuple(f"{method}\n{publish_key}\n{call.path}\n{query}\n{body}" for query in dict.fromkeys(queries))
    elif call.method == "POST" and publishes:
        texts = (f"{key}\n{publish_key}\n{call.path}\n{query}",)
    else:
        raise BadSignature("The signature is of a form that no SDK sends for this request.")
    return Signature(key, _hexadecimal(given.removeprefix("v2.")), texts, _time(call), SKEW)


def _query(search: str, *, as_it_stands: bool) -> str:
    """as_it_stands: take the value of some as it came, for whoever encoded it before signing."""
    raw = {name: value for name, _, value in (field.partition("=") for field in search.split("&"))}
    fields = dict(parse_qsl(search, keep_blank_values=True))
    fields.pop("signature", None)
    if as_it_stands:
        fields.update((name, raw[name]) for name in ENCODED_TWICE if name in raw)
    return "&".join(f"{name}={_encoded(fields[name])}" for name in sorted(fields))


def _encoded(value: str) -> str:
    return quote(value, safe="").replace("~", "%7E")


def _hexadecimal(given: str) -> str:
    """The same signature in the digits in which the core compares. Raises BadSignature."""
    try:
        return base64.b64decode(given + "=" * (-len(given) % 4), altchars=b"-_", validate=True).hex()
    except (binascii.Error, ValueError) as error:
        raise BadSignature("The signature is no base64.") from error


def _time(call: HttpCall) -> float:
    given = call.query.get("timestamp", "")
    if not (given.isascii() and given.isdecimal() and len(given) < 15):
        raise BadSignature("A signed request says its time in seconds as timestamp.")
    return float(given)
