"""config_file.py, toml_lines.py and quantities.py: each mistake with its line, its key, and what would be right."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from sower.config import Rate
from sower.config_file import find_config, load, load_dev, parse, write_private
from sower.core.grants import Credential, check_secret
from sower.errors import ConfigError
from sower.quantities import parse_duration, parse_rate, parse_size, show_duration, show_rate, show_size
from sower.toml_lines import line_of

APP = '[[apps]]\nid = "1"\nkey = "k"\nsecret = "a-secret-of-sixteen"\n'
FILE = Path("sower.toml")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = \n", "line 1"),
        (APP + "[server]\nlisten = 7\n", "sower.toml:6: server.listen: Expected `array`"),
        (APP + '[server]\nlisten = ["nowhere"]\n', "sower.toml:6: server.listen: entry 0: 'nowhere' is not HOST:PORT"),
        (APP + '[server]\ndrain_for = "10 years"\n', "sower.toml:6: server.drain_for: '10 years' is no duration"),
        (APP + '[server]\nmax_body = "1MB"\n', "is no size: a number with B, KiB, MiB, GiB"),
        (APP + '[limits]\nframes = "fast"\n', "sower.toml:6: limits.frames: 'fast' is no rate"),
        (APP + "[limits]\nbatch = 0\n", "sower.toml:6: limits.batch: must be above 0"),
        (APP + '[store]\nsync = "never"\n', 'sower.toml:6: store.sync: is "normal" or "full"'),
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
        (APP + '[[channels]]\nmatch = "private-*"\nprivate = false\n', "are always private"),
        (APP + APP, "sower.toml:6: apps[1].id: is another app's id already"),
        (APP.replace('"1"', '"one"'), "sower.toml:2: apps[0].id: is digits only"),
        (APP.replace("a-secret-of-sixteen", "short"), "sower.toml:4: apps[0].secret: has at least 16 characters"),
        (APP + 'secret_file = "x"\n', "stands alone"),
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


@given(milliseconds=st.integers(0, 10**12))
def test_a_duration_is_read_as_it_was_written(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    if seconds <= 3650 * 86400:
        assert parse_duration(show_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@given(size=st.integers(0, 10**11))
def test_a_size_is_read_as_it_was_written(size: int) -> None:
    assert parse_size(show_size(size)) == size


@given(per_second=st.integers(1, 10**6), burst=st.integers(1, 10**6))
def test_a_rate_is_read_as_it_was_written(per_second: int, burst: int) -> None:
    assert parse_rate(show_rate(Rate(per_second, burst))) == Rate(per_second, burst)


def test_a_rate_without_a_burst_has_one_seconds_worth() -> None:
    assert parse_rate("50/s") == Rate(50, 50)
    assert parse_rate("600/m") == Rate(10, 10)
    assert parse_rate("1/h").burst == 1


@pytest.mark.parametrize("text", ["", "10", "s", "-1s", "1.s", "1e3s", "ten s", 10, None, "1 fortnight", "99999d"])
def test_what_is_no_duration_is_told_what_is_one(text: object) -> None:
    with pytest.raises(ValueError, match="a number with ms, s, m, h, d"):
        parse_duration(text)


KEYS = st.text(alphabet="abc-_ .é", min_size=1, max_size=5)
VALUES = st.one_of(
    st.integers(-5, 5), st.booleans(), st.text(alphabet='ab"\n[]{}#=', max_size=6), st.lists(st.integers(), max_size=3)
)
TABLES = st.dictionaries(
    KEYS,
    st.one_of(
        VALUES,
        st.dictionaries(KEYS, VALUES, max_size=3),
        st.lists(st.dictionaries(KEYS, VALUES, min_size=1, max_size=2), max_size=2),
    ),
    max_size=4,
)


@given(document=TABLES)
def test_a_keys_line_is_the_one_that_names_it(document: dict[str, object]) -> None:
    text = tomli_w.dumps(document)
    lines = text.splitlines()
    for key in document:
        line = lines[line_of(text, (key,)) - 1]
        named = key in line or tomli_w.dumps({key: 1}).partition(" =")[0] in line
        assert named or document[key] in ({}, []), (key, line)


def test_lines_are_found_in_every_kind_of_toml() -> None:
    text = 'a.b = 1\n"q k" = 2\ns = """\nx = 1\n"""\nl = [\n  "y = 2",\n]\n[t.u]\nv = {w = 3, z = 4}\n[[r]]\nn = 1\n[[r]]\nn = 2\n[r.sub]\nm = 1\n'
    assert line_of(text, ("a", "b")) == 1
    assert line_of(text, ("q k",)) == 2
    assert line_of(text, ("x",)) == 1, "inside a string there is no key"
    assert line_of(text, ("t", "u", "v", "z")) == 10
    assert line_of(text, ("r", 1, "n")) == 14
    assert line_of(text, ("r", 1, "sub", "m")) == 16
    assert line_of(text, ("r", 0, "missing")) == 11


def test_a_line_ends_where_toml_and_editors_end_it() -> None:
    for end in ("\n", "\r\n"):
        text = f"# a\u2028[x]\u0085b = 1{end}[server]{end}lisen = 1{end}"
        assert line_of(text, ("server", "lisen")) == 3


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
