"""Broadcasts and answers come over one connection, and are taken in the order in which they came."""

from __future__ import annotations

import trio

from sower.cluster.entries import Spoken, last_of
from sower.cluster.keys import Keys
from sower.cluster.node import Node
from tests.cluster.conftest import Redis
from tests.cluster.test_model import node_of


class Follower:
    """Remembers the last serial that it heard."""

    def __init__(self, keys: Keys) -> None:
        self.app, self.name, self.keys = "1", "busy", keys
        self.heard = 0

    def hear(self, payload: bytes) -> None:
        self.heard = last_of(payload)

    def look_again(self, *, lost: bool) -> None:
        """Nothing is missed."""

    def hear_numbers(self, payload: bytes) -> None:
        """Nobody is counted."""

    def count_again(self) -> None:
        """Nobody is counted."""


async def test_a_channel_that_is_read_while_others_speak_lets_nothing_pass_for_heard_that_waits(redis: Redis) -> None:
    async with node_of(redis) as node:
        busy = Follower(node.keys("1", "busy"))
        await node.follow(busy)
        said: list[int] = []
        for round in range(5):
            async with trio.open_nursery() as nursery:
                for _ in range(30):
                    nursery.start_soon(say, node, busy, said)
                await trio.lowlevel.checkpoint()
                await node.load(node.keys("1", f"quiet{round}"), f"quiet{round}")
                settled, heard = node.heard[busy.keys.shard], busy.heard
            assert heard == max(serial for serial in said if serial <= settled)


async def say(node: Node, follower: Follower, said: list[int]) -> None:
    (outcome,) = await node.say("1", "busy", follower.keys, [(Spoken("e", b"1", 0, None, None, None), b"n")])
    said.append(outcome.serial)
