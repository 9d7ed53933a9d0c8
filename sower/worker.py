"""One worker of several on a port: what the process that starts it tells it, and how it ends with it.

Rule 1: a worker has a database of its own, below the configured one's folder, and nothing but Redis in common.
Rule 2: it does not outlive the first process: it holds the end of a pipe, and drains when that closes.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
import trio

from sower.config import Config
from sower.errors import ConfigError

NUMBER, SOCKETS = "SOWER_WORKER", "SOWER_WORKER_SOCKETS"
"""What the first process says to its workers, in their environment: which one each is, and the files of the sockets
that all of them accept from."""


class Worker(NamedTuple):
    """number: from 1. sockets: that listen already, for all workers."""

    number: int
    sockets: tuple[socket.socket, ...]

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> Self | None:
        """Which one this process is, None where it is none. The variables are taken away."""
        number, files = environ.pop(NUMBER, ""), environ.pop(SOCKETS, "")
        if not number:
            return None
        for file in files.split():
            os.set_inheritable(int(file), False)
        return cls(int(number), tuple(socket.socket(fileno=int(file)) for file in files.split()))

    def own(self, config: Config) -> Config:
        """The config with the database of this worker, whose folder is made. Raises ConfigError."""
        path = Path(config.store.path)
        folder = path.parent / f"worker-{self.number}"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"The folder {folder} cannot be made: {error.strerror}.") from error
        store = msgspec.structs.replace(config.store, path=str(folder / path.name))
        return msgspec.structs.replace(config, store=store)

    async def end_with_the_first(self) -> None:
        """Drain when the process that started this one is gone."""
        await trio.lowlevel.wait_readable(sys.stdin)
        signal.raise_signal(signal.SIGTERM)
