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

SECONDS = os.environ.get("SOWER_FUZZ_SECONDS", "5")

LATER = 10
"""How much nicer it is than the tests: whatever they do comes first."""

STILL = 600.0 + float(SECONDS)
"""Seconds without a word of it after which it hangs, and does not only wait for a processor: libFuzzer itself ends after
300 what it tries."""

LOOK_EVERY = 2.0
"""Seconds between two looks at what it said."""

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
    """Wait for its end, or end it where it hangs. Gives the folder, the exit code and what was said."""
    fuzzing = request.config.stash[UNDER_WAY]
    process, folder = fuzzing.process, Path(fuzzing.folder.name)
    while process.poll() is None and time.time() - last_word(folder) < STILL:
        with suppress(subprocess.TimeoutExpired):
            process.wait(LOOK_EVERY)
    end(fuzzing)
    return folder, process.returncode, (folder / SAID).read_text(errors="replace")


def last_word(folder: Path) -> float:
    """When it or one of its targets said something last, in seconds since 1970."""
    return max(file.stat().st_mtime for file in folder.iterdir() if file.is_file())
