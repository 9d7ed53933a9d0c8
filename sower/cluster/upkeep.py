"""What a node keeps up in Redis besides its lease: its boards, and where it has members.

Rule 1: none of it holds up the lease. A master that hangs is waited for, and the living would seem dead meanwhile.
Rule 2: each part is kept up by itself: one whose master is away does not keep the others from it.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from sower.cluster.board import Board
from sower.errors import ClusterFailed

if TYPE_CHECKING:
    from sower.cluster.node import Node


class Upkeep:
    """Of one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._boards: list[Board] = []

    def board(self, kind: str) -> Board:
        """Where all nodes say something of themselves."""
        node = self._node
        board = Board(node.line, node.prefix, kind, node.name, node.lease)
        self._boards.append(board)
        return board

    def say_again(self) -> None:
        """Redis may have forgotten what is on the boards."""
        for board in self._boards:
            board.say_again()

    async def run(self) -> None:
        """Write and renew, until cancelled."""
        async with trio.open_nursery() as nursery:
            for board in self._boards:
                nursery.start_soon(board.run, name="cluster board")
            while True:
                await trio.sleep(self._node.beats_every)
                await self._node.see_marks()
                for kept in (*self._boards, self._node.estate):
                    with suppress(ClusterFailed):  # it is said again when its master is back
                        await kept.renew()
