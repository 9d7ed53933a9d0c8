"""`sower` as a shell runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from tests.e2e.daemon import PATIENCE


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def environment(folder: Path) -> dict[str, str]:
    """No config but the folder's own, no colours of the terminal that runs the tests."""
    kept = {name: value for name, value in os.environ.items() if name not in ("SOWER_URL", "NO_COLOR", "FORCE_COLOR")}
    return {**kept, "SOWER_DEV_DIR": str(folder / "dev"), "COLUMNS": "100"}


async def sower(folder: Path, *words: str, stdin: str = "", **extra: str) -> Ended:
    """Run a command in a folder, whose sower.toml it finds by itself."""
    with trio.fail_after(PATIENCE * 2):
        ended = await trio.run_process(
            [sys.executable, "-m", "sower", *words],
            stdin=stdin.encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=folder,
            env=environment(folder) | extra,
        )
    return Ended(ended.returncode, ended.stdout.decode(), ended.stderr.decode())


class Running:
    """A command that goes on."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._out = b""
        self._err = b""

    async def line(self) -> str:
        """The next line of its output."""
        assert self.process.stdout is not None
        with trio.fail_after(PATIENCE):
            while b"\n" not in self._out:
                part = await self.process.stdout.receive_some()
                assert part, f"it ended; it said {self._err!r}"
                self._out += part
        line, _, self._out = self._out.partition(b"\n")
        return line.decode()

    async def says(self, word: str) -> str:
        """Wait until it has said a word on stderr."""
        assert self.process.stderr is not None
        with trio.fail_after(PATIENCE):
            while word.encode() not in self._err:
                part = await self.process.stderr.receive_some()
                assert part, self._err
                self._err += part
        return self._err.decode()

    async def end(self, how: signal.Signals = signal.SIGINT) -> int:
        """Send it a signal. Returns its exit code."""
        self.process.send_signal(how)
        with trio.fail_after(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def going(folder: Path, *words: str, **extra: str) -> AsyncGenerator[Running]:
    """A command that is stopped when the block ends."""
    async with trio.open_nursery() as nursery:
        start = partial(
            trio.run_process,
            [sys.executable, "-m", "sower", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
            cwd=folder,
            env=environment(folder) | extra,
        )
        process = await nursery.start(start)
        yield Running(process)
        nursery.cancel_scope.cancel()
