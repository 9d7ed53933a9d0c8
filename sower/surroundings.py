"""What a channel has from the node that it lives on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sower.core.happening import Fact, Happening
from sower.store.journal import Journal
from sower.store.log import Log
from sower.tally import Tally

if TYPE_CHECKING:
    from sower.channel_tree import ChannelTree


class Surroundings(Protocol):
    """in_flight: the trees that hold messages which are not told yet, and the lowest serial of each.

    largest: bytes of data that a message may have
    """

    journal: Journal
    log: Log
    queue_limit: int
    most_members: int
    largest: int
    remember_ids: float
    hears: Callable[[str, Fact], bool]
    happened: Callable[[str, Happening], None]
    in_flight: dict[ChannelTree, int]
    tally: Tally

    def now(self) -> float: ...
    def counts(self, app: str) -> bool: ...
    def next_serial(self) -> int: ...
    def start(self, tree: ChannelTree) -> None: ...
