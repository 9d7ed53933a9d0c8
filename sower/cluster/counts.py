"""How many follow each channel, on all nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

from sower.cluster.board import Board
from sower.cluster.entries import NODE
from sower.core.attendance import Attendance
from sower.errors import ClusterFailed

MARK = b"#"
"""What a broadcast of numbers begins with; one of a channel's log begins with a digit."""


class Numbers(NamedTuple):
    """Of one channel on one node, or on several; as those of Attendance."""

    connections: int = 0
    hear: int = 0
    watch: int = 0
    publish: int = 0
    appear: int = 0

    @classmethod
    def of(cls, here: Attendance) -> Self:
        """Those that are of one node alone."""
        return cls(here.connections, here.hear, here.watch, here.publish, here.appear)

    @classmethod
    def read(cls, text: bytes | None) -> Self:
        """As they are written."""
        return cls(*map(int, text.split())) if text else cls()

    def __bytes__(self) -> bytes:
        return b"%d %d %d %d %d" % self

    def and_of(self, others: Iterable[Numbers]) -> Numbers:
        """All together."""
        return Numbers(*map(sum, zip(self, *others, strict=True)))


def sender_of(payload: bytes) -> str:
    """Which node's numbers these are."""
    return payload[1 : 1 + NODE].decode()


class Counts:
    """The numbers of each node."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def set(self, app: str, channel: str, topic: bytes, numbers: Numbers) -> None:
        """So many follow a channel here now. topic: where the channel's log is broadcast."""
        told = topic, MARK + self._board.node.encode() + bytes(numbers)
        self._board.say(app, channel, bytes(numbers) if numbers.connections else None, told)

    def own(self, app: str, channel: str) -> Numbers:
        """How many follow a channel here."""
        return Numbers.read(self._board.own(app, channel))

    async def elsewhere(self, app: str, nodes: Iterable[str]) -> dict[str, Numbers]:
        """How many follow each channel on other nodes. Raises ClusterFailed."""
        found: dict[str, Numbers] = {}
        for answer in await self._board.elsewhere(app, nodes):
            for name, text in answer.items():
                channel = name.decode()
                found[channel] = Numbers.read(text).and_of([found.get(channel, Numbers())])
        return found

    async def elsewhere_on(self, app: str, channel: str, nodes: Iterable[str]) -> dict[str, Numbers]:
        """How many follow one channel on each other node. Raises ClusterFailed."""
        answers = await self._board.elsewhere_on(app, channel, nodes)
        return {node: Numbers.read(text) for node, text in answers.items()}


class Elsewhere:
    """The numbers of one channel on other nodes, from when somebody here asks for them.

    due: whether they are to be read before they are told
    """

    __slots__ = ("_asked", "_nodes", "due")

    def __init__(self) -> None:
        self.due = True
        self._asked = False
        self._nodes: dict[str, Numbers] = {}

    @property
    def all(self) -> Numbers:
        """Of all other nodes."""
        return Numbers().and_of(self._nodes.values())

    def hear(self, payload: bytes) -> bool:
        """A node has other numbers. Whether somebody is to be told."""
        if self._asked:
            self._nodes[sender_of(payload)] = Numbers.read(payload[1 + NODE :])
        return self._asked

    def doubt(self) -> bool:
        """Nodes came or went, or something was not heard. Whether somebody is to be told."""
        self.due = True
        return self._asked

    async def read(self, counts: Counts, app: str, channel: str, living: Iterable[str]) -> None:
        """Begin with what they are now. Where Redis cannot be asked, it is asked again when it is back."""
        self._asked, self.due = True, False
        self._nodes.clear()
        try:
            found = await counts.elsewhere_on(app, channel, living)
        except ClusterFailed:
            return
        self._nodes = {**found, **self._nodes}  # what was heard meanwhile is newer
