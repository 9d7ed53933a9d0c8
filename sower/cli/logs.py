"""The daemon's log, on stderr: text for a person, lines with priorities for journald, JSON for everybody else.

Rule 1: no line holds a secret: what looks like one by its name is masked, whatever was logged.
Rule 2: a line that cannot be written ends nothing: with a full disk, or a reader that went away, the daemon serves on.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
"""syslog(3)'s, as sd-daemon(3) writes them before a line: <3>."""

SECRETS = ("secret", "token", "authorization", "password", "signature")
"""What a secret's name holds."""

MASK = "********"


class Lines:
    """Lines of a file, each written at once; one that cannot be is lost (rule 2)."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def msg(self, line: str) -> None:
        """Write one line."""
        with suppress(OSError):
            print(line, file=self._file, flush=True)

    debug = info = warning = error = critical = msg


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
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: Lines(sys.stderr),
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
