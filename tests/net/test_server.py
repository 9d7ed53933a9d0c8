"""net/server.py: many connections in one task, each with its own half-read request, and none in another's way."""

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import trio
import trio.testing
from structlog.testing import capture_logs

from sower.config import Duration, Server
from sower.net.http import Request, Response
from sower.net.keepalive import Keepalive
from sower.net.routing import Router
from sower.net.server import HttpServer
from sower.net.site import Site
from sower.net.wire import Wire
from tests.net.served import SETTINGS, Polls, exchange, routes, served

ECHO = b"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s"


@asynccontextmanager
async def clients(count: int) -> AsyncGenerator[tuple[HttpServer, list[trio.SocketStream]]]:
    """So many connections of one server."""
    async with trio.open_nursery() as nursery:
        server, site = HttpServer(nursery, Keepalive(lambda: 0.0)), Site(routes(Polls()), SETTINGS)
        nursery.start_soon(server.run)
        streams: list[trio.SocketStream] = []
        for _ in range(count):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            server.add(Wire(ours, "127.0.0.1"), site)
            streams.append(trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
        yield server, streams
        server.cut_off()
        nursery.cancel_scope.cancel()
    for stream in streams:
        await stream.aclose()


async def test_requests_that_come_in_pieces_over_many_connections_are_not_mixed() -> None:
    async with clients(5) as (_, streams):
        requests = [ECHO % (n + 1, b"%d" % n * (n + 1)) * 2 for n in range(5)]
        for at in range(max(map(len, requests))):
            for stream, request in zip(streams, requests, strict=True):
                if at < len(request):
                    await stream.send_all(request[at : at + 1])
            await trio.testing.wait_all_tasks_blocked()
        for n, stream in enumerate(streams):
            heard = await stream.receive_some()
            assert [part.partition(b"\r\n\r\n")[2] for part in heard.split(b"HTTP/1.1 200 OK")[1:]] == [
                b"%d" % n * (n + 1)
            ] * 2


async def test_a_parser_that_read_a_last_request_reads_no_other() -> None:
    async with clients(3) as (_, streams):
        for stream in streams:
            await stream.send_all(ECHO.replace(b"Host", b"Connection: close\r\nHost") % (1, b"x"))
            assert b"200 OK" in await stream.receive_some()


async def test_a_connection_that_rests_has_neither_a_task_nor_a_parser() -> None:
    async with clients(3) as (server, streams):
        await trio.testing.wait_all_tasks_blocked()
        before = trio.lowlevel.current_statistics().tasks_living
        for stream in streams:
            await stream.send_all(ECHO % (1, b"x"))
            await stream.receive_some()
        assert trio.lowlevel.current_statistics().tasks_living == before
        assert [connection.state for connection in server.connections] == ["rest"] * 3
        assert not any(connection.reads for connection in server.connections)


async def test_a_connection_that_is_gone_is_not_looked_after_any_more() -> None:
    async with clients(1) as (server, streams):
        await streams[0].send_all(ECHO[:10])
        await trio.testing.wait_all_tasks_blocked()
        (connection,) = server.connections
        assert connection.due >= 0
        await streams[0].aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert connection.state == "over"
        assert connection.due == -1


async def test_a_request_that_is_held_keeps_no_parser_but_for_what_came_behind_it() -> None:
    poll = b"GET /poll/a HTTP/1.1\r\nHost: h\r\n\r\n"
    async with clients(2) as (server, streams):
        await streams[0].send_all(poll)
        await streams[1].send_all(poll + ECHO[:10])
        await trio.testing.wait_all_tasks_blocked()
        assert [(connection.state, connection.reads) for connection in server.connections] == [
            ("held", False),
            ("held", True),
        ]


async def test_who_talks_while_an_answer_is_awaited_is_not_read_and_keeps_nobody_busy() -> None:
    with trio.fail_after(60):
        async with clients(2) as (_, (talker, other)):
            await talker.send_all(b"GET /never HTTP/1.1\r\nHost: h\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked()
            await talker.send_all(ECHO % (1, b"x"))
            await trio.testing.wait_all_tasks_blocked()  # it would not be, were the socket looked at again and again
            await other.send_all(ECHO % (1, b"y"))
            assert (await other.receive_some()).endswith(b"y")


async def test_who_goes_while_an_answer_is_awaited_keeps_nobody_busy() -> None:
    with trio.fail_after(60):
        async with clients(1) as (server, (stream,)):
            await stream.send_all(b"GET /never HTTP/1.1\r\nHost: h\r\n\r\n")
            await trio.testing.wait_all_tasks_blocked()
            await stream.aclose()
            await trio.testing.wait_all_tasks_blocked()
            server.cut_off()
            await server.gone()


async def test_a_socket_s_endpoint_that_raises_is_logged_and_ends_its_connection() -> None:
    handshake = (
        b"GET /broken HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with capture_logs() as logs:
        await exchange(handshake)
    assert [entry["event"] for entry in logs] == ["connection_failed"]


async def test_the_server_is_gone_when_all_are_answered_and_those_that_rest_were_given_a_moment() -> None:
    with trio.fail_after(60):
        async with served() as peer:
            await peer.send(ECHO % (1, b"x"))
            await peer.read(b"\r\n\r\nx")
            peer.server.begin_closing()
            await peer.send(ECHO % (1, b"y"))
            heard = await peer.rest()
            assert b"Connection: close" in heard
            assert heard.endswith(b"y")
            await peer.stream.aclose()
            await peer.server.gone()


async def test_a_proxy_that_does_not_say_whom_it_brings_does_not_hold_a_daemon_that_ends(
    autojump_clock: trio.testing.MockClock,
) -> None:
    proxied = Server(head_timeout=Duration(3600), trusted_proxies=("127.0.0.1",), proxy_protocol=True)
    async with served(proxied) as peer:
        await trio.testing.wait_all_tasks_blocked()
        peer.server.begin_closing()
        assert await peer.rest() == b""
        await peer.server.gone()
        assert trio.current_time() < 10


async def test_answers_of_one_turn_are_sent_together_at_its_end() -> None:
    done: list[str] = []

    class Noting(Wire):
        def send_now(self, data: bytes | memoryview) -> int:
            done.append("sent")
            return super().send_now(data)

    def note(request: Request, params: Mapping[str, str]) -> Response:
        done.append("answered")
        return Response(200)

    router = Router()
    router.add("POST", "/echo", note)
    async with trio.open_nursery() as nursery:
        server = HttpServer(nursery, Keepalive(lambda: 0.0))
        streams: list[trio.SocketStream] = []
        for _ in range(3):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            streams.append(trio.SocketStream(trio.socket.from_stdlib_socket(theirs)))
            await streams[-1].send_all(ECHO % (1, b"x"))
            server.add(Noting(ours, "127.0.0.1"), Site(router, SETTINGS))
        nursery.start_soon(server.run)
        for stream in streams:
            assert b"200 OK" in await stream.receive_some()
        server.cut_off()
        nursery.cancel_scope.cancel()
    assert done == ["answered"] * 3 + ["sent"] * 3
    for stream in streams:
        await stream.aclose()


async def test_what_is_answered_later_is_sent_without_waiting_for_anybody_to_speak() -> None:
    async with clients(2) as (_, streams):
        await streams[0].send_all(b"GET /name/a HTTP/1.1\r\nHost: h\r\n\r\n")
        with trio.fail_after(60):
            assert b'"name":"a"' in await streams[0].receive_some()
