"""config_edit.py: one key of one table changes; comments, order and line ends stay byte for byte."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sower.config_edit import append_table, set_keys
from sower.errors import ConfigError

OLD, NEW = "old-secret-of-sixteen", "new-secret-of-sixteen"

FILE = f"""\
# The config of our chat.

[server]
listen = ["127.0.0.1:0"] # loopback: nginx is in front

[[apps]] # the app of the web page
id     = "1"
key    = 'web'
secret = "{OLD}"   # in the vault too

[[apps]]
key = "phone"
id = "2"
secret = '{OLD}'

[[channels]]
match = "*"
# the end"""


def edited(folder: Path, text: str, index: int, changes: dict[str, str | None]) -> str:
    file = folder / "sower.toml"
    file.write_bytes(text.encode())
    set_keys(file, "apps", index, changes)
    return file.read_bytes().decode()


def test_a_value_changes_in_its_place_and_what_follows_it_stays(tmp_path: Path) -> None:
    assert edited(tmp_path, FILE, 0, {"secret": NEW}) == FILE.replace(OLD, NEW, 1)
    second = FILE.replace(f"'{OLD}'", f'"{NEW}"')
    assert edited(tmp_path, FILE, 1, {"secret": NEW}) == second


@pytest.mark.parametrize("index", [0, 1])
def test_a_key_that_is_added_and_removed_again_leaves_no_trace(tmp_path: Path, index: int) -> None:
    with_old = edited(tmp_path, FILE, index, {"old_secret": OLD})
    assert tomllib.loads(with_old)["apps"][index]["old_secret"] == OLD
    assert len(with_old.splitlines()) == len(FILE.splitlines()) + 1
    assert edited(tmp_path, with_old, index, {"old_secret": None}) == FILE


def test_line_ends_and_the_missing_one_at_the_end_stay_as_they_are(tmp_path: Path) -> None:
    text = FILE.replace("\n", "\r\n")
    assert edited(tmp_path, text, 0, {"secret": NEW}) == text.replace(OLD, NEW, 1)


AWKWARD = ['with-a-"-quote-inside', "with-a-\\-backslash", "a-\\1-group-of-a-regex", "ünï-cödé-of-sixteen", "tab-\t-inside-of-it"]  # fmt: skip


@pytest.mark.parametrize("secret", AWKWARD)
def test_a_secret_of_any_characters_is_moved_and_replaced(tmp_path: Path, secret: str) -> None:
    text = edited(tmp_path, FILE, 0, {"old_secret": secret, "secret": secret + "!"})
    app = tomllib.loads(text)["apps"][0]
    assert (app["old_secret"], app["secret"]) == (secret, secret + "!")
    again = edited(tmp_path, text, 0, {"old_secret": None, "secret": OLD})
    assert again == FILE


def test_a_key_is_found_however_it_is_quoted(tmp_path: Path) -> None:
    for key in ('"secret"', "'secret'", '"s\\u0065cret"'):
        text = FILE.replace("secret =", f"{key} =", 1)
        assert edited(tmp_path, text, 0, {"secret": NEW}) == text.replace(OLD, NEW, 1)


def test_a_table_is_added_at_the_end(tmp_path: Path) -> None:
    file = tmp_path / "sower.toml"
    file.write_text(FILE)
    append_table(file, "apps", {"id": "3", "key": "tv", "secret": NEW})
    assert file.read_text() == f'{FILE}\n\n[[apps]]\nid = "3"\nkey = "tv"\nsecret = "{NEW}"\n'


UNSAFE: dict[str, str] = {
    "an inline array": f'apps = [{{id = "1", key = "k", secret = "{OLD}"}}]\n',
    "an inline array over lines": f'apps = [\n  {{id = "1", key = "k", secret = "{OLD}"}},\n]\n',
    "a string over lines": f'[[apps]]\nid = "1"\nkey = "k"\nsecret = """\\\n  {OLD}"""\n',
}


@pytest.mark.parametrize("how", UNSAFE)
def test_what_cannot_be_edited_safely_is_refused_and_stays(tmp_path: Path, how: str) -> None:
    with pytest.raises(ConfigError, match="by hand"):
        edited(tmp_path, UNSAFE[how], 0, {"secret": NEW})
    assert (tmp_path / "sower.toml").read_text() == UNSAFE[how]
    assert [file.name for file in tmp_path.iterdir()] == ["sower.toml"]


def test_an_edit_that_makes_the_config_wrong_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 16 characters"):
        edited(tmp_path, FILE, 0, {"secret": "short"})
    file = tmp_path / "sower.toml"
    with pytest.raises(ConfigError, match="another app's key already"):
        append_table(file, "apps", {"id": "3", "key": "web", "secret": NEW})
    assert file.read_text() == FILE


def test_a_file_that_cannot_be_read_or_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        set_keys(tmp_path / "none.toml", "apps", 0, {"secret": NEW})


def test_a_link_stays_a_link_and_the_file_keeps_its_mode(tmp_path: Path) -> None:
    file, link = tmp_path / "real.toml", tmp_path / "sower.toml"
    file.write_text(FILE)
    file.chmod(0o640)
    link.symlink_to(file)
    before = os.umask(0o077)
    try:
        set_keys(link, "apps", 0, {"secret": NEW})
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert file.read_text() == FILE.replace(OLD, NEW, 1)
    assert file.stat().st_mode & 0o777 == 0o640


COMMENT = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=12).map(lambda t: f"# {t}")
SPACE = st.sampled_from(["", " ", "   ", "\t"])


@st.composite
def files(draw: st.DrawFn) -> tuple[str, int]:
    """A config of some apps, written as people may, and the place of one app in it."""
    lines: list[str] = []
    count = draw(st.integers(1, 3))
    for n in range(count):
        lines += draw(st.lists(COMMENT | SPACE, max_size=2))
        lines.append(f"{draw(SPACE)}[[{draw(SPACE)}apps{draw(SPACE)}]]{draw(SPACE)}{draw(COMMENT | SPACE)}")
        pairs = {"id": f'"{n + 1}"', "key": f"'key-{n}'", "secret": f'"secret-of-sixteen-{n}"'}
        for key in draw(st.permutations(list(pairs))):
            lines += draw(st.lists(COMMENT | SPACE, max_size=1))
            lines.append(
                f"{draw(SPACE)}{key}{draw(SPACE)}={draw(SPACE)}{pairs[key]}{draw(SPACE)}{draw(COMMENT | SPACE)}"
            )
    return draw(st.sampled_from(["\n", "\r\n"])).join(lines), draw(st.integers(0, count - 1))


@given(written=files())
@settings(max_examples=50, deadline=None)
def test_however_it_is_written_only_the_value_changes(
    tmp_path_factory: pytest.TempPathFactory, written: tuple[str, int]
) -> None:
    text, index = written
    folder = tmp_path_factory.getbasetemp()
    before: dict[str, Any] = tomllib.loads(text)
    was = before["apps"][index]["secret"]
    assert edited(folder, text, index, {"secret": NEW}) == text.replace(f'"{was}"', f'"{NEW}"')
    rotated = edited(folder, text, index, {"old_secret": was, "secret": NEW})
    assert tomllib.loads(rotated)["apps"][index]["old_secret"] == was
    assert edited(folder, rotated, index, {"old_secret": None, "secret": was}) == text
