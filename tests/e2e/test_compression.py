"""permessage-deflate over real sockets: shared, bounded, and only where it pays."""

from __future__ import annotations

import os
import socket
import struct
import zlib
from pathlib import Path

import pytest
import trio
from websockets.sync.client import connect

from tests.e2e.daemon import KEY, PATIENCE, Daemon, running

pytestmark = pytest.mark.usefixtures("sleep_after")

BOMB = 200 * 1024 * 1024
"""Bytes that 200 KiB of deflated zeros become."""


def follow(daemon: Daemon, channel: str, **more):  # type: ignore[no-untyped-def]
    return connect(
        f"ws://127.0.0.1:{daemon.port}/ws/{channel}?key={KEY}",
        proxy=None,
        open_timeout=PATIENCE,
        ping_timeout=None,
        **more,
    )


def memory(daemon: Daemon) -> int:
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def test_large_events_come_deflated_and_small_ones_as_they_are(tmp_path: Path) -> None:
    large, small = {"text": "all work and no play " * 200}, "hi"
    async with running(tmp_path) as daemon:

        def client(compression: str | None) -> tuple[list[str], int]:
            with follow(daemon, "kept-a", compression=compression) as ws:
                ws.recv()
                trio.from_thread.run(daemon.publish, "kept-a", large)
                trio.from_thread.run(daemon.publish, "kept-a", small)
                return [ws.recv(), ws.recv()], len(ws.protocol.extensions)

        deflated, extensions = await trio.to_thread.run_sync(client, "deflate")
        plain, none = await trio.to_thread.run_sync(client, None)
        assert (extensions, none) == (1, 0)
        assert [m.partition('"serial"')[0] for m in deflated] == [m.partition('"serial"')[0] for m in plain]


async def test_clients_may_deflate_what_they_publish(tmp_path: Path) -> None:
    text = "all work and no play " * 1000
    async with running(tmp_path) as daemon, daemon.socket("open-a") as listener:
        await listener.expect("welcome")

        def client() -> None:
            with follow(daemon, "open-a") as ws:
                ws.recv()
                ws.send(f'{{"type":"publish","event":"e","data":"{text}","id":"1"}}')
                assert '"ack"' in ws.recv()

        await trio.to_thread.run_sync(client)
        assert await listener.events(1) == [text]


def _masked(first: int, payload: bytes) -> bytes:
    mask = os.urandom(4)
    key = (mask * (len(payload) // 4 + 1))[: len(payload)]
    body = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(len(payload), "big")
    head = (
        bytes((first, 0x80 | 127)) + struct.pack("!Q", len(payload))
        if len(payload) > 65535
        else (bytes((first, 0x80 | 126)) + struct.pack("!H", len(payload)))
    )
    return head + mask + body


@pytest.mark.parametrize("size", [BOMB, 40 * 1024 * 1024])
async def test_a_bomb_gets_1009_and_costs_less_than_4_mib(tmp_path: Path, size: int) -> None:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = b"\x00" * (1024 * 1024)
    bomb = (
        b"".join(squeezer.compress(chunk) for _ in range(size // len(chunk))) + squeezer.flush(zlib.Z_SYNC_FLUSH)[:-4]
    )
    frame = _masked(0xC1, bomb)
    async with running(tmp_path) as daemon, daemon.socket("room") as neighbour:
        await neighbour.expect("welcome")

        def attack(data: bytes) -> bytes:
            with socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE) as sock:
                sock.sendall(
                    b"GET /ws/room HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
                    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
                )
                sock.sendall(data)
                answer = b""
                try:
                    while part := sock.recv(65536):
                        answer += part
                except ConnectionResetError:
                    pass
                return answer

        hello = _masked(0xC1, zlib.compressobj(9, zlib.DEFLATED, -15).flush(zlib.Z_SYNC_FLUSH)[:-4] + b"\x00" * 200)
        await trio.to_thread.run_sync(attack, hello)
        before = memory(daemon)
        answer = await trio.to_thread.run_sync(attack, frame)
        assert struct.pack("!H", 1009) in answer
        assert memory(daemon) - before < 4 * 1024 * 1024
        await daemon.publish("room", "still here")
        assert await neighbour.events(1) == ["still here"]


async def test_a_client_that_wants_a_small_window_is_sent_plain_frames(tmp_path: Path) -> None:
    from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

    text = "all work and no play " * 1000
    async with running(tmp_path) as daemon:

        def client() -> str:
            offer = ClientPerMessageDeflateFactory(server_max_window_bits=9, client_max_window_bits=True)
            with follow(daemon, "room", compression=None, extensions=[offer]) as ws:
                ws.recv()
                trio.from_thread.run(daemon.publish, "room", text)
                return str(ws.recv())

        assert text in await trio.to_thread.run_sync(client)
