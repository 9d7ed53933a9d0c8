"""`python -m tests.fuzz TARGET [libFuzzer's options] [CORPUS]`: atheris, until an invariant breaks or the time is over."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["sower", "msgspec", "websockets"]):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
