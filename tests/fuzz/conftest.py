"""The other tests wait more than they work: fuzzing goes on beside them, on one processor, with what they leave of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

SECONDS = os.environ.get("SOWER_FUZZ_SECONDS", "5")

LATER = 10
"""How much nicer it is than the tests: whatever they do comes first."""

SAID = "said"
"""The file with what it says itself."""


class Fuzzing(NamedTuple):
    """What runs, and where it writes."""

    process: subprocess.Popen[bytes]
    folder: TemporaryDirectory[str]


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
    session.config.stash[UNDER_WAY] = Fuzzing(process, folder)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what was not waited for."""
    fuzzing = session.config.stash.get(UNDER_WAY, None)
    if fuzzing is not None:
        if fuzzing.process.poll() is None:
            os.killpg(fuzzing.process.pid, signal.SIGKILL)
            fuzzing.process.wait()
        fuzzing.folder.cleanup()


@pytest.fixture
def fuzzing(request: pytest.FixtureRequest) -> tuple[Path, int, str]:
    """Wait for its end. Gives the folder, the exit code and what was said."""
    process, folder = request.config.stash[UNDER_WAY]
    code = process.wait()
    return Path(folder.name), code, (Path(folder.name) / SAID).read_text()
