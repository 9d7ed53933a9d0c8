"""Tokens that end: who is asked for a new one in time, who is sent to get one, and who asks for ever is slowed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.sdk.ably.test_auth import NAME, token
from tests.sdk.ably.world import ABLY_KEY, connected, heard, ok, refused, world

SOON: dict[str, Any] = {"heartbeatInterval": "5000"}
"""With it a client is looked after every 2 seconds, and not every 25."""


@pytest.mark.parametrize("sdk", ["sdk.cjs", "sdk.py"])
async def test_a_client_is_asked_for_a_new_token_before_the_old_one_ends_and_stays_connected(
    tmp_path: Path, sdk: str
) -> None:
    async with world(tmp_path, sdk=sdk) as (_, script):
        tokens = [token(lives=29, iat=int(time.time()) - 100), token(lives=100)]
        soon = {"transportParams" if sdk == "sdk.cjs" else "transport_params": SOON}
        ada = await connected(script, "ada", tokens=tokens, **soon)
        await ok(script, "attach", client="ada", channel="room")
        assert (await script.hear("state", client="ada", event="update"))["id"] == ada
        await ok(script, "publish", client="ada", channel="room", messages=[{"name": "still"}])
        assert (await heard(script, "ada", "room"))["name"] == "still"
        assert script.told("state", client="ada", state="disconnected") == []


async def test_who_is_revoked_with_a_margin_gets_a_new_token_meanwhile_and_who_without_comes_back_with_one(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (_, script):
        await ok(script, "rest", client="server")
        ids: dict[str, str] = {}
        for name in ("ada", "bob"):
            ids[name] = await connected(script, name, issuer="server", asks={"clientId": name})
            await ok(script, "attach", client=name, channel=name)
            await script.hear("renewed", client=name)
        await trio.sleep(0.01)  # so that the tokens are older than their revocation
        target = {"type": "clientId", "value": "ada"}
        await ok(script, "revoke", client="server", specifiers=[target], options={"allowReauthMargin": True})
        assert (await script.hear("state", client="ada", event="update"))["id"] == ids["ada"]
        assert script.told("state", client="ada", state="disconnected") == []
        await ok(script, "revoke", client="server", specifiers=[{"type": "clientId", "value": "bob"}])
        gone = await script.hear("state", client="bob", state="disconnected")
        assert gone["error"]["code"] == 40141
        await script.hear("renewed", client="bob")
        assert (await script.hear("state", client="bob", state="connected"))["id"] == ids["bob"]
        for name in ("ada", "bob"):
            await ok(script, "publish", client=name, channel=name, messages=[{"name": "e"}])
            assert (await heard(script, name, name))["user"] == name


async def test_ably_js_that_gets_nothing_but_expired_tokens_asks_no_more_than_twice_and_then_waits(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (_, script):
        await script.do("connect", client="ada", tokens=[token(lives=-10)])
        gone = await script.hear("state", client="ada", state="disconnected")
        assert gone["error"]["code"] == 40142
        await trio.sleep(1)
        await ok(script, "rest", client="server")  # so that all that it told is read
        assert 1 <= len(script.told("renewals", client="ada")) <= 2


async def test_ably_js_rest_that_loops_on_an_expired_token_is_told_to_wait_and_ends(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        # It fetches a new token at each 4014x, and sends the old one again all the same: without a word, for ever.
        await ok(script, "rest", client="looping", tokens=[token(lives=-10)])
        assert await refused(script, "history", client="looping", channel="room") == 42911
        assert len(script.told("renewals", client="looping")) < 100


async def test_bad_keys_and_strangers_tokens_are_never_taken_for_ones_to_renew(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        for client, key, code in (("a", f"{NAME}:wrong", 40101), ("b", f"nobody.{ABLY_KEY}", 40400)):
            await ok(script, "rest", client=client, key=key)
            assert await refused(script, "history", client=client, channel="room") == code
        await ok(script, "rest", client="c", tokens=[token(secret="x" * 32)])
        assert await refused(script, "history", client="c", channel="room") == 40101
        assert len(script.told("renewals", client="c")) == 1


async def test_what_was_attached_without_the_mode_is_refused_with_40165(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada", clientId="ada")
        sent = [{"name": "e"}]
        only = {"modes": ["SUBSCRIBE", "PRESENCE_SUBSCRIBE"]}
        await ok(script, "attach", client="ada", channel="room", options=only)
        assert await refused(script, "publish", client="ada", channel="room", messages=sent) == 40165
        assert await refused(script, "enter", client="ada", channel="room") == 40165
        await ok(script, "set_options", client="ada", channel="room", options={"modes": ["PUBLISH", "SUBSCRIBE"]})
        await ok(script, "publish", client="ada", channel="room", messages=sent)
        await ok(script, "detach", client="ada", channel="room")
