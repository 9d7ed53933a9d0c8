"""The other tests wait more than they work: fuzzing goes on beside them, on one processor, with what they leave of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from tests.fuzz.targets import TARGETS

SECONDS = os.environ.get("SOWER_FUZZ_SECONDS", "5")

LATER = 10
"""How much nicer it is than the tests: whatever they do comes first."""

LONGEST = 1.5 * float(SECONDS) * len(TARGETS) + 600
"""Seconds after which it hangs, and does not only wait for a processor: a start takes four of one."""

SAID = "said"
"""The file with what it says itself."""


class Fuzzing(NamedTuple):
    """What runs, where it writes, and when it must have ended, by time.monotonic."""

    process: subprocess.Popen[bytes]
    folder: TemporaryDirectory[str]
    ends: float


UNDER_WAY = pytest.StashKey[Fuzzing]()


def _give_way() -> None:
    os.nice(LATER)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def pytest_collection_finish(session: pytest.Session) -> None:
    """Begin, where somebody will look at what is found."""
    if session.config.option.collectonly or not any("fuzzing" in getattr(i, "fixturenames", ()) for i in session.items):
        return
    folder = TemporaryDirectory(prefix="sower-fuzz-")
    with open(Path(folder.name) / SAID, "wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz", folder.name, SECONDS],
            cwd=session.config.rootpath,
            stdout=said,
            stderr=said,
            start_new_session=True,
            preexec_fn=_give_way,
        )
    session.config.stash[UNDER_WAY] = Fuzzing(process, folder, time.monotonic() + LONGEST)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what was not waited for."""
    fuzzing = session.config.stash.get(UNDER_WAY, None)
    if fuzzing is not None:
        end(fuzzing)
        fuzzing.folder.cleanup()


def end(fuzzing: Fuzzing) -> None:
    """End it, and the target that it is at: where it was itself killed, the target goes on in its group."""
    if fuzzing.process.poll() is None or fuzzing.process.returncode < 0:
        with suppress(ProcessLookupError):
            os.killpg(fuzzing.process.pid, signal.SIGKILL)
        fuzzing.process.wait()


@pytest.fixture
def fuzzing(request: pytest.FixtureRequest) -> tuple[Path, int, str]:
    """Wait for its end, which comes. Gives the folder, the exit code and what was said."""
    fuzzing = request.config.stash[UNDER_WAY]
    with suppress(subprocess.TimeoutExpired):
        fuzzing.process.wait(max(1.0, fuzzing.ends - time.monotonic()))
    end(fuzzing)
    folder = Path(fuzzing.folder.name)
    return folder, fuzzing.process.returncode, (folder / SAID).read_text(errors="replace")
