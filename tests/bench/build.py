"""Compile the C programs of this folder, once for each version of their source."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra")


class NoCompiler(Exception):
    """No C compiler is on the PATH."""


def program(name: str) -> Path:
    """The path of the program made from `name`.c. Raises NoCompiler, subprocess.CalledProcessError."""
    source = HERE / f"{name}.c"
    read = b"".join(path.read_bytes() for path in (source, *sorted(HERE.glob("*.h"))))
    made = BUILD / f"{name}-{hashlib.sha256(read).hexdigest()[:12]}"
    if made.exists():
        return made
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler("The load generator needs a C compiler (cc, gcc or clang) on the PATH.")
    BUILD.mkdir(exist_ok=True)
    unfinished = made.with_suffix(f".{os.getpid()}")
    subprocess.run([compiler, *FLAGS, "-o", str(unfinished), str(source)], check=True)
    unfinished.rename(made)  # whole or not at all, also when two benches start at once
    return made
