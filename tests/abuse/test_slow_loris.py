"""1,000 sockets that send a byte a second, whatever they have begun: all closed in 10 s, and a client hears nothing of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from pathlib import Path

import trio

from tests.certificates import make_certificate
from tests.e2e.daemon import CONFIG, KEY, PATIENCE, Daemon, free_port
from tests.e2e.followers import Follower
from tests.scenarios.leaks import memory

EACH = 100
WITHIN = 10.0
NOISE = 10.0
"""Seconds that this process may be late about noticing, as one of many on a small machine; else they stay for ever."""

CONNECTS_IN = 0.1
"""Seconds, or ten times what it takes before the attack, where the machine has much else to do."""

GROWTH = 24 * 1024 * 1024
"""Bytes that 1,000 half said things may cost while they last: 24 KiB each, most of it TLS."""

HEAD = b"GET /channels HTTP/1.1\r\nHost: h\r\nX-Slow: "
UPGRADE = (
    f"GET /ws/open-a?key={KEY} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
).encode()
PUSHER = UPGRADE.replace(b"/ws/open-a?key=" + KEY.encode(), b"/app/" + KEY.encode() + b"?protocol=7")
POST = b"POST /events/publish HTTP/1.1\r\nHost: h\r\n"


def again(piece: bytes) -> Iterator[bytes]:
    while True:
        yield piece


KINDS: dict[str, tuple[bytes, bytes, bool]] = {
    "says nothing": (b"", b"", False),
    "a head": (HEAD, b"a", False),
    "a WebSocket's head": (UPGRADE + b"X-Slow: ", b"a", False),
    "says nothing in TLS": (b"", b"", True),
    "a TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\x00", True),
    "a body": (POST + b"Content-Length: 1000\r\n\r\n", b"{", False),
    "a chunked body": (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n", False),
    "a frame": (UPGRADE + b"\r\n\x81\xfe\x10\x00\0\0\0\0", b"{", False),
    "fragments": (UPGRADE + b"\r\n\x01\x80\0\0\0\0", b"\x00\x81\0\0\0\0{", False),
    "pings within a message of Pusher's": (PUSHER + b"\r\n\x01\x81\0\0\0\0{", b"\x89\x80\0\0\0\0", False),
}
"""What is begun, what is said every second, and whether to the port that speaks TLS."""


async def test_1000_slow_sockets_are_all_closed_in_10_s_and_a_client_connects_in_under_100_ms(tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path)
    tls, plain = free_port(), free_port()
    server = f'certificate = "{certificate}"\ncertificate_key = "{key}"'
    daemon = Daemon(tmp_path, CONFIG, server)
    daemon.port = plain
    daemon.config.write_text(
        f'[server]\nlisten = ["127.0.0.1:{plain}", "tls:127.0.0.1:{tls}"]\n{server}\n[store]\npath = "sower.db"\n{CONFIG}'
    )
    daemon.config.chmod(0o600)
    await daemon.start(keep_config=True)
    try:
        assert daemon.process is not None
        closed = dict[str, list[float]]()

        async def drip(name: str) -> None:
            begun, piece, encrypted = KINDS[name]
            stream = await trio.open_tcp_stream("127.0.0.1", tls if encrypted else plain)
            began = trio.current_time()
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    try:
                        while await stream.receive_some():
                            pass
                    except trio.BrokenResourceError:
                        pass
                    closed.setdefault(name, []).append(trio.current_time() - began)
                    nursery.cancel_scope.cancel()

                nursery.start_soon(read)
                try:
                    if begun:
                        await stream.send_all(begun)
                    for more in again(piece):
                        await trio.sleep(1)
                        if more:
                            await stream.send_all(more)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    await trio.sleep_forever()  # the reader knows when
            await trio.aclose_forcefully(stream)

        async def connect() -> float:
            """How long a client takes to come in."""
            began, client = trio.current_time(), Follower(plain, "open-a")
            await client.connect()
            took = trio.current_time() - began
            await client.drop("close")
            return took

        async def come_and_go() -> None:
            while len(closed) < len(KINDS):
                took.append(await connect())
                await trio.sleep(0.2)

        with trio.fail_after(120):
            alone = statistics.median([await connect() for _ in range(20)])
            before, took = memory(daemon.process.pid), list[float]()
            async with trio.open_nursery() as attack:
                attack.start_soon(come_and_go)
                for name in KINDS:
                    for _ in range(EACH):
                        attack.start_soon(drip, name)
                await trio.sleep(4)
                during = memory(daemon.process.pid)
        assert {name: len(times) for name, times in closed.items()} == dict.fromkeys(KINDS, EACH)
        late = {name: max(times) for name, times in closed.items() if max(times) > WITHIN + NOISE}
        assert not late, late
        assert len(took) > 10
        print({name: round(max(times), 1) for name, times in closed.items()})
        print(f"median {statistics.median(took) * 1000:.1f} ms of {len(took)}, +{(during - before) / 2**20:.1f} MiB")
        assert statistics.median(took) < max(CONNECTS_IN, 10 * alone), took
        assert during - before < GROWTH
        with trio.fail_after(PATIENCE):
            while (await daemon.request("GET", "/metrics")).text.count("sower_sessions{"):
                pass
    finally:
        assert daemon.process is not None
        daemon.process.kill()
