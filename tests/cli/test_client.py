"""How a command finds its daemon, and what it makes of answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from sower.cli.client import Daemon, find_daemon, refusal, told_error
from sower.cli.terminal import exit_code
from sower.config_file import write_private
from sower.errors import BadRequest, ConfigError, NotFound, TooManyConnections, Unavailable, UnknownKey
from tests.e2e.daemon import CONFIG, KEY, SECRET


def config(folder: Path, listen: str) -> Path:
    file = folder / "sower.toml"
    write_private(file, f'[server]\nlisten = ["{listen}"]\n{CONFIG}')
    return file


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8787", "http://127.0.0.1:8787"),
        ("0.0.0.0:8787", "http://127.0.0.1:8787"),
        ("[::]:8787", "http://[::1]:8787"),
        ("chat.example:80", "http://chat.example:80"),
    ],
)
def test_without_a_url_it_is_where_the_config_listens(tmp_path: Path, listen: str, url: str) -> None:
    assert find_daemon(config(tmp_path, listen), None, None, None, None) == (url, KEY, SECRET)


def test_a_url_goes_before_the_config_and_keeps_its_path(tmp_path: Path) -> None:
    file = config(tmp_path, "127.0.0.1:1")
    assert find_daemon(file, "https://a.example/sower/", None, None, None).url == "https://a.example/sower"
    with pytest.raises(ConfigError, match="1001"):
        find_daemon(file, None, "77", None, None)


def test_a_daemon_elsewhere_needs_no_config_but_a_secret_in_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("current-secret-16\nold-secret-16-long\n")
    found = find_daemon(None, "https://a.example", None, "k", str(secret))
    assert found == ("https://a.example", "k", "current-secret-16")
    secret.write_bytes(b"\xff-current-secret")
    for file in (secret, tmp_path / "none"):
        with pytest.raises(ConfigError, match="cannot be read"):
            find_daemon(None, "https://a.example", None, "k", str(file))


def test_a_key_names_the_app_so_that_neither_a_config_nor_an_app_goes_with_it(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("current-secret-16\n")
    for file, app in ((config(tmp_path, "127.0.0.1:1"), None), (None, "1001")):
        with pytest.raises(typer.BadParameter, match="leave --config and --app out"):
            find_daemon(file, "https://a.example", app, "k", str(secret))


@pytest.mark.parametrize(
    "url", ["a.example", "ws://a.example", "http://", "http://a:b:c", "http://a..b", "http://a.example:x"]
)
def test_what_is_no_url_is_wrong_usage(tmp_path: Path, url: str) -> None:
    with pytest.raises(typer.BadParameter):
        find_daemon(config(tmp_path, "127.0.0.1:1"), url, None, None, None)


def test_a_told_error_is_the_one_of_the_tree_with_its_patience() -> None:
    told = {"code": "too_many_connections", "message": "Full.", "retry_after": 5}
    error = told_error(told, "?")
    assert (type(error), error.message, error.retry_after) == (TooManyConnections, "Full.", 5)
    assert isinstance(told_error({"code": "from the future"}, "It closed."), BadRequest)
    assert told_error({}, "It closed.").message == "It closed."


@pytest.mark.parametrize(
    ("status", "kind", "code", "again"),
    [(401, "not_authorised", 4, False), (404, "not_found", 1, False), (429, "unavailable", 1, True)]
    + [(status, "unavailable", 1, True) for status in (408, 500, 502, 503)],
)
def test_what_another_than_sower_answers_fits_its_status(status: int, kind: str, code: int, again: bool) -> None:
    error = refusal({}, f"http://a answered {status}", status)
    assert (error.code, exit_code(error), error.retry) == (kind, code, again)


def test_a_refusal_is_read_from_the_body() -> None:
    error = refusal({"error": {"code": "unknown_key", "message": "No."}}, "?", 401)
    assert (type(error), error.message) == (UnknownKey, "No.")
    assert isinstance(refusal({"error": {}}, "?", 503), Unavailable)
    assert isinstance(refusal({"error": "no"}, "?", 404), NotFound)


async def test_a_question_that_no_request_holds_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="too long"):
        await Daemon("http://127.0.0.1:1", KEY, SECRET).request("GET", "/channels?prefix=" + "x" * 70_000)
