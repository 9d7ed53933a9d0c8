"""Every other command against a real daemon: what it prints, what it says, and how it ends."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import typer

from sower.cli import COMMANDS
from sower.cli.history import DEFAULT_LIMIT
from sower.cli.token_formats import MAKERS, Format, Wanted, abilities, meta_of
from sower.config import App, Config
from sower.config_edit import append_table, set_keys
from sower.core.grants import inspect
from sower.errors import ConfigError, tree
from tests.cli.shell import environment, sower
from tests.e2e.daemon import CONFIG, SECRET, running


def batched(events: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """As many at once as one request takes."""
    return (events[start : start + size] for start in range(0, len(events), size))


async def test_publish_takes_json_text_and_stdin_and_prints_the_serial(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        first = await sower(tmp_path, "publish", "kept-a", "e", '{"a": 1}', "--id", "x", "--user", "ada")
        again = await sower(tmp_path, "publish", "kept-a", "e", "other", "--id", "x")
        assert first.code == again.code == 0
        assert first.out == again.out
        assert len(first.out.strip()) == 17
        await sower(tmp_path, "publish", "kept-a", "e", "-", stdin="from a pipe\n")
        answer = await sower(tmp_path, "publish", "kept-a", "e", "--json")
        assert json.loads(answer.out)["published"][0]["channel"] == "kept-a"
        page = (await daemon.request("GET", "/history/kept-a")).json()
        assert [(e["data"], e.get("user")) for e in page["events"]] == [
            ({"a": 1}, "ada"),
            ("from a pipe", None),
            (None, None),
        ]


async def test_history_reads_through_the_daemon_and_its_file_when_it_is_down(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        for n in range(5):
            await daemon.publish("kept-a", n)
        shown = await sower(tmp_path, "history", "kept-a", "--json", "--limit", "3", "--order", "desc")
        assert [json.loads(line)["data"] for line in shown.out.splitlines()] == [4, 3, 2]
        assert (await sower(tmp_path, "history", "kept-a", "--since", "1h")).out.count("\n") == 5
        off = await sower(tmp_path, "history", "room")
        assert (off.code, "keeps no history" in off.err) == (4, True)
        await daemon.stop()
        down = await sower(tmp_path, "history", "kept-a", "--json")
        assert [json.loads(line)["data"] for line in down.out.splitlines()] == list(range(5))
        assert "Reading its database" in down.err
        file = await sower(tmp_path, "history", "kept-a", "--store", "sower.db", "--limit", "1")
        assert file.out.endswith("\te\t-\t0\n")
        assert file.err == ""


async def test_presence_and_channels_show_who_is_where(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        made = await sower(tmp_path, "token", "presence-a", "--user", "ada", "--meta", '{"x": 1}')
        async with daemon.socket("presence-a", token=made.out.strip()) as client:
            await client.expect("welcome")
            assert (await sower(tmp_path, "presence", "presence-a")).out == 'ada\t1\t{"x": 1}\n'
            assert json.loads((await sower(tmp_path, "presence", "presence-a", "--json")).out)["count"] == 1
            assert (await sower(tmp_path, "channels")).out == "presence-a\t1\t1\n"
            assert json.loads((await sower(tmp_path, "channels", "--prefix", "x", "--json")).out)["count"] == 0
        assert (await sower(tmp_path, "presence", "room")).code == 4


async def test_token_mints_what_the_daemon_takes_and_inspect_explains_it_without_a_secret(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        made = await sower(
            tmp_path, "token", "private-*", "--user", "ada", "--ttl", "10h", "--can", "subscribe,publish"
        )
        token = made.out.strip()
        assert (made.code, made.err, made.out.count("\n")) == (0, "", 1)
        assert inspect(token)["claims"]["channels"] == {"private-*": ["publish", "subscribe"]}
        async with daemon.socket("private-b", token=token) as client:
            assert (await client.expect("welcome"))["channel"] == "private-b"
        kinds = [json.loads(line)["kind"] for line in (await sower(tmp_path, "audit", "--json")).out.splitlines()]
        assert "token_minted" in kinds
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shown = await sower(elsewhere, "token", "inspect", "-", stdin=token)
    assert shown.code == 0
    for word in ("ada", "private-*", "in 10h", "was not checked"):
        assert word in shown.out
    odd = await sower(elsewhere, "token", "inspect", "--json", "--", "eyJhbGciOiJub25lIn0.e30.")
    assert len(json.loads(odd.out)["suspicious"]) == 4
    assert (await sower(elsewhere, "token", "inspect", "nonsense")).code == 4
    assert (await sower(tmp_path, "token", "a", "--can", "fly")).code == 2
    for ttl in ("soon", "0s"):
        assert (await sower(tmp_path, "token", "a", "--ttl", ttl)).code == 2
    assert (await sower(tmp_path, "token", "a", "--meta", "{")).code == 2
    assert (await sower(tmp_path, "token", "a", "b")).code == 2


@pytest.mark.parametrize("format", [Format.ABLY, Format.PUBNUB])
def test_no_token_is_good_for_no_time(format: Format) -> None:
    app = App(id="1001", key="k", secret=SECRET)
    with pytest.raises(typer.BadParameter, match="good for"):
        MAKERS[format](app, Wanted("a", None, None, None, "0s", "subscribe"))


def test_what_a_token_cannot_say_is_told_with_what_it_can() -> None:
    with pytest.raises(ValueError, match="'fly' is no capability; there are subscribe, "):
        abilities("subscribe, fly")
    for meta in ("{", "[" * 100_000):
        with pytest.raises(ValueError, match="is no JSON"):
            meta_of(meta)


async def test_audit_filters_and_needs_no_daemon(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        await daemon.request("GET", "/channels", auth=False)
        await daemon.stop()
    shown = await sower(tmp_path, "audit", "--since", "1h", "--kind", "refused")
    assert "forbidden" in shown.out
    assert shown.out.count("\n") == 1
    assert (await sower(tmp_path, "audit", "--kind", "nonsense")).code == 2
    assert (await sower(tmp_path, "audit", "--since", "soon")).code == 2


async def test_config_init_check_and_show(tmp_path: Path) -> None:
    made = await sower(tmp_path, "config", "init")
    file = tmp_path / "sower.toml"
    assert (made.code, made.out, file.stat().st_mode & 0o777) == (0, "sower.toml\n", 0o600)
    assert (await sower(tmp_path, "config", "init")).code == 5, "it overwrites nothing"
    assert (await sower(tmp_path, "config", "check")).out == "sower.toml: ok, 1 app, 1 channel rule\n"
    secret = tomllib.loads(file.read_text())["apps"][0]["secret"]
    shown = await sower(tmp_path, "config", "show")
    assert secret not in shown.out
    assert tomllib.loads(shown.out)["session"]["ping_every"] == "25s"
    assert json.loads((await sower(tmp_path, "config", "show", "--json")).out)["apps"][0]["secret"] == "********"
    file.write_text(file.read_text().replace('# url = ""', 'url = "redis://ann:pass-word@a:1/0"', 1))
    assert 'url = "redis://ann:********@a:1/0"' in (await sower(tmp_path, "config", "show")).out
    file.write_text(file.read_text() + "\n[limits]\nmesage = 1\n")
    bad = await sower(tmp_path, "config", "check")
    assert bad.code == 5
    file.write_text("[limits]\nmesage = 1\n")
    bad = await sower(tmp_path, "config", "check")
    assert "sower.toml:2: limits.mesage: unknown key; did you mean message?" in bad.err


async def test_config_show_masks_every_secret_of_every_protocol(tmp_path: Path) -> None:
    (tmp_path / "sower.toml").write_text(
        '[cluster]\nurl = "unix:///r.sock?db=1&password=unseen-password"\n'
        '[[apps]]\nid = "1"\nkey = "k"\nsecret = "unseen-0123456789"\nold_secret = "unseen-9876543210"\n'
        '[[apps.webhooks]]\nurl = "http://a/b"\nheaders = {Authorization = "unseen"}\n'
        '[apps.ably]\nkey = "a.b:unseen-0123456789"\nkeys = {"a.c:unseen-0123456789" = {"*" = ["*"]}}\n'
        '[apps.pubnub]\nsecret_key = "unseen-0123456789"\n'
    )
    shown = await sower(tmp_path, "config", "show")
    assert "unseen" not in shown.out
    told = tomllib.loads(shown.out)
    assert told["apps"][0]["ably"]["key"] == "a.b:********"
    assert told["apps"][0]["ably"]["keys"] == {"a.c:********": {"*": ["*"]}}
    assert told["cluster"]["url"] == "unix:///r.sock?db=1&password=********"


async def test_keys_are_made_rotated_and_retired_and_comments_stay(tmp_path: Path) -> None:
    file = tmp_path / "sower.toml"
    file.write_text("# mine\n" + CONFIG + "# the end\n")
    made = json.loads((await sower(tmp_path, "key", "new", "--json")).out)
    assert made["id"] == "1002"
    fresh = (await sower(tmp_path, "key", "rotate", "1001")).out.strip()
    apps = tomllib.loads(file.read_text())["apps"]
    assert (apps[0]["secret"], apps[0]["old_secret"], apps[1]) == (fresh, SECRET, made)
    assert (await sower(tmp_path, "key", "rotate", "1001")).code == 5, "the old one must be retired first"
    assert (await sower(tmp_path, "key", "retire", "1001")).code == 0
    assert "old_secret" not in file.read_text()
    assert file.read_text().startswith("# mine\n")
    assert "# the end" in file.read_text()
    assert (await sower(tmp_path, "key", "retire", "7")).code == 5


async def test_a_secret_file_is_rotated_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "sower.toml").write_text('[[apps]]\nid = "1"\nkey = "k"\nsecret_file = "secret"\n')
    (tmp_path / "secret").write_text("a-secret-of-sixteen\n")
    fresh = (await sower(tmp_path, "key", "rotate", "1")).out.strip()
    assert (tmp_path / "secret").read_text() == f"{fresh}\na-secret-of-sixteen\n"
    await sower(tmp_path, "key", "retire", "1")
    assert (tmp_path / "secret").read_text() == f"{fresh}\n"


async def test_explain_knows_every_code_by_name_close_code_and_status(tmp_path: Path) -> None:
    shown = await sower(tmp_path, "explain", "4001")
    assert "token_expired" in shown.out
    assert "Get a new token" in shown.out
    assert {row["code"] for row in json.loads((await sower(tmp_path, "explain", "429", "--json")).out)} == {
        "too_many",
        "rate_limited",
        "events_too_fast",
        "watchlist_too_long",
    }
    near = await sower(tmp_path, "explain", "token_expird")
    assert (near.code, "token_expired" in near.err) == (1, True)
    assert len(tree()) > 30


async def test_completion_completes_commands_and_options(tmp_path: Path) -> None:
    assert "complete -o default -F _sower_completion sower" in (await sower(tmp_path, "completion", "bash")).out
    words = await sower(tmp_path, _SOWER_COMPLETE="complete_bash", COMP_WORDS="sower t", COMP_CWORD="1")
    assert set(words.out.split()) == {"tail", "token", "top"}
    options = await sower(tmp_path, _SOWER_COMPLETE="complete_bash", COMP_WORDS="sower tail --pre", COMP_CWORD="2")
    assert options.out.split() == ["--presence"]
    assert (await sower(tmp_path, "completion", "tcsh")).code == 2


async def test_every_command_has_a_help_that_begins_with_lines_to_copy(tmp_path: Path) -> None:
    for name in COMMANDS:
        shown = await sower(tmp_path, name, "--help")
        assert shown.code == 0
        assert f"sower {name}" in shown.out.partition("Options:")[0] or "Commands:" in shown.out


async def test_usage_is_2_and_the_nearest_command_is_named(tmp_path: Path) -> None:
    wrong = await sower(tmp_path, "tial")
    assert (wrong.code, "tail" in wrong.err) == (2, True)
    assert (await sower(tmp_path, "publish")).code == 2
    for words in (
        ("tail", "a", "--limit", "x"),
        ("tail",),
        ("tail", "a", "--all"),
        ("tail", "a", "--since", "yesterday"),
        ("history", "a", "--order", "sideways"),
        ("history", "a", "--before", "tomorrow"),
        ("channels", "--url", "127.0.0.1:1"),
        ("channels", "--key", "k", "--url", "http://127.0.0.1:1"),
        ("channels", "--secret-file", "s"),
        ("publish", "a", "e", os.fsdecode(b"\xff")),
    ):
        ended = await sower(tmp_path, *words)
        assert (ended.code, ended.out) == (2, ""), words
        assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    "words",
    [
        "serve --dev --config sower.toml",
        "serve --dev --workers 2",
        "tail --all --presence",
        "history a --store sower.db --url http://127.0.0.1:1",
        "token inspect a.b.c --user ada",
        "token --format pusher a 123.456 --ttl 10m",
        "token --format ably a --meta 1",
        "token --format ably a b",
    ],
)
async def test_an_option_that_would_be_ignored_is_wrong_usage(tmp_path: Path, words: str) -> None:
    (tmp_path / "sower.toml").write_text(CONFIG)
    ended = await sower(tmp_path, *words.split())
    assert (ended.code, ended.out) == (2, "")
    assert "leave it out" in ended.err or "one at a time" in ended.err


async def test_publish_passes_json_on_as_it_stands_and_takes_what_is_none_as_text(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        for word in ('{"n": 1.10, "big": 123456789012345678901234567890}', "NaN", "[" * 3000):
            assert (await sower(tmp_path, "publish", "kept-a", "e", word)).code == 0
        text = (await daemon.request("GET", "/history/kept-a")).text
        assert '"data":{"n": 1.10, "big": 123456789012345678901234567890}' in text
        assert '"data":"NaN"' in text
        assert f'"data":"{"[" * 3000}"' in text


async def test_a_time_after_the_last_event_is_no_gap_and_a_lost_position_is(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        await daemon.publish("kept-a", 1)
        assert (await sower(tmp_path, "history", "kept-a", "--since", "1ms")).err == ""
        assert (await sower(tmp_path, "history", "kept-none", "--since", "1h")).err == ""
        assert "gap:" in (await sower(tmp_path, "history", "kept-a", "--since", "0:1")).err
        await daemon.stop()
        assert "gap:" not in (await sower(tmp_path, "history", "kept-a", "--since", "1ms")).err


async def test_numbers_that_python_cannot_hold_are_shown_as_they_were_written(tmp_path: Path) -> None:
    digits = "7" * 5000
    shown = ["1e999", digits, 1.5, 2]
    async with running(tmp_path) as daemon:
        made = await sower(tmp_path, "token", "presence-a", "--user", "ada")
        async with daemon.socket("kept-a") as talker, daemon.socket("presence-a", token=made.out.strip()) as member:
            await talker.expect("welcome")
            await talker.connection.send_message(
                f'{{"type":"publish","id":"1","event":"e","data":[1e999,{digits},1.5,2]}}'
            )
            await talker.expect("ack")
            await member.connection.send_message('{"type":"presence","id":"1","meta":1e999}')
            while '"ack"' not in await member.connection.get_message():
                pass
            present = await sower(tmp_path, "presence", "presence-a", "--json")
            assert json.loads(present.out)["members"][0]["meta"] == "1e999", present.err
        for words in (("history", "kept-a", "--json"), ("tail", "kept-a", "--since", "1h", "--limit", "1", "--json")):
            ended = await sower(tmp_path, *words)
            assert (ended.code, json.loads(ended.out)["data"]) == (0, shown), ended.err
        await daemon.stop()
        down = await sower(tmp_path, "history", "kept-a", "--json")
        assert json.loads(down.out)["data"] == shown


async def test_history_says_how_to_go_on(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        events = [{"channel": "kept-a", "event": "e", "data": n} for n in range(DEFAULT_LIMIT + 1)]
        for batch in batched(events, 10):
            assert (await daemon.request("POST", "/events/publish", json={"events": batch})).status_code == 200
        first = await sower(tmp_path, "history", "kept-a")
        serial = first.err.split()[-1]
        assert first.err == f"more: go on with --since {serial}\n"
        rest = await sower(tmp_path, "history", "kept-a", "--since", serial)
        assert (rest.out.split("\t")[-1], rest.err) == (f"{DEFAULT_LIMIT}\n", "")
        assert (await sower(tmp_path, "history", "kept-a", "--limit", "1")).err == ""
        await daemon.stop()
        assert "--before" in (await sower(tmp_path, "history", "kept-a", "--order", "desc")).err


@pytest.mark.parametrize("words", [("explain", "500"), ("audit", "--json"), ("history", "kept-a")])
async def test_a_reader_that_went_away_is_no_failure(tmp_path: Path, words: tuple[str, ...]) -> None:
    async with running(tmp_path) as daemon:
        await daemon.publish("kept-a", 1)
        await daemon.stop()
    ours, theirs = os.pipe()
    os.close(ours)
    ended = await trio.run_process(
        [sys.executable, "-m", "sower", *words],
        stdout=theirs,
        capture_stderr=True,
        check=False,
        cwd=tmp_path,
        env=environment(tmp_path),
    )
    os.close(theirs)
    assert ended.returncode == 0
    assert b"rror" not in ended.stderr


async def test_a_terminal_that_cannot_show_a_letter_shows_its_escape(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        await daemon.publish("kept-a", "ö 🌱")
        assert (await sower(tmp_path, "history", "kept-a", PYTHONIOENCODING="ascii")).out.endswith(
            "\\xf6 \\U0001f331\n"
        )
        told = await sower(tmp_path, "history", "kept-a", "--json", PYTHONIOENCODING="latin-1")
        assert json.loads(told.out)["data"] == "ö 🌱"


async def test_without_a_stdout_it_works_too(tmp_path: Path) -> None:
    shell = 'exec "$0" -m sower explain 4001 --json >&-'
    ended = await trio.run_process(["sh", "-c", shell, sys.executable], capture_stderr=True, cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, b"")


@pytest.mark.parametrize(
    "words", ["token inspect -", "migrate ably -", "channels --url http://h --key k --secret-file -"]
)
async def test_without_a_stdin_nothing_was_given(tmp_path: Path, words: str) -> None:
    shell = f'exec "$0" -m sower {words} <&-'
    ended = await trio.run_process(
        ["sh", "-c", shell, sys.executable], capture_stderr=True, cwd=tmp_path, env=environment(tmp_path), check=False
    )
    assert ended.stderr.startswith(b"error: ")


async def test_a_limit_and_an_address_that_cannot_be_are_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "sower.toml").write_text(CONFIG)
    for words in ("audit --limit 99999999999999999999", "doctor --public a.example", "doctor --public http://[::1"):
        ended = await sower(tmp_path, *words.split())
        assert (ended.code, words.split()[1] in ended.err) == (2, True)


async def test_secrets_that_are_not_utf_8_are_told(tmp_path: Path) -> None:
    for words in ("channels --url http://a --key k --secret-file -", "migrate pusher - --config new.toml"):
        shell = f'exec "$0" -m sower {words}'
        command, given = ["sh", "-c", shell, sys.executable], b"PUSHER_APP_KEY=\xff\n"
        ended = await trio.run_process(command, stdin=given, capture_stderr=True, cwd=tmp_path, check=False)
        assert (ended.returncode, b"cannot be read: 'utf-8' codec" in ended.stderr) == (5, True)


async def test_what_is_no_sower_is_told_so(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-secret-of-sixteen")
    async with running(tmp_path) as daemon:
        elsewhere = ("--url", f"{daemon.url}/nowhere", "--key", "k", "--secret-file", str(secret))
        for words in (("channels",), ("tail", "a")):
            ended = await sower(tmp_path, *words, *elsewhere)
            assert ended.code == 1
            assert ended.err.startswith("error: ")


async def test_without_a_config_it_says_how_to_get_one(tmp_path: Path) -> None:
    ended = await sower(tmp_path, "channels")
    assert ended.code == 5
    assert "sower config init" in ended.err


async def test_help_and_version_are_there(tmp_path: Path) -> None:
    shown = await sower(tmp_path, "--help")
    assert all(name in shown.out for name in COMMANDS)
    assert (await sower(tmp_path, "--version")).out.startswith("sower 0.")


def test_an_edit_that_cannot_be_made_safely_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "sower.toml"
    text = 'apps = [{id = "1", key = "k", secret = "a-secret-of-sixteen"}]\n'
    file.write_text(text)
    with pytest.raises(ConfigError, match="by hand"):
        set_keys(file, "apps", 0, {"secret": "b-secret-of-sixteen", "old_secret": "a-secret-of-sixteen"})
    with pytest.raises(ConfigError, match="by hand"):
        append_table(file, "apps", {"id": "2", "key": "l", "secret": "c-secret-of-sixteen"})
    assert file.read_text() == text
    assert Config(apps=(App(id="1", key="k"),))
