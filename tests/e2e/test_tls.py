"""TLS and proxies in a real daemon: curl and a WebSocket over TLS, a renewed certificate, and who is believed."""

from __future__ import annotations

import base64
import socket
import ssl
from pathlib import Path

import pytest
import trio
from trio_websocket import open_websocket_url

from sower.errors import TooManyConnections
from tests.certificates import make_certificate
from tests.e2e.daemon import KEY, PATIENCE, SECRET, Daemon, free_port, running


@pytest.fixture
def port() -> int:
    return free_port()


async def with_tls(daemon: Daemon, port: int, more: str = "") -> None:
    """Start it again with a second address that speaks TLS."""
    await daemon.stop()
    make_certificate(daemon.folder)
    text = daemon.config.read_text().replace(
        "[server]\nlisten = [",
        f'[server]\n{more}certificate = "localhost.pem"\ncertificate_key = "localhost.key"\nlisten = [',
    )
    daemon.config.write_text(text.replace(f'{daemon.port}"]', f'{daemon.port}", "tls:127.0.0.1:{port}"]'))
    await daemon.start(keep_config=True)


async def test_curl_publishes_and_a_websocket_hears_it_over_tls(tmp_path: Path, port: int) -> None:
    async with running(tmp_path) as daemon:
        await with_tls(daemon, port)
        trusting = ssl.create_default_context(cafile=str(tmp_path / "localhost.pem"))
        url = f"wss://localhost:{port}/ws/news?key={KEY}"
        with trio.fail_after(PATIENCE * 3):
            async with open_websocket_url(url, ssl_context=trusting) as client:
                await client.get_message()
                curl = [
                    "curl",
                    "--silent",
                    "--fail",
                    "--cacert",
                    str(tmp_path / "localhost.pem"),
                    "-u",
                    f"{KEY}:{SECRET}",
                ]
                said = '{"channel": "news", "event": "e", "data": "%s"}' % ("x" * 50_000)
                curl += ["-d", said, f"https://localhost:{port}/events/publish"]
                published = await trio.run_process(curl, capture_stdout=True)
                assert b'"serial"' in published.stdout
                assert "x" * 50_000 in await client.get_message()


async def test_a_renewed_certificate_is_shown_after_a_reload_and_no_connection_is_lost(
    tmp_path: Path, port: int
) -> None:
    async with running(tmp_path) as daemon:
        await with_tls(daemon, port)
        first = await trio.to_thread.run_sync(ssl.get_server_certificate, ("127.0.0.1", port))
        trusting = ssl.create_default_context(cafile=str(tmp_path / "localhost.pem"))
        with trio.fail_after(PATIENCE * 3):
            async with open_websocket_url(f"wss://localhost:{port}/ws/news?key={KEY}", ssl_context=trusting) as client:
                await client.get_message()
                make_certificate(tmp_path)
                assert (await daemon.request("POST", "/reload")).status_code == 200
                assert await trio.to_thread.run_sync(ssl.get_server_certificate, ("127.0.0.1", port)) != first
                await daemon.publish("news", "still here")
                assert "still here" in await client.get_message()
        (tmp_path / "localhost.pem").write_text("broken")
        refused = await daemon.request("POST", "/reload")
        assert "server.certificate" in refused.json()["error"]["message"]
        assert await trio.to_thread.run_sync(ssl.get_server_certificate, ("127.0.0.1", port)) != first


async def test_who_says_nothing_or_no_tls_is_closed_in_time(tmp_path: Path, port: int) -> None:
    async with running(tmp_path) as daemon:
        await with_tls(daemon, port, 'head_timeout = "2s"\n')
        with trio.fail_after(PATIENCE):
            for said in (b"", b"GET / HTTP/1.1\r\n\r\n"):
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    if said:
                        await stream.send_all(said)
                    try:
                        while await stream.receive_some():
                            pass  # an alert
                    except trio.BrokenResourceError:
                        pass
        assert (await daemon.request("GET", "/channels")).status_code == 200


FORWARDED = "X-Forwarded-For: 6.6.6.6, 198.51.100.1\r\n"

PROXY = b"PROXY TCP4 203.0.113.7 127.0.0.1 5000 80\r\n"


async def address_of(daemon: Daemon, first: bytes = b"", more: str = "") -> str:
    """Connect as a proxy would. Returns the address that the daemon takes the client for."""
    async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as client:
        await client.send_all(
            first
            + f"GET /ws/news?key={KEY} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{more}"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        heard = b""
        while b'"welcome"' not in heard:
            try:
                part = await client.receive_some()
            except trio.BrokenResourceError:
                part = b""
            if not part:
                return "closed"
            heard += part
        basic = base64.b64encode(f"{KEY}:{SECRET}".encode()).decode()
        async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as operator:
            ask = f"GET /sessions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Basic {basic}\r\n\r\n"
            await operator.send_all(first + ask.encode())
            heard = b""
            while part := await operator.receive_some():
                heard += part
    return heard.partition(b'"address":"')[2].partition(b'"')[0].decode()


@pytest.mark.parametrize(
    ("server", "first", "more", "address"),
    [
        ("", b"", FORWARDED, "127.0.0.1"),
        ('trusted_proxies = ["10.0.0.0/8"]', b"", FORWARDED, "127.0.0.1"),
        ('trusted_proxies = ["127.0.0.0/8"]', b"", FORWARDED, "198.51.100.1"),
        ('trusted_proxies = ["127.0.0.1"]\nproxy_protocol = true', PROXY, "", "203.0.113.7"),
        ('trusted_proxies = ["127.0.0.1"]\nproxy_protocol = true', PROXY, FORWARDED, "203.0.113.7"),
        ('trusted_proxies = ["127.0.0.1"]\nproxy_protocol = true', b"", "", "closed"),
        ('trusted_proxies = ["10.0.0.1"]\nproxy_protocol = true', b"", "", "127.0.0.1"),
        ('trusted_proxies = ["127.0.0.1"]', PROXY, "", "closed"),
    ],
)
async def test_only_a_trusted_proxy_is_believed_and_only_as_configured(
    tmp_path: Path, server: str, first: bytes, more: str, address: str
) -> None:
    async with running(tmp_path, server=server) as daemon:
        with trio.fail_after(PATIENCE):
            assert await address_of(daemon, first, more) == address


async def test_a_proxy_header_comes_before_the_tls_handshake(tmp_path: Path, port: int) -> None:
    async with running(tmp_path) as daemon:
        await with_tls(daemon, port, 'trusted_proxies = ["127.0.0.1"]\nproxy_protocol = true\n')
        with trio.fail_after(PATIENCE), socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(PROXY)
            trusting = ssl.create_default_context(cafile=str(tmp_path / "localhost.pem"))

            def ask() -> bytes:
                with trusting.wrap_socket(plain, server_hostname="localhost") as client:
                    client.sendall(b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                    return client.makefile("rb").read()

            assert b'{"live":true}' in await trio.to_thread.run_sync(ask)


async def test_all_clients_of_a_trusted_proxy_are_not_one_address_to_the_caps(tmp_path: Path) -> None:
    limits = 'trusted_proxies = ["127.0.0.1"]\n[limits]\nconnections_per_address = 1'
    async with running(tmp_path, server=limits) as daemon, daemon.socket("a") as a, daemon.socket("b") as b:
        await a.expect("welcome")
        await b.expect("welcome")
    async with running(tmp_path, server=limits.replace("127.0.0.1", "10.0.0.1")) as daemon, daemon.socket("a") as a:
        await a.expect("welcome")
        assert (await daemon.request("GET", "/channels")).json()["error"]["code"] == TooManyConnections.code
