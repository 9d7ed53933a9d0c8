"""Words to all nodes: heard by each once, in one order, also by who was cut off or starts later."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio

from sower.cluster.node import Node
from sower.cluster.words import Ended, GroupChanged, TokensRevoked, Withdrawn, Word
from sower.config import Cluster
from sower.errors import ClusterFailed
from tests.cluster.conftest import Redis


@asynccontextmanager
async def node(redis: Redis, prefix: str, heard: list[Word]) -> AsyncIterator[Node]:
    """A node that notes what it hears."""
    async with Node.open(Cluster(url=redis.url, prefix=prefix), lambda name: None, 600.0) as one:
        for kind in (Ended, TokensRevoked, Withdrawn, GroupChanged):
            one.words.learn(kind, heard.append)
        await one.words.read()
        yield one


def clients(redis: Redis) -> set[str]:
    """What Redis calls the connections that it has now."""
    return {line.split()[0].removeprefix("id=") for line in redis.command("CLIENT", "LIST").splitlines()}


async def become(heard: list[Any], expected: list[Any]) -> None:
    with trio.fail_after(10):
        while True:
            if heard == expected:
                return
            await trio.sleep(0.01)


async def test_every_node_hears_each_word_once_in_one_order(redis: Redis) -> None:
    heard: list[list[Word]] = [[], [], []]
    prefix = secrets.token_hex(4)
    said = [Ended("1", f"u{n}") for n in range(6)]
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(node(redis, prefix, into)) for into in heard]
        for number, word in enumerate(said):
            await nodes[number % 3].words.say(word)
            assert heard[number % 3][-1] == word, "whoever says it has done it when it is answered"
        await nodes[0].words.say(GroupChanged("1", "g", ("a",), ()))
        for into in heard:
            await become(into, [*said, GroupChanged("1", "g", ("a",), ())])


async def test_a_word_that_only_a_newer_daemon_knows_is_read_past(redis: Redis) -> None:
    heard: list[Word] = []
    async with node(redis, secrets.token_hex(4), heard) as one:
        one.line.tell(one.words.topic, b"99-0 " + msgspec.msgpack.encode(["dance", 1]))
        await one.words.say(Ended("1", "ada"))
        assert heard == [Ended("1", "ada")]
        assert one.line.up


async def test_a_node_that_was_cut_off_hears_what_it_missed_and_a_later_one_what_lasts(redis: Redis) -> None:
    prefix = secrets.token_hex(4)
    one_heard: list[Word] = []
    two_heard: list[Word] = []
    later_heard: list[Word] = []
    words: list[Word] = [Ended("1", "ada"), TokensRevoked(b"{}", None), Withdrawn("t", 5.0)]
    async with node(redis, prefix, one_heard) as one:
        before = clients(redis)
        async with node(redis, prefix, two_heard) as two:
            for client in clients(redis) - before:
                redis.command("CLIENT", "KILL", "ID", client)
            with pytest.raises(ClusterFailed):
                await two.words.say(Ended("1", "nobody"))
            for word in words:
                await one.words.say(word)
            await become(two_heard, words)
            await one.words.say(Ended("1", "bob"))
            await become(two_heard, [*words, Ended("1", "bob")])
        async with node(redis, prefix, later_heard) as later:
            assert later_heard == words[1:], "nobody was connected to it whom it could end"
            await one.words.say(Ended("1", "cid"))
            await become(later_heard, [*words[1:], Ended("1", "cid")])
            assert later.line.up
