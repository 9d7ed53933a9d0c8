"""config_file.py: each mistake with its line, its key, and what would be right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sower.config import Limits, Rate, Server, SessionSettings
from sower.config_file import find_config, load, load_dev, parse, write_private
from sower.core.grants import Credential, check_secret
from sower.errors import ConfigError

APP = '[[apps]]\nid = "1"\nkey = "k"\nsecret = "a-secret-of-sixteen"\n'
HOOK = '[[apps.webhooks]]\nurl = "http://a/b"\n'
OTHER = APP.replace('"1"', '"2"').replace('"k"', '"l"')
ABLY = '[apps.ably]\nkey = "a.b:a-secret-of-sixteen"\n'
FILE = Path("sower.toml")


@pytest.mark.parametrize(
    "url", ["http://a", "https://a.b-c.com/d/?e=f%20g", "http://127.0.0.1:65535?x", "http://[::1]:80/", "http://x_1/~"]
)
def test_a_webhook_s_url_may_be_any_of_http(url: str) -> None:
    assert parse(APP + HOOK.replace("http://a/b", url), FILE).apps[0].webhooks[0].url == url


@pytest.mark.parametrize(
    "url",
    [
        "redis://a",
        "rediss://u:p%2F@a.b-c:6379/7",
        "redis://:a@b@[::1]:1/",
        "unix:///run/r.sock?db=1&password=a",
        "redis+cluster://a,b:7001",
        "rediss+sentinel://u:p@a:26379,[::1]:26379/name/1",
    ],
)
def test_a_cluster_is_at_any_of_redis_s_places(url: str) -> None:
    assert parse(APP + f'[cluster]\nurl = "{url}"\n', FILE).cluster.url == url


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\ny = \n", "sower.toml:2: is no TOML: Invalid value (at line 2, column 5)"),
        (APP + "x = [\n", "sower.toml:5: is no TOML: "),
        (APP + APP.replace("[[apps]]", "[apps]"), "sower.toml:5: is no TOML: "),
        (APP + f"[limits]\nbatch = {'9' * 5000}\n", "sower.toml: is no TOML: "),
        (APP + "[server]\nlisten = 7\n", "sower.toml:6: server.listen: Expected `array`"),
        (APP + '[server]\nlisten = ["nowhere"]\n', "sower.toml:6: server.listen[0]: 'nowhere' is not HOST:PORT"),
        (APP + '[server]\ndrain_for = "10 years"\n', "sower.toml:6: server.drain_for: '10 years' is no duration"),
        (APP + '[server]\nmax_body = "1MB"\n', "is no size: a number with B, KiB, MiB, GiB"),
        (APP + '[limits]\nframes = "fast"\n', "sower.toml:6: limits.frames: 'fast' is no rate"),
        (APP + "[limits]\nbatch = 0\n", "sower.toml:6: limits.batch: must be above 0"),
        (APP + '[store]\nsync = "never"\n', 'sower.toml:6: store.sync: is "normal" or "full"'),
        (
            APP + '[cluster]\nurl = "http://a"\n',
            "sower.toml:6: cluster.url: begins with redis:// or rediss:// or unix:///",
        ),
        (
            APP + '[cluster]\nurl = "redis+sentinel://a:26379"\n',
            "sower.toml:6: cluster.url: is redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT or redis+sentinel://",
        ),
        (
            APP + '[cluster]\nurl = "redis+sentinel://a/m?password=b"\n',
            "sower.toml:6: cluster.url: is redis+cluster://USER:PASSWORD@HOST:PORT,HOST:PORT or redis+sentinel://",
        ),
        (
            APP + '[cluster]\nurl = "redis://a:b/c@d"\n',
            "sower.toml:6: cluster.url: is redis://USER:PASSWORD@HOST:PORT/DB",
        ),
        (APP + '[cluster]\nurl = "redis://a:port"\n', "sower.toml:6: cluster.url: is redis://USER"),
        (APP + '[cluster]\nurl = "redis://"\n', "sower.toml:6: cluster.url: is redis://USER"),
        (APP + '[cluster]\nurl = "redis://a/one"\n', "sower.toml:6: cluster.url: is redis://USER"),
        (APP + '[cluster]\nurl = "unix:///a?db=one"\n', "sower.toml:6: cluster.url: is redis://USER"),
        (APP + '[cluster]\nurl = "redis+cluster://a:99999"\n', "sower.toml:6: cluster.url: is redis+cluster://USER"),
        (APP + '[cluster]\nprefix = "{a}"\n', "sower.toml:6: cluster.prefix: has 1 to 64 letters, digits, ., - and _"),
        (APP + '[cluster]\nlease = "1s"\n', "sower.toml:6: cluster.lease: is at least 2s"),
        (APP + "[cluster]\nreplicas = -1\n", "sower.toml:6: cluster.replicas: must not be below 0"),
        (APP + f"[cluster]\nreplicas = {10**30}\n", f"sower.toml:6: cluster.replicas: must be at most {2**53}"),
        (APP + "[serve]\n", "sower.toml:5: serve: unknown key; did you mean server?"),
        (APP + '[[channels]]\nmach = "*"\n', "sower.toml:6: channels[0].mach: unknown key; did you mean match?"),
        (APP + "[[channels]]\n", "sower.toml:5: channels[0].match: is missing"),
        (
            APP + '[[channels]]\nmatch = "a"\nhistory = {messages = 0}\n',
            "sower.toml:7: channels[0].history.messages: must be above 0",
        ),
        (
            APP + '[[channels]]\nmatch = "*"\n[[channels]]\nmatch = "a-*"\n',
            "sower.toml:8: channels[1].match: is never reached: channels[0]",
        ),
        (APP.replace("[[apps]]", "[apps]"), "sower.toml:1: apps: is one of several tables: write [[apps]]"),
        ('apps = ["1"]\n', "sower.toml:1: apps[0]: must be a table"),
        ("server = []\n" + APP, "sower.toml:1: server: must be a table"),
        (APP + '[[channels]]\nmatch = "a"\nhistory = [{}]\n', "sower.toml:7: channels[0].history: must be a table"),
        (APP + '[[channels]]\nmatch = "a"\nhistory.mesages = 1\n', "channels[0].history.mesages: unknown key; did you"),
        (APP + "zzz.liste = []\n", "sower.toml:5: apps[0].zzz: unknown key; known here: id, key, secret"),
        ("server.max_body = 7\n" + APP, "sower.toml:1: server.max_body: 7 is no size"),
        (
            "server = {\"max_body\" = '1MiB', max_hed = '1B'}\n" + APP,
            "sower.toml:1: server.max_hed: unknown key; did you mean max_head?",
        ),
        (
            APP + '# """\n[store]\npath = """\\\n  sync = 1 \\"""[a]"""\nsync = "x"\n',
            'sower.toml:9: store.sync: is "normal" or "full"',
        ),
        (APP + "# \u2028 \x85\n[serve]\n", "sower.toml:6: serve: unknown key"),
        (
            APP + '[server]\nlisten = [\n  "[::1]:80", # fine\n  "::1:80",\n]\n',
            "sower.toml:8: server.listen[1]: '::1:80' is not HOST:PORT or [HOST]:PORT",
        ),
        (APP + '[server]\nlisten = ["a:٣"]\n', "server.listen[0]: 'a:٣' is not HOST:PORT"),
        (APP + '[server]\nlisten = ["a..b:1"]\n', "server.listen[0]: 'a..b:1' is not HOST:PORT"),
        (APP + '[server]\nlisten = ["unix:/a\\u0000"]\n', "server.listen[0]: 'unix:/a\\x00' is not HOST:PORT"),
        (APP + '[server]\nlisten = ["a:65536"]\n', "server.listen[0]: 'a:65536' is not HOST:PORT"),
        (APP + "[server]\nlisten = []\n", "sower.toml:6: server.listen: names no address"),
        (APP + '[server]\norigins = ["*", "https://a.com/"]\n', "server.origins[1]: 'https://a.com/' is no origin"),
        (APP + '[server]\norigins = ["a.com"]\n', "sower.toml:6: server.origins[0]: 'a.com' is no origin"),
        (APP + '[store]\npath = ""\n', "sower.toml:6: store.path: names no file"),
        (APP + '[store]\npath = "a\\u0000b"\n', "sower.toml:6: store.path: names no file"),
        (APP + f"x = {'[' * 5000}{']' * 5000}\n", "sower.toml: is nested too deeply"),
        (APP + "connections = -1\n", "sower.toml:5: apps[0].connections: must be above 0"),
        (APP + "[apps.pusher]\nmembers = -1\n", "sower.toml:6: apps[0].pusher.members: must be above 0"),
        (APP + "[apps.pusher]\nwatchlist = -1\n", "sower.toml:6: apps[0].pusher.watchlist: must not be below 0"),
        (APP + '[apps.pusher]\nclock_skew = "0s"\n', "sower.toml:6: apps[0].pusher.clock_skew: must be above 0"),
        (APP + f"[limits]\nbatch = {2**53 + 1}\n", f"sower.toml:6: limits.batch: must be at most {2**53}"),
        (APP.replace('"k"', '"k:l"'), "sower.toml:3: apps[0].key: is a text without a colon"),
        (APP.replace('"k"', "7"), "sower.toml:3: apps[0].key: Expected `str`, got `int`"),
        (APP + 'old_secret = "short"\n', "sower.toml:5: apps[0].old_secret: has at least 16 characters"),
        (APP + '[[channels]]\nmatch = "private-*"\nprivate = false\n', "are always private"),
        (APP + APP, "sower.toml:6: apps[1].id: is another app's id already"),
        (APP + ABLY + OTHER + ABLY, "sower.toml:12: apps[1].ably.key: 'a.b' is another key already"),
        (
            APP + ABLY + OTHER + '[apps.ably.keys]\n"a.b:another-of-sixteen" = {"*" = ["*"]}\n',
            "sower.toml:11: apps[1].ably.keys: 'a.b' is another key already",
        ),
        (
            APP + '[apps.ably.keys]\n"a.b:another-of-sixteen" = {"chat" = ["subscibe"]}\n',
            "sower.toml:5: apps[0].ably.keys: 'a.b': 'subscibe', asked for on 'chat', is no operation",
        ),
        (APP + OTHER.replace('"l"', '"1.k"'), "sower.toml:1: apps[0].ably.key: '1.k' is another key already"),
        (APP + '[apps.ably]\nkey = "a.b"\n', "sower.toml:6: apps[0].ably.key: 'a.b' is no KEYNAME:SECRET"),
        (APP.replace('"1"', '"one/two"'), "sower.toml:2: apps[0].id: has 1 to 64 letters, digits"),
        (APP.replace("a-secret-of-sixteen", "short"), "sower.toml:4: apps[0].secret: has at least 16 characters"),
        (APP + 'secret_file = "x"\n', "stands alone"),
        (
            APP + HOOK.replace("http://a/b", "a.com"),
            "sower.toml:6: apps[0].webhooks[0].url: 'a.com' is not http://HOST",
        ),
        (APP + HOOK.replace("http://a/b", "http://u:p@a/"), "what proves who calls goes into headers"),
        (
            APP + HOOK.replace("http://a/b", "http://a..b/"),
            "apps[0].webhooks[0].url: 'http://a..b/' is not http://HOST",
        ),
        (APP + HOOK.replace("http://a/b", "http://a:65536/"), "apps[0].webhooks[0].url: 'http://a:65536/' is not"),
        (APP + HOOK.replace("http://a/b", "http://[::1/"), "apps[0].webhooks[0].url: 'http://[::1/' is not"),
        (APP + HOOK + HOOK, "sower.toml:8: apps[0].webhooks[1].url: is another webhook's url already"),
        (APP + HOOK + "events = []\n", "apps[0].webhooks[0].events: names nothing; there are channel_occupied"),
        (APP + HOOK + 'events = ["occupied"]\n', "apps[0].webhooks[0].events: Invalid enum value 'occupied'"),
        (APP + HOOK + "batch = 0\n", "sower.toml:7: apps[0].webhooks[0].batch: must be above 0"),
        (APP + HOOK + 'headers = {"a b" = "c"}\n', "apps[0].webhooks[0].headers.a b: is no header"),
        (APP + HOOK + 'headers = {a = "b\\n"}\n', "apps[0].webhooks[0].headers.a: is no header"),
        (APP + HOOK + 'headers = {Host = "a"}\n', "headers.Host: is set by the daemon itself"),
        (
            '[[apps]]\nid = "1"\nkey = "k"\nsecret_file = "missing"\n',
            "sower.toml:4: apps[0].secret_file: cannot be read",
        ),
        ("", "at least one [[apps]] table is needed"),
    ],
)
def test_each_mistake_is_told_with_its_line_and_key(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE)
    assert told in str(caught.value)


def test_several_mistakes_are_told_together_in_the_order_of_the_file() -> None:
    with pytest.raises(ConfigError) as caught:
        parse('[limits]\nbach = 1\nframes = "x"\n[server]\nx = 1\n', FILE)
    assert [line.split(":")[1] for line in str(caught.value).splitlines()] == ["2", "3", "5"]


def test_several_mistakes_may_stand_on_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("[[apps]]\n", FILE)
    assert str(caught.value) == "sower.toml:1: apps[0].id: is missing\nsower.toml:1: apps[0].key: is missing"


@pytest.mark.parametrize("origin", ["*", "null", "https://a.com", "http://*.a.com:8080", "HTTPS://[::1]:1", "app://x"])
def test_what_browsers_send_as_an_origin_is_one(origin: str) -> None:
    assert parse(APP + f'[server]\norigins = ["{origin}"]\n', FILE).server.origins == (origin,)


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:8787", "localhost:65535", "0.0.0.0:80"])
def test_what_can_be_listened_at_is_an_address(address: str) -> None:
    assert parse(APP + f'[server]\nlisten = ["{address}"]\n', FILE).server.listen == (address,)


def test_what_may_be_none_is_0() -> None:
    pusher = parse(APP + '[apps.pusher]\nwatchlist = 0\nauthorised_within = "0s"\n', FILE).apps[0].pusher
    assert (pusher.watchlist, pusher.authorised_within) == (0, 0)


def test_what_is_left_out_has_its_default() -> None:
    config = parse(APP + '[limits]\nbatch = 7\nframes = "1/s"\n', FILE)
    assert (config.server, config.session) == (Server(), SessionSettings())
    assert config.limits == Limits(batch=7, frames=Rate(1, 1))
    assert parse(APP + '[session]\nsleep_after = "0s"\n', FILE).session.sleep_after == 0


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "latin.toml")
    with pytest.raises(ConfigError, match="directory"):
        load(tmp_path)


def test_relative_files_count_from_the_configs_folder(tmp_path: Path) -> None:
    (tmp_path / "sower.toml").write_text(
        '[[apps]]\nid = "1"\nkey = "k"\nsecret_file = "keys/one"\n[store]\npath = "data.db"\n'
    )
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "one").write_text("new-secret-of-sixteen\nold-secret-of-sixteen\n")
    config = load(tmp_path / "sower.toml").config
    assert config.store.path == str(tmp_path / "data.db")
    app = config.apps[0]
    credential = Credential(app.id, app.key, app.secret.encode(), app.old_secret.encode())
    check_secret(credential, b"new-secret-of-sixteen")
    check_secret(credential, b"old-secret-of-sixteen")


SECRET_FILE = '[[apps]]\nid = "1"\nkey = "k"\nsecret_file = "secret"\n'


@pytest.mark.parametrize(
    ("written", "secret", "old"),
    [
        ("new-secret-of-sixteen", "new-secret-of-sixteen", ""),
        ("new-secret-of-sixteen\r\n\n", "new-secret-of-sixteen", ""),
        ("correct-horse-battery old-staple-of-sixteen\n", "correct-horse-battery old-staple-of-sixteen", ""),
        ("new-secret-of-sixteen\nold-secret-of-sixteen", "new-secret-of-sixteen", "old-secret-of-sixteen"),
    ],
)
def test_each_line_of_a_secret_file_is_one_secret(tmp_path: Path, written: str, secret: str, old: str) -> None:
    (tmp_path / "secret").write_bytes(written.encode())
    app = parse(SECRET_FILE, tmp_path / "sower.toml").apps[0]
    assert (app.secret, app.old_secret) == (secret, old)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (b"", "the secret there has at least 16 characters"),
        (b"short\n", "the secret there has at least 16 characters"),
        (b"new-secret-of-sixteen\nshort", "the old_secret there has at least 16 characters"),
        (b"\xff", "cannot be read: 'utf-8' codec"),
        (None, "cannot be read: [Errno 2]"),
    ],
)
def test_a_bad_secret_file_is_told_once_at_its_own_key(tmp_path: Path, written: bytes | None, told: str) -> None:
    if written is not None:
        (tmp_path / "secret").write_bytes(written)
    with pytest.raises(ConfigError) as caught:
        parse(SECRET_FILE, tmp_path / "sower.toml")
    assert len(str(caught.value).splitlines()) == 1
    assert f"sower.toml:4: apps[0].secret_file: {told}" in str(caught.value)


def test_no_mistake_shows_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a-secret-of-sixteen")
    with pytest.raises(ConfigError) as caught:
        parse(
            APP
            + 'secret_file = "secret"\n'
            + APP.replace("a-secret-of-sixteen", "short-one")
            + 'old_secret = "b"\nx = 1\n',
            tmp_path / "sower.toml",
        )
    assert "a-secret" not in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        parse(APP + APP.replace("a-secret-of-sixteen", "short-one") + 'old_secret = "tiny"\n', tmp_path / "sower.toml")
    assert "short-one" not in str(caught.value)
    assert "tiny" not in str(caught.value)


def test_an_absolute_store_path_stays(tmp_path: Path) -> None:
    assert parse(APP + '[store]\npath = "/var/lib/sower/sower.db"\n', FILE).store.path == "/var/lib/sower/sower.db"


def test_a_given_file_is_taken_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sower.toml").write_text(APP)
    with pytest.raises(ConfigError, match=r"other\.toml cannot be read"):
        find_config(Path("other.toml"), dev_too=True)


def test_a_place_that_cannot_be_looked_into_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "exists", denied)
    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(ConfigError, match=r"sower\.toml cannot be read: Permission denied"):
        find_config(None)


def test_without_a_config_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sower.config_file.PLACES", (tmp_path / "sower.toml",))
    monkeypatch.setenv("SOWER_DEV_DIR", str(tmp_path))
    with pytest.raises(ConfigError, match="sower config init"):
        find_config(None, dev_too=True)
    load_dev()
    assert find_config(None, dev_too=True).path == tmp_path / "sower.toml"


def test_an_account_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SOWER_DEV_DIR", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(ConfigError, match="SOWER_DEV_DIR"):
        load_dev()


def test_the_development_config_is_made_once_and_for_its_owner_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOWER_DEV_DIR", str(tmp_path / "dev"))
    monkeypatch.chdir(tmp_path)
    first = load_dev()
    assert load_dev() == first
    assert first.path.stat().st_mode & 0o777 == 0o600
    assert find_config(None, dev_too=True) == first
    (tmp_path / "sower.toml").write_text(APP)
    assert find_config(None, dev_too=True).path == Path("sower.toml")
    monkeypatch.delenv("SOWER_DEV_DIR")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert load_dev().path == tmp_path / "state" / "sower" / "sower.toml"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SOWER_DEV_DIR", str(tmp_path / "file" / "dev"))
    with pytest.raises(ConfigError, match="SOWER_DEV_DIR"):
        load_dev()
    assert os.environ["SOWER_DEV_DIR"]


def test_a_file_with_secrets_is_written_whole_or_stays_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "sower.toml"
    write_private(file, "one")
    assert file.stat().st_mode & 0o777 == 0o600
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_private(tmp_path / "folder", "two")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_private(tmp_path / "none" / "sower.toml", "two")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder", "sower.toml"], "nothing is left behind"
