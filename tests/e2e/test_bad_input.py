"""Bad input through real sockets: each gets a clear error, the daemon lives, and its neighbours hear nothing of it."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import apsw
import jwt
import pytest
import trio

from sower.store.schema import VERSION
from tests.e2e.daemon import CONFIG, KEY, SECRET, running
from tests.e2e.raw import closes_with, connection, masked, text, upgraded

FRAMES: dict[str, tuple[bytes, bytes]] = {
    "truncated JSON": (text('{"type":"publish","event":'), b"bad_frame"),
    "no JSON": (text("hello"), b"bad_frame"),
    "an unknown type": (text('{"type":"shout"}'), b"bad_frame"),
    "no type": (text("{}"), b"bad_frame"),
    "a field of a wrong type": (text('{"type":"publish","event":7}'), b"bad_frame"),
    "JSON nested a thousand deep": (text("[" * 1000 + "]" * 1000), b"bad_frame"),
    "an empty event name": (text('{"type":"publish","event":""}'), b"bad_event"),
    "an event name with a control character": (text('{"type":"publish","event":"a\\u0007"}'), b"bad_event"),
    "an event name too long": (text(json.dumps({"type": "publish", "event": "a" * 201})), b"bad_event"),
    "an id too long": (text(json.dumps({"type": "publish", "event": "a", "id": "i" * 201})), b"bad_frame"),
    "a binary frame": (masked(0x82, b'{"type":"ping"}'), b"bad_frame"),
    "a bad token": (text('{"type":"token","token":"nonsense"}'), b"bad_token"),
    "meta without presence": (text('{"type":"presence","meta":1}'), b"presence_off"),
}
"""What is told and forgiven."""

BROKEN: dict[str, tuple[bytes, int]] = {
    "text that is no UTF-8": (masked(0x81, b"\xff\xfe"), 1007),
    "an unmasked frame": (b"\x81\x02{}", 1002),
    "reserved bits": (masked(0xF1, b"{}"), 1002),
    "an unknown opcode": (masked(0x83, b"{}"), 1002),
    "a fragmented ping": (masked(0x09, b""), 1002),
    "a ping too long": (masked(0x89, b"x" * 126), 1002),
    "a continuation of nothing": (masked(0x80, b"{}"), 1002),
    "a close code that is none": (masked(0x88, b"\x00\x01"), 1002),
    "a frame too large": (masked(0x81, b"x" * 70_000), 1009),
    "fragments too large": (masked(0x01, b"x" * 60_000) + masked(0x80, b"x" * 60_000), 1009),
}
"""What ends the socket, with the close code of RFC 6455 section 7.4.1."""


async def test_frames_that_mean_nothing_are_told_so_and_the_socket_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("open-room") as neighbour:
        await neighbour.expect("welcome")
        for name, (frame, code) in FRAMES.items():
            async with upgraded(daemon) as raw:
                await raw.send(frame)
                heard = await raw.until(b'"hint"')
                assert code in heard, name
                await raw.send(text('{"type":"ping"}'))
                await raw.until(b'"pong"')
        await daemon.publish("open-room", "all is well")
        assert await neighbour.events(1) == ["all is well"]


async def test_sockets_that_break_the_protocol_are_closed_with_its_code(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("open-room") as neighbour:
        await neighbour.expect("welcome")
        for name, (frame, code) in BROKEN.items():
            async with upgraded(daemon) as raw:
                await raw.send(frame)
                assert closes_with(code) in await raw.rest(), name
        await daemon.publish("open-room", "all is well")
        assert await neighbour.events(1) == ["all is well"]


async def test_who_goes_on_with_nonsense_is_closed(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, upgraded(daemon) as raw:
        await raw.send(text("nonsense") * 20)
        heard = await raw.until(closes_with(4502))
        assert heard.count(b'"bad_frame"') == 12, "ten are forgiven; the eleventh ends it"


def _tokens() -> dict[str, tuple[str, str]]:
    good: dict[str, Any] = {"exp": 4_000_000_000, "channels": {"private-a": ["*"]}}

    def made(claims: dict[str, Any], secret: str = SECRET, alg: str = "HS256", **headers: str) -> str:
        return jwt.encode(claims, secret if alg != "none" else None, alg, headers={"kid": KEY, **headers})

    return {
        "expired": (made({**good, "exp": 1_000_000_000}), "token_expired"),
        "forged": (made(good, "another-secret-0123456789"), "bad_token"),
        "alg none": (made(good, alg="none"), "bad_token"),
        "alg HS512": (made(good, alg="HS512"), "bad_token"),
        "without expiry": (made({"channels": {"private-a": ["*"]}}), "bad_token"),
        "for another channel": (made({**good, "channels": {"private-b": ["*"]}}), "forbidden"),
        "without the capability": (made({**good, "channels": {"private-a": ["history"]}}), "forbidden"),
        "of another key": (made(good, kid="stranger"), "unknown_key"),
        "nonsense": ("nonsense", "bad_token"),
    }


async def test_a_token_that_proves_nothing_opens_no_socket_and_publishes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        for name, (token, code) in _tokens().items():
            async with daemon.socket("private-a", token=token) as client:
                error = await client.expect("error")
                assert (error["code"], bool(error["hint"])) == (code, True), name
                close, reason = await client.closing()
                assert (reason, 4000 <= close < 5000) == (code, True), name
            answer = await daemon.request(
                "POST",
                "/events/publish",
                auth=False,
                headers={"Authorization": f"Bearer {token}"},
                json={"channel": "private-a", "event": "e"},
            )
            assert answer.status_code in (401, 403), name
            assert answer.json()["error"]["code"] == code, name
        assert daemon.alive


async def test_who_is_turned_away_and_gone_already_is_no_error_of_the_daemon(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        for _ in range(100):
            stream = await trio.open_tcp_stream("127.0.0.1", daemon.port)
            await stream.send_all(
                b"GET /ws/news?key=nobody HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            )
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await trio.aclose_forcefully(stream)
        process = daemon.process
        assert process is not None
        process.terminate()
        told = await trio.to_thread.run_sync(process.communicate)
        assert b'"level": "error"' not in told[1]


BODIES: dict[str, tuple[bytes, int, str]] = {
    "truncated JSON": (b'{"channel":"a"', 400, "bad_json"),
    "no UTF-8": (b'{"channel":"\xff"}', 400, "bad_json"),
    "no JSON": (b"channel=a", 400, "bad_json"),
    "nothing": (b"", 400, "bad_json"),
    "an unknown field": (b'{"channel":"a","event":"e","chanel":"b"}', 400, "bad_json"),
    "no channel": (b'{"event":"e"}', 400, "bad_request"),
    "two kinds of channels": (b'{"channel":"a","channels":["b"],"event":"e"}', 400, "bad_request"),
    "an empty batch": (b'{"events":[]}', 400, "bad_request"),
    "a batch in a batch": (b'{"events":[{"events":[]}]}', 400, "bad_request"),
    "a channel name too long": (json.dumps({"channel": "a" * 257, "event": "e"}).encode(), 400, "bad_channel_name"),
    "a control character": (b'{"channel":"a\\u0000","event":"e"}', 400, "bad_channel_name"),
    "a reserved channel": (b'{"channel":"[meta]activity","event":"e"}', 403, "forbidden"),
    "data too large": (
        json.dumps({"channel": "a", "event": "e", "data": "x" * 70_000}).encode(),
        413,
        "message_too_large",
    ),
    "a body too large": (b'{"channel":"a","event":"e","data":"' + b"x" * 1_100_000 + b'"}', 413, "body_too_large"),
    "too many at once": (json.dumps({"channels": ["a"] * 1001, "event": "e"}).encode(), 413, "too_large"),
}


async def test_bad_bodies_are_told_what_is_wrong(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        for name, (body, status, code) in BODIES.items():
            answer = await daemon.request("POST", "/events/publish", content=body)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (status, code), name
            assert error["message"], name


async def test_who_shows_no_right_secret_is_told_nothing_of_its_body(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + "[limits]\nrefusals = '100/s burst 100'\n") as daemon:
        wrong = {"Authorization": f"Basic {b64encode(f'{KEY}:wrong'.encode()).decode()}"}
        for path in ("/events/publish", "/channels/private-a/auth", "/apps"):
            for headers in (wrong, {"Authorization": "Bearer nonsense"}):
                answer = await daemon.request("POST", path, auth=False, headers=headers, content=b'{"channel":')
                assert (answer.status_code, path) == (401, path)
        for name, (body, _, _) in BODIES.items():
            if len(body) < 1_000_000:  # what is over server.max_body is not read
                answer = await daemon.request("POST", "/events/publish", auth=False, headers=wrong, content=body)
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "wrong_secret"), name
        answer = await daemon.request("GET", "/history/kept-a?limit=0", auth=False, headers=wrong)
        assert answer.status_code == 401


async def test_bad_queries_are_told_what_is_wrong(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        for path, code in (
            ("/history/kept-a?limit=0", "bad_request"),
            ("/history/kept-a?limit=1001", "bad_request"),
            ("/history/kept-a?order=up", "bad_request"),
            ("/history/kept-a?since=yesterday", "bad_position"),
            ("/history/" + "a" * 300, "bad_channel_name"),
            ("/history/room", "history_off"),
            ("/presence/room", "presence_off"),
            ("/histry/kept-a", "not_found"),
        ):
            assert (await daemon.request("GET", path)).json()["error"]["code"] == code, path
        for name, code in (
            ("a" * 257, "bad_channel_name"),
            ("a%00b", "bad_channel_name"),
            ("a?since=x", "bad_position"),
        ):
            async with connection(daemon) as raw:
                await raw.send(
                    f"GET /ws/{name} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
                )
                assert code.encode() in await raw.until(b'"hint"')
        name = "ünï cödé/?#日本"
        from urllib.parse import quote

        async with daemon.socket(quote(name, safe="")) as client:
            assert (await client.expect("welcome"))["channel"] == name


SLOW = 'head_timeout = "3s"\nbody_timeout = "3s"'


async def test_a_socket_that_never_speaks_and_one_that_sends_a_byte_now_and_then_are_closed(tmp_path: Path) -> None:
    async with running(tmp_path, server=SLOW) as daemon, connection(daemon) as silent, connection(daemon) as slow:
        async with trio.open_nursery() as nursery:

            async def drip() -> None:
                for byte in b"GET /channels HTTP/1.1\r\nX: " + b"a" * 10_000:
                    try:
                        await slow.send(bytes((byte,)))
                        await daemon.publish("room", "meanwhile")
                    except trio.BrokenResourceError:
                        return

            nursery.start_soon(drip)
            for raw in (silent, slow):
                heard = await raw.rest()
                assert heard.startswith(b"HTTP/1.1 408 ")
                assert b"handshake_timeout" in heard
            nursery.cancel_scope.cancel()


# What a daemon refuses to start with


def start(folder: Path, config: str) -> subprocess.CompletedProcess[str]:
    (folder / "sower.toml").write_text(config)
    command = [sys.executable, "-m", "sower", "serve", "--config", str(folder / "sower.toml")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=folder)


def _database(kind: str, folder: Path) -> None:
    if kind == "unreadable":
        (folder / "sower.db").mkdir()
    elif kind == "no database":
        (folder / "sower.db").write_text("hello, I am no database " * 100)
    else:
        apsw.Connection(str(folder / "sower.db")).execute(f"CREATE TABLE t(x); PRAGMA user_version = {VERSION + 1}")


@pytest.mark.parametrize("kind", ["unreadable", "no database", "newer"])
def test_a_database_that_cannot_be_used_ends_the_start_with_5(tmp_path: Path, kind: str) -> None:
    _database(kind, tmp_path)
    ended = start(tmp_path, '[server]\nlisten = ["127.0.0.1:0"]\n' + CONFIG)
    assert ended.returncode == 5
    assert "sower.db" in ended.stderr
    assert "hint:" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("[server\n", "line 1"),
        ("[server]\nlisten = [\n", "no TOML"),
        (
            '[server]\nlisten = ["127.0.0.1:0"]\nlisen = 1\n' + CONFIG,
            "sower.toml:3: server.lisen: unknown key; did you mean listen?",
        ),
        ('[server]\ndrain_for = "10"\n' + CONFIG, "sower.toml:2: server.drain_for"),
        ("", "at least one [[apps]]"),
    ],
)
def test_a_bad_config_ends_the_start_with_5_and_names_line_and_key(tmp_path: Path, config: str, told: str) -> None:
    ended = start(tmp_path, config)
    assert ended.returncode == 5
    assert told in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_port_that_is_taken_ends_the_start_and_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = start(tmp_path, f'[server]\nlisten = ["127.0.0.1:{port}"]\n' + CONFIG)
    assert ended.returncode == 1
    assert f"Another process listens at 127.0.0.1:{port}." in ended.stderr
