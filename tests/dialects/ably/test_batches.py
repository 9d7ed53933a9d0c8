"""dialects/ably/rest.py: what a batch comes to is known before it is made, because nobody has shown anything yet."""

from __future__ import annotations

import msgspec
import pytest

from sower.core.command import Batch
from sower.dialects.ably.rest import MOST_BATCHED, decode_batch, decode_presences
from sower.dialects.interface import HttpCall
from sower.errors import BadParameter, TooLarge


def batch(*entries: tuple[int, int]) -> tuple[object, ...]:
    """The commands of a batch of entries, each of so many channels and so many messages."""
    body = [{"channels": [f"c{n}" for n in range(many)], "messages": [{"data": "x"}] * each} for many, each in entries]
    call = HttpCall("POST", "/messages", {}, {"key": "a.b:c"}, {}, msgspec.json.encode(body))
    command = decode_batch("e0", call).command
    assert isinstance(command, Batch)
    return command.commands


def test_a_batch_has_each_message_for_each_of_its_channels_and_reads_it_once() -> None:
    first, second, third = batch((2, 2), (1, 1))
    assert [publish.channel for publish in (*first.publishes, *second.publishes)] == ["c0", "c0", "c1", "c1"]  # type: ignore[attr-defined]
    assert first.publishes[0].data is second.publishes[0].data  # type: ignore[attr-defined]
    assert len(third.publishes) == 1  # type: ignore[attr-defined]


def test_the_members_of_a_hundred_channels_are_read_at_once_and_of_no_more() -> None:
    def asked(count: int) -> int:
        call = HttpCall("GET", "/presence", {}, {"key": "a.b:c", "channels": ",".join(["room"] * count)}, {}, b"")
        command = decode_presences(call).command
        return len(command.commands) if isinstance(command, Batch) else 0

    assert asked(100) == 100
    with pytest.raises(BadParameter):
        asked(101)


def test_a_short_body_that_comes_to_very_many_messages_is_refused() -> None:
    assert len(batch((100, MOST_BATCHED // 100))) == 100
    for entries in ([(100, MOST_BATCHED // 100 + 1)], [(100, 50)] * 3):
        with pytest.raises(TooLarge):
            batch(*entries)
