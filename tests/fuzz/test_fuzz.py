"""Every parser under atheris: a few seconds each here, beginning with these seeds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

SEEDS: dict[str, list[bytes]] = {
    "frames": [
        b"\x81\x85abcd\x09\x07\x0f\x08\x0e",
        b"\x01\x80abcd\x89\x80abcd\x80\x80abcd",
        b"\xc1\x87abcd\xcb\x2a\xae\xad",
    ],
    "http": [
        b"GET /ws/a?key=k HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"POST /e HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"POST /e HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
    ],
    "native": [
        b'{"type":"publish","event":"e","data":{"a":[1,"x"]},"id":"1","echo":true}',
        b'{"type":"presence","meta":1}',
    ],
    "sockjs": [b'["{\\"event\\":\\"pusher:ping\\"}","\\u2603"]', b"[]"],
    "tokens": [b"eyJhbGciOiJIUzI1NiIsImtpZCI6ImtleSJ9.eyJleHAiOjE5MDAwMDAwMDB9.c2lnbmF0dXJl"],
    "positions": [b"1f0c9a3e:17324812345678901", b"17"],
}


@pytest.mark.parametrize("target", TARGETS)
def test_an_invariant_holds_for_whatever_is_tried_in_two_seconds(target: str, tmp_path: Path) -> None:
    for number, seed in enumerate(SEEDS[target]):
        TARGETS[target](seed)
        (tmp_path / str(number)).write_bytes(seed)
    options = [
        "-max_total_time=2",
        "-timeout=5",
        "-rss_limit_mb=1024",
        "-max_len=4096",
        f"-artifact_prefix={tmp_path}/",
    ]
    command = [sys.executable, "-m", "tests.fuzz", target, *options, str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert "Done" in ran.stderr
