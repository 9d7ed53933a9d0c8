"""What a client says cannot begin a header, a line of the log or of a record, whatever characters it is made of."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import quote

import trio

from tests.abuse.credentials import SUB
from tests.e2e.daemon import CONFIG, KEY, PATIENCE, SECRET, running
from tests.e2e.raw import connection
from tests.scenarios.stage import BASIC

EVIL = 'a\r\nX-Injected: yes\r\n\r\n{"event":"forged"}\x1b[2J\u2028\u202e'
RAW = "a\rX-Injected: yes"
"""Without a line feed: it stays in one header's value as far as a parser takes it."""


def _requests() -> list[bytes]:
    evil, latin = quote(EVIL, safe=""), "Origin: http://\xe9vil\x7f\x01"
    plain = [
        f"GET /history/{evil} HTTP/1.1",
        f"GET /nowhere/{evil}?{evil}={evil} HTTP/1.1",
        f"GET /ws/{evil}?key={evil}&user={evil}&token={evil} HTTP/1.1",
        f"GET /ws/room?key={KEY}&user={evil}&since={evil} HTTP/1.1",
        f"GET /sse/room?key={KEY}&user={evil} HTTP/1.1",
        f"GET /presence/{evil} HTTP/1.1",
        f"GET /app/{evil}?protocol={evil} HTTP/1.1",
        f"GET /apps/1001/channels/{evil}?auth_key={evil}&auth_timestamp={evil}&auth_signature={evil} HTTP/1.1",
        f"GET /channels/{evil}/messages?start={evil}&direction={evil} HTTP/1.1",
        f"GET /keys/{evil}/requestToken HTTP/1.1",
        f"GET /v2/subscribe/{SUB}/{evil}/0?tt=0&uuid={evil} HTTP/1.1",
        f"GET /publish/pub-{KEY}/{SUB}/0/room/{evil}/0?uuid={evil} HTTP/1.1",
        f"GET /v2/history/sub-key/{SUB}/channel/room?callback={evil} HTTP/1.1",
    ]
    headers = [
        latin,
        f"Origin: {RAW}",
        f"Origin: http://x/{evil}",
        f"User-Agent: {RAW}",
        f"X-Forwarded-For: {evil}, {RAW}",
        f"Last-Event-ID: {evil}",
        f"Authorization: {RAW}",
        f"Sec-WebSocket-Protocol: {evil}, sower.v1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"X-Ably-ClientId: {evil}",
        f"Host: {RAW}",
    ]
    heads = [f"{line}\r\nHost: h\r\nAuthorization: Basic {BASIC}" for line in plain]
    heads += [f"GET /ws/room?key={KEY} HTTP/1.1\r\nHost: h\r\n{header}" for header in headers]
    heads += [f"GET /channels HTTP/1.1\r\nHost: h\r\n{header}" for header in headers]
    return [(head + "\r\nConnection: close\r\n\r\n").encode("latin-1") for head in heads]


async def test_no_answer_has_a_header_that_a_client_made_and_no_line_of_log_or_audit_is_two(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG, 'trusted_proxies = ["127.0.0.1"]') as daemon:
        for request in _requests():
            async with connection(daemon) as raw:
                await raw.send(request)
                head, _, _ = (await raw.until(b"\r\n\r\n")).partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 "), (request, raw.heard)
                assert not any(line.lower().startswith(b"x-injected") for line in head.splitlines()), request
                assert all(32 <= byte < 127 for byte in head.replace(b"\r\n", b"")), (request, head)
        for name in ("event", "channel"):
            body = {"channel": "room", "event": "e", "data": 1, name: EVIL}
            answer = await daemon.request("POST", "/events/publish", json=body)
            assert answer.status_code == 400, name
        minted = await daemon.request("POST", "/channels/room/auth", json={"user": EVIL})
        assert minted.status_code == 400
        async with daemon.socket("room") as listener:
            await listener.expect("welcome")
            await daemon.publish("room", EVIL)
            assert await listener.events(1) == [EVIL], "data is anybody's own, and comes as it was"
        assert daemon.process is not None
        stderr = daemon.process.stderr
        assert stderr is not None
        daemon.process.terminate()
        with trio.fail_after(PATIENCE):
            said = (await trio.to_thread.run_sync(stderr.read, abandon_on_cancel=True)).decode()
        await daemon.stop()
    lines = [line for line in said.split("\n") if line]
    assert [json.loads(line)["event"] for line in lines] == ["draining"], said
    audit = await trio.run_process(
        [sys.executable, "-m", "sower", "audit", "--config", str(daemon.config), "--json", "--limit", "1000"],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert audit.returncode == 0, audit.stderr
    records = [json.loads(line) for line in audit.stdout.split(b"\n") if line]
    assert any(record["kind"] == "refused" for record in records)
    shown = await trio.run_process(
        [sys.executable, "-m", "sower", "audit", "--config", str(daemon.config), "--limit", "1000"],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert b"\x1b[2J" not in shown.stdout
    assert SECRET not in said
