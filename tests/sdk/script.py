"""A script that runs a vendor's SDK, unmodified, in its own process: told what to do and heard by lines of JSON.

A script reads one JSON object a line on stdin, {"do": NAME, ...}, and tells whatever happens as one a line on stdout.
Node scripts (CommonJS) find their packages in tests/node, Python ones in tests/sdk/.venv.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio

TESTS = Path(__file__).parents[1]
PYTHON = TESTS / "sdk" / ".venv" / "bin" / "python"
PATIENCE = 60.0
"""Seconds until a test gives up waiting for an SDK."""


class Script:
    """A running script. What it told and nobody asked for yet is kept in order."""

    def __init__(self, process: trio.Process) -> None:
        self.process = process
        self._buffer = b""
        self._kept: list[dict[str, Any]] = []

    async def do(self, what: str, **more: Any) -> None:
        """Tell it to do something."""
        assert self.process.stdin is not None
        await self.process.stdin.send_all(json.dumps({"do": what, **more}).encode() + b"\n")

    async def hear(self, key: str | None = None, **like: Any) -> dict[str, Any]:
        """The next thing that it tells, or the next that has this key and these values; others are kept."""
        with trio.fail_after(PATIENCE):
            for at, told in enumerate(self._kept):
                if _fits(told, key, like):
                    return self._kept.pop(at)
            while not _fits(told := await self._read(), key, like):
                self._kept.append(told)
            return told

    async def ask(self, what: str, **more: Any) -> dict[str, Any]:
        """Tell it to do something, and hear the answer: what has the key `what`."""
        await self.do(what, **more)
        return await self.hear(what)

    def told(self, key: str, **like: Any) -> list[dict[str, Any]]:
        """What it has told already of this kind and nobody asked for; it stays kept."""
        return [told for told in self._kept if _fits(told, key, like)]

    async def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while b"\n" not in self._buffer:
            part = await self.process.stdout.receive_some()
            assert part, f"the script is gone; it had told {self._kept}"
            self._buffer += part
        line, _, self._buffer = self._buffer.partition(b"\n")
        return json.loads(line)


def _fits(told: dict[str, Any], key: str | None, like: dict[str, Any]) -> bool:
    return (key is None or key in told) and all(told.get(name) == value for name, value in like.items())


@asynccontextmanager
async def running(path: Path, *words: str, **environment: str) -> AsyncGenerator[Script]:
    """A script for as long as the block runs: Node for .cjs, the SDKs' Python for .py."""
    interpreter = "node" if path.suffix == ".cjs" else str(PYTHON)
    command = [interpreter, str(path), *words]
    everything = {**os.environ, "NODE_PATH": str(TESTS / "node" / "node_modules"), **environment}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, command, check=False, env=everything, **pipes))
        yield Script(process)
        nursery.cancel_scope.cancel()
