"""`sower key`: a secret changes while both are accepted, the config keeps its comments, the audit says who did it."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sower.cli.key import app
from sower.config import Config
from sower.config_file import load
from sower.core.grants import Can, Credential, check_secret, mint, verify
from sower.errors import BadToken, ConfigError, StoreError, WrongSecret
from sower.store.audit import Record, append, read

SECRET = "first-secret-of-sixteen"

CONFIG = f"""\
# Our chat.

[[apps]] # the web page
id = "1001"
key = "web"   # public
secret = "{SECRET}" # in the vault too

[[channels]]
match = "*" # all
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "sower.toml"
    file.write_text(CONFIG)
    file.chmod(0o640)
    return file


@pytest.fixture
def secret_file(file: Path) -> Path:
    file.write_text(CONFIG.replace(f'secret = "{SECRET}"', 'secret_file = "keys/web"'))
    secret_file = file.parent / "keys" / "web"
    secret_file.parent.mkdir()
    secret_file.write_text(f"{SECRET}\n")
    return secret_file


def key(file: Path, *words: str) -> Result:
    """Run `sower key` on a config. What it raises is raised."""
    return CliRunner().invoke(app, [*words, "--config", str(file)], catch_exceptions=False)


def credential(config: Config, index: int = 0) -> Credential:
    chosen = config.apps[index]
    return Credential(chosen.id, chosen.key, chosen.secret.encode(), chosen.old_secret.encode() or None)


def minted(by: Credential) -> str:
    return mint(by, channels={"a": [Can.SUBSCRIBE]}, user=None, issued=0, expires=60, token_id="t")


def accepts(by: Credential, token: str) -> bool:
    try:
        verify(token, {by.key: by}, now=1)
    except BadToken:
        return False
    return True


def test_a_new_app_is_added_and_its_secret_is_shown_once(file: Path) -> None:
    ended = key(file, "new")
    shown = dict(line.split() for line in ended.stdout.splitlines())
    made = load(file).config.apps[1]
    assert shown == {"id": made.id, "key": made.key, "secret": made.secret}
    assert made.id == "1002"
    assert "`sower reload`" in ended.stderr
    assert made.secret not in ended.stderr
    assert file.read_text().startswith(CONFIG)


def test_a_new_app_is_printed_as_json_and_has_the_id_that_was_asked_for(file: Path) -> None:
    made = json.loads(key(file, "new", "--id", "77", "--json").stdout)
    check_secret(credential(load(file).config, 1), made["secret"].encode())
    assert made["id"] == "77"
    assert json.loads(key(file, "new", "--json").stdout)["id"] == "1002"


def test_an_id_with_letters_counts_for_none(file: Path) -> None:
    file.write_text(CONFIG.replace('"1001"', '"chat"'))
    assert json.loads(key(file, "new", "--json").stdout)["id"] == "1001"


@pytest.mark.parametrize("given", ["1001", "one", "", "²"])
def test_an_id_that_cannot_be_is_wrong_usage_and_changes_nothing(file: Path, given: str) -> None:
    assert key(file, "new", "--id", given).exit_code == 2
    assert file.read_text() == CONFIG


def test_a_rotation_overlaps_both_secrets_are_accepted_and_the_new_one_mints(file: Path) -> None:
    before = credential(load(file).config)
    fresh = key(file, "rotate", "1001").stdout.strip()

    during = credential(load(file).config)
    assert (during.secret, during.old_secret) == (fresh.encode(), SECRET.encode())
    check_secret(during, SECRET.encode())
    check_secret(during, fresh.encode())
    assert accepts(during, minted(before))
    assert accepts(during, minted(during))
    assert not accepts(before, minted(during)), "what is minted now is signed with the new secret"

    key(file, "retire", "1001")
    after = credential(load(file).config)
    assert (after.secret, after.old_secret) == (fresh.encode(), None)
    with pytest.raises(WrongSecret):
        check_secret(after, SECRET.encode())
    assert not accepts(after, minted(before))
    assert accepts(after, minted(during))


def test_comments_and_all_else_stay_byte_for_byte_and_the_mode_too(file: Path) -> None:
    fresh = key(file, "rotate", "1001").stdout.strip()
    rotated = CONFIG.replace(SECRET, fresh)
    assert file.read_text() == rotated.replace("page\n", f'page\nold_secret = "{SECRET}"\n')
    key(file, "retire", "1001")
    assert file.read_text() == rotated
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert [entry.name for entry in file.parent.iterdir()] == ["sower.toml"], "nothing is left beside it"


def test_of_several_apps_only_the_named_one_changes(file: Path) -> None:
    other = json.loads(key(file, "new", "--json").stdout)
    key(file, "rotate", other["id"])
    first, second = load(file).config.apps
    assert (first.secret, first.old_secret) == (SECRET, "")
    assert second.old_secret == other["secret"]


def test_a_secret_file_is_rotated_in_its_place(file: Path, secret_file: Path) -> None:
    config = file.read_text()
    fresh = key(file, "rotate", "1001").stdout.strip()
    assert secret_file.read_text() == f"{fresh}\n{SECRET}\n"
    key(file, "retire", "1001")
    assert secret_file.read_text() == f"{fresh}\n"
    assert file.read_text() == config


def test_no_secret_goes_to_stderr_and_retire_prints_none(file: Path) -> None:
    rotated = key(file, "rotate", "1001")
    retired = key(file, "retire", "1001")
    assert retired.stdout == ""
    for secret in (SECRET, rotated.stdout.strip()):
        assert secret not in rotated.stderr + retired.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("rotate", "7"), "No app has the id '7'; there are 1001"),
        (("retire", "7"), "No app has the id '7'; there are 1001"),
        (("retire", "1001"), "has no old secret"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(file: Path, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        key(file, *words)
    assert file.read_text() == CONFIG


def test_a_rotation_that_has_not_ended_is_not_begun_again(file: Path) -> None:
    key(file, "rotate", "1001")
    during = file.read_text()
    with pytest.raises(ConfigError, match="`sower key retire 1001` first"):
        key(file, "rotate", "1001")
    assert file.read_text() == during


def test_a_config_that_cannot_be_edited_safely_is_left_alone(file: Path) -> None:
    text = f'apps = [{{id = "1001", key = "web", secret = "{SECRET}"}}]\n'
    file.write_text(text)
    for words in (("rotate", "1001"), ("new",)):
        with pytest.raises(ConfigError, match="by hand"):
            key(file, *words)
    assert file.read_text() == text


def test_the_audit_says_what_was_done_and_no_secret(file: Path) -> None:
    store = str(file.parent / "sower.db")
    append(store, Record(0.0, "started"))
    made = json.loads(key(file, "new", "--json").stdout)
    fresh = key(file, "rotate", "1001").stdout.strip()
    key(file, "retire", "1001")
    records = list(read(store, since=1.0, kinds=(), limit=10))
    assert [(record.kind, record.app) for record in records] == [
        ("key_minted", made["id"]),
        ("key_rotated", "1001"),
        ("key_retired", "1001"),
    ]
    for secret in (SECRET, fresh, made["secret"]):
        assert secret not in str(records)


def test_before_the_first_start_there_is_no_audit_and_none_is_made(file: Path) -> None:
    assert key(file, "new").exit_code == 0
    assert [entry.name for entry in file.parent.iterdir()] == ["sower.toml"]


@pytest.mark.parametrize("words", [("new", "--json"), ("rotate", "1001")])
def test_a_secret_is_shown_even_where_the_audit_fails(
    file: Path, words: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    (file.parent / "sower.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreError):
        app([*words, "--config", str(file)], standalone_mode=False)
    assert load(file).config.apps[-1].secret in capfd.readouterr().out
