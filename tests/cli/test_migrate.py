"""`sower migrate`: keys come over as they are, and nothing of the config is lost."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

from sower.access import Access
from sower.config_file import load
from sower.core.command import Credentials
from sower.core.grants import Can, Credential
from sower.core.rules import RuleBook
from sower.dialects.pubnub.tokens import verify_token
from tests.cli.shell import sower

ENV = """\
APP_NAME=Laravel
PUSHER_APP_ID=1234567
PUSHER_APP_KEY="b1e0c4f3a2d5"
PUSHER_APP_SECRET=0123456789abcdef0123
VITE_PUSHER_APP_KEY="${PUSHER_APP_KEY}"
"""


async def test_without_a_config_one_is_made_that_the_daemon_takes(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(ENV)
    ended = await sower(tmp_path, "migrate", "pusher", ".env")
    assert (ended.code, ended.out) == (0, "sower.toml\n")
    app = load(tmp_path / "sower.toml").config.apps[0]
    assert (app.id, app.key, app.secret) == ("1234567", "b1e0c4f3a2d5", "0123456789abcdef0123")
    assert (tmp_path / "sower.toml").stat().st_mode & 0o077 == 0
    assert (await sower(tmp_path, "config", "check")).code == 0


async def test_to_a_config_an_app_is_added_once_and_the_rest_stays(tmp_path: Path) -> None:
    before = '# ours\n[[apps]]\nid = "1"\nkey = "one"\nsecret = "0123456789abcdef"\n'
    file = tmp_path / "other.toml"
    file.write_text(before)
    for said in ("Added the app 1234567", "is there already"):
        ended = await sower(tmp_path, "migrate", "pusher", "-", "--config", "other.toml", stdin=ENV)
        assert ended.code == 0
        assert said in ended.err
    assert file.read_text().startswith(before)
    assert [app["id"] for app in tomllib.loads(file.read_text())["apps"]] == ["1", "1234567"]


async def test_what_cannot_come_over_leaves_all_as_it_was(tmp_path: Path) -> None:
    taken = '[[apps]]\nid = "1234567"\nkey = "one"\nsecret = "0123456789abcdef"\n'
    (tmp_path / "taken.toml").write_text(taken)
    ended = await sower(tmp_path, "migrate", "pusher", "-", "--config", "taken.toml", stdin=ENV)
    assert (ended.code, "another app's id" in ended.err) == (5, True)
    assert (tmp_path / "taken.toml").read_text() == taken
    weak = await sower(tmp_path, "migrate", "pusher", "-", stdin=ENV.replace("0123456789abcdef0123", "app-secret"))
    assert (weak.code, "at least 16 characters" in weak.err) == (5, True)
    assert not (tmp_path / "sower.toml").exists()
    assert (await sower(tmp_path, "migrate", "pusher", "nowhere")).code == 5
    nothing = await sower(tmp_path, "migrate", "pusher", "-", stdin="A=1\n")
    assert (nothing.code, "PUSHER_APP_KEY" in nothing.err) == (1, True)


ABLY = "AppId1.KeyId2:some-Secret_0123456789"


async def test_an_ably_key_becomes_an_app_that_keeps_it_and_whose_channels_keep_history(tmp_path: Path) -> None:
    ended = await sower(tmp_path, "migrate", "ably", "-", stdin=f"ABLY_API_KEY={ABLY}\n")
    assert (ended.code, ended.out) == (0, "sower.toml\n")
    assert ABLY.partition(":")[2] not in ended.out + ended.err
    config = load(tmp_path / "sower.toml").config
    assert [(app.id, app.ably.key) for app in config.apps] == [("1001", ABLY)]
    assert config.channels[0].history is not None
    stranger = Access(config.apps, config.limits, now=time.time).authorise(Credentials())
    assert not any(stranger.allows(can, "orders", RuleBook(config.channels).of("orders"), True) for can in Can)
    again = await sower(tmp_path, "migrate", "ably", "-", stdin=ABLY)
    assert (again.code, "is there already" in again.err) == (0, True)
    assert len(load(tmp_path / "sower.toml").config.apps) == 1
    (tmp_path / "key.txt").write_text("AppId3.KeyId4:another-Secret_0123456789\n")
    assert (await sower(tmp_path, "migrate", "ably", "key.txt")).code == 0
    assert [app.ably.key for app in load(tmp_path / "sower.toml").config.apps][1:] == [
        "AppId3.KeyId4:another-Secret_0123456789"
    ]
    nothing = await sower(tmp_path, "migrate", "ably", "-", stdin="no key\n")
    assert (nothing.code, "APPID.KEYID:SECRET" in nothing.err) == (1, True)


async def test_a_keyset_of_pubnubs_comes_over_with_its_secret_from_stdin_or_a_file(tmp_path: Path) -> None:
    keys = ("--publish-key", "pub-c-1", "--subscribe-key", "sub-c-1")
    for said in ("Added the app 1001", "is there already"):
        ended = await sower(tmp_path, "migrate", "pubnub", "-", *keys, stdin="sec-c-0123456789abcdef\n")
        assert ended.code == 0
        assert said in ended.err
    config = load(tmp_path / "sower.toml").config
    assert [(a.secret, a.pubnub.publish_key, a.pubnub.subscribe_key) for a in config.apps] == [
        ("sec-c-0123456789abcdef", "pub-c-1", "sub-c-1")
    ]
    assert config.channels[0].presence
    (tmp_path / "secret.txt").write_text("sec-c-fedcba9876543210\n")
    other = ("--publish-key", "pub-c-2", "--subscribe-key", "sub-c-2")
    assert (await sower(tmp_path, "migrate", "pubnub", "secret.txt", *other)).code == 0
    assert [a.id for a in load(tmp_path / "sower.toml").config.apps] == ["1001", "1002"]
    taken = await sower(
        tmp_path, "migrate", "pubnub", "secret.txt", "--publish-key", "pub-c-3", "--subscribe-key", "sub-c-2"
    )
    assert (taken.code, "another key already" in taken.err) == (5, True)


async def test_who_mixes_protocols_is_told_what_rules_that_are_there_mean_for_the_next_app(tmp_path: Path) -> None:
    keys = ("--publish-key", "pub-c-1", "--subscribe-key", "sub-c-1")
    assert (await sower(tmp_path, "migrate", "ably", "-", stdin=ABLY)).code == 0
    second = await sower(tmp_path, "migrate", "pusher", "-", stdin=ENV)
    assert (second.code, "private = true holds for its channels too" in second.err) == (0, True)
    third = await sower(tmp_path, "migrate", "pubnub", "-", *keys, stdin="sec-c-0123456789abcdef")
    assert (third.code, "private = true holds for its channels too" in third.err) == (0, True)
    assert "history and presence in [[channels]]" in third.err
    (tmp_path / "other").mkdir()
    assert (await sower(tmp_path / "other", "migrate", "pubnub", "-", *keys, stdin="sec-c-0123456789abcdef")).code == 0
    open_still = await sower(tmp_path / "other", "migrate", "ably", "-", stdin=ABLY)
    assert (open_still.code, "private = true and history in [[channels]]" in open_still.err) == (0, True)


async def test_a_token_for_pubnubs_sdks_says_what_was_asked_for(tmp_path: Path) -> None:
    keys = ("--publish-key", "pub-c-1", "--subscribe-key", "sub-c-1")
    assert (await sower(tmp_path, "migrate", "pubnub", "-", *keys, stdin="sec-c-0123456789abcdef")).code == 0
    made = await sower(
        tmp_path, "token", "--format", "pubnub", "room", "--user", "ada", "--ttl", "90s", "--can", "subscribe,presence"
    )
    credential = Credential("1001", "sub-c-1", b"sec-c-0123456789abcdef")
    grant = verify_token(made.out.strip(), "sub-c-1", {"sub-c-1": credential}, now=time.time())
    assert (grant.user, grant.claimed(Can.SUBSCRIBE, "room"), grant.claimed(Can.PUBLISH, "room")) == (
        "ada",
        True,
        False,
    )
    assert grant.claimed(Can.SUBSCRIBE, "room-pnpres")
    pattern = await sower(tmp_path, "token", "--format", "pubnub", "a.b-*")
    grant = verify_token(pattern.out.strip(), "sub-c-1", {"sub-c-1": credential}, now=time.time())
    assert grant.claimed(Can.PUBLISH, "a.b-c")
    assert not grant.claimed(Can.PUBLISH, "axb-c")
    assert (await sower(tmp_path, "token", "--format", "pubnub", "room", "--ttl", "31d")).code == 2
    assert (await sower(tmp_path, "token", "--format", "ably", "room", "--ttl", "0s")).code == 2
