"""What is printed steers no terminal, and every error has its exit code."""

from __future__ import annotations

import json

import pytest
import typer

from sower.cli.terminal import data_text, exit_code, fail, find, note, plain, print_json, print_table, usage
from sower.errors import BadRequest, ConfigError, DaemonUnreachable, SowerError, StoreError, tree

NASTY = "a\x1b[2J\x9b31m\x7f\u202eb\ud800 \U000e0001\n"


@pytest.mark.parametrize("value", [NASTY, {NASTY: [NASTY, None, 1.5]}, "schön 🌱"])
def test_json_on_a_terminal_is_harmless_and_means_the_same(capsys: pytest.CaptureFixture[str], value: object) -> None:
    print_json(value)
    shown = capsys.readouterr().out.removesuffix("\n")
    assert shown.isprintable()
    assert json.loads(shown) == value


def test_what_can_be_read_stays_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_json("schön 🌱")
    assert capsys.readouterr().out == '"schön 🌱"\n'
    assert plain("schön 🌱") == "schön 🌱"


def test_text_has_its_controls_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert plain(NASTY).isprintable()
    assert plain("a\nb\x1b", keep="\n") == "a\nb\\x1b"
    assert data_text({"a": "\x9b"}) == '{"a": "\\x9b"}'
    print_table(["a", "b"], [["x\ty", "\x1b"]])
    assert capsys.readouterr().out == "x\\ty\t\\x1b\n"


def test_what_others_say_is_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    note("closed", "[/red] at http://[fe80::1]:1 \x1b")
    assert capsys.readouterr().err == "closed: [/red] at http://[fe80::1]:1 \\x1b\n"
    assert fail(BadRequest("[/] is \x1b[31mno\nname")) == 1
    assert capsys.readouterr().err.startswith("error: [/] is \\x1b[31mno\nname\nhint: ")


def test_every_error_has_the_exit_code_of_its_branch() -> None:
    codes = {code: exit_code(kind()) for code, kind in tree().items()}
    assert {code for code, number in codes.items() if number == 3} == {DaemonUnreachable.code}
    assert {code for code, number in codes.items() if number == 5} == {ConfigError.code, StoreError.code}
    assert {number for code, number in codes.items() if tree()[code].status in (401, 403)} == {4}
    assert set(codes.values()) == {1, 3, 4, 5}


def test_an_error_is_found_inside_what_nurseries_wrap() -> None:
    error = BadRequest()
    assert find(SowerError, ExceptionGroup("", [ExceptionGroup("", [OSError(), error])])) is error
    assert find(SowerError, OSError()) is None


def test_a_value_that_is_wrong_is_wrong_usage() -> None:
    for error in (ValueError("\x1b"), BadRequest("\x1b")):
        with pytest.raises(typer.BadParameter, match=r"\\x1b"), usage("--since"):
            raise error
