"""What is written about Sower is true: pages are fresh, and nothing is undocumented."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from sower import config
from sower.cli import COMMANDS
from sower.config import Config, Strict
from sower.config_docs import EXAMPLE_SECRET, docs, example, settings
from sower.config_file import parse
from sower.dialects.native import native
from sower.errors import SowerError, tree
from sower.manual import PAGES, TOPICS, sorted_commands

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("page", PAGES)
def test_each_manual_page_is_fresh_and_clean(page: str) -> None:
    file = ROOT / "man" / page
    assert file.read_text() == PAGES[page](), "run: python -m sower.manual ."
    lint = subprocess.run(["mandoc", "-Tlint", "-W", "warning", str(file)], capture_output=True, text=True, check=False)
    assert lint.stdout == ""


def test_every_page_that_is_written_by_hand_is_clean_and_those_that_sower_1_names_are_there() -> None:
    files = {file.stem: file for file in (ROOT / "man").glob("*.7")}
    assert set(TOPICS) <= set(files)
    lint = subprocess.run(
        ["mandoc", "-Tlint", "-W", "warning", *map(str, files.values())], capture_output=True, text=True, check=False
    )
    assert lint.stdout == ""


def test_the_example_config_is_fresh_and_says_what_the_code_does() -> None:
    text = (ROOT / "config" / "sower.toml").read_text()
    assert text == example(), "run: python -m sower.manual ."
    assert parse(text, ROOT / "config" / "sower.toml").apps[0].secret == EXAMPLE_SECRET
    uncommented = re.sub(r"^# (\w+ = .*|\[\[.*\]\])$", r"\1", text, flags=re.MULTILINE)
    for optional in ("secret_file", "old_secret"):
        uncommented = re.sub(rf"^{optional} = .*$", "", uncommented, flags=re.MULTILINE)
    both = parse(uncommented, ROOT / "config" / "sower.toml")
    assert both.server == Config().server
    assert both.limits == Config().limits
    assert both.session == Config().session


def test_every_setting_has_a_doc_line() -> None:
    structs = [s for s in vars(config).values() if isinstance(s, type) and issubclass(s, Strict) and s is not Strict]
    for struct in structs:
        if struct is not Config:
            for field in msgspec.structs.fields(struct):
                assert docs(struct).get(field.name, "").endswith((".", '"')), f"{struct.__name__}.{field.name}"


def test_every_setting_is_in_the_manual_and_in_the_example() -> None:
    manual = (ROOT / "man" / "sower.toml.5").read_text()
    text = example()
    for setting in settings():
        assert f".It Ic {setting.name}\n" in manual
        parent, _, name = setting.name.rpartition(".")
        written = rf"(# )?{re.escape(setting.table)}$" if setting.table else rf"(# )?{name} = "
        assert parent == "history" or re.search(rf"^{written}", text, re.MULTILINE), setting.name


def test_every_command_option_and_error_is_in_the_manual() -> None:
    manual = (ROOT / "man" / "sower.1").read_text().replace("\\-", "-")
    for path, command in sorted_commands():
        section = manual.partition(f".Ss {path}\n")[2].partition("\n.Ss ")[0]
        assert section, path
        assert ".Bd -literal" in section, f"sower {path} has no example to copy"
        for parameter in command.params:
            for name in parameter.opts:
                assert name.lstrip("-") in section, f"sower {path} {name}"
            assert parameter.param_type_name == "argument" or parameter.help, f"sower {path} {parameter.opts}"
    assert {path.split()[0] for path, _ in sorted_commands()} == set(COMMANDS)
    for code in tree():
        assert f".It Er {code}\n" in manual
    protocol = native("")
    for route in (*protocol.http, *protocol.sockets, *protocol.streams):
        assert route.pattern in manual


def test_every_error_has_its_own_code_and_says_what_to_do() -> None:
    errors = list(tree().values())

    def count(error: type[SowerError]) -> int:
        return 1 + sum(map(count, error.__subclasses__()))

    assert len(errors) == count(SowerError), "two errors share a code"
    for error in errors:
        assert error.__doc__ is None or error is SowerError
        assert error.text.endswith(".")
        assert error.hint.rstrip('"').endswith(".") or error.hint.endswith('"')
        assert 400 <= error.status < 600
        assert error.close in (1009, 1011, 1012, 1013) or 4000 <= error.close < 5000
        if 4500 <= error.close < 5000:
            assert not error.retry, f"{error.code} may be retried, but its close code says it may not"


def test_the_readme_begins_with_what_it_is_and_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.index("./install.sh serve") < text.index("./install.sh test")
    for word in re.findall(r"`?sower ([a-z]+)", text):
        assert word in COMMANDS, f"README.md speaks of `sower {word}`"


@pytest.mark.parametrize(
    ("vendor", "first"), [("Ably", ["new Ably.Realtime", "AblyRealtime", "jwt.sign"]), ("PubNub", ["new PubNub"])]
)
def test_the_readme_says_what_changes_for_a_team_that_comes_in_three_lines(vendor: str, first: list[str]) -> None:
    _, _, section = (ROOT / "README.md").read_text().partition(f"## Coming from {vendor}")
    diffs = re.findall(r"```diff\n(.*?)```", section.partition("\n## ")[0], re.DOTALL)
    for call in first:
        diff = next(text for text in diffs if call in text)
        assert sum(line.startswith("+") for line in diff.splitlines()) <= 3
