"""The daemon over stub sockets: everybody joins, and a broadcast reaches all."""

from __future__ import annotations

import json
import subprocess
import sys


def test_a_daemon_serves_clients_whose_sockets_are_stubs() -> None:
    command = [sys.executable, "-m", "tests.bench.records", "500"]
    told = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=60).stdout)
    assert set(told) >= {"bytes each", "memory in all", "join", "a broadcast to all"}
    assert told["bytes each"][0] < 20_000
