"""`python -m tests.scenarios --seconds 3600 --seed N`: all scenarios, round after round, and what is left behind."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import trio

from tests.scenarios.play import SCENARIOS, Report, play


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.scenarios", description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.0, help="begin rounds for so long; at least one is played")
    parser.add_argument("--seed", type=int, default=None, help="of all that is left to chance")
    parser.add_argument("--only", action="append", choices=[scenario.__name__ for scenario in SCENARIOS])
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    began = time.monotonic()

    def show(line: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {line}", file=sys.stderr, flush=True)

    show(f"seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        report: Report = trio.run(play, Path(folder), seed, options.seconds, options.only, show)
    print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
