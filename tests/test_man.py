"""sower(1) says what a person meets outside of a command's options: variables, files, exit codes, errors."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import msgspec
import pytest

from sower.cli import terminal
from sower.config import App, Webhook
from sower.config_file import PLACES
from sower.core.happening import Fact
from sower.dialects.ably import ably
from sower.dialects.pubnub import _declined, pubnub
from sower.dialects.pusher import pusher
from sower.dialects.pusher.words import CLOSE_CODES, ERROR_CODES
from sower.errors import tree
from sower.manual import sorted_commands
from sower.polling.feeds import RING
from sower.polling.places import LINGER
from sower.polling.polls import HOLD

ROOT = Path(__file__).parents[1]
MANUAL = (ROOT / "man" / "sower.1").read_text().replace("\\-", "-").replace("\\&", "")


def section(name: str) -> str:
    return MANUAL.partition(f".Sh {name}\n")[2].partition("\n.Sh ")[0]


def variables() -> set[str]:
    """Every environment variable that the code reads: those of options, and those of os.environ."""
    found = {str(p.envvar) for _, command in sorted_commands() for p in command.params if getattr(p, "envvar", None)}
    for file in (ROOT / "sower").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("os.environ.get", "os.getenv"):
                found.add(ast.literal_eval(node.args[0]))
    return found


def test_every_variable_is_there() -> None:
    assert variables() >= {"SOWER_URL", "SOWER_DEV_DIR"}
    for name in (*variables(), "NO_COLOR"):
        assert f".It Ev {name}\n" in section("ENVIRONMENT"), name


def test_every_place_of_the_config_is_there() -> None:
    for place in PLACES:
        assert str(place) in section("FILES")


def test_every_exit_code_is_there() -> None:
    codes = {terminal.OK, terminal.USAGE} | {terminal.exit_code(kind()) for kind in tree().values()}
    assert {int(code) for code in re.findall(r"^\.It Li (\d+)$", section("EXIT STATUS"), re.MULTILINE)} == codes


@pytest.mark.parametrize("code", tree())
def test_every_error_is_there_with_its_status_close_code_and_whether_to_retry(code: str) -> None:
    error = tree()[code]
    entry = section("DIAGNOSTICS").partition(f".It Er {code}\n")[2].partition("\n.It ")[0]
    assert f"HTTP {error.status}, close code {error.close}; " in entry
    assert ("may be tried again" in entry) is error.retry


def test_every_kind_and_setting_of_webhooks_is_in_their_page() -> None:
    page = (ROOT / "man" / "sower-webhooks.7").read_text()
    for fact in Fact:
        assert f".It Cm {fact}\n" in page, fact
    for field in msgspec.structs.fields(Webhook):
        assert re.search(rf"^(\.Ic )?{field.name}\b", page, re.MULTILINE), field.name


def test_every_route_and_close_code_of_pusher_is_in_its_page() -> None:
    page = (ROOT / "man" / "sower-pusher.7").read_text().replace("\\-", "-")
    app = App(id="1", key="k", secret="s" * 16)
    for route in pusher([app]).http:
        assert f".It Li {route.method} {route.pattern}\n" in page
    for code in {code for _, code in CLOSE_CODES}:
        assert f".It {code} Ta " in page, code
    for code in {code for _, code in ERROR_CODES}:
        assert f"{code} (" in page, code


def test_every_route_of_ably_is_in_its_page() -> None:
    page = (ROOT / "man" / "sower-ably.7").read_text().replace("\\-", "-")
    dialect = ably([], "", 25.0)
    for method, pattern in [(r.method, r.pattern) for r in dialect.http] + [
        ("GET", r.pattern) for r in dialect.streams
    ]:
        assert f"{method} {pattern}\n" in page, pattern


def test_every_family_of_pubnubs_routes_and_every_bound_of_a_poll_is_in_its_page() -> None:
    page = (ROOT / "man" / "sower-pubnub.7").read_text().replace("\\-", "-")
    app = App(id="1", key="k", secret="s" * 16)
    dialect = pubnub([app])
    for route in (*dialect.http, *dialect.polls):
        family = "/".join(route.pattern.split("/")[:3])
        declined = getattr(route, "decode", None) is _declined
        assert declined or family.split("{")[0].rstrip("/") in page, route.pattern
    for bound in (f"{HOLD:g} seconds", f"newest {RING} messages", f"{LINGER / 60:g} minutes"):
        assert bound in page, bound


@pytest.mark.parametrize("page", sorted((ROOT / "man").glob("*.[1-8]")), ids=lambda page: page.name)
def test_every_page_is_clean_mdoc(page: Path) -> None:
    lint = subprocess.run(["mandoc", "-Tlint", "-W", "warning", str(page)], capture_output=True, text=True, check=False)
    assert lint.stdout == ""


def test_every_command_has_lines_to_copy_that_call_it() -> None:
    for path, _ in sorted_commands():
        lines = re.findall(r"^.Bd [^\n]*\n(.*?)\n.Ed$", MANUAL.partition(f".Ss {path}\n")[2], re.DOTALL | re.MULTILINE)
        own = lines[0].splitlines()
        assert f"sower {path}" in own[0], path
        assert all("sower" in line for line in own), path
