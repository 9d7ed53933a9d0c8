"""The systemd units: how exposed the service is, and that they name what there is."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from sower.config import Config

CONFIG = Path(__file__).parents[1] / "config"


def test_the_service_is_hardened_to_a_score_of_1_5_at_most(tmp_path: Path) -> None:
    unit = tmp_path / "sower.service"
    unit.write_text((CONFIG / "sower.service").read_text().replace("/opt/sower/bin/sower", "/bin/true"))
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        check=True,
    )
    score = re.search(r"Overall exposure level for sower.service: ([\d.]+)", judged.stdout)
    assert score is not None, judged.stdout
    assert float(score[1]) <= 1.5


def test_systemd_finds_nothing_wrong_with_either_unit(tmp_path: Path) -> None:
    for name in ("sower.service", "sower.socket"):
        text = (CONFIG / name).read_text().replace("/opt/sower/bin/sower", "/bin/true")
        (tmp_path / name).write_text(re.sub("^Documentation=.*\n", "", text, flags=re.MULTILINE))
    units = [str(tmp_path / name) for name in ("sower.service", "sower.socket")]
    judged = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert [line for line in judged.stderr.splitlines() if "sower" in line] == []


def test_the_socket_unit_listens_where_the_config_does_and_a_stop_has_its_time() -> None:
    server = Config().server
    assert f"ListenStream={server.listen[0]}\n" in (CONFIG / "sower.socket").read_text()
    limit = re.search(r"^TimeoutStopSec=(\d+)$", (CONFIG / "sower.service").read_text(), re.MULTILINE)
    assert limit is not None
    assert int(limit[1]) > server.drain_for
