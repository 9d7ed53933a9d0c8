"""net/tls.py over a real socket pair, with Python's own client at the other end."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from sower.config import Server
from sower.errors import ConfigError
from sower.net.frames import Compression, WebSocketFraming
from sower.net.tap import TappedWire
from sower.net.tls import Certificate, TlsWire
from tests.certificates import make_certificate


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("pem"))


@asynccontextmanager
async def ends(pem: tuple[Path, Path]) -> AsyncGenerator[tuple[TlsWire, trio.SSLStream[trio.SocketStream]]]:
    """Our wire and a client's stream, after the handshake."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    certificate = Certificate()
    certificate.load(Server(certificate=str(pem[0]), certificate_key=str(pem[1])))
    wire = TlsWire(ours, "127.0.0.1", None, certificate)
    context = ssl.create_default_context(cafile=str(pem[0]))
    stream = trio.SSLStream(
        trio.SocketStream(trio.socket.from_stdlib_socket(theirs)), context, server_hostname="localhost"
    )
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.do_handshake)
            assert await wire.handshake()
        yield wire, stream
    wire.close()
    await trio.aclose_forcefully(stream)


async def receive(stream: trio.SSLStream[trio.SocketStream], length: int) -> bytes:
    got = b""
    while len(got) < length:
        part = await stream.receive_some()
        assert part
        got += part
    return got


async def test_it_sends_in_one_call_and_receives(pem: tuple[Path, Path]) -> None:
    async with ends(pem) as (wire, stream):
        assert wire.send_now(b"hello") == 5
        assert await receive(stream, 5) == b"hello"
        assert wire.recv_now(10) is None
        await stream.send_all(b"and back")
        assert await wire.recv() == b"and back"


async def test_a_large_message_goes_out_as_the_client_reads_it_and_in_order(pem: tuple[Path, Path]) -> None:
    data = bytes(range(256)) * 16384
    async with ends(pem) as (wire, stream), trio.open_nursery() as nursery:
        nursery.start_soon(wire.send_all, data)
        assert await receive(stream, len(data)) == data


async def test_what_a_full_socket_took_in_part_is_whole_though_something_else_is_sent_next(
    pem: tuple[Path, Path],
) -> None:
    """What waited was dropped, because its client is too slow: the goodbye comes behind a whole record."""
    async with ends(pem) as (wire, stream):
        record, sent = b"a" * 16384, 0
        while wire.send_now(record) == len(record):
            sent += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wire.send_all, b"goodbye")
            got = await receive(stream, sent * len(record) + len(b"goodbye"))
            while not got.endswith(b"goodbye"):
                got += await stream.receive_some()
        assert set(got[: -len(b"goodbye")]) == {ord("a")}
        assert (len(got) - len(b"goodbye")) % len(record) == 0


async def test_a_wire_that_is_watched_waits_for_the_rest_of_a_record_and_for_room_as_before(
    pem: tuple[Path, Path],
) -> None:
    async with ends(pem) as (wire, stream):
        watched = TappedWire(wire, WebSocketFraming(Compression()), lambda passing: None)
        assert watched.recv_now(10) is None
        record, sent = b"\x82\x7e\x3f\xfc".ljust(16384, b"a"), 0
        while watched.send_now(record) == len(record):
            sent += 1
        assert await receive(stream, sent * len(record)) == record * sent
        watched.finish()


async def test_nothing_decrypted_is_left_where_no_epoll_sees_it(pem: tuple[Path, Path]) -> None:
    async with ends(pem) as (wire, stream):
        await stream.send_all(b"x" * 16384)
        got = await wire.recv(1)
        while len(got) < 16384:
            await trio.lowlevel.wait_readable(wire.sock)
            got += wire.recv_now(1) or b""
        assert got == b"x" * 16384


async def test_its_end_is_a_close_notify_and_so_is_the_client_s(pem: tuple[Path, Path]) -> None:
    async with ends(pem) as (wire, stream):
        wire.finish()
        assert await stream.receive_some() == b""  # without a close_notify this raises
    async with ends(pem) as (wire, stream):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.aclose)
            assert await wire.recv() == b""
            wire.close()


async def test_who_does_not_speak_tls_is_no_client() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.send(b"GET / HTTP/1.1\r\n\r\n")
    assert not await TlsWire(ours, "127.0.0.1", None, Certificate()).handshake()
    theirs.close()
    ours.close()


def test_a_certificate_that_cannot_be_used_is_an_error_of_the_config_and_the_old_one_stays(
    pem: tuple[Path, Path], tmp_path: Path
) -> None:
    certificate = Certificate()
    certificate.load(Server(certificate=str(pem[0]), certificate_key=str(pem[1])))
    before = certificate.context
    (tmp_path / "bad.pem").write_text("no certificate")
    for server in (Server(certificate=str(tmp_path / "none.pem")), Server(certificate=str(tmp_path / "bad.pem"))):
        with pytest.raises(ConfigError, match=r"server\.certificate"):
            certificate.load(server)
    assert certificate.context is before


def test_a_key_with_a_password_is_told_and_asks_nobody(tmp_path: Path) -> None:
    """OpenSSL would ask at the terminal, where the daemon with all its clients would wait."""
    certificate, key = make_certificate(tmp_path)
    locked = tmp_path / "locked.key"
    words = ["openssl", "pkey", "-aes128", "-passout", "pass:a-word", "-in", str(key), "-out", str(locked)]
    subprocess.run(words, check=True, capture_output=True)
    with pytest.raises(ConfigError, match="its key has a password"):
        Certificate().load(Server(certificate=str(certificate), certificate_key=str(locked)))
