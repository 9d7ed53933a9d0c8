"""`sower completion bash` in a real bash: the words that a person gets by pressing Tab."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import trio

from sower.cli import COMMANDS
from tests.cli.shell import environment, sower

TAB = """
source ./script
COMP_WORDS=({words})
COMP_CWORD={at}
$(complete -p sower | sed 's/.*-F \\([^ ]*\\) .*/\\1/') sower
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


async def tab(folder: Path, line: str) -> set[str]:
    """What bash offers for the last word of a line."""
    script = folder / "script"
    if not script.exists():
        script.write_text((await sower(folder, "completion", "bash")).out)
    words = line.split(" ")
    text = TAB.format(words=" ".join(f"'{word}'" for word in words), at=len(words) - 1)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = await trio.run_process(
        ["bash", "--norc", "-c", text],
        capture_stdout=True,
        capture_stderr=True,
        cwd=folder,
        env=environment(folder) | {"PATH": path},
    )
    assert ended.stderr == b""
    return set(ended.stdout.decode().split())


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("sower t", {"tail", "token", "top"}),
        ("sower c", {"channels", "check", "config", "completion"}),
        ("sower key ", {"new", "rotate", "retire"}),
        ("sower config s", {"show"}),
        ("sower history a --or", {"--order"}),
        ("sower history a --order ", {"asc", "desc"}),
        ("sower completion f", {"fish"}),
    ],
)
async def test_bash_completes(tmp_path: Path, line: str, offered: set[str]) -> None:
    assert await tab(tmp_path, line) == offered


async def test_bash_offers_every_command(tmp_path: Path) -> None:
    assert await tab(tmp_path, "sower ") == set(COMMANDS)
