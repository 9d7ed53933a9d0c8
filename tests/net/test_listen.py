"""net/listen.py: addresses, caps, and running out of files."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

import pytest
import trio
import trio.testing

from sower.config import Limits, Rate
from sower.errors import AddressInUse, ConfigError
from sower.net.listen import PAUSE, Caps, accept_loop, bind
from sower.net.wire import Wire


async def test_it_listens_at_each_address_and_port_0_takes_a_free_one() -> None:
    listeners = await bind(["127.0.0.1:0", "[::1]:0"])
    assert [str(listener).rpartition(":")[0] for listener in listeners] == ["127.0.0.1", "[::1]"]
    assert all(listener.port > 0 for listener in listeners)
    for listener in listeners:
        listener.close()


async def test_an_address_that_is_taken_or_none_is_told_and_nothing_stays_open() -> None:
    (taken,) = await bind(["127.0.0.1:0"])
    with pytest.raises(AddressInUse, match=str(taken.port)):
        await bind(["127.0.0.1:0", f"127.0.0.1:{taken.port}"])
    taken.close()
    with pytest.raises(ConfigError, match=r"server\.listen"):
        await bind(["192.0.2.1:0"])
    with pytest.raises(ConfigError, match=r"server\.listen"):
        await bind(["127.0.0.1:99999"])


def test_caps_count_in_all_by_address_and_by_rate_and_what_ends_makes_room() -> None:
    caps = Caps(Limits(connections=3, connections_per_address=2, connects=Rate(1.0, 3.0)))
    assert [caps.enter("a", 0.0) for _ in range(2)] == [None, None]
    refusal = caps.enter("a", 0.0)
    assert refusal is not None
    assert "connections_per_address" in refusal.message
    assert caps.enter("b", 0.0) is None
    assert "limits.connections" in str(caps.enter("c", 0.0))
    caps.leave("a")
    caps.leave("b")
    assert caps.enter("a", 0.0) is None
    caps.leave("a")
    fast = caps.enter("a", 0.0)
    assert fast is not None
    assert (fast.code, fast.retry_after) == ("rate_limited", 1.0)


class Exhausted:
    """A listening socket that runs out of files for a while."""

    def __init__(self, sock: socket.socket, fails: int) -> None:
        self._sock = sock
        self.fails = fails
        self.asked = 0

    def fileno(self) -> int:
        return self._sock.fileno()

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        if self.fails:
            self.fails -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return self._sock.accept()


async def serve_one(change: Callable[[socket.socket], Exhausted], limits: Limits = Limits()) -> Exhausted:  # noqa: B008
    (listener,) = await bind(["127.0.0.1:0"])
    fake = change(listener.sock)
    listener.sock = fake  # type: ignore[assignment]
    served = trio.Event()

    async def handler(wire: Wire) -> None:
        await wire.send_all(b"served")
        served.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, nursery, handler, Caps(limits))
        with trio.fail_after(10):
            async with await trio.open_tcp_stream("127.0.0.1", listener.port) as stream:
                assert await stream.receive_some() == b"served"
        nursery.cancel_scope.cancel()
    return fake


async def test_out_of_files_accepting_rests_and_goes_on() -> None:
    began = trio.current_time()
    fake = await serve_one(lambda sock: Exhausted(sock, fails=3))
    assert fake.fails == 0
    assert trio.current_time() - began >= 3 * PAUSE


async def test_a_handler_that_fails_ends_its_connection_alone() -> None:
    (listener,) = await bind(["127.0.0.1:0"])
    calls: list[int] = []

    async def handler(wire: Wire) -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError
        await wire.send_all(b"fine")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, nursery, handler, Caps(Limits()))
        for expected in (b"", b"fine"):
            async with await trio.open_tcp_stream("127.0.0.1", listener.port) as stream:
                assert await stream.receive_some() == expected
        nursery.cancel_scope.cancel()
    listener.close()
