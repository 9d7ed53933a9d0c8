"""`sower tail` against a real daemon, through pipes, terminals and kills."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any, cast

import pytest
import trio
import trio.testing
from rich.console import Console

from sower.activity import FEED
from sower.cli.client import Daemon
from sower.cli.tail import Follower, Printer, backoff, cells, coloured, read_since
from sower.core.message import SERIALS_PER_SECOND, Position
from sower.errors import (
    BadRequest,
    Forbidden,
    PresenceOff,
    SowerError,
    TooManyConnections,
    Unavailable,
)
from tests.cli.shell import environment, going, sower
from tests.e2e.daemon import Daemon as Served
from tests.e2e.daemon import running


async def followed(daemon: Served, channel: str, count: int = 1) -> None:
    """Wait until a channel has so many followers."""
    while True:
        listed = (await daemon.request("GET", f"/channels?prefix={channel}")).json()["channels"]
        if sum(row["subscribers"] for row in listed) >= count:
            return


async def test_in_a_pipe_a_line_is_time_event_user_and_data_with_tabs(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, going(tmp_path, "tail", "kept-a") as tail:
        await followed(daemon, "kept-a")
        await daemon.publish("kept-a", {"a": 1}, event="greeting", user="ada")
        await daemon.publish("kept-a", "plain \x1b[31mred\nline", event="x")
        at, *rest = (await tail.line()).split("\t")
        assert len(at) == len("12:34:56.789")
        assert rest == ["greeting", "ada", '{"a": 1}']
        assert (await tail.line()).split("\t")[1:] == ["x", "-", "plain \\x1b[31mred\\nline"]
        assert await tail.end(signal.SIGINT) == 0


async def test_json_since_event_and_limit(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        serials = [await daemon.publish("kept-a", n, event="odd" if n % 2 else "even") for n in range(6)]
        ended = await sower(tmp_path, "tail", "kept-a", "--json", "--since", "5m", "--event", "odd", "--limit", "2")
        assert [json.loads(line)["data"] for line in ended.out.splitlines()] == [1, 3]
        assert (ended.code, ended.err) == (0, "")
        ended = await sower(tmp_path, "tail", "kept-a", "--json", "--since", serials[3], "--limit", "2")
        assert [json.loads(line)["data"] for line in ended.out.splitlines()] == [4, 5]


async def test_presence_changes_are_shown_when_asked_for(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, going(tmp_path, "tail", "presence-a", "--presence", "--json") as tail:
        await followed(daemon, "presence-a")
        token = (await daemon.request("POST", "/channels/presence-a/auth", json={"user": "ada", "meta": 7})).json()[
            "token"
        ]
        async with daemon.socket("presence-a", token=token) as client:
            await client.expect("welcome")
            assert json.loads(await tail.line()) == {"type": "join", "user": "ada", "meta": 7}
        assert json.loads(await tail.line()) == {"type": "leave", "user": "ada"}


async def test_it_comes_back_after_a_kill_and_misses_and_repeats_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, going(tmp_path, "tail", "kept-a", "--json") as tail:
        await followed(daemon, "kept-a")
        for n in range(3):
            await daemon.publish("kept-a", n)
        heard = [json.loads(await tail.line())["data"] for _ in range(3)]
        await daemon.stop(signal.SIGKILL)
        await tail.says("reconnecting")
        await daemon.start()
        for n in range(3, 6):
            await daemon.publish("kept-a", n)
        heard += [json.loads(await tail.line())["data"] for _ in range(3)]
        assert heard == list(range(6))


async def test_a_gap_is_told_on_stderr(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        async with going(tmp_path, "tail", "room", "--since", "1") as tail:
            await followed(daemon, "room")
            assert "is gone" in await tail.says("gap:")


async def test_all_follows_the_daemon_itself(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, going(tmp_path, "tail", "--all", "--json") as tail:

        async def told(name: str) -> dict[str, Any]:
            frame = json.loads(await tail.line())
            assert frame["event"] == name, frame
            return frame["data"]

        assert (await told("connected"))["channel"] == FEED, "it sees itself come"
        async with daemon.socket("room", user="ada") as client:
            session = (await client.expect("welcome"))["session"]
            came = await told("connected")
            assert (came["channel"], came["user"], came["session"]) == ("room", "ada", session)
            assert came["address"] == "127.0.0.1"
        went = await told("disconnected")
        assert (went["session"], went["code"]) == (session, 1000)
        await daemon.publish("kept-a", 12345, event="greeting")
        said = await told("published")
        assert (said["channel"], said["name"], said["bytes"]) == ("kept-a", "greeting", 5)
        async with daemon.socket("private-a") as refused:
            await refused.closing()
        why = await told("refused")
        assert (why["channel"], why["code"]) == ("private-a", "not_authorised")
        went = await told("disconnected")
        assert (went["code"], went["reason"]) == (4510, "not_authorised")
        assert await tail.end(signal.SIGINT) == 0


async def test_ctrl_c_ends_it_at_once_while_it_waits_to_reconnect(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, going(tmp_path, "tail", "kept-a") as tail:
        await followed(daemon, "kept-a")
        await daemon.stop()
        await tail.says("reconnecting: in")
        assert await tail.end(signal.SIGINT) == 0


async def test_a_closed_pipe_ends_it_quietly(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, going(tmp_path, "tail", "kept-a") as tail:
        await followed(daemon, "kept-a")
        assert tail.process.stdout is not None
        await tail.process.stdout.aclose()
        for n in range(3):
            await daemon.publish("kept-a", n)
        with trio.fail_after(60):
            assert await tail.process.wait() == 0
        assert tail.process.stderr is not None
        assert b"Traceback" not in await tail.process.stderr.receive_some()


@pytest.mark.parametrize("no_color", [False, True])
async def test_colours_are_for_terminals_and_not_with_no_color(tmp_path: Path, no_color: bool) -> None:
    ours, theirs = pty.openpty()
    async with running(tmp_path) as daemon:
        await daemon.publish("kept-a", "hello")
        extra = {"NO_COLOR": "1"} if no_color else {}
        await trio.to_thread.run_sync(
            lambda: subprocess.run(
                [sys.executable, "-m", "sower", "tail", "kept-a", "--since", "1h", "--limit", "1"],
                stdout=theirs,
                cwd=tmp_path,
                env=environment(tmp_path) | {"TERM": "xterm"} | extra,
                check=True,
                timeout=120,
            )
        )
        shown = os.read(ours, 4096).decode()
    os.close(theirs)
    os.close(ours)
    assert "hello" in shown
    assert ("\x1b[1;32m" in shown) is not no_color


async def test_without_a_daemon_it_ends_with_3_and_a_refusal_with_4(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        secret = tmp_path / "secret"
        secret.write_text("wrong-secret-0123456789\n")
        ended = await sower(
            tmp_path, "tail", "room", "--url", daemon.url, "--key", "test-key", "--secret-file", str(secret)
        )
        assert ended.code == 4
        assert "secret" in ended.err
    ended = await sower(tmp_path, "tail", "room", "--url", daemon.url)
    assert ended.code == 3
    assert f"No daemon answers at {daemon.url}: all attempts to connect" in ended.err
    assert "hint: Start one with `sower serve`" in ended.err


class FullAtFirst(Daemon):
    """Refuses so many handshakes, then gives a socket that says what it is told to."""

    refusals: list[SowerError]
    frames: list[dict[str, object]]

    @asynccontextmanager
    async def socket(self, channel: str, since: str | None) -> AsyncGenerator[Any]:
        if self.refusals:
            raise self.refusals.pop(0)
        yield self

    async def get_message(self) -> str:
        return json.dumps(self.frames.pop(0))


def full_at_first(*refusals: SowerError) -> FullAtFirst:
    daemon = FullAtFirst("http://a.example", "k", "s")
    daemon.refusals = list(refusals)
    event = {"type": "event", "event": "e", "data": 1, "serial": "2", "time": 0}
    daemon.frames = [{"type": "welcome", "position": "e:1"}, event]
    return daemon


async def test_a_daemon_that_is_full_is_tried_again_when_it_says(autojump_clock: trio.testing.MockClock) -> None:
    daemon = full_at_first(TooManyConnections(retry_after=5), Unavailable())
    follower = Follower(daemon, "a", None, Printer(None, 1, presence=False, as_json=True))
    await follower.run()
    assert follower.position == Position("e", 2)
    assert 5.2 <= trio.current_time() <= 5.4


async def test_what_will_be_refused_again_ends_it() -> None:
    daemon = full_at_first(TooManyConnections(), Forbidden())
    follower = Follower(daemon, "a", None, Printer(None, 1, presence=False, as_json=True))
    with pytest.RaisesGroup(Forbidden):
        await follower.run()


def test_a_gap_is_told_where_something_was_missed(capsys: pytest.CaptureFixture[str]) -> None:
    for since, head, after, told in (
        ("1", "e:5", Position("e", 1), True),
        ("9", "e:5", Position("e", 5), False),
        ("e:9", "e:5", Position("e", 5), True),
        ("d:1", "e:5", Position("e", 1), True),
    ):
        follower = Follower(
            full_at_first(), "a", Position.parse(since), Printer(None, None, presence=False, as_json=True)
        )
        follower.take({"type": "welcome", "position": head})
        follower.take({"type": "gap", "since": since, "position": head})
        assert follower.position == after
        assert ("gap:" in capsys.readouterr().err) is told


@pytest.mark.parametrize(
    ("frame", "kind"),
    [
        ({"code": "presence_off", "message": "No.", "retry": False}, PresenceOff),
        ({"code": "from_the_future", "message": "No.", "retry": False}, BadRequest),
    ],
)
def test_an_error_that_stays_ends_it(frame: dict[str, object], kind: type[SowerError]) -> None:
    follower = Follower(full_at_first(), "a", None, Printer(None, None, presence=False, as_json=True))
    with pytest.raises(kind, match="No"):
        follower.take({"type": "error", **frame})
    follower.take({"type": "error", "code": "slow_consumer", "message": "?", "retry": True})


def test_since_is_a_time_a_serial_or_a_position() -> None:
    assert read_since(None, 0) is None
    assert read_since("5m", 1000.0) == Position("", 700 * SERIALS_PER_SECOND)
    assert read_since("17", 0) == Position("", 17)
    assert read_since("e:17", 0) == Position("e", 17)
    with pytest.raises(ValueError, match="no time ago"):
        read_since("yesterday", 0)


def test_reconnects_are_spread_and_bounded() -> None:
    assert [backoff(n, 0.0) for n in (1, 2, 3, 20, 2000)] == [0.2, 0.4, 0.8, 10.0, 10.0]
    assert backoff(1, 1.0) == 0.1


def test_only_what_is_asked_for_counts_against_the_limit(capsys: pytest.CaptureFixture[str]) -> None:
    printer = Printer("a", 1, presence=False, as_json=True)
    for frame in ({"type": "ack"}, {"type": "join", "user": "x"}, {"type": "event", "event": "b", "data": 1}):
        printer.show(frame)
    assert not printer.done
    printer.show({"type": "event", "event": "a", "data": 1})
    assert printer.done
    assert capsys.readouterr().out.count("\n") == 1


def test_a_leave_is_a_line_too() -> None:
    assert cells({"type": "leave", "user": "ada"})[1:] == ["(leave)", "ada", ""]


SAID = {
    "type": "event",
    "event": "greeting",
    "user": "ada",
    "time": 1764028800000,
    "data": {"hello": "to all who are here"},
}

SCREENS = {
    80: ['AT  greeting  ada  {"hello": "to all who are here"}'],
    40: ['AT  greeting  ada  {"hello": ', '"to all who are here"}'],
}


@pytest.mark.parametrize("width", SCREENS)
def test_a_line_wraps_at_the_terminals_width_and_loses_nothing(width: int) -> None:
    console = Console(file=StringIO(), force_terminal=True, no_color=True, color_system=None, width=width)
    console.print(coloured(SAID))
    shown = cast(StringIO, console.file).getvalue().replace(cells(SAID)[0], "AT")
    assert shown.splitlines() == SCREENS[width]
