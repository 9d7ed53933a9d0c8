"""The state of a channel on one node of several: its members are those of all nodes, and so are its numbers."""

from __future__ import annotations

from sower.cluster.counts import Elsewhere, Numbers
from sower.cluster.replica import Replica
from sower.core.attendance import Attendance
from sower.core.channel import Channel
from sower.core.rules import Rules
from sower.inbox import Subscriber


class Copy(Channel[Subscriber]):
    """A channel's state as the log says it. elsewhere: how many follow it on other nodes."""

    __slots__ = ("_node", "elsewhere")

    def __init__(self, name: str, rules: Rules, *, most_members: int, node: str) -> None:
        super().__init__(name, rules, head=0, most_members=most_members)
        self._node = node
        self.elsewhere = Elsewhere()
        self.presence = None
        if rules.presence:
            self.present()

    def present(self) -> Replica:
        """Its members, known to every node."""
        if not isinstance(self.presence, Replica):
            self.presence = Replica(self.rules.grace, self._most_members, self._node)
        return self.presence

    @property
    def replica(self) -> Replica | None:
        """Its members, where there ever were any."""
        return self.presence if isinstance(self.presence, Replica) else None

    @property
    def numbers(self) -> Numbers:
        """Of those who follow the channel here."""
        return Numbers.of(super().attendance(0))

    @property
    def followers(self) -> int:
        """How many there are on all nodes."""
        return self.subscribers + self.elsewhere.all.connections

    def attendance(self, serial: int) -> Attendance:
        """As of every channel, on all nodes."""
        here = super().attendance(serial)
        return Attendance(here.serial, here.head, *self.numbers.and_of([self.elsewhere.all]), here.members)

    @property
    def vacant(self) -> bool:
        """Whether nobody here follows the channel, and no member is a client of this node."""
        own = self.replica is not None and self.replica.own
        return not (self.audiences or own or any(tap.followers for tap in self.taps))
