"""What was said to all nodes, as an item of a channel's inbox."""

from __future__ import annotations

from collections.abc import Sequence

from sower.core.channel import Channel
from sower.core.message import Delivery
from sower.errors import SowerError
from sower.inbox import Subscriber


class Broadcast:
    """What was said to all nodes."""

    apart = departs = False
    __slots__ = ("payload",)

    def __init__(self, payload: bytes) -> None:
        self.payload = payload

    def decide(self, state: Channel[Subscriber], now: float) -> Sequence[Delivery]:
        """The tree applies it."""
        return ()

    def refuse(self, error: SowerError) -> None:
        """Nobody waits for it."""
