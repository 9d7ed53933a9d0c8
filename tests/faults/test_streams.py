"""A client's bytes come in two pieces, stall or are cut off by a reset, at each byte of an exchange in each protocol."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.bench.dialects import Target
from tests.bench.dialects import _pusher_signature as signed  # pyright: ignore[reportPrivateUsage]
from tests.e2e.daemon import KEY, PATIENCE, SECRET, Daemon, running
from tests.e2e.raw import text

CONFIG = f"""
[session]
sleep_after = "0s"

[limits]
connects = "1000000/s"
connections_per_address = 100000
publishes = "1000000/s"
frames = "1000000/s"

[[apps]]
id = "1001"
key = "{KEY}"
secret = "{SECRET}"

[[channels]]
match = "kept-*"
client_events = true
history = {{messages = 1000, age = "1h"}}

[[channels]]
match = "*"
client_events = true
"""

AT_ONCE = 40
"""Clients at the same time."""

REST = 0.002
"""Seconds between two pieces: the daemon has read the first by then, mostly."""

GONE_WITHIN = 20.0
"""Seconds in which the daemon forgets who is gone, on a machine with much else to do."""

ABLY = f"1001.{KEY}:{SECRET}"


def handshake(path: str) -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def posted(path: str, body: dict[str, Any]) -> bytes:
    said = json.dumps(body).encode()
    path = signed(Target(0, KEY, SECRET), path, said) if path.startswith("/apps/") else path
    return f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(said)}\r\n\r\n".encode() + said


def exchanges() -> dict[str, tuple[bytes, bytes]]:
    """What a client says, and what it is answered with at the end. Not made before it is said: a signature grows old."""
    return {
        "a native socket": (
            handshake(f"/ws/kept-n?key={KEY}") + text('{"type":"publish","event":"e","data":1,"id":"1"}'),
            b'"type":"ack"',
        ),
        "a Pusher socket": (
            handshake(f"/app/{KEY}?protocol=7")
            + text('{"event":"pusher:subscribe","data":{"channel":"kept-p"}}')
            + text('{"event":"pusher:ping","data":{}}'),
            b"pusher:pong",
        ),
        "Pusher's HTTP API": (
            posted("/apps/1001/events", {"name": "e", "channels": ["kept-h"], "data": "1"}),
            b" 200 OK",
        ),
        "an Ably socket": (
            handshake(f"/?v=6&key={ABLY}")
            + text('{"action":10,"channel":"kept-a"}')
            + text('{"action":15,"channel":"kept-a","msgSerial":0,"messages":[{"name":"e","data":"1"}]}'),
            b'"action":1,',
        ),
        "Ably's HTTP API": (
            posted(f"/channels/kept-r/messages?key={ABLY}", {"name": "e", "data": "1"}),
            b" 201 Created",
        ),
        "a PubNub publish": (
            f"GET /publish/pub-{KEY}/sub-{KEY}/0/kept-u/0/1?uuid=u HTTP/1.1\r\nHost: h\r\n\r\n".encode(),
            b'"Sent"',
        ),
        "a PubNub long poll": (
            f"GET /v2/subscribe/sub-{KEY}/kept-u/0?tt=0&uuid=u HTTP/1.1\r\nHost: h\r\n\r\n"
            f"GET /v2/subscribe/sub-{KEY}/kept-u/0?tt=1&uuid=u HTTP/1.1\r\nHost: h\r\n\r\n".encode(),
            b'"t"',
        ),
        "a stream of events": (f"GET /sse/kept-n?key={KEY} HTTP/1.1\r\nHost: h\r\n\r\n".encode(), b"welcome"),
    }


class House:
    """A daemon with a neighbour in each way of listening; baseline: what it had before anybody came."""

    def __init__(self, daemon: Daemon, hear: Callable[[], Awaitable[Any]]) -> None:
        self.daemon = daemon
        self._hear = hear
        self._said = 0
        self.baseline: tuple[Any, ...] = ()
        self.most_files = 0

    async def holds(self) -> tuple[Any, ...]:
        """Sessions, and channels that somebody follows."""
        stats = (await self.daemon.request("GET", "/stats")).json()
        channels = (await self.daemon.request("GET", "/channels")).json()["channels"]
        return stats["sessions"], sorted((c["channel"], c.get("subscribers")) for c in channels)

    def files(self) -> int:
        """How many it has open."""
        assert self.daemon.process is not None
        return len(os.listdir(f"/proc/{self.daemon.process.pid}/fd"))

    async def neighbour_is_well(self) -> None:
        """It hears within a second what is said to it."""
        self._said += 1
        with trio.fail_after(PATIENCE):
            await self.daemon.publish("neighbours", self._said)
            assert (await self._hear())["data"] == self._said

    async def nothing_is_left(self) -> None:
        """All is as it was before."""
        with trio.move_on_after(GONE_WITHIN):
            while await self.holds() != self.baseline or self.files() > self.most_files:  # noqa: ASYNC110 - the daemon tells nobody
                await trio.sleep(0.1)
            return
        raise AssertionError(f"{await self.holds()} and {self.files()} files, of {self.baseline} and {self.most_files}")


@asynccontextmanager
async def a_house(folder: Path) -> AsyncGenerator[House]:
    async with running(folder, CONFIG) as daemon, daemon.socket("neighbours") as neighbour:
        await neighbour.expect("welcome")
        house = House(daemon, lambda: neighbour.expect("event"))
        await house.neighbour_is_well()
        house.baseline, house.most_files = await house.holds(), house.files()
        yield house


async def at_each_byte(said: bytes, do: Callable[[int], Awaitable[None]]) -> None:
    """Do it for every position in these bytes, and their end, some at the same time."""
    places = iter(range(1, len(said) + 1))

    async def some() -> None:
        for place in places:
            await do(place)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(some)


async def answer(stream: trio.SocketStream, end: bytes) -> bytes:
    """What is heard up to this end, or what there is of it after a while."""
    heard = b""
    with trio.move_on_after(PATIENCE):
        while end not in heard and (part := await stream.receive_some()):
            heard += part
    return heard


def reset(stream: trio.SocketStream) -> None:
    """Close it as a machine does that has forgotten the connection (RST)."""
    stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.socket.close()


@pytest.mark.slow
async def test_an_exchange_that_comes_in_two_pieces_is_the_same_wherever_it_is_split(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        for name, (said, end) in exchanges().items():

            async def split(place: int, name: str = name, said: bytes = said, end: bytes = end) -> None:
                async with await trio.open_tcp_stream("127.0.0.1", house.daemon.port) as stream:
                    await stream.send_all(said[:place])
                    await trio.sleep(REST)
                    await stream.send_all(said[place:])
                    heard = await answer(stream, end)
                    assert end in heard, f"{name}, split at byte {place}: {heard!r}"

            await at_each_byte(said, split)
            await house.neighbour_is_well()
        await house.nothing_is_left()


@pytest.mark.slow
async def test_a_reset_at_any_byte_harms_no_neighbour_and_leaves_nothing(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        for said, _ in exchanges().values():

            async def cut(place: int, said: bytes = said) -> None:
                stream = await trio.open_tcp_stream("127.0.0.1", house.daemon.port)
                await stream.send_all(said[:place])
                await trio.sleep(REST)
                reset(stream)

            await at_each_byte(said, cut)
            await house.neighbour_is_well()
        await house.nothing_is_left()


@pytest.mark.slow
async def test_clients_that_stall_at_every_byte_hold_nobody_up_and_leave_nothing(tmp_path: Path) -> None:
    async with a_house(tmp_path) as house:
        stalled: list[trio.SocketStream] = []
        for said, _ in exchanges().values():

            async def stall(place: int, said: bytes = said) -> None:
                stream = await trio.open_tcp_stream("127.0.0.1", house.daemon.port)
                stalled.append(stream)
                await stream.send_all(said[:place])

            await at_each_byte(said, stall)
            await house.neighbour_is_well()
        assert len(stalled) > 1000
        for place, stream in enumerate(stalled):
            if place % 2:
                reset(stream)
            else:
                await stream.aclose()
        await house.neighbour_is_well()
        await house.nothing_is_left()
