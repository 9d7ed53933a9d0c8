"""Who Ably's SDKs are and what they may do: keys, TokenRequests, JWTs, client ids, expiry, renewal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from tests.e2e.daemon import KEY
from tests.sdk.ably.world import ABLY_KEY, LIMITED_KEY, connected, heard, ok, refused, world

NAME, _, KEY_SECRET = ABLY_KEY.partition(":")


def token(*, lives: float = 60.0, secret: str = KEY_SECRET, kid: str = NAME, **claims: Any) -> str:
    """A JWT as an app's own server makes it."""
    now = time.time()
    body = {"iat": int(now), "exp": now + lives, **claims}
    return jwt.encode(body, secret, "HS256", headers={"kid": kid})


async def failed(script: Any, client: str, **options: Any) -> int:
    """The code with which a realtime client gives up for good."""
    await script.do("connect", client=client, **options)
    return (await script.hear("state", client=client, state="failed"))["error"]["code"]


async def test_a_wrong_key_and_a_wrong_secret_end_the_client_for_good(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        assert await failed(script, "a", key="appid.nobody:a-secret-of-ably-0123456789") == 40400
        assert await failed(script, "b", key=f"{NAME}:wrong") == 40101
        assert await failed(script, "c", token=token(secret="x" * 32)) == 40101
        # One that no server can have made is worth another try, and then there is nobody to ask for a better one.
        assert await failed(script, "d", token="no.jwt.atall") == 40171


async def test_what_names_an_unknown_app_is_not_found_over_rest_too(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        for client, credential in (("key", {"key": "no.body:wrong"}), ("jwt", {"token": token(kid="no.body")})):
            await ok(script, "rest", client=client, **credential)
            told = await ok(script, "request", client=client, method="get", path="/channels/room/messages")
            assert (told["status"], told["errorCode"]) == (404, 40400)


async def test_a_token_of_the_daemons_own_opens_nothing_as_one_of_ablys(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, script):
        minted = (await daemon.request("POST", "/channels/chat/auth", json={"user": "ada"})).json()["token"]
        assert await failed(script, "a", token=minted) == 40400
        await ok(script, "rest", client="b", token=minted)
        assert await refused(script, "publish", client="b", channel="chat", messages=[{"name": "e"}]) == 40400
        asked = await daemon.request("POST", f"/keys/{KEY}/requestToken", json={"keyName": KEY})
        assert (asked.status_code, asked.json()["error"]["code"]) == (404, 40400)


async def test_the_app_has_a_key_of_its_own_form_where_none_is_set(tmp_path: Path) -> None:
    rules = '[[apps]]\nid = "1002"\nkey = "other"\nsecret = "another-secret-0123456789"\n'
    async with world(tmp_path, rules=rules) as (_, script):
        await connected(script, "a", key="1002.other:another-secret-0123456789")


@pytest.mark.parametrize("wire", ["json", "msgpack"])
async def test_a_token_request_that_a_server_signed_is_answered_with_a_token_that_a_client_connects_with(
    tmp_path: Path, wire: str
) -> None:
    async with world(tmp_path, wire) as (_, script):
        await ok(script, "rest", client="server")
        asks = {"clientId": "ada", "capability": {"chat": ["publish", "subscribe"]}, "ttl": 60_000}
        ada = await connected(script, "ada", issuer="server", asks=asks)
        await ok(script, "attach", client="ada", channel="chat")
        await ok(script, "publish", client="ada", channel="chat", messages=[{"name": "hi"}])
        got = await heard(script, "ada", "chat")
        assert (got["user"], got["connection"]) == ("ada", ada)
        assert await refused(script, "attach", client="ada", channel="elsewhere") == 40160
        assert await refused(script, "publish", client="ada", channel="other", messages=[{"name": "x"}]) == 40160


async def test_a_python_server_gets_tokens_for_a_key_and_its_rest_client_works_with_them(tmp_path: Path) -> None:
    async with world(tmp_path, "msgpack", sdk="sdk.py") as (_, script):
        await ok(script, "rest", client="server")
        got = await ok(script, "token", client="server", params={"client_id": "ada", "ttl": 60_000})
        assert (got["clientId"], got["expires"] - got["issued"]) == ("ada", 60_000)
        await ok(
            script, "publish", client="server", channel="room", messages=[{"name": "e", "data": {"bytes": "/w=="}}]
        )
        pages = await ok(script, "history", client="server", channel="room")
        assert [(m["name"], m["data"]) for m in pages[0]] == [("e", {"bytes": "/w=="})]
        assert (await ok(script, "status", client="server", channel="room"))["subscribers"] == 0
        assert abs(await ok(script, "time", client="server") / 1000 - time.time()) < 60


async def test_a_jwt_says_who_the_client_is_and_what_it_may_do(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        claims = {"x-ably-clientId": "ada", "x-ably-capability": '{"a:*":["subscribe"],"a:b:c":["publish"]}'}
        await connected(script, "ada", token=token(**claims))
        await ok(script, "attach", client="ada", channel="a:x")
        await ok(script, "publish", client="ada", channel="a:b:c", messages=[{"name": "x"}])
        assert await refused(script, "publish", client="ada", channel="a:x", messages=[{"name": "x"}]) == 40160
        assert await refused(script, "attach", client="ada", channel="a") == 40160


async def test_a_limited_key_and_its_tokens_allow_no_more_than_it_says(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "limited", key=LIMITED_KEY)
        await ok(script, "attach", client="limited", channel="news:today")
        assert (
            await refused(script, "publish", client="limited", channel="news:today", messages=[{"name": "x"}]) == 40160
        )
        for _ in range(2):  # what it may do on a channel that it names stays when the client leaves the channel
            await ok(script, "attach", client="limited", channel="chat")
            await ok(script, "publish", client="limited", channel="chat", messages=[{"name": "x"}])
            await ok(script, "detach", client="limited", channel="chat")
        await ok(script, "rest", client="server", key=LIMITED_KEY)
        asked = {"capability": {"news:a": ["*"], "other": ["*"]}}
        got = await ok(script, "token", client="server", params=asked)
        assert got["capability"] == '{"news:a":["history","subscribe"]}'
        assert await refused(script, "token", client="server", params={"capability": {"other": ["*"]}}) == 40160


async def test_a_client_speaks_for_itself_and_for_others_only_where_its_credential_says_so(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        # The SDK checks its own client id too, so what is refused here comes from tokens it cannot look into.
        assert await failed(script, "other", token=token(**{"x-ably-clientId": "ada"}), clientId="bob") in (
            40102,
            40012,
        )
        anonymous = token()
        await connected(script, "nobody", token=anonymous)
        named = [{"name": "x", "clientId": "ada"}]
        assert await refused(script, "publish", client="nobody", channel="room", messages=named) == 40012
        await connected(script, "anybody", token=token(**{"x-ably-clientId": "*"}))
        await ok(script, "attach", client="anybody", channel="room")
        await ok(script, "publish", client="anybody", channel="room", messages=named)
        assert (await heard(script, "anybody", "room"))["user"] == "ada"
        await connected(script, "key")
        await ok(script, "publish", client="key", channel="room", messages=named)


async def test_an_expired_token_is_renewed_and_the_connection_goes_on(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await ok(script, "rest", client="server")
        ada = await connected(script, "ada", issuer="server", asks={"ttl": 4000})
        await ok(script, "attach", client="ada", channel="room")
        gone = await script.hear("state", client="ada", state="disconnected")
        assert gone["error"]["code"] == 40142
        assert (await script.hear("state", client="ada", state="connected"))["id"] == ada
        await ok(script, "publish", client="ada", channel="room", messages=[{"name": "after"}])
        assert (await heard(script, "ada", "room"))["name"] == "after"
        assert all(c["resumed"] for c in script.told("change", client="ada", change="attached")[1:])


async def test_who_cannot_renew_an_expired_token_gives_up(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada", token=token(lives=5))
        assert (await script.hear("state", client="ada", state="failed"))["error"]["code"] == 40171


async def test_a_client_takes_a_new_token_while_it_is_connected_and_loses_the_channels_that_it_does_not_allow(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (_, script):
        await ok(script, "rest", client="server")
        ada = await connected(script, "ada", issuer="server", asks={})
        await ok(script, "attach", client="ada", channel="a")
        await ok(script, "attach", client="ada", channel="b")
        await ok(script, "authorize", client="ada", params={"capability": {"a": ["*"]}})
        lost = await script.hear("change", client="ada", channel="b", change="failed")
        assert lost["error"]["code"] == 40160
        await ok(script, "publish", client="ada", channel="a", messages=[{"name": "still"}])
        assert (await heard(script, "ada", "a"))["connection"] == ada
        assert script.told("state", client="ada", state="disconnected") == []


async def test_a_token_request_is_used_once_and_soon(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, _):
        import base64
        import hmac

        async def ask(timestamp: int | str, nonce: str, secret: str = KEY_SECRET) -> tuple[int, int]:
            text = f"{NAME}\n\n\n\n{timestamp}\n{nonce}\n"
            mac = base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha256")).decode()
            body = {"keyName": NAME, "timestamp": timestamp, "nonce": nonce, "mac": mac}
            answer = await daemon.request("POST", f"/keys/{NAME}/requestToken", auth=False, json=body)
            return answer.status_code, answer.json().get("error", {}).get("code", 0)

        now = int(time.time() * 1000)
        assert await ask(now, "nonce-0123456789") == (201, 0)
        assert await ask(now, "nonce-0123456789") == (401, 40105)
        assert await ask(str(now), "nonce-of-a-form") == (201, 0)
        assert await ask("now", "nonce-of-a-form-2") == (400, 40003)
        assert await ask(now - 200_000, "another-nonce-01") == (401, 40104)
        assert await ask(now, "another-nonce-02", "wrong") == (401, 40101)
