"""What systemd is told, and what it hands over (sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)).

Rule 1: a word that cannot be said fails nothing: without NOTIFY_SOCKET, or with a full one, the daemon runs on.
Rule 2: READY is said when the sockets listen and the journal has answered; WATCHDOG by whoever has just gone round
        hub and journal, so that a daemon which only looks alive is restarted.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import MutableMapping
from typing import Self

import structlog

log = structlog.get_logger(__name__)

FIRST_FD = 3
"""The first inherited file number, SD_LISTEN_FDS_START."""


class Systemd:
    """The service manager behind $NOTIFY_SOCKET, or nobody. address: a path, or @NAME of an abstract socket.

    watchdog: seconds within which WATCHDOG must come again and again, None where nobody watches
    """

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self.watchdog = watchdog
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self:
        """Whom the environment names. Its variables are taken away, so that no child speaks for the daemon."""
        address = environ.pop("NOTIFY_SOCKET", "")
        interval = environ.pop("WATCHDOG_USEC", "")
        watched = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        return cls(address, int(interval) / 1e6 if interval.isdecimal() and int(interval) and watched else None)

    def ready(self, status: str) -> None:
        """The daemon serves, after its start or after a reload."""
        self._say("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins. Type=notify-reload wants the time with it."""
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The daemon drains."""
        self._say("STOPPING=1", f"STATUS={status}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._say(f"STATUS={status}")

    def alive(self) -> None:
        """The round went well: do not restart the daemon."""
        self._say("WATCHDOG=1")

    def _say(self, *words: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(words).encode(), self._address)
        except OSError as error:
            log.warning("systemd_not_told", word=words[0], why=error.strerror)


def inherited_sockets(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that a socket unit hands over, none where they are not for this process.

    The variables are taken away and the files closed in children, so that nobody inherits them a second time.
    """
    whose, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    environ.pop("LISTEN_FDNAMES", None)
    if whose != str(os.getpid()) or not count.isdecimal():
        return []
    found: list[socket.socket] = []
    for number in range(FIRST_FD, FIRST_FD + int(count)):
        os.set_inheritable(number, False)
        found.append(socket.socket(fileno=number))
    return found
