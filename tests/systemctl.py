"""Stands in for `systemctl` where process 1 is no systemd: python systemctl.py UNITS STATE [--user] COMMAND ...

It starts what a unit's ExecStart says, with a real NOTIFY_SOCKET, and a (re)start succeeds when READY=1 has come, as
that of a Type=notify service does.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

READY_WITHIN = 30.0


def main(units: Path, state: Path, words: list[str]) -> int:
    pid_file = state / "pid"
    if "is-active" in words:
        return 0 if running(pid_file) else 3
    if {"stop", "disable", "restart"} & set(words):
        stop(pid_file)
    if "restart" in words:
        return start(units / "sower.service", state, pid_file)
    return 0


def running(pid_file: Path) -> int:
    """The process, 0 where there is none."""
    if not pid_file.exists():
        return 0
    pid = int(pid_file.read_text())
    return pid if Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2] else 0


def stop(pid_file: Path) -> None:
    pid = running(pid_file)
    if pid:
        ended = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        select.select([ended], [], [], READY_WITHIN)
    pid_file.unlink(missing_ok=True)


def start(unit: Path, state: Path, pid_file: Path) -> int:
    line = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, (state / "log").open("ab") as log:
        address = state / "notify"
        address.unlink(missing_ok=True)
        notify.bind(str(address))
        notify.settimeout(0.2)
        process = subprocess.Popen(
            shlex.split(line.removeprefix("ExecStart=")),
            env={**os.environ, "NOTIFY_SOCKET": str(address)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        while process.poll() is None:
            try:
                if notify.recv(4096).startswith(b"READY=1"):
                    pid_file.write_text(str(process.pid))
                    return 0
            except TimeoutError:
                continue
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
