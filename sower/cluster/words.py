"""What is told to every node at once. Some of it is remembered, for nodes that were cut off and those that start later.

Rule 1: what is remembered of each kind is a stream of its own: many words of one kind push out none of another.
Rule 2: a node does what it hears, its own words too, and whoever had it said is answered after that.
Rule 3: where Redis lost what lasts, the first node that knows it says it again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec
import trio

from sower.cluster import scripts
from sower.cluster.line import ANSWERS_WITHIN, Line
from sower.errors import ClusterFailed


class Ended(msgspec.Struct, frozen=True, array_like=True, tag="end"):
    """All connections of a user end."""

    app: str
    user: str


class TokensRevoked(msgspec.Struct, frozen=True, array_like=True, tag="revoke"):
    """A revocation, as JSON. at: when whoever is connected with such a token ends, seconds since 1970, None for now."""

    revocation: bytes
    at: float | None


class Withdrawn(msgspec.Struct, frozen=True, array_like=True, tag="withdraw"):
    """One token is accepted no longer. name: Grant.group. expires: seconds since 1970."""

    name: str
    expires: float


class Kicked(msgspec.Struct, frozen=True, array_like=True, tag="kick"):
    """One connection ends. asker, number: who wants to know whether it did."""

    app: str
    session: str
    asker: str
    number: int


class Answered(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    """What came of something that a node asked all others. done: whether this one did it."""

    asker: str
    number: int
    done: bool


class GroupChanged(msgspec.Struct, frozen=True, array_like=True, tag="group"):
    """A group of channels is another one."""

    app: str
    group: str
    came: tuple[str, ...]
    went: tuple[str, ...]


class Erased(msgspec.Struct, frozen=True, array_like=True, tag="erase"):
    """The messages between two exclusive serials were deleted."""

    app: str
    channel: str
    since: int
    before: int


class AppsChanged(msgspec.Struct, frozen=True, array_like=True, tag="apps"):
    """Apps were added or removed."""


Word = Ended | TokensRevoked | Withdrawn | Kicked | Answered | GroupChanged | Erased | AppsChanged
W = TypeVar("W", bound=Word)

KEPT: dict[type[Word], int] = {
    Ended: 1000,
    TokensRevoked: 10_000,
    Withdrawn: 10_000,
    Kicked: 1,
    Answered: 1,
    GroupChanged: 1,
    Erased: 1000,
    AppsChanged: 1,
}
"""Words of each kind that are remembered. Of those with 1, nobody has to know who was cut off."""

LASTING = (TokensRevoked, Withdrawn)
"""What is still so for nodes that start later. Who ended before a node started was never connected to it."""

READ_AT_ONCE = 1000

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(Word).decode


class Words:
    """Those of one node with all others."""

    def __init__(self, line: Line, prefix: str) -> None:
        self.topic = f"{prefix}:{{all}}:words".encode()
        self._line = line
        self._streams = {kind: f"{prefix}:{{all}}:word:{kind.__struct_config__.tag}".encode() for kind in KEPT}
        self._doers: dict[type[Word], Callable[[Any], object]] = {}
        self._read: dict[type[Word], bytes] = {}
        """How far each stream is read. Nothing until the first time."""
        self._heard = trio.Event()
        self._said: dict[type[Word], deque[bytes]] = {kind: deque(maxlen=KEPT[kind]) for kind in LASTING}
        line.subscribe(self.topic)

    def learn(self, kind: type[W], do: Callable[[W], object]) -> None:
        """Do this when such a word is heard."""
        self._doers[kind] = do

    async def say(self, word: Word, beside: bytes | None = None, fields: Mapping[str, Any] | None = None) -> None:
        """Tell it to every node, and remember it where that is its kind. Raises ClusterFailed.

        beside: a hash in which fields become these with it; empty ones go, and those that are there stay
        """
        kind = type(word)
        keys = (self._streams[kind],) if beside is None else (self._streams[kind], beside)
        args = [self.topic, KEPT[kind], _pack(word)]
        args += [part for field in (fields or {}).items() for part in field]
        place = _number(await self._line.run(scripts.TELL, keys, args, gated=True))
        with trio.move_on_after(ANSWERS_WITHIN):  # where the line is lost meanwhile, it is read when it is back
            while _number(self._read.get(kind, b"0-0")) < place:
                await self._heard.wait()

    async def try_to_say(self, word: Word) -> None:
        """As `say`; where Redis is away, it is not said."""
        with suppress(ClusterFailed):
            await self.say(word)

    def hear(self, payload: bytes) -> None:
        """A word was broadcast: its place in its stream, and its bytes."""
        place, _, said = payload.partition(b" ")
        with suppress(msgspec.ValidationError):  # of a kind that only a newer daemon knows
            self._do(place, said)

    async def read(self) -> None:
        """Hear what was not heard: all that lasts at the start, and later what was missed. Raises ClusterFailed."""
        for kind, stream in self._streams.items():
            if kind not in self._read and kind not in LASTING:
                newest = await self._line.ask(b"XREVRANGE", stream, b"+", b"-", b"COUNT", 1)
                self._read[kind] = newest[0][0] if newest else b"0-0"
            more = True
            while more:
                after = b"(" + self._read.setdefault(kind, b"0-0")
                rows = await self._line.ask(b"XRANGE", stream, after, b"+", b"COUNT", READ_AT_ONCE)
                for place, fields in rows:
                    self._do(place, fields[1])
                more = len(rows) == READ_AT_ONCE

    @property
    def reading(self) -> bool:
        """Whether it was read a first time."""
        return bool(self._read)

    async def say_again(self) -> None:
        """Redis has lost what lasts: where nobody has said it again, it is said again. Raises ClusterFailed."""
        for kind, said in self._said.items():
            self._read[kind] = b"0-0"
            if said:
                await self._line.run(scripts.TELL_AGAIN, (self._streams[kind],), (*said,))

    def _do(self, place: bytes, said: bytes) -> None:
        word = _unpack(said)
        kind = type(word)
        if kind not in self._read or _number(place) <= _number(self._read[kind]):
            return
        self._read[kind] = place
        heard, self._heard = self._heard, trio.Event()
        heard.set()
        remembered = self._said.get(kind)
        if remembered is not None and said not in remembered:
            remembered.append(said)
        do = self._doers.get(kind)
        if do is not None:
            do(word)


def _number(place: bytes) -> tuple[int, int]:
    first, _, second = place.partition(b"-")
    return int(first), int(second)
