"""What Ably's SDKs cannot bear, frame by frame: each is kept from them."""

from __future__ import annotations

import msgspec
import pytest

from sower.core.answer import Acknowledged, Published, Receipt
from sower.core.command import Complain, Publish, PublishAll, SocketCommand
from sower.core.message import Kind, Message
from sower.dialects.ably import codes
from sower.dialects.ably.channels import ChannelWords
from sower.dialects.ably.opening import refuse
from sower.dialects.ably.wire import JSON, MSGPACK, Action, Flag
from sower.dialects.interface import HttpCall
from sower.errors import BadToken, Finished, Forbidden, SowerError, TokenExpired, TokenRevoked, tree
from tests.dialects.ably.test_liveness import conversation, frame

WORDS = {wire: ChannelWords(wire, "e0") for wire in (JSON, MSGPACK)}


@pytest.mark.parametrize("kind", tree().values(), ids=list(tree()))
def test_only_tokens_have_the_codes_upon_which_sdks_get_a_new_one(kind: type[SowerError]) -> None:
    renews = 40140 <= codes.code_of(kind.__new__(kind)).code <= 40149
    assert renews is issubclass(kind, BadToken | TokenExpired | TokenRevoked)


@pytest.mark.parametrize("kind", [k for k in tree().values() if k is not Finished], ids=str)
def test_a_client_that_may_come_back_is_told_disconnected_and_never_error_which_is_for_good(
    kind: type[SowerError],
) -> None:
    error = kind.__new__(kind)
    SowerError.__init__(error, "why")
    said = conversation().refuse(None, error)
    assert isinstance(said, bytes)
    told = msgspec.json.decode(said)
    comes_back = kind.retry or issubclass(kind, TokenExpired | TokenRevoked)
    assert told["action"] == (Action.DISCONNECTED if comes_back else Action.ERROR)
    assert {"message", "code", "statusCode"} == told["error"].keys()
    call = HttpCall("GET", "/", {}, {"format": "json"}, {}, b"")
    opening = msgspec.json.decode(refuse(call, error).payload)
    assert opening["action"] == (Action.DISCONNECTED if kind.retry else Action.ERROR)


def test_an_acknowledgement_has_its_count_and_one_result_for_each_frame() -> None:
    talk = conversation()
    commands: list[SocketCommand] = []
    for serial in (0, 1):
        sent = frame(Action.MESSAGE, channel="room", msgSerial=serial, messages=[{"name": "a"}, {"name": "b"}])
        commands += talk.receive("s", sent, is_text=True)
    told = [talk.answer("s", command, Published((Receipt("room", 7), Receipt("room", 8)))) for command in commands]
    ack = msgspec.json.decode(told[0][0])  # type: ignore[arg-type]
    assert (ack["action"], ack["msgSerial"], ack["count"], len(ack["res"][0]["serials"])) == (Action.ACK, 0, 1, 2)


def test_every_message_says_its_action_id_time_and_serial() -> None:
    for wire, words in WORDS.items():
        told = wire.decoder(dict)(words.encode("room", [Message(17323008000000000, "e", b"text", Kind.TEXT)])[0])
        (message,) = told["messages"]
        assert (message["action"], message["timestamp"]) == (0, 1732300800000)
        assert message["serial"] == told["channelSerial"]
        assert message["id"]


def test_messagepack_has_text_as_str_bytes_as_bin_and_times_as_integers() -> None:
    def told(data: bytes, kind: Kind) -> dict[str, object]:
        (encoded,) = WORDS[MSGPACK].encode("room", [Message(17323008000000000, "e", data, kind)])
        return msgspec.msgpack.decode(encoded)["messages"][0]

    assert told(b"\xff\x00", Kind.BINARY)["data"] == b"\xff\x00"
    text = told(b"text", Kind.TEXT)
    assert text["data"] == "text"
    assert isinstance(text["timestamp"], int)
    assert all(isinstance(value, str | int) for value in text.values())


def test_messagepack_is_read_however_long_its_heads_are() -> None:
    name, data = b"\xd9\x01e", b"\xc4\x02\xff\x00"  # str8 and bin8
    serial = b"\xd3" + (3).to_bytes(8, "big")  # int64
    message = b"\x82\xa4name" + name + b"\xa4data" + data
    sent = (
        b"\x84\xa6action\xcc\x0f\xa7channel\xda\x00\x04room\xa9msgSerial"
        + serial
        + b"\xa8messages\xdc\x00\x01"
        + message
    )
    read = MSGPACK.read_frame(sent)
    assert (read.action, read.channel, read.msgSerial) == (Action.MESSAGE, "room", 3)
    assert read.messages is not None
    assert (read.messages[0].name, read.messages[0].data) == ("e", b"\xff\x00")


def test_what_a_client_computes_for_itself_and_what_is_new_to_us_is_not_minded() -> None:
    sent = frame(
        Action.MESSAGE, channel="room", msgSerial=0, messages=[{"name": "e", "size": 5, "news": [1]}], later={"a": 1}
    )
    (command,) = conversation().receive("s", sent, is_text=True)
    assert isinstance(command, PublishAll)
    assert isinstance(command.publishes[0], Publish)
    for action in (Action.CONNECTED, 3, 18):
        assert conversation().receive("s", frame(action), is_text=True) == ()


def test_nothing_is_acknowledged_that_was_not_asked() -> None:
    talk = conversation()
    assert not talk.answer("s", PublishAll(()), Published(()))
    assert talk.answer("s", Complain(Finished()), Acknowledged()) == b""


def test_a_channel_is_detached_under_the_name_that_its_client_wrote_last() -> None:
    talk = conversation()
    for name in ("[?rewind=1]room", "room", "[?rewind=2]room"):
        talk.receive("s", frame(Action.ATTACH, channel=name), is_text=True)
        (command,) = talk.receive("s", frame(Action.DETACH, channel=name), is_text=True)
        told = talk.answer("s", command, Acknowledged())
        assert msgspec.json.decode(told)["channel"] == name  # type: ignore[arg-type]


def test_nothing_is_remembered_of_channels_that_are_not_attached() -> None:
    talk = conversation()
    for params in ({}, {"rewind": "never"}):
        sent = frame(Action.ATTACH, channel="[?x=1]room", flags=int(Flag.SUBSCRIBE), params=params)
        for command in talk.receive("s", sent, is_text=True):
            talk.refuse(command, Forbidden())
    (command,) = talk.receive("s", frame(Action.DETACH, channel="[?x=1]room"), is_text=True)
    talk.answer("s", command, Acknowledged())
    assert (talk._written, talk._modes) == (None, None)


def test_a_frame_with_something_of_a_wrong_type_is_answered_to_who_waits_for_it() -> None:
    for sent, told in (
        (frame(Action.MESSAGE, channel="room", msgSerial=7, messages=[{"name": 5}]), {"action": 2, "msgSerial": 7}),
        (frame(Action.ATTACH, channel="room", flags="all"), {"action": 9, "channel": "room"}),
        (frame(Action.AUTH, auth=5), {"action": 9}),
        (b"[]", {"action": 9}),
    ):
        talk = conversation()
        (command,) = talk.receive("s", sent, is_text=True)
        assert isinstance(command, Complain)
        assert command.final == ("msgSerial" not in told and "channel" not in told)
        said = talk.refuse(None if command.final else command, command.error)
        answer = msgspec.json.decode(said if isinstance(said, bytes) else said[0])
        assert {name: answer.get(name) for name in told} == told
