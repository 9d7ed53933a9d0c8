"""What was sent, acknowledged and seen, and the comparison with what is there. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple


class Event(NamedTuple):
    """One message as it stands in a channel: the number its publisher gave it, and its serial."""

    number: int
    serial: str


@dataclass
class Ledger:
    """Of each channel: the numbers sent, the serials acknowledged ("" where none was told), and what a subscriber saw.

    once: numbers that have no id, and are not sent again
    """

    sent: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    acked: defaultdict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    seen: defaultdict[str, set[Event]] = field(default_factory=lambda: defaultdict(set))
    once: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))

    def in_doubt(self, channel: str) -> list[int]:
        """Numbers that were sent and never acknowledged: they may be there or not."""
        return sorted(self.sent[channel] - self.acked[channel].keys())

    def absorb(self, other: Ledger) -> None:
        """Take over all that `other` holds."""
        for channel in other.sent:
            self.sent[channel] |= other.sent[channel]
            self.acked[channel] |= other.acked[channel]
            self.seen[channel] |= other.seen[channel]

    def problems(self, channel: str, history: Sequence[Event]) -> list[str]:
        """What is wrong with `history`, oldest first, as the whole of what this ledger knows of."""
        there = {event.number: event.serial for event in history}
        acked = self.acked[channel]
        twice = [number for number, count in Counter(event.number for event in history).items() if count > 1]
        findings = {
            "acknowledged and missing": acked.keys() - there.keys(),
            "there twice": twice,
            "there with another serial than acknowledged": [
                number for number in acked.keys() & there.keys() if acked[number] not in ("", there[number])
            ],
            "there and never sent": there.keys() - self.sent[channel],
            "delivered and not in history": self.seen[channel] - set(history),
            "not after the one before it": [
                after.number for before, after in pairwise(history) if before.serial >= after.serial
            ],
        }
        return [f"{channel}: {what}: {sorted(which)[:10]}" for what, which in findings.items() if which]
