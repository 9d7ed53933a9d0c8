"""`sower serve --dev` as a newcomer meets it: one command, and two printed lines to copy."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio

from sower.config_file import load_dev
from sower.store.audit import read
from tests.cli.shell import Running, environment, sower
from tests.e2e.daemon import PATIENCE, free_port

SOWER = str(Path(sys.executable).with_name("sower"))
"""The command as it was installed."""


@asynccontextmanager
async def shell(folder: Path, line: str) -> AsyncGenerator[Running]:
    """A line that somebody copied into a shell."""
    async with trio.open_nursery() as nursery:
        start = partial(
            trio.run_process,
            f"exec {line}",
            shell=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            check=False,
            cwd=folder,
            env=environment(folder) | {"no_proxy": "*"},
        )
        process = await nursery.start(start)
        yield Running(process)
        nursery.cancel_scope.cancel()


@pytest.fixture
def port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A development config as the first run makes it, but for its port."""
    monkeypatch.setenv("SOWER_DEV_DIR", environment(tmp_path)["SOWER_DEV_DIR"])
    file, free = load_dev().path, free_port()
    file.write_text(file.read_text().replace(":8787", f":{free}"))
    return free


async def test_the_printed_lines_can_be_copied_and_the_message_appears(tmp_path: Path, port: int) -> None:
    async with shell(tmp_path, f"{SOWER} serve --dev") as serve:
        said = await serve.says("}'\n")
        assert f"http://127.0.0.1:{port}" in said
        tail_line, publish_line = (line.strip() for line in said.splitlines() if re.match(r"  \S*(sower|curl) ", line))
        assert shlex.split(publish_line)[0] == "curl"
        async with shell(tmp_path, tail_line) as tail:
            channels = ""
            while "demo" not in channels:
                channels = (await sower(tmp_path, "channels")).out
            async with shell(tmp_path, publish_line) as publish:
                assert await publish.process.wait() == 0
            assert (await tail.line()).split("\t")[1:] == ["greeting", "-", "hello"]
            assert await tail.end(signal.SIGINT) == 0
        assert await serve.end(signal.SIGINT) == 0


async def test_the_first_run_makes_keys_for_this_account_alone_and_the_second_keeps_them(
    tmp_path: Path, port: int
) -> None:
    panels = []
    for _ in range(2):
        async with shell(tmp_path, f"{SOWER} serve --dev") as serve:
            said = await serve.says("Say something")
            panels.append(re.findall(r"(?:Key|Secret) +(\S+)", said))
            assert await serve.end(signal.SIGTERM) == 0
    assert panels[0] == panels[1]
    assert len(panels[0]) == 2
    assert (tmp_path / "dev" / "sower.toml").stat().st_mode & 0o777 == 0o600
    kinds = [record.kind for record in read(str(tmp_path / "dev" / "sower.db"))]
    assert kinds == ["config_changed", "started", "stopped", "started", "stopped"]


async def test_two_daemons_do_not_share_a_port_and_the_second_says_what_to_do(tmp_path: Path, port: int) -> None:
    async with shell(tmp_path, f"{SOWER} serve --dev") as first:
        await first.says("Say something")
        with trio.fail_after(PATIENCE):
            second = await sower(tmp_path, "serve", "--dev")
        assert second.code == 1
        assert f"Another process listens at 127.0.0.1:{port}." in second.err
        assert "hint: Stop the other process" in second.err
        assert "Traceback" not in second.err
