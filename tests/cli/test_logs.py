"""The daemon's log: who reads it gets it as they want it, and no line holds a secret."""

from __future__ import annotations

import fcntl
import io
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest
import structlog
import trio

from sower.cli.logs import MASK, mask, prioritised, set_up
from sower.store.audit import read
from tests.cli.shell import environment
from tests.e2e.daemon import CONFIG, KEY, PATIENCE, SECRET, free_port, running


def test_what_looks_like_a_secret_by_its_name_is_masked() -> None:
    event = {"event": "e", "app_secret": "x", "Authorization": "y", "token": "z", "why": "w"}
    assert mask(None, "info", event) == {
        "event": "e",
        "app_secret": MASK,
        "Authorization": MASK,
        "token": MASK,
        "why": "w",
    }


@pytest.mark.parametrize(("level", "priority"), [("info", 6), ("warning", 4), ("error", 3)])
def test_journald_is_told_the_priority_of_every_line(level: str, priority: int) -> None:
    event = {"event": "crashed", "level": level, "why": "two words", "exception": "Traceback\n  here"}
    assert prioritised(None, level, event) == (
        f"<{priority}>crashed why='two words'\n<{priority}>Traceback\n<{priority}>  here"
    )


def test_in_a_terminal_a_fault_is_told_by_its_lines_and_not_by_what_variables_held(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(authorization: str) -> None:
        raise ZeroDivisionError("a bug")

    ours, theirs = os.openpty()
    with logging_to(theirs, monkeypatch):
        try:
            fail("Basic " + SECRET)
        except ZeroDivisionError as error:
            structlog.get_logger().error("request_failed", exc_info=error)
    said = os.read(ours, 4096).decode()
    os.close(ours)
    assert "ZeroDivisionError: a bug" in said
    assert SECRET not in said


@contextmanager
def logging_to(file: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a daemon whose stderr this file is. Then it is closed."""
    before = structlog.get_config()
    with open(file, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        try:
            set_up()
            yield
        finally:
            structlog.configure(**before)


def test_a_stream_without_a_file_has_each_line_and_ends_nothing_when_it_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, stream = structlog.get_config(), io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        set_up()
        structlog.get_logger().info("one")
        assert "one" in stream.getvalue()
        stream.close()
        structlog.get_logger().info("two")
    finally:
        structlog.configure(**before)


def a_pipe() -> tuple[int, int]:
    return os.pipe()


def a_stream_of_journald_s() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


@pytest.mark.parametrize("ends", [a_pipe, a_stream_of_journald_s])
def test_who_reads_the_log_no_more_halts_nothing_and_is_told_later_how_much_is_lost(
    ends: Callable[[], tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = ends()
    with logging_to(theirs, monkeypatch):
        log = structlog.get_logger()
        for number in range(1000):
            log.info("said", number=number, text="x" * 1000)
        assert os.get_blocking(theirs), "others write to it, too, and count on waiting"
        said = os.read(ours, 1_000_000)
        log.info("last")
        said += os.read(ours, 1_000_000)
    os.close(ours)
    words = [json.loads(line) for line in said.splitlines()]
    kept = [word["number"] for word in words if word["event"] == "said"]
    assert 0 < len(kept) < 1000
    assert kept == list(range(len(kept)))
    assert [(word["event"], word.get("lines")) for word in words[len(kept) :]] == [
        ("log_lines_lost", 1000 - len(kept)),
        ("last", None),
    ]


async def test_a_daemon_whose_log_nobody_reads_serves_on(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        assert daemon.process is not None
        assert daemon.process.stderr is not None
        fcntl.fcntl(daemon.process.stderr.fileno(), fcntl.F_SETPIPE_SZ, 4096)
        for _ in range(40):  # each tells of it, in over a hundred bytes
            assert (await daemon.request("POST", "/reload")).status_code == 200


@pytest.mark.parametrize("journald", [True, False])
async def test_a_daemon_s_log_is_json_or_for_journald(tmp_path: Path, journald: bool) -> None:
    log = tmp_path / "log"
    config = tmp_path / "sower.toml"
    config.write_text(f'[server]\nlisten = ["127.0.0.1:{free_port()}"]\n' + CONFIG)
    with log.open("wb") as stderr:
        status = log.stat()
        stream = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"} if journald else {}
        command = [sys.executable, "-m", "sower", "serve", "--config", str(config)]
        async with trio.open_nursery() as nursery:

            async def start(task_status: trio.TaskStatus[trio.Process] = trio.TASK_STATUS_IGNORED) -> None:
                await trio.run_process(
                    command, stderr=stderr, env=environment(tmp_path) | stream, task_status=task_status
                )

            process = await nursery.start(start)
            with trio.fail_after(PATIENCE):
                while b"ready" not in log.read_bytes():
                    await trio.lowlevel.checkpoint()
            process.send_signal(signal.SIGTERM)
    lines = log.read_text().splitlines()
    if journald:
        assert lines[0].startswith("<6>ready listen=")
        assert lines[-1] == "<6>draining signal=SIGTERM"
    else:
        assert [json.loads(line)["event"] for line in lines] == ["ready", "draining"]


@pytest.mark.parametrize("closing", ["2>/dev/full", "2>&-"])
async def test_a_log_that_cannot_be_written_ends_nothing(tmp_path: Path, closing: str) -> None:
    """A full disk, and no stderr at all: it serves, reloads, and drains when it is told to."""
    url = f"http://127.0.0.1:{free_port()}"
    (tmp_path / "sower.toml").write_text(f'[server]\nlisten = ["{url.removeprefix("http://")}"]\n' + CONFIG)
    shell = f'exec "$0" -m sower serve --config sower.toml {closing}'
    async with trio.open_nursery() as nursery, httpx.AsyncClient(auth=(KEY, SECRET), timeout=PATIENCE) as client:
        run = partial(trio.run_process, ["sh", "-c", shell, sys.executable], check=False, cwd=tmp_path)
        process = await nursery.start(run)
        with trio.fail_after(PATIENCE):
            while True:
                with suppress(httpx.ConnectError):
                    if (await client.get(f"{url}/health/ready")).is_success:
                        break
                await trio.sleep(0.05)
            assert (await client.post(f"{url}/reload")).status_code == 200
            assert (await client.get(f"{url}/stats")).status_code == 200
        process.send_signal(signal.SIGTERM)
    assert [record.kind for record in read(str(tmp_path / "sower.db"))][-1] == "stopped"


async def test_no_line_holds_a_secret_or_a_token_whatever_goes_wrong(tmp_path: Path) -> None:
    """Good and bad credentials of every kind, over HTTP and sockets, a reload with a changed secret, a bad config."""
    async with running(tmp_path) as daemon:
        minted = (await daemon.request("POST", "/channels/private-x/auth", json={"user": "ada"})).json()["token"]
        async with daemon.socket("private-x", token=minted) as client:
            await client.expect("welcome")
            await client.send(type="token", token=minted + "broken")
            await client.send(type="publish", event="e", data="a word that is private")
            await client.expect("error")
        await daemon.request("GET", f"/channels?token={minted}x", auth=False)
        await daemon.request("GET", "/nowhere", headers={"Authorization": f"Bearer {minted}"}, auth=False)
        await daemon.request("POST", "/events/publish", content=b"{broken")
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace(SECRET, "rotated-secret-9876543210"))
        await daemon.request("POST", "/reload")
        daemon.config.write_text(text.replace(SECRET, "short"))
        await daemon.request("POST", "/reload")
        assert daemon.process is not None
        stderr = daemon.process.stderr
        daemon.process.send_signal(signal.SIGTERM)
        assert stderr is not None
        with trio.fail_after(PATIENCE):
            said = (await trio.to_thread.run_sync(stderr.read, abandon_on_cancel=True)).decode()
        await daemon.stop()
    assert "reloaded" in said
    for secret in (SECRET, "rotated-secret-9876543210", minted, minted.split(".")[2], "a word that is private"):
        assert secret not in said
