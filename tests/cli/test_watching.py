"""The screens of top and doctor as they are drawn, at 80 and 40 columns, and what they and check say in a pipe."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from rich.console import Console, RenderableType

from sower.cli.check import CRITICAL, OK, WARNING, judge
from sower.cli.checkup import BAD, GOOD, UNSURE, Finding
from sower.cli.doctor import screen as doctor_screen
from sower.cli.top import Look, screen
from tests.certificates import make_certificate
from tests.cli.shell import Ended, environment, sower
from tests.e2e.daemon import CONFIG, PATIENCE, free_port, running

STATS: dict[str, Any] = {
    "version": "0.1.0",
    "uptime": 90_061.0,
    "faults": [],
    "sessions": {"native": {"asleep": 9_000, "awake": 12}, "pusher": {"asleep": 500, "backlogged": 1}},
    "channels": 40,
    "rates": {"publishes": 250.4, "deliveries": 1_234_567.0, "bytes": 2_500_000.0, "connects": 3.0},
    "totals": {"refusals": 7, "slow_consumers": 2},
    "loop_lag": 0.0021,
    "memory": 52_428_800,
}
CHANNELS = [
    {"channel": "news", "subscribers": 9_000, "published": 1_100},
    {"channel": "a-channel-with-a-very-long-name-that-does-not-fit-anywhere", "subscribers": 40, "published": 30},
]
SESSIONS = [{"session": "0123456789ab1f", "dialect": "pusher", "backlog": 700_000}]
LOOK = Look(10.0, STATS, CHANNELS, SESSIONS)
BEFORE = Look(8.0, STATS, [{**channel, "published": 100} for channel in CHANNELS], SESSIONS)

WIDE = """\
Sower 0.1.0, up 1d 1h: ready
"""


def drawn(what: RenderableType, width: int, **options: Any) -> str:
    """As a terminal of this width shows it, without the blanks at the lines' ends."""
    console = Console(file=io.StringIO(), width=width, highlight=False, **options)
    console.print(what)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


TOP_80 = """\
Sower 0.1.0, up 1d 1h: ready

publishes/s  250  deliveries/s  1,234,567  bytes/s          2 MiB
connects/s     3  loop lag           2 ms  memory          50 MiB
channels      40  refusals              7  slow consumers       2

sessions  awake  asleep  backlogged
native       12   9,000           0
pusher        0     500           1
all          12   9,500           1

biggest channels                                            subscribers
news                                                              9,000
a-channel-with-a-very-long-name-that-does-not-fit-anywhere           40

busiest channels  messages/s
news                     500

slowest sessions       waiting
0123456789ab1f pusher  684 KiB
"""

TOP_40 = """\
Sower 0.1.0, up 1d 1h: ready

publishes/s           250
deliveries/s    1,234,567
bytes/s             2 MiB
connects/s              3
loop lag             2 ms
memory             50 MiB
channels               40
refusals                7
slow consumers          2

sessions  awake  asleep  backlogged
native       12   9,000           0
pusher        0     500           1
all          12   9,500           1

biggest channels             subscribers
news                               9,000
a-channel-with-a-very-long…           40

busiest channels                messages
news                               1,100
a-channel-with-a-very-long-na…        30

slowest sessions       waiting
0123456789ab1f pusher  684 KiB
"""

DOCTOR_80 = """\
ok   config /etc/sower/sower.toml is valid
look clock  the clock is not known to be synchronised (no)
            timedatectl set-ntp true
bad  tls    the certificate ends in 3 days
            renew the certificate, then `sower reload`"""

DOCTOR_40 = """\
ok   config /etc/sower/sower.toml is
            valid
look clock  the clock is not known to be
            synchronised (no)
            timedatectl set-ntp true
bad  tls    the certificate ends in 3
            days
            renew the certificate, then
            `sower reload`"""


def test_top_at_80_columns() -> None:
    assert drawn(screen(LOOK, BEFORE, 5, 80), 80) == TOP_80


def test_top_at_40_columns() -> None:
    assert drawn(screen(LOOK, None, 5, 40), 40) == TOP_40


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_longer_than_the_terminal_and_a_fault_is_said_first(width: int) -> None:
    ill = LOOK._replace(stats={**STATS, "faults": [["journal", "database is locked"]]})
    lines = drawn(screen(ill, None, 5, width), width).splitlines()
    assert max(map(len, lines)) <= width
    assert "journal" in " ".join(lines[:4])


@pytest.mark.parametrize("options", [{"no_color": True}, {"color_system": None}])
def test_without_colours_nothing_but_text_is_written(options: dict[str, Any]) -> None:
    shown = drawn(screen(LOOK, None, 5, 80), 80, force_terminal=True, **options)
    assert "\x1b[3" not in shown
    assert "deliveries/s" in shown


FINDINGS = [
    Finding("config", GOOD, "/etc/sower/sower.toml is valid"),
    Finding("clock", UNSURE, "the clock is not known to be synchronised (no)", "timedatectl set-ntp true"),
    Finding("tls", BAD, "the certificate ends in 3 days", "renew the certificate, then `sower reload`"),
]


def test_doctor_at_80_columns_says_each_finding_with_its_remedy() -> None:
    assert drawn(doctor_screen(FINDINGS), 80) == DOCTOR_80


def test_doctor_at_40_columns() -> None:
    assert drawn(doctor_screen(FINDINGS), 40) == DOCTOR_40


async def test_in_a_pipe_top_looks_once_and_its_json_has_it_all(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("news") as client:
        await client.expect("welcome")
        shown = await sower(tmp_path, "top")
        assert (shown.code, "\x1b" in shown.out) == (0, False)
        assert "deliveries/s" in shown.out
        told = json.loads((await sower(tmp_path, "top", "--json")).out)
        assert told["channels"] == [{"channel": "news", "subscribers": 1, "published": 0}]
        assert sum(told["stats"]["sessions"]["native"].values()) == 1
        assert len(told["sessions"]) == 1


async def test_on_a_terminal_top_goes_on_until_it_is_told_to_end(tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    async with running(tmp_path):
        async with trio.open_nursery() as nursery:

            async def start(task_status: trio.TaskStatus[trio.Process] = trio.TASK_STATUS_IGNORED) -> None:
                # Started in the background by a shell, the tests have SIGINT ignored, and so would what they start.
                command = ["env", "--default-signal=INT", sys.executable, "-m", "sower", "top"]
                shell = environment(tmp_path) | {"TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
                await trio.run_process(
                    command, stdin=theirs, stdout=theirs, cwd=tmp_path, env=shell, check=False, task_status=task_status
                )

            process = await nursery.start(start)
            os.close(theirs)
            heard = b""
            with trio.fail_after(PATIENCE * 2):
                while heard.count(b"deliveries/s") < 2:  # two looks
                    await trio.lowlevel.wait_readable(ours)
                    heard += os.read(ours, 65536)
                process.send_signal(signal.SIGINT)
                with suppress(OSError):  # EIO is a terminal's end; one that nobody reads would hold its last words up
                    while True:
                        await trio.lowlevel.wait_readable(ours)
                        os.read(ours, 65536)
                assert await process.wait() == 0
    os.close(ours)


async def test_kick_ends_a_session_and_names_one_that_is_not_there(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("news") as client:
        session = (await client.expect("welcome"))["session"]
        assert (await sower(tmp_path, "kick", session)).out == f"{session}\n"
        assert (await client.closing())[1] == "kicked"
        gone = await sower(tmp_path, "kick", session)
        assert (gone.code, session in gone.err) == (1, True)


def test_check_judges_faults_before_lag() -> None:
    assert judge(STATS)[0] == OK
    assert judge({**STATS, "loop_lag": 0.3}) == (WARNING, "the loop was 300 ms late")
    assert judge({**STATS, "loop_lag": 0.3, "faults": [["hub", "x"]]}) == (CRITICAL, "hub: x")


async def while_the_loop_is_in_time(folder: Path, *words: str) -> Ended:
    """Run a command again where it tells that the daemon's loop was late, as on a machine with much else to do."""
    with trio.fail_after(PATIENCE * 2):
        while "the loop was" in (ended := await sower(folder, *words)).out:
            pass
    return ended


async def test_check_is_one_line_with_measures_and_nagios_exit_codes(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        well = await while_the_loop_is_in_time(tmp_path, "check")
        assert well.code == 0
        assert well.out.startswith("SOWER OK - 0 sessions, 0 deliveries/s | sessions=0 ")
        told = await while_the_loop_is_in_time(tmp_path, "check", "--format", "json")
        assert json.loads(told.out)["status"] == "ok"
        await daemon.stop()
        gone = await sower(tmp_path, "check")
        assert (gone.code, gone.out.startswith("SOWER CRITICAL - No daemon answers")) == (2, True)
    (tmp_path / "sower.toml").write_text("nonsense")
    assert (await sower(tmp_path, "check")).code == 3


async def test_bench_loses_nothing_and_says_how_fast_it_was(tmp_path: Path) -> None:
    async with running(tmp_path):
        words = ("bench", "--clients", "20", "--rate", "50", "--seconds", "0.4")
        told = json.loads((await sower(tmp_path, *words, "--json")).out)
        assert (told["publishes"], told["deliveries"], told["lost"]) == (20, 400, 0)
        assert 0 < told["latency_median_ms"] <= told["latency_99_percent_ms"] <= told["latency_worst_ms"]
        shown = await sower(tmp_path, *words)
        assert "deliveries\t400" in shown.out


async def test_doctor_finds_nothing_bad_on_a_fresh_daemon_and_dials_through_the_public_address(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        ended = await while_the_loop_is_in_time(tmp_path, "doctor", "--public", daemon.url)
        assert ended.code == 0, ended.out
        found = dict(line.split("\t")[1::-1] for line in ended.out.splitlines())
        assert found.pop("clock") in ("ok", "look")
        assert found.pop("files") in ("ok", "look")
        assert found == {"config": "ok", "disk": "ok", "wal": "ok", "daemon": "ok", "proxy": "ok", "websocket": "look"}
        for line in ended.out.splitlines():
            state, _, _, remedy = line.split("\t")
            assert (state == "ok") is (remedy == "")


async def test_doctor_names_what_is_bad_with_its_remedy(tmp_path: Path) -> None:
    make_certificate(tmp_path, days=3)
    port = free_port()
    server = 'certificate = "localhost.pem"\ncertificate_key = "localhost.key"'
    async with running(tmp_path, CONFIG, server) as daemon:
        await daemon.stop()
        text = daemon.config.read_text().replace(f'{daemon.port}"]', f'{daemon.port}", "tls:127.0.0.1:{port}"]')
        daemon.config.write_text(text)
        daemon.config.chmod(0o644)
        await daemon.start(keep_config=True)
        ended = await sower(tmp_path, "doctor")
        assert ended.code == 1
        assert "bad\ttls\tthe certificate ends in 3 days\trenew the certificate" in ended.out
        assert "bad\tconfig\t" in ended.out
        assert "chmod o= " in ended.out
        await daemon.stop()
        ended = await sower(tmp_path, "doctor")
        assert "bad\tdaemon\tNo daemon answers" in ended.out
