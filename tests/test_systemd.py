"""sower/systemd.py against a real datagram socket, and with files that a parent hands over."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from sower.systemd import Systemd, inherited_sockets


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The end that systemd reads."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def hear(manager: socket.socket) -> list[str]:
    return manager.recv(4096).decode().split("\n")


def test_each_word_is_one_datagram_as_sd_notify_says(manager: socket.socket) -> None:
    systemd = Systemd(manager.getsockname())
    systemd.ready("serving")
    assert hear(manager) == ["READY=1", "STATUS=serving"]
    before = time.monotonic_ns() // 1000
    systemd.reloading()
    word, moment = hear(manager)
    assert word == "RELOADING=1"
    assert before <= int(moment.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
    systemd.stopping("draining")
    assert hear(manager) == ["STOPPING=1", "STATUS=draining"]
    systemd.status("12 sessions")
    assert hear(manager) == ["STATUS=12 sessions"]
    systemd.alive()
    assert hear(manager) == ["WATCHDOG=1"]


def test_an_abstract_socket_is_written_with_an_at_sign() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0sower-test-{os.getpid()}")
        Systemd(f"@sower-test-{os.getpid()}").alive()
        assert manager.recv(100) == b"WATCHDOG=1"


def test_a_manager_that_is_gone_or_reads_nothing_fails_nothing(manager: socket.socket, tmp_path: Path) -> None:
    Systemd().ready("nobody listens")
    with capture_logs() as logs:
        Systemd(str(tmp_path / "gone")).ready("serving")
        systemd = Systemd(manager.getsockname())
        for _ in range(10_000):
            systemd.alive()
            if len(logs) > 1:
                break
    assert [entry["event"] for entry in logs[:2]] == ["systemd_not_told"] * 2


def test_the_environment_is_used_up_so_that_no_child_speaks_for_the_daemon() -> None:
    environ = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    assert Systemd.from_environment(environ).watchdog == 30.0
    assert environ == {"HOME": "/"}
    assert Systemd.from_environment(environ).watchdog is None
    assert Systemd.from_environment({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}).watchdog is None


def test_sockets_are_taken_only_by_the_process_that_they_are_for() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"}
    assert inherited_sockets(environ) == []
    assert environ == {}
    assert inherited_sockets(environ) == []
