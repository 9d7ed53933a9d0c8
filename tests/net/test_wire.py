"""net/wire.py over a real socket pair."""

from __future__ import annotations

import socket

import pytest
import trio
import trio.testing

from sower.net.frames import Compression, WebSocketFraming
from sower.net.tap import TappedWire
from sower.net.wire import Wire


@pytest.fixture
def ends() -> tuple[Wire, socket.socket]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return Wire(ours, "127.0.0.1"), theirs


async def test_it_sends_what_fits_and_says_how_much(ends: tuple[Wire, socket.socket]) -> None:
    wire, _ = ends
    assert wire.send_now(b"hello") == 5
    while wire.send_now(bytes(65536)):
        pass
    assert wire.send_now(b"more") == 0


async def test_it_sends_everything_when_the_peer_reads_it_bit_by_bit(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    data = bytes(range(256)) * 8192
    got = b""

    async def read() -> None:
        nonlocal got
        while len(got) < len(data):
            await trio.lowlevel.wait_readable(theirs)
            got += theirs.recv(10_000)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wire.send_all(data)
    assert got == data


async def test_it_says_that_the_peer_is_gone_when_it_sends_and_ends_when_it_reads(
    ends: tuple[Wire, socket.socket],
) -> None:
    wire, theirs = ends
    theirs.close()
    assert await wire.recv() == b""
    with pytest.raises(trio.BrokenResourceError):
        wire.send_now(b"x")


async def test_reading_lets_others_run_even_when_something_is_there(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    theirs.send(b"x")
    with trio.testing.assert_checkpoints():
        assert await wire.recv() == b"x"


async def test_reading_when_cancelled_takes_nothing(ends: tuple[Wire, socket.socket]) -> None:
    wire, theirs = ends
    theirs.send(b"x")
    with trio.CancelScope() as scope:
        scope.cancel()
        await wire.recv()
    assert scope.cancelled_caught
    assert await wire.recv() == b"x"


@pytest.mark.parametrize("end", ["close", "shutdown"])
async def test_who_waits_for_bytes_sees_the_end_when_another_task_ends_it(
    ends: tuple[Wire, socket.socket], end: str
) -> None:
    wire, _ = ends
    got: list[bytes] = []

    async def read() -> None:
        got.append(await wire.recv())

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            getattr(wire, end)()
    assert got == [b""]


async def test_its_end_is_told_once() -> None:
    ours, theirs = socket.socketpair()
    told: list[str] = []
    wire = Wire(ours, "192.0.2.1", told.append)
    wire.close()
    wire.close()
    theirs.close()
    assert told == ["192.0.2.1"]


async def test_who_waits_for_room_on_a_wire_that_is_watched_hears_that_it_was_closed(
    ends: tuple[Wire, socket.socket],
) -> None:
    wire, _ = ends
    watched = TappedWire(wire, WebSocketFraming(Compression()), lambda passing: None)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await watched.send_all(bytes(2**24))

            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            wire.close()


def test_a_wait_for_the_peers_kernel_is_as_long_as_a_setting_may_be() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        for seconds, milliseconds in ((10.0, 10_000), (3650 * 86400.0, 2**31 - 1)):
            Wire(client, "127.0.0.1").acknowledged_within(seconds)
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == milliseconds
