"""dialects/ably/channels.py: what goes into one frame with its neighbours, and what does not."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from sower.core.attendance import Attendance
from sower.core.message import Act, Annotation, Appearance, Delivery, Did, Joined, Kind, Message, Revision
from sower.dialects.ably.channels import MOST_TOGETHER, ROOM, ChannelWords
from sower.dialects.ably.wire import EVERY_MODE, JSON, MODES, MSGPACK, Action, Flag

START = 17323008000000000
ALL = Flag(EVERY_MODE)
CONTENTS = ("messages", "annotations", "presence")


def message(number: int, data: bytes = b"text", *, about: Revision | Annotation | None = None) -> Message:
    return Message(START + number, "e", data, Kind.TEXT, about=about)


def annotation(number: int) -> Message:
    return message(number, about=Annotation(START, "reaction:flag.v1"))


def appearance(number: int) -> Appearance:
    return Appearance(Did.ENTERED, f"ada{number}", "tab", b"1", START + number)


def frames(deliveries: Sequence[Delivery], modes: Flag = ALL, **params: str) -> list[dict[str, Any]]:
    words = ChannelWords(JSON, "e0", modes=modes, params=params)
    return [msgspec.json.decode(said) for said in words.encode("room", deliveries) if said]


def shape(told: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """The action of each frame, and how many things are in it."""
    return [(frame["action"], len(next(frame[name] for name in CONTENTS if name in frame))) for frame in told]


def test_neighbouring_messages_are_one_frame_that_bears_the_position_after_its_last() -> None:
    (frame,) = frames([message(1), message(2), message(3, about=Revision(START + 1, Act.UPDATED, START + 3))])
    assert [m["serial"] for m in frame["messages"]] == [f"{START + n}@e0" for n in (1, 2, 1)]
    assert [m["id"] for m in frame["messages"]] == [f"{START + n}:0" for n in (1, 2, 3)]
    assert frame["channelSerial"] == f"{START + 3}@e0"
    assert frame.keys() == {"action", "channel", "channelSerial", "messages"}, "each message says who and when itself"


def test_what_is_of_another_kind_is_a_frame_of_its_own_and_all_stay_in_their_order() -> None:
    there = Attendance(START, START + 1, 1, 1, 1, 1, 1, 1)
    told = frames(
        [message(1), message(2), annotation(3), annotation(4), message(5), appearance(6), appearance(7), there, there],
        occupancy="metrics",
    )
    kinds = [Action.MESSAGE, Action.ANNOTATION, Action.MESSAGE, Action.PRESENCE, Action.MESSAGE, Action.MESSAGE]
    assert shape(told) == list(zip(kinds, (2, 2, 1, 2, 1, 1), strict=True))
    assert [frame.get("channelSerial") for frame in told[:4]] == [*(f"{START + n}@e0" for n in (2, 4, 5)), None]


def test_a_frame_has_a_bound_in_messages_and_in_bytes() -> None:
    assert [size for _, size in shape(frames([message(n) for n in range(2 * MOST_TOGETHER + 1)]))] == [100, 100, 1]
    large = b"x" * (ROOM // 2)
    assert [size for _, size in shape(frames([message(n, large) for n in range(5)]))] == [2, 2, 1]
    worst = [message(n, b"\x00" * ROOM) for n in range(3)]
    assert all(len(said) < 1 << 20 for said in ChannelWords(JSON, "e0").encode("room", worst))


def test_modes_hold_for_all_of_a_frame() -> None:
    mixed = [message(1), message(2), appearance(3), annotation(4), Joined("ada")]
    assert shape(frames(mixed, MODES)) == [(Action.MESSAGE, 2), (Action.PRESENCE, 1)]
    assert shape(frames(mixed, Flag.PRESENCE_SUBSCRIBE)) == [(Action.PRESENCE, 1)]
    assert frames(mixed, Flag.PUBLISH) == []


THINGS = st.sampled_from([message, annotation, appearance, lambda _: Joined("ada")])


@given(st.lists(THINGS, max_size=12))
def test_together_they_say_what_each_says_alone(made: list[Any]) -> None:
    deliveries = [make(number) for number, make in enumerate(made)]
    for wire in (JSON, MSGPACK):
        words = ChannelWords(wire, "e0", modes=ALL)
        read = wire.decoder(dict)

        def told(said: Sequence[bytes], read: Any = read) -> list[object]:
            return [one for frame in map(read, filter(None, said)) for name in CONTENTS for one in frame.get(name, ())]

        alone = [*chain.from_iterable(words.encode("room", [delivery]) for delivery in deliveries)]
        assert told(words.encode("room", deliveries)) == told(alone)
