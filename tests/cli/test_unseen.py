"""Files that a command may not even look at, as a database in a folder of the daemon's own: told, with what to do.

A name that is too long is such a file for everybody, root too.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from typer.testing import CliRunner

from sower.cli.checkup import BAD, UNSURE, examine
from sower.cli.program import app
from sower.config_file import load
from sower.errors import ConfigError, SowerError, StoreError
from tests.e2e.daemon import CONFIG

UNSEEN = "x" * 300
"""The longest name that Linux has is of 255 bytes."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "sower.toml"
    made.write_text(f'[store]\npath = "{UNSEEN}"\n' + CONFIG)
    made.chmod(0o600)
    return made


@pytest.mark.parametrize(
    ("words", "kind", "told"),
    [
        ("audit", StoreError, "unable to open"),
        ("token a", StoreError, "unable to open"),
        ("dashboard", StoreError, "unable to open"),
        ("key rotate 1001", StoreError, "unable to open"),
        ("webhooks", StoreError, "unable to open"),
        (f"history kept-a --store {UNSEEN}", StoreError, "unable to open"),
        ("backup copy.db", StoreError, "unable to open"),
        (f"backup {UNSEEN}", StoreError, "cannot be written"),
        (f"restore {UNSEEN}", StoreError, "none that this user may see"),
        ("serve", StoreError, "unable to open"),
        (f"config init --path {UNSEEN}", ConfigError, "cannot be written"),
        (f"migrate ably key --config {UNSEEN}", ConfigError, "cannot be read"),
    ],
)
def test_what_cannot_be_seen_is_told(
    file: Path, monkeypatch: pytest.MonkeyPatch, words: str, kind: type[SowerError], told: str
) -> None:
    monkeypatch.chdir(file.parent)
    Path("key").write_text("a.b:a-secret-of-sixteen")
    ended = CliRunner().invoke(app, words.split())
    assert isinstance(ended.exception, kind), ended
    assert told in ended.exception.message


async def test_doctor_says_what_this_user_cannot_see_and_goes_on(file: Path) -> None:
    findings = {finding.name: finding for finding in await examine(load(file), None)}
    assert findings["wal"].state == UNSURE
    assert "cannot be seen" in findings["wal"].text
    assert "daemon" in findings


def test_doctor_says_that_the_folder_of_the_database_is_none(file: Path) -> None:
    file.write_text(f'[store]\npath = "{file.name}/sower.db"\n' + CONFIG)
    findings = {finding.name: finding for finding in trio.run(examine, load(file), None)}
    assert (findings["disk"].state, "does not exist" in findings["disk"].text) == (BAD, True)
