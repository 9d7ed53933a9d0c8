"""Channels as Ably's clients name and attach them: `[?rewind=1]name`, modes, params; and how they are told things."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl

from sower.core.attendance import Attendance, Use
from sower.core.command import Rewind
from sower.core.grants import Can
from sower.core.message import Annotation, Appearance, Delivery, Message, check_channel_name
from sower.dialects.ably import annotating, messages, serials
from sower.dialects.ably.wire import EVERY_MODE, KNOWN_MODES, MODES, Action, Flag, Format, OutFrame
from sower.errors import BadChannelName, BadParameter

CAPABILITIES = {
    Flag.PRESENCE: Can.PRESENCE,
    Flag.PUBLISH: Can.PUBLISH,
    Flag.SUBSCRIBE: Can.SUBSCRIBE,
    Flag.PRESENCE_SUBSCRIBE: Can.SUBSCRIBE,
    Flag.ANNOTATION_PUBLISH: Can.ANNOTATE,
    Flag.ANNOTATION_SUBSCRIBE: Can.ANNOTATIONS,
}
"""What each mode needs."""

USES = {
    Flag.PRESENCE: Use.APPEAR,
    Flag.PUBLISH: Use.PUBLISH,
    Flag.SUBSCRIBE: Use.HEAR,
    Flag.PRESENCE_SUBSCRIBE: Use.WATCH,
}
"""What each mode is counted as."""

METRICS = ("connections", "publishers", "subscribers", "presenceConnections", "presenceMembers", "presenceSubscribers")

OCCUPANCY = "[meta]occupancy"
"""What the messages are called that tell how many there are."""

MAX_QUALIFIER = 1024
"""Characters of a name's qualifier; a connection remembers it for as long as the channel is attached."""

MOST_REWOUND = 100
"""Messages that rewind by count may ask for."""

MOST_TOGETHER = 100
"""Messages in one frame, as members in one of SYNC."""

ROOM = messages.MAX_MESSAGE
"""Bytes of data in a frame of several messages, so that it is never much longer than one message may be. The Python
package websockets, and so ably-python, takes frames of 1 MiB at most."""

UNITS = {"s": 1, "m": 60, "h": 3600}

T = TypeVar("T")


class Named(NamedTuple):
    """A channel's own name, and the params that its qualifier gives."""

    name: str
    params: dict[str, str]


def read_name(written: str | None) -> Named:
    """A channel as a client wrote it. Raises BadChannelName."""
    if not written:
        raise BadChannelName("The frame names no channel.")
    name, params = written, dict[str, str]()
    if written.startswith("[?"):
        qualifier, closed, name = written[2:].partition("]")
        if len(qualifier) > MAX_QUALIFIER:
            raise BadChannelName(f"A qualifier has {MAX_QUALIFIER} characters at most, this one {len(qualifier)}.")
        if not closed:
            raise BadChannelName(f"The qualifier of {written[:64]!r} is not closed.")
        params = dict(parse_qsl(qualifier, keep_blank_values=True))
    check_channel_name(name)
    if name.startswith((":", "[")):
        raise BadChannelName(f"The channel name {name[:64]!r} begins with a sign that is reserved.")
    return Named(name, params)


def bare_name(written: str | None) -> str:
    """The channel that is meant by what a client wrote, or by its own name; there may be none such."""
    return written.partition("]")[2] if written and written.startswith("[?") else written or ""


def read_rewind(text: str) -> Rewind:
    """`N` messages, or those of a period: 30s, 5m, 2h. Raises BadParameter."""
    number, unit = (text[:-1], text[-1:]) if text[-1:] in UNITS else (text, "")
    if not (number.isascii() and number.isdigit() and len(number) < 7):
        raise BadParameter(f"rewind is a number of messages, or a period such as 30s or 5m; this is {text[:20]!r}.")
    if unit:
        return Rewind(seconds=float(int(number) * UNITS[unit]))
    return Rewind(messages=min(int(number), MOST_REWOUND))


def known_params(params: Mapping[str, str]) -> dict[str, str]:
    """The params that are understood; they alone are echoed."""
    known = {"rewind": params["rewind"]} if "rewind" in params else {}
    if params.get("occupancy") in ("metrics", *(f"metrics.{name}" for name in METRICS)):
        known["occupancy"] = params["occupancy"]
    return known


def metrics_of(there: Attendance) -> dict[str, int]:
    """How many there are, in Ably's words."""
    numbers = (there.connections, there.publish, there.hear, there.appear, there.members, there.watch)
    return dict(zip(METRICS, numbers, strict=True))


def uses_of(modes: Flag) -> Use:
    """What these modes are counted as."""
    return Use(sum(use for mode, use in USES.items() if mode in modes))


def wanted_modes(flags: int | None, params: Mapping[str, str]) -> Flag:
    """The modes that are asked for, of those that are known; none of the known ones for others alone."""
    asked = (flags or 0) & EVERY_MODE
    if not asked and params.get("modes"):
        names = {name.strip().upper() for name in params["modes"].split(",")}
        return Flag(sum(mode for mode in KNOWN_MODES if mode.name in names))
    return Flag(asked) & KNOWN_MODES if asked else MODES


def without(kept: dict[str, T] | None, channel: str) -> dict[str, T] | None:
    """What is kept of the other channels; mostly nothing is kept of any."""
    if kept is None or channel not in kept:
        return kept
    return {name: one for name, one in kept.items() if name != channel} or None


TOLD = Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE | Flag.ANNOTATION_SUBSCRIBE
"""The modes by which it depends what a client is told."""


class ChannelWords:
    """How one format tells the deliveries of a channel: the encoder of the default attachment, and of particular ones.

    written: the channel as the client wrote it, None for its plain name
    params:  what of the params is understood
    """

    __slots__ = ("_epoch", "_format", "modes", "params", "written")

    def __init__(
        self,
        wire: Format,
        epoch: str,
        written: str | None = None,
        modes: Flag = MODES,
        params: Mapping[str, str] | None = None,
    ) -> None:
        self._format = wire
        self._epoch = epoch
        self.written = written
        self.modes = modes
        self.params = params or {}

    @property
    def is_text(self) -> bool:
        """JSON goes out as text."""
        return not self._format.binary

    @property
    def _key(self) -> tuple[object, ...]:
        return self._format, self._epoch, self.written, self.modes & TOLD, self.params.get("occupancy")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ChannelWords) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> list[bytes]:
        """MESSAGE, ANNOTATION and PRESENCE frames. Users as such are not told: each connection is a member.

        Neighbours of one kind are one frame: much of a small message is its frame.
        """
        name = self.written or channel
        return [
            self._frame(name, action, told)
            for action, run in groupby(deliveries, _action_of)
            for told in _portions(run)
        ]

    def _frame(self, name: str, action: Action | None, told: Sequence[Any]) -> bytes:
        """Deliveries of one kind. The frame bears the position after the last: SDKs keep one for each frame."""
        epoch, wire, modes = self._epoch, self._format, self.modes
        if action is Action.MESSAGE and Flag.SUBSCRIBE in modes:
            serial = serials.write(told[-1].serial, epoch)
            sent = [messages.out(message, epoch, wire) for message in told]
            return wire.encode(OutFrame(action, channel=name, channelSerial=serial, messages=sent))
        if action is Action.ANNOTATION and Flag.ANNOTATION_SUBSCRIBE in modes:
            serial = serials.write(told[-1].serial, epoch)
            noted = [annotating.out(message, message.about, epoch, wire) for message in told]
            return wire.encode(OutFrame(action, channel=name, channelSerial=serial, annotations=noted))
        if action is Action.PRESENCE and Flag.PRESENCE_SUBSCRIBE in modes:
            # Without a channelSerial: SDKs take theirs from any frame, and presence is not part of the message order.
            seen = [messages.out_presence(appearance, wire) for appearance in told]
            return wire.encode(OutFrame(action, channel=name, presence=seen))
        if action is None and isinstance(told[0], Attendance):
            return self._occupancy(name, told[0])
        return b""

    def _occupancy(self, name: str, there: Attendance) -> bytes:
        """A message that is not part of the order: it repeats the position, which SDKs take from every message."""
        if "occupancy" not in self.params or Flag.SUBSCRIBE not in self.modes:
            return b""
        metrics, (_, _, only) = metrics_of(there), self.params["occupancy"].partition(".")
        told = {"metrics": {only: metrics[only]} if only else metrics}
        message = messages.announcement(there.serial, OCCUPANCY, told)
        serial = serials.write(there.head, self._epoch)
        return self._format.encode(OutFrame(Action.MESSAGE, channel=name, channelSerial=serial, messages=[message]))

    def within(self, can: frozenset[Can]) -> ChannelWords:
        """How it is told to who may do only this."""
        modes = granted(self.modes, can)
        if modes == self.modes:
            return self
        return ChannelWords(self._format, self._epoch, self.written, modes, self.params)


def granted(modes: Flag, can: frozenset[Can]) -> Flag:
    """The modes of these that the client may have."""
    return Flag(sum(mode for mode in modes if CAPABILITIES[mode] in can))


def _action_of(delivery: Delivery) -> Action | None:
    """The frame that a delivery goes into with its neighbours; None for what stands alone, or is not told."""
    if isinstance(delivery, Message):
        return Action.ANNOTATION if isinstance(delivery.about, Annotation) else Action.MESSAGE
    return Action.PRESENCE if isinstance(delivery, Appearance) else None


def _portions(run: Iterable[Delivery]) -> Iterator[Sequence[Delivery]]:
    """What goes into a frame at a time."""
    portion: list[Delivery] = []
    room = ROOM
    for delivery in run:
        room -= _size(delivery)
        if portion and (room < 0 or len(portion) == MOST_TOGETHER or _action_of(delivery) is None):
            yield portion
            portion, room = [], ROOM - _size(delivery)
        portion.append(delivery)
    yield portion


def _size(delivery: Delivery) -> int:
    """About how many bytes it has."""
    if isinstance(delivery, Message):
        return len(delivery.data) + len(delivery.extra or b"")
    return len(delivery.meta) if isinstance(delivery, Appearance) else 0
