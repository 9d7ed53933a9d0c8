"""install.sh in a throw-away root: installed, upgraded over a running daemon, rolled back, bundled, removed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import apsw
import httpx
import pytest

from sower.store.schema import VERSION
from tests.e2e.daemon import free_port

ROOT = Path(__file__).parents[1]

LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "node_modules", "tests", ".hypothesis", "__pycache__", ".*_cache")


class Machine:
    """A copy of the checkout, a root to install into, and a stand-in for its service manager."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "a checkout"
        self.root = folder / "a root"
        self.units = folder / "units"  # without a blank, as a word of $SOWER_SYSTEMCTL
        self.units.symlink_to(self.root / "etc/systemd/system")
        self.state = folder / "manager"
        self.state.mkdir()
        shutil.copytree(ROOT, self.checkout, ignore=LEFT_OUT)
        self.config = self.root / "etc/sower/sower.toml"
        self.database = self.root / "var/lib/sower/sower.db"

    def install_sh(self, *words: str, managed: bool = False, code: int = 0) -> str:
        """Run it. Returns all that it said."""
        environment = {**os.environ, "PYTHON": sys.executable}
        if managed:
            environment["SOWER_SYSTEMCTL"] = " ".join(self.systemctl)
        ended = subprocess.run(
            ["sh", str(self.checkout / "install.sh"), *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert ended.returncode == code, ended.stdout
        return ended.stdout

    @property
    def systemctl(self) -> list[str]:
        return [sys.executable, str(ROOT / "tests/systemctl.py"), str(self.units), str(self.state)]

    def start(self) -> None:
        """Start what was installed, as its service manager would."""
        subprocess.run([*self.systemctl, "restart", "sower"], check=True)

    def sower(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.root / "usr/local/bin/sower"), *words, "--config", str(self.config)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def releases(self) -> list[str]:
        return sorted(os.listdir(self.root / "opt/sower/releases"))

    def edit(self, file: str, old: str, new: str) -> None:
        path = self.checkout / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def files(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*") if not path.is_dir()}


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    if (machine.state / "pid").exists():
        os.kill(int((machine.state / "pid").read_text()), signal.SIGKILL)


@pytest.mark.slow
def test_it_is_installed_upgraded_rolled_back_with_its_database_and_removed(machine: Machine) -> None:
    root, port = machine.root, free_port()

    machine.install_sh("install", "--root", str(root))
    assert f'path = "{machine.database}"' in machine.config.read_text()
    assert machine.config.stat().st_mode & 0o777 == 0o640
    assert (root / "usr/local/share/man/man1/sower.1").exists()
    assert "sower" in (root / "usr/local/share/bash-completion/completions/sower").read_text()
    unit = (root / "etc/systemd/system/sower.service").read_text()
    assert f'ExecStart="{root}/opt/sower/bin/sower" serve --config "{machine.config}"' in unit
    assert machine.sower("config", "check").returncode == 0

    own = machine.config.read_text().replace('# listen = ["127.0.0.1:8787"]', f'listen = ["127.0.0.1:{port}"]')
    own += '\nhistory = {messages = 10, age = "1h"}\n'  # of the last table, a rule for all channels
    machine.config.write_text(own)
    machine.start()
    assert machine.sower("publish", "news", "e", '"kept"').returncode == 0
    before = os.readlink(root / "opt/sower/bin")

    machine.edit("sower/store/schema.py", "MIGRATIONS = (", "MIGRATIONS = (  # and a last one\n")
    text = (machine.checkout / "sower/store/schema.py").read_text()
    text = re.sub(r"(MIGRATIONS = \(.*?)\)\n", r'\1, "CREATE TABLE later (x)")\n', text, count=1, flags=re.DOTALL)
    (machine.checkout / "sower/store/schema.py").write_text(text)
    machine.edit("sower/daemon.py", "await journal.ping()", 'raise RuntimeError("never ready")')
    said = machine.install_sh("install", "--root", str(root), managed=True, code=1)
    assert "a copy of the database is" in said
    assert "rolled back: the daemon from before serves again" in said
    assert os.readlink(root / "opt/sower/bin") == before
    assert before.split("/")[-2] in machine.releases()
    assert b"never ready" in (machine.state / "log").read_bytes()
    assert machine.config.read_text() == own
    assert httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=60, trust_env=False).status_code == 200
    assert machine.sower("history", "news").stdout.rstrip().endswith("kept")
    version = apsw.Connection(str(machine.database)).pragma("user_version")
    assert version == VERSION

    machine.install_sh("uninstall", "--root", str(root), managed=True)
    assert not (machine.state / "pid").exists()
    assert {name.split("/")[0] for name in machine.files()} == {"etc", "var"}
    assert machine.config.read_text() == own
    machine.install_sh("uninstall", "--root", str(root), "--purge", managed=True)
    assert machine.files() == set()


@pytest.mark.parametrize("words", [("install",), ("install", "--user"), ("uninstall", "--purge"), ("bundle",)])
def test_a_dry_run_says_what_it_would_do_and_does_nothing(machine: Machine, words: tuple[str, ...]) -> None:
    said = machine.install_sh(*words, *(() if words == ("bundle",) else ("--root", str(machine.root))), "--dry-run")
    assert "+ " in said
    assert not machine.root.exists()
    assert not (machine.checkout / "sower.pex").exists()


def test_wrong_words_are_told(machine: Machine) -> None:
    assert "usage: ./install.sh" in machine.install_sh("install", "--prefix", "/x", code=2)


def test_who_has_a_config_is_served_with_that(tmp_path: Path) -> None:
    command = ["sh", str(ROOT / "install.sh"), "serve", "--config", str(tmp_path / "own.toml")]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "own.toml" in ended.stderr
    assert "--dev" not in ended.stderr


@pytest.mark.slow
def test_the_bundle_is_one_file_that_runs_with_python_alone(machine: Machine, tmp_path: Path) -> None:
    bundle = tmp_path / "sower.pex"
    machine.install_sh("bundle", "--output", str(bundle))
    alone = {"PATH": f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin", "PEX_ROOT": str(tmp_path / "pex")}
    ran = subprocess.run(
        [str(bundle), "--version"], env=alone, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("sower ")
    ran = subprocess.run(
        [str(bundle), "config", "init"], env=alone, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (tmp_path / "sower.toml").exists()
