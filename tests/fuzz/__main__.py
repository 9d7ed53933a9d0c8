"""`python -m tests.fuzz FOLDER SECONDS [TARGET...]`: atheris on all targets or these, as many at a time as it has processors.

Each begins with its kept corpus and numbers.dict. FOLDER/TARGET gets what is found, and is gone on with by the next run; a case that
breaks the invariant is a crash-... in there. FOLDER/TARGET.log is what libFuzzer says. Exits with how many broke.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sower", "cbor2", "jwt", "websockets"]):  # once for all: it takes seconds
    from tests.fuzz.targets import CORPUS, TARGETS

NUMBERS = Path(__file__).parent / "numbers.dict"


def main() -> None:
    folder, seconds, *names = sys.argv[1:]
    waiting, running, broken = list(names or TARGETS), dict[int, str](), 0
    while waiting or running:
        while waiting and len(running) < len(os.sched_getaffinity(0)):
            name = waiting.pop(0)
            pid = os.fork()
            if not pid:
                fuzz(name, Path(folder), seconds)
            running[pid] = name
        pid, status = os.wait()
        print(f"{running.pop(pid)}: {os.waitstatus_to_exitcode(status)}", flush=True)
        broken += status != 0
    sys.exit(broken)


def fuzz(name: str, folder: Path, seconds: str) -> None:
    """One target, in a process of its own, which ends with it."""
    found = folder / name
    found.mkdir(parents=True, exist_ok=True)
    log = os.open(folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    options = [f"-max_total_time={seconds}", "-timeout=300", "-rss_limit_mb=1024", "-max_len=8192"]
    options += ["-print_final_stats=1", f"-artifact_prefix={found}/", f"-dict={NUMBERS}"]
    atheris.Setup([name, *options, str(found), str(CORPUS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
