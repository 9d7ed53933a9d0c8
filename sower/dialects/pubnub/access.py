"""Access Manager v3: granting and revoking tokens. Both are for whoever signs with the secret key."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, cast

import msgspec

from sower.core.polling import Vouch, Vouched, Withdraw
from sower.dialects.interface import Asked, HttpCall, Reply
from sower.dialects.pubnub.asking import check_user, read_credentials
from sower.dialects.pubnub.keys import Keys
from sower.dialects.pubnub.tokens import MAX_TTL, draft, read_token, seal
from sower.dialects.pubnub.words import say
from sower.errors import BadGrant, BadRequest, BadToken

MINUTES = re.compile("[0-9]{1,5}")

_SUCCESS = {"message": "Success"}

_read = msgspec.json.Decoder(dict[str, Any]).decode


def decode_grant(keys: Keys, call: HttpCall) -> Asked:
    """POST /v3/pam/{sub}/grant. Answers with the token. Raises BadGrant."""
    try:
        body = _read(call.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadGrant(f"The body is not a JSON object: {error}.", where="body") from error
    permissions = _object(body, "permissions")
    resources, patterns = _object(permissions, "resources"), _object(permissions, "patterns")
    meta = permissions.get("meta")
    user = permissions.get("uuid")
    if user is not None and not isinstance(user, str):
        raise BadGrant("The authorised uuid is a text.", where="permissions.uuid")
    authorised = check_user(user) if user else None
    minutes = _ttl(body.get("ttl"))
    if not any(kinds.values() for kinds in (resources, patterns)):
        raise BadGrant("A token allows something: name a channel, a group or a uuid.", where="permissions")
    said = partial(_draft, minutes, resources, patterns, meta, authorised)
    said(0.0)  # what is wrong with the permissions is told before anything is signed
    return Asked(read_credentials(keys, call), Vouch(said), _granted_reply)


def _draft(
    minutes: int, resources: dict[str, Any], patterns: dict[str, Any], meta: Any, user: str | None, now: float
) -> str:
    return draft(int(now), minutes, resources, patterns, meta, user)


def _ttl(given: Any) -> int:
    """Minutes; older SDKs send them as text."""
    number = int(given) if isinstance(given, str) and MINUTES.fullmatch(given) else given
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= MAX_TTL:
        raise BadGrant(f"Range should be 1 to {MAX_TTL} minute(s).", where="ttl")
    return number


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    found: object = body.get(name) or {}
    if not isinstance(found, dict):
        raise BadGrant(f"{name} is an object.", where=name)
    return cast(dict[str, Any], found)


def _granted_reply(answer: Vouched) -> Reply:
    token = seal(answer.signed, answer.signature)
    return say({"data": {**_SUCCESS, "token": token}, "service": "Access Manager", "status": 200})


def decode_revoke(keys: Keys, call: HttpCall) -> Asked:
    """DELETE /v3/pam/{sub}/grant/{token}. Raises BadRequest for what is no token."""
    try:
        voucher = read_token(call.params["token"])
    except BadToken:
        voucher = None
    if voucher is None:
        raise BadRequest("Invalid token: it cannot be read.")
    command = Withdraw(voucher.signed, voucher.signature, voucher.expires)
    return Asked(read_credentials(keys, call), command, _revoked_reply)


def _revoked_reply(answer: object) -> Reply:
    return say({"data": _SUCCESS, "service": "Access Manager", "status": 200})
