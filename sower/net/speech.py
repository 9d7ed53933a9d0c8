"""What a session needs only while it goes on speaking: its parser, and its rates.

Rule: a single message leaves nothing of this behind. What all clients say once after a restart, such as what they
      follow, would leave the memory in pieces.
"""

from __future__ import annotations

from sower.core.limits import Bucket
from sower.net.framing import Inbound


class Speech:
    """inbound: None between the first words of a client and the next, for the same reason."""

    __slots__ = ("events", "frames", "goes_on", "inbound", "violations")

    def __init__(self) -> None:
        self.inbound: Inbound | None = None
        self.goes_on = False
        self.frames: Bucket | None = None
        self.events: Bucket | None = None
        self.violations = 0

    @property
    def resting(self) -> bool:
        """Whether nothing is half said."""
        return self.inbound is None or self.inbound.resting

    def done(self, now: float) -> bool:
        """Whether nothing is half said, and its rates are as good as new: then nothing is lost by dropping this."""
        rates = (self.frames, self.events)
        return self.resting and all(bucket is None or bucket.full(now) for bucket in rates)
