"""dialects/ably/rest.py: what a batch comes to is known before it is made, because nobody has shown anything yet."""

from __future__ import annotations

import msgspec
import pytest

from sower.config import AblySettings
from sower.core.command import Batch, Complain
from sower.core.message import MOST_AT_ONCE
from sower.dialects.ably.channels import ChannelWords
from sower.dialects.ably.rest import decode_batch, decode_presences, decode_publish
from sower.dialects.ably.socket import AblyConversation, Manner
from sower.dialects.ably.wire import JSON
from sower.dialects.interface import HttpCall
from sower.dialects.native.http import decode_publish as decode_native
from sower.errors import BadParameter, TooLarge


class Anybody:
    id = "0" * 13


ANYBODY = Anybody()


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
    assert len(batch((100, MOST_AT_ONCE // 100))) == 100
    for entries in ([(100, MOST_AT_ONCE // 100 + 1)], [(100, 50)] * 3):
        with pytest.raises(TooLarge):
            batch(*entries)


def test_very_many_messages_without_data_are_counted_before_they_are_made() -> None:
    many: list[dict[str, str]] = [{}] * (MOST_AT_ONCE + 1)
    call = HttpCall("POST", "/channels/c/messages", {"channel": "c"}, {"key": "a.b:c"}, {}, msgspec.json.encode(many))
    with pytest.raises(TooLarge):
        decode_publish("e0", call)
    manner = Manner(JSON, ChannelWords(JSON, "e0"), "e0", AblySettings(), 25.0)
    for action, what in ((15, "messages"), (14, "presence"), (21, "annotations")):
        one = {"action": 2} if what == "presence" else {}
        frame = {"action": action, "msgSerial": 0, "channel": "c", what: [one] * (MOST_AT_ONCE + 1)}
        [command] = AblyConversation(manner, {}).receive(ANYBODY, msgspec.json.encode(frame), is_text=True)
        assert isinstance(command, Complain)
        assert isinstance(command.error, TooLarge)
    native = {"channels": ["c"] * (MOST_AT_ONCE + 1), "event": "e"}
    call = HttpCall("POST", "/events/publish", {}, {}, {}, msgspec.json.encode(native))
    command = decode_native(call).command
    assert isinstance(command, Complain)
    assert isinstance(command.error, TooLarge)
