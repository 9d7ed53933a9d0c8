"""What a session needs only while it goes on speaking: its parser, its rates, and since when it is in mid-message.

Rule: a single message leaves nothing of this behind. What all clients say once after a restart, such as what they
      follow, would leave the memory in pieces.
"""

from __future__ import annotations

from collections.abc import Callable

from sower.core.limits import Bucket
from sower.errors import BadRequest, EventsTooFast, RateLimited, SowerError, TooLarge
from sower.net.framing import Inbound


class Speech:
    """begun: since when a message is half said, None where none is.

    inbound: None between the first words of a client and the next, for the same reason
    """

    __slots__ = ("begun", "events", "frames", "goes_on", "inbound", "violations")

    def __init__(self) -> None:
        self.begun: float | None = None
        self.inbound: Inbound | None = None
        self.goes_on = False
        self.frames: Bucket | None = None
        self.events: Bucket | None = None
        self.violations = 0

    def half_said(self, inbound: Inbound, *, whole: bool, now: Callable[[], float]) -> bool:
        """Note whether a message is half said by now. Returns whether it has just begun.

        whole: the last bytes completed another one
        """
        if inbound.resting:
            self.begun = None
        elif whole or self.begun is None:
            self.begun = now()
            return True
        return False

    def late(self, now: float, within: float) -> bool:
        """Whether the message that is half said began too long ago."""
        return self.begun is not None and now - self.begun >= within

    def violated(self, error: SowerError, forgiven: int) -> bool:
        """Count what was malformed or too fast. Returns whether that was more than is forgiven."""
        too_fast = isinstance(error, RateLimited) and not isinstance(error, EventsTooFast)  # frames bound those
        self.violations += too_fast or isinstance(error, BadRequest | TooLarge)
        return self.violations > forgiven

    def next_look(self, now: float, silence: float, sleep_after: float, message_within: float) -> float:
        """Seconds until it may sleep, or has been in mid-message for too long."""
        sleeps = sleep_after - silence if silence < sleep_after else sleep_after
        return sleeps if self.begun is None else min(sleeps, self.begun + message_within - now)

    @property
    def resting(self) -> bool:
        """Whether nothing is half said."""
        return self.inbound is None or self.inbound.resting

    def done(self, now: float) -> bool:
        """Whether nothing is half said, and its rates are as good as new: then nothing is lost by dropping this."""
        rates = (self.frames, self.events)
        return self.resting and all(bucket is None or bucket.full(now) for bucket in rates)
