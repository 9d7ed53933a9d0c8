"""Channels as Ably's clients name and attach them: `[?rewind=1]name`, modes, params; and how they are told things."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple
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

MOST_REWOUND = 100
"""Messages that rewind by count may ask for."""

UNITS = {"s": 1, "m": 60, "h": 3600}


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
        if not closed:
            raise BadChannelName(f"The qualifier of {written[:64]!r} is not closed.")
        params = dict(parse_qsl(qualifier, keep_blank_values=True))
    check_channel_name(name)
    if name.startswith((":", "[")):
        raise BadChannelName(f"The channel name {name[:64]!r} begins with a sign that is reserved.")
    return Named(name, params)


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

    def encode(self, channel: str, delivery: Delivery) -> bytes:
        """MESSAGE and PRESENCE frames. Users as such are not told: each connection is a member."""
        name = self.written or channel
        if isinstance(delivery, Message):
            return self._message(name, delivery)
        if isinstance(delivery, Appearance) and Flag.PRESENCE_SUBSCRIBE in self.modes:
            presence = [messages.out_presence(delivery, self._format)]
            # Without a channelSerial: SDKs take theirs from any frame, and presence is not part of the message order.
            return self._format.encode(OutFrame(Action.PRESENCE, channel=name, presence=presence))
        if isinstance(delivery, Attendance) and "occupancy" in self.params and Flag.SUBSCRIBE in self.modes:
            return self._format.encode(self._occupancy(name, delivery))
        return b""

    def _occupancy(self, name: str, there: Attendance) -> OutFrame:
        """A message that is not part of the order: it repeats the position, which SDKs take from every message."""
        metrics, (_, _, only) = metrics_of(there), self.params["occupancy"].partition(".")
        told = {"metrics": {only: metrics[only]} if only else metrics}
        message = messages.announcement(there.serial, OCCUPANCY, told)
        serial = serials.write(there.head, self._epoch)
        return OutFrame(Action.MESSAGE, channel=name, channelSerial=serial, messages=[message])

    def _message(self, name: str, message: Message) -> bytes:
        """A message, a change of one, a summary or an annotation; each at its own place in the channel's order."""
        epoch, wire, about = self._epoch, self._format, message.about
        serial = serials.write(message.serial, epoch)
        if isinstance(about, Annotation):
            if Flag.ANNOTATION_SUBSCRIBE not in self.modes:
                return b""
            told = [annotating.out(message, about, epoch, wire)]
            return wire.encode(OutFrame(Action.ANNOTATION, channel=name, channelSerial=serial, annotations=told))
        if Flag.SUBSCRIBE not in self.modes:
            return b""
        frame = OutFrame(
            Action.MESSAGE, channel=name, channelSerial=serial, messages=[messages.out(message, epoch, wire)]
        )
        return wire.encode(frame)

    def within(self, can: frozenset[Can]) -> ChannelWords:
        """How it is told to who may do only this."""
        modes = granted(self.modes, can)
        if modes == self.modes:
            return self
        return ChannelWords(self._format, self._epoch, self.written, modes, self.params)


def granted(modes: Flag, can: frozenset[Can]) -> Flag:
    """The modes of these that the client may have."""
    return Flag(sum(mode for mode in modes if CAPABILITIES[mode] in can))
