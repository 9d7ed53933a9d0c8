"""What became of a batch of messages: what is told of each, and what its publisher is answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sower.config import History
from sower.core.answer import Receipt
from sower.core.message import Message
from sower.errors import SowerError
from sower.inbox import Publication
from sower.store.journal import Stored
from sower.surroundings import Surroundings

Accepted = Sequence[tuple[Publication, Message]]


class Outcomes:
    """odd: by serial, of those with which it is not simply that they are stored and told as they are."""

    __slots__ = ("_accepted", "_channel", "_odd")

    def __init__(self, channel: str, accepted: Accepted, odd: Mapping[int, Stored]) -> None:
        self._channel = channel
        self._accepted = accepted
        self._odd = odd

    @classmethod
    async def stored(
        cls, node: Surroundings, app: str, channel: str, accepted: Accepted, history: History | None
    ) -> Outcomes:
        """Those of a batch, once it is committed; at once where the channel keeps nothing. Raises JournalFailed."""
        if history is None:
            return cls(channel, accepted, {})
        messages = [m for _, m in accepted]
        passing = frozenset([m.serial for p, m in accepted if not p.command.stored])
        stored = await node.journal.append(app, channel, messages, history, passing=passing, largest=node.largest)
        odd = {m.serial: s for m, s in zip(messages, stored, strict=True) if m.about is not None or not s.fresh}
        return cls(channel, accepted, odd)

    def told(self) -> list[Message]:
        """What subscribers are told: of a change, what came of it; of a repetition, nothing."""
        messages = [m for p, m in self._accepted if p.command.told]
        if not self._odd:
            return messages
        odd = self._odd
        return [t for m in messages for t in ((m,) if m.serial not in odd else odd[m.serial].told)]

    def receipts(self) -> list[tuple[Publication, Receipt | SowerError]]:
        """What each publisher is answered, the last one first."""
        return [(p, self._receipt(m)) for p, m in reversed(self._accepted)]

    def _receipt(self, message: Message) -> Receipt | SowerError:
        odd = self._odd.get(message.serial)
        if odd is None:
            return Receipt(self._channel, message.serial)
        return odd.refused or Receipt(self._channel, odd.serial, fresh=odd.fresh)
