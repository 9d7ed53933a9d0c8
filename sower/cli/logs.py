"""The daemon's log, on stderr: text for a person, lines with priorities for journald, JSON for everybody else.

Rule 1: no line holds a secret: what looks like one by its name is masked, whatever was logged.
Rule 2: a line that cannot be written ends nothing and halts nothing: with a full disk, a reader that went away or one
        that has stopped to read, the daemon serves on. What is lost is counted, and told when there is room again.
"""

from __future__ import annotations

import logging
import os
import select
import socket
import stat
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from io import UnsupportedOperation
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3)'s, as sd-daemon(3) writes them before a line: <3>."""

SECRETS = ("secret", "token", "authorization", "password", "signature")
"""What a secret's name holds."""

MASK = "********"


PATIENCE = 20
"""Milliseconds that a reader who is behind is waited for, once: then lines are lost until it reads again."""


class Lines:
    """Lines of a file, each written at once; one that cannot be is lost (rule 2)."""

    def __init__(self, file: TextIO) -> None:
        self._encoding = file.encoding
        self._write = without_waiting(file.fileno())
        self._room = select.poll()
        self._room.register(file.fileno(), select.POLLOUT)
        self._rest = b""
        self._lost = 0

    def msg(self, line: str) -> None:
        """Write one line."""
        if self._lost and self._room.poll(0):
            lost, self._lost = self._lost, 0
            structlog.get_logger().warning("log_lines_lost", lines=lost)
            if self._lost:  # this one, too
                self._lost = lost
        if not self._say(f"{line}\n".encode(self._encoding, "backslashreplace")):
            self._lost += 1

    debug = info = warning = error = critical = msg

    def _say(self, line: bytes) -> bool:
        """Write a line, behind what is left of the one before it. Whether it was begun; its rest is kept then."""
        data = self._rest + line
        while data:
            try:
                data = data[self._write(data) :]
            except BlockingIOError:
                if self._lost or not self._room.poll(PATIENCE):
                    break
            except OSError:
                self._rest = b""
                return False
        begun = len(data) < len(line)
        self._rest = data if begun else data.removesuffix(line)
        return begun


class StreamLines:
    """Lines of a stream behind which there is no file: somebody's own, as where a command runs in another program."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        """Write one line, where that can be done (rule 2)."""
        with suppress(OSError, ValueError):  # the latter where it was closed
            print(line, file=self._stream, flush=True)

    debug = info = warning = error = critical = msg


def without_waiting(file: int) -> Callable[[bytes], int]:
    """What writes to a file as much as there is room for. Raises BlockingIOError where there is none.

    The file itself stays as it is: it is shared with whoever started this process, and other programs may write to it.
    """
    mode = os.fstat(file).st_mode
    if stat.S_ISSOCK(mode):
        sock = socket.socket(fileno=os.dup(file))
        return lambda data: sock.send(data, socket.MSG_DONTWAIT)
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        with suppress(OSError):  # another user's, or no /proc: then it is waited for
            file = os.open(f"/proc/self/fd/{file}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    return partial(os.write, file)


def silence() -> None:
    """Say nothing of what parts of the daemon do for a command: it says itself what came of it."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def set_up(worker: int | None = None) -> None:
    """Log as whoever reads it wants. worker: which of several on one port says it, in every line."""
    processors: list[Processor] = [structlog.processors.add_log_level, mask]
    if worker is not None:
        processors.append(lambda logger, method, event: {**event, "worker": worker})
    if sys.stderr.isatty():
        colours = "NO_COLOR" not in os.environ
        stamp = structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False)
        plain = structlog.dev.plain_traceback  # the others show what variables held
        processors += [stamp, structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=plain)]
    elif for_journald():
        processors += [structlog.processors.format_exc_info, prioritised]  # journald has the time already
    else:
        stamp = structlog.processors.TimeStamper(fmt="iso", utc=True)
        processors += [stamp, structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    try:
        lines = Lines(sys.stderr)
    except UnsupportedOperation:
        lines = StreamLines(sys.stderr)
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: lines,
    )


def for_journald() -> bool:
    """Whether stderr is the journal's own stream (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
        own = os.fstat(2)
        return (own.st_dev, own.st_ino) == (int(device), int(inode))
    except (ValueError, OSError):
        return False


def mask(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Rule 1."""
    return {name: MASK if any(word in name.lower() for word in SECRETS) else value for name, value in event.items()}


def prioritised(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """<PRIORITY>event name=value ..., each further line with the same priority."""
    level = str(event.pop("level", "info"))
    said = [str(event.pop("event", "")), *(f"{name}={_shown(event[name])}" for name in event if name != "exception")]
    lines = [" ".join(said), *str(event.get("exception", "")).splitlines()]
    return "\n".join(f"<{PRIORITIES.get(level, 6)}>{line}" for line in lines)


def _shown(value: Any) -> str:
    text = str(value)
    return repr(text) if not text or " " in text or not text.isprintable() else text
