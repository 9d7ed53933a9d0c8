"""net/held.py and the way of a request that takes its connection: held without a task, answered in order, freed at once."""

from __future__ import annotations

import msgspec
import trio
import trio.testing

from sower.net.http import Response
from sower.net.keepalive import SLOTS
from tests.net.served import SETTINGS, TICK, exchange, served

POLL = b"GET /poll/a HTTP/1.1\r\nHost: h\r\n\r\n"
NAME = b"GET /name/%s HTTP/1.1\r\nHost: h\r\n\r\n"
LAST = b"GET /name/last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"


def tasks(task: trio.lowlevel.Task) -> list[str]:
    """The names of all tasks below one."""
    return [child.name for nursery in task.child_nurseries for child in nursery.child_tasks] + [
        name for nursery in task.child_nurseries for child in nursery.child_tasks for name in tasks(child)
    ]


async def test_a_held_request_has_no_task_and_its_connection_is_served_on_after_the_answer() -> None:
    async with served() as peer:
        await trio.testing.wait_all_tasks_blocked()
        before = tasks(trio.lowlevel.current_task())
        for number in (1, 2, 3):
            await peer.send(POLL)
            poll = await peer.polls.next(number)
            await trio.testing.wait_all_tasks_blocked()
            assert tasks(trio.lowlevel.current_task()) == before
            poll.answer(b"word %d" % number)
            answer = await peer.read(b"word %d" % number)
            assert b"Content-Length: 6" in answer
            assert b"Connection: close" not in answer
        await peer.send(LAST)
        assert b"last" in await peer.rest()


async def test_a_request_that_is_held_without_end_outlives_the_deadline_of_its_head(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with served() as peer:
        await peer.send(b"GET /poll/endless")
        await trio.testing.wait_all_tasks_blocked()
        await peer.send(b" HTTP/1.1\r\nHost: h\r\n\r\n")
        poll = await peer.polls.next()
        await trio.sleep(2 * SLOTS * TICK)
        poll.answer(b"at last")
        assert await peer.read(b"at last")


async def test_what_is_before_and_behind_a_held_request_is_answered_in_order() -> None:
    pipelined = NAME % b"one" + POLL + NAME % b"two" + POLL + LAST
    for chunk in (len(pipelined), 1):
        async with served() as peer:
            for at in range(0, len(pipelined), chunk):
                await peer.send(pipelined[at : at + chunk])
            (await peer.polls.next(1)).answer(b"first poll")
            (await peer.polls.next(2)).answer(b"second poll")
            heard = await peer.rest()
            order = [heard.index(word) for word in (b"one", b"first poll", b"two", b"second poll", b"last")]
            assert order == sorted(order)
            assert heard.count(b"HTTP/1.1 200 OK") == 5


async def test_a_client_that_goes_is_told_at_once_and_nothing_is_kept() -> None:
    async with served() as peer:
        await peer.send(POLL)
        poll = await peer.polls.next()
        await peer.stream.aclose()
        with trio.fail_after(60):
            await poll.gone.wait()
        assert len(peer.server.holding) == 0
        poll.answer(b"too late")


async def test_what_a_client_says_while_it_is_held_is_read_after_the_answer() -> None:
    async with served() as peer:
        await peer.send(POLL)
        poll = await peer.polls.next()
        await peer.send(LAST)
        await trio.testing.wait_all_tasks_blocked()
        assert len(peer.polls.all) == 1
        assert not poll.gone.is_set()
        poll.answer(b"word")
        heard = await peer.rest()
        assert heard.index(b"word") < heard.index(b"last")


async def test_a_request_is_held_no_longer_than_was_said(autojump_clock: trio.testing.MockClock) -> None:
    async with served() as peer:
        began = trio.current_time()
        await peer.send(POLL)
        assert b"nothing came" in await peer.read(b"came")
        assert 30.0 <= trio.current_time() - began <= 31.0


async def test_when_the_daemon_ends_what_is_held_is_answered_and_the_connection_closed() -> None:
    async with served() as peer:
        await peer.send(POLL)
        await peer.polls.next()
        peer.server.begin_closing()
        heard = await peer.read(b"nothing came")
        assert b"Connection: close" in heard


async def test_an_answer_that_is_larger_than_the_socket_takes_arrives_whole() -> None:
    async with served() as peer:
        await peer.send(POLL)
        (await peer.polls.next()).answer(b"x" * 4_000_000 + b"END")
        assert (await peer.read(b"END")).count(b"x") == 4_000_000
        await peer.send(LAST)
        assert b"last" in await peer.rest()


async def test_it_may_be_answered_at_once_and_a_bug_is_told_as_one() -> None:
    now, crash = (POLL.replace(b"poll/a", b"poll/" + how) for how in (b"now", b"crash"))
    answer = await exchange(now + now + LAST)
    assert answer.count(b"at once") == 2
    assert b"last" in answer
    answer = await exchange(now + crash)
    assert b"HTTP/1.1 500" in answer


async def test_on_a_proxy_s_connection_each_request_is_from_the_client_that_it_names() -> None:
    async with served(msgspec.structs.replace(SETTINGS, trusted_proxies=("127.0.0.1",))) as peer:
        for client in ("192.0.2.1", "192.0.2.2"):
            forwarded = POLL.replace(b"Host", b"X-Forwarded-For: %s\r\nHost" % client.encode())
            number = len(peer.polls.all) + 1
            await peer.send(forwarded)
            (await peer.polls.next(number)).answer(b"word")
            await peer.read(b"word")
            peer.polls.instead = lambda taken: Response(200, taken.request.address.encode() + b"\n")
            await peer.send(forwarded)
            assert (await peer.read(b"\n")).endswith(f"\r\n\r\n{client}\n".encode())
            peer.polls.instead = None


async def test_a_stream_has_no_length_and_ends_with_its_connection() -> None:
    answer = await exchange(POLL.replace(b"/a", b"/stream").replace(b"Host", b"Origin: https://good.example\r\nHost"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Content-Length" not in head
    assert b"Connection: close" in head
    assert b"Access-Control-Allow-Origin: https://good.example" in head
    assert body == b"one two"


async def test_head_does_not_take_a_connection() -> None:
    assert b"HTTP/1.1 405" in await exchange(POLL.replace(b"GET", b"HEAD"))
