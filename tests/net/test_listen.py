"""net/listen.py: addresses, caps, and what happens when files run out."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
import trio.testing
from structlog.testing import capture_logs

from sower.config import Limits, Rate
from sower.errors import AddressInUse, ConfigError, RateLimited, TooManyConnections
from sower.net.listen import Caps, Listener, accept_loop, bind
from sower.net.wire import Wire


def dial(listener: Listener) -> socket.socket:
    """A client. The kernel connects it before anything is accepted."""
    client = socket.create_connection(("127.0.0.1", listener.port))
    client.setblocking(False)
    return client


async def hear(client: socket.socket) -> bytes:
    """What a client is told until the end."""
    data = b""
    with trio.fail_after(60):
        while True:
            await trio.lowlevel.wait_readable(client)
            part = client.recv(65536)
            if not part:
                return data
            data += part


async def test_port_0_takes_a_free_port_and_the_listener_says_which() -> None:
    (listener,) = await bind(("127.0.0.1:0",))
    assert listener.port > 0
    assert str(listener) == f"127.0.0.1:{listener.port}"
    listener.close()
    listener.close()


async def test_an_ipv6_address_is_written_in_brackets() -> None:
    (listener,) = await bind(("[::1]:0",))
    assert str(listener) == f"[::1]:{listener.port}"
    listener.close()


async def test_a_taken_address_is_named_and_no_other_stays_open() -> None:
    (taken,) = await bind(("127.0.0.1:0",))
    (free,) = await bind(("127.0.0.1:0",))
    free.close()
    with pytest.raises(AddressInUse, match=str(taken.port)):
        await bind((f"127.0.0.1:{free.port}", str(taken)))
    (again,) = await bind((f"127.0.0.1:{free.port}",))
    again.close()
    taken.close()


@pytest.mark.parametrize("address", ["127.0.0.1:http-not", "127.0.0.1:99999", "127.0.0.1", "203.0.113.7:0"])
async def test_an_address_that_cannot_be_listened_on_is_an_error_of_the_config(address: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.listen"):
        await bind((address,))


async def test_a_port_that_takes_a_privilege_comes_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(ConfigError, match="CAP_NET_BIND_SERVICE"):
        await bind(("127.0.0.1:80",))


def test_caps_count_in_all_by_address_and_by_rate() -> None:
    caps = Caps(Limits(connections=3, connections_per_address=2, connects=Rate(1, 3)))
    assert caps.enter("a", 0.0) is None
    assert caps.enter("a", 0.0) is None
    assert isinstance(caps.enter("a", 0.0), TooManyConnections)
    assert caps.enter("b", 0.0) is None
    assert isinstance(caps.enter("c", 0.0), TooManyConnections)
    caps.leave("a")
    assert caps.enter("a", 0.0) is None
    caps.leave("a")
    refused = caps.enter("a", 0.0)
    assert isinstance(refused, RateLimited)
    assert refused.retry_after == 1.0


def each(nursery: trio.Nursery, handle: Callable[[Wire], Awaitable[None]]) -> Callable[[Wire], None]:
    """Welcomes a connection with a task of its own, after which it is closed."""

    async def attend(wire: Wire) -> None:
        await handle(wire)
        wire.close()

    return lambda wire: nursery.start_soon(attend, wire)


async def stay(wire: Wire) -> None:
    await wire.recv()


async def test_who_is_over_the_cap_of_an_address_is_told_so_and_may_come_when_another_has_gone() -> None:
    (listener,) = await bind(("127.0.0.1:0",))
    caps = Caps(Limits(connections_per_address=1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, each(nursery, stay), caps)
        first = dial(listener)
        await trio.testing.wait_all_tasks_blocked()
        answer = await hear(dial(listener))
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 5\r\n" in answer
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "too_many_connections"
        first.close()
        await trio.testing.wait_all_tasks_blocked(0.01)
        third = dial(listener)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(BlockingIOError):
            third.recv(1)
        nursery.cancel_scope.cancel()
    listener.close()


async def test_who_connects_too_fast_gets_429_though_it_spoke_first() -> None:
    (listener,) = await bind(("127.0.0.1:0",))
    caps = Caps(Limits(connects=Rate(0.01, 1)))
    first, second = dial(listener), dial(listener)
    second.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, each(nursery, stay), caps)
        assert (await hear(second)).startswith(b"HTTP/1.1 429 ")
        nursery.cancel_scope.cancel()
    first.close()
    listener.close()


async def test_who_cannot_be_welcomed_is_closed_and_no_other() -> None:
    (listener,) = await bind(("127.0.0.1:0",))
    welcomed: list[Wire] = []

    def fail_once(wire: Wire) -> None:
        welcomed.append(wire)
        if len(welcomed) == 1:
            raise ZeroDivisionError("a bug")
        wire.send_now(b"well")
        wire.finish()

    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_loop, listener, fail_once, Caps(Limits()))
            assert await hear(dial(listener)) == b""
            assert await hear(dial(listener)) == b"well"
            nursery.cancel_scope.cancel()
    assert [entry["event"] for entry in logs] == ["connection_failed"]
    assert [wire.closed for wire in welcomed] == [True, False]
    listener.close()


class Scripted:
    """A listening socket whose accept does what a script says, then waits for ever."""

    def __init__(
        self, listener: Listener, script: Iterator[Callable[[], tuple[socket.socket, tuple[str, int]]]]
    ) -> None:
        self._sock = listener.sock
        self._script = script

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        return next(self._script, self._wait)()

    def _wait(self) -> tuple[socket.socket, tuple[str, int]]:
        raise BlockingIOError

    def fileno(self) -> int:
        return self._sock.fileno()


def failing(number: int) -> Callable[[], tuple[socket.socket, tuple[str, int]]]:
    def fail() -> tuple[socket.socket, tuple[str, int]]:
        raise OSError(number, os.strerror(number))

    return fail


async def accept_scripted(
    script: list[Callable[[], tuple[socket.socket, tuple[str, int]]]], wanted: int = 0
) -> tuple[int, float]:
    """Run the loop over a script. Returns how many wires came and how long it took, on trio's clock."""
    (listener,) = await bind(("127.0.0.1:0",))
    real, listener.sock = listener.sock, Scripted(listener, iter(script))  # type: ignore[assignment]
    came, done = 0, trio.Event()

    def count(wire: Wire) -> None:
        nonlocal came
        came += 1
        if came == wanted:
            done.set()

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, count, Caps(Limits()))
        await done.wait()
        nursery.cancel_scope.cancel()
    real.close()
    return came, trio.current_time() - began


def accepted() -> tuple[socket.socket, tuple[str, int]]:
    ours, theirs = socket.socketpair()
    theirs.close()
    return ours, ("192.0.2.1", 1)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_out_of_files_accepting_pauses_goes_on_and_is_logged_once_a_second(
    autojump_clock: trio.testing.MockClock, number: int
) -> None:
    with capture_logs() as logs:
        came, took = await accept_scripted([failing(number)] * 25 + [accepted], wanted=1)
    assert came == 1
    assert took == pytest.approx(2.5)
    assert len(logs) == 3


async def test_a_connection_that_is_lost_before_it_is_accepted_is_passed_over_at_once(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lost = [failing(number) for number in (errno.ECONNABORTED, errno.EPERM, errno.ENONET, errno.ETIMEDOUT)]
    came, took = await accept_scripted([*lost, accepted], wanted=1)
    assert (came, took) == (1, 0.0)


async def test_a_listener_that_is_broken_ends_the_loop_in_place_of_spinning() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(OSError, match="Bad file descriptor")), trio.fail_after(60):
        await accept_scripted([failing(errno.EBADF)], wanted=1)


async def test_closing_a_listener_wakes_who_accepts() -> None:
    (listener,) = await bind(("127.0.0.1:0",))
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:

            async def accept() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await accept_loop(listener, each(nursery, stay), Caps(Limits()))

            nursery.start_soon(accept)
            await trio.testing.wait_all_tasks_blocked()
            listener.close()


async def test_other_tasks_run_between_the_connections_of_a_flood() -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        with trio.fail_after(60):
            assert await accept_scripted([failing(errno.ECONNABORTED)] * 6400 + [accepted], wanted=1)
        nursery.cancel_scope.cancel()
    assert turns >= 100


async def test_a_unix_socket_is_made_replaced_after_a_kill_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "sower.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(path))
    left.close()
    (listener,) = await bind((f"unix:{path}",))
    assert str(listener) == f"unix:{path}"
    with pytest.raises(AddressInUse):
        await bind((f"unix:{path}",))
    listener.close()
    assert not path.exists()


async def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(AddressInUse):
        await bind((f"unix:{path}",))
    assert path.read_text() == "data"


async def test_who_comes_through_a_unix_socket_is_served_as_one_address(tmp_path: Path) -> None:
    (listener,) = await bind((f"unix:{tmp_path / 'sower.sock'}",))

    def say_address(wire: Wire) -> None:
        wire.send_now(wire.address.encode())
        wire.finish()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, say_address, Caps(Limits()))
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(tmp_path / "sower.sock"))
        client.setblocking(False)
        assert await hear(client) == b"unix"
        nursery.cancel_scope.cancel()
    listener.close()


async def test_an_inherited_socket_stands_for_its_address_and_one_that_no_entry_names_is_served_too() -> None:
    named, other = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{named.getsockname()[1]}"
    listeners = await bind((address,), (named, other))
    assert [listener.sock for listener in listeners] == [named, other]
    for listener in listeners:
        listener.close()


async def test_what_is_accepted_sends_without_delay_though_only_the_listener_was_told_so() -> None:
    (listener,) = await bind(("127.0.0.1:0",))
    heard: list[int] = []

    def look(wire: Wire) -> None:
        heard.append(wire.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        done.set()

    done = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(accept_loop, listener, look, Caps(Limits()))
        with dial(listener), trio.fail_after(60):
            await done.wait()
        nursery.cancel_scope.cancel()
    listener.close()
    assert heard[0] != 0
