"""dialects/ably/payload.py and messages.py: whatever a client sends comes out as it went in, in both formats."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.core.message import DEEPEST, Appearance, Did, Kind, Message
from sower.dialects.ably import annotating, messages, payload
from sower.dialects.ably.wire import JSON, MSGPACK, InAnnotation, InMessage, InPresence, PresenceAction
from sower.errors import BadData, BadParameter, MessageTooLarge, UserMismatch

CIPHER = "json/utf-8/cipher+aes-256-cbc"
ENCODINGS = st.sampled_from([None, "utf-8", CIPHER, "custom"])


@given(data=st.text() | st.binary(), encoding=ENCODINGS)
def test_text_and_bytes_come_out_as_they_went_in(data: str | bytes, encoding: str | None) -> None:
    content = payload.read(data, encoding)
    assert payload.write(content, binary=True) == (data, encoding)
    over_json = payload.write(content, binary=False)
    if isinstance(data, bytes):
        assert over_json.data == base64.b64encode(data).decode()
        assert over_json.encoding == (f"{encoding}/base64" if encoding else "base64")
        assert payload.read(over_json.data, over_json.encoding) == content
    else:
        assert over_json == (data, encoding)


@pytest.mark.parametrize("text", ['{"a": [1, 2.50]}', "[ ]", "12345678901234567890"])
def test_json_keeps_its_text(text: str) -> None:
    content = payload.read(text, "json")
    assert (content.kind, content.data) == (Kind.JSON, text.encode())
    assert payload.write(content, binary=False) == (text, "json")


def test_what_is_not_what_its_encoding_says_is_refused() -> None:
    for data, encoding in (("{", "json"), ("no base64!", "base64"), ("é", "utf-8/base64")):
        with pytest.raises(BadData):
            payload.read(data, encoding)


def test_nothing_is_missing_and_a_bare_object_is_json() -> None:
    assert payload.write(payload.read(None, None), binary=False) == (None, None)
    assert payload.write(payload.read({"a": 1}, None), binary=True) == ('{"a":1}', "json")


@pytest.mark.parametrize("number", [2**64 - 1, -(2**63), 2**64, -(2**63) - 1, 10**300])
def test_extras_are_written_in_both_formats_whatever_numbers_they_hold(number: int) -> None:
    sent = JSON.decoder(InMessage)(b'{"extras":{"a":[%d]}}' % number)
    said = messages.publish(sent, "room", message_id=None, connection=None)
    kept = Message(17, said.event, said.data, said.kind, extra=said.extra)
    for wire in (JSON, MSGPACK):
        told = wire.decoder(dict)(wire.encode(messages.out(kept, "e0", wire)))
        assert told["extras"]["a"] in ([number], [float(number)])


def test_extras_that_not_every_format_can_say_are_refused() -> None:
    nested: list[object] = []
    for _ in range(DEEPEST + 1):
        nested = [nested]
    for extras in ({"a": 10**400}, nested):
        with pytest.raises(BadData):
            messages.publish(InMessage(extras=extras), "room", message_id=None, connection=None)


VALUES = st.none() | st.text() | st.binary() | st.dictionaries(st.text(), st.integers(0, 9), max_size=3)


@given(data=VALUES, user=st.sampled_from(["ada", "é"]), extras=st.sampled_from([None, {"headers": {"a": 1}}]))
def test_a_member_comes_out_as_it_went_in(data: object, user: str, extras: object) -> None:
    sent = InPresence(PresenceAction.ENTER, clientId=user, data=data, extras=extras)
    said = messages.appear(sent, "room", "c:0:0")
    msgspec.json.decode(said.meta)  # other protocols read it as JSON
    seen = Appearance(Did.ENTERED, user, "c", said.meta, 17, said.id, said.extra)
    got = messages.out_presence(seen, MSGPACK)
    expected = msgspec.json.encode(data).decode() if isinstance(data, dict) else data
    assert (got.data, got.clientId, got.id, got.extras) == (expected, user, "c:0:0", extras)


@given(data=VALUES, name=st.none() | st.text(min_size=1), extras=st.sampled_from([None, {"headers": {"a": 1}}]))
def test_a_message_comes_out_as_it_went_in(data: object, name: str | None, extras: object) -> None:
    sent = InMessage(name=name, data=data, extras=extras)
    p = messages.publish(sent, "room", message_id="c:0:0", connection="c")
    message = Message(17, p.event, p.data, p.kind, p.user, p.id, p.extra)
    got = messages.out(message, "e", MSGPACK)
    expected = msgspec.json.encode(data).decode() if isinstance(data, dict) else data
    assert (got.data, got.name, got.connectionId, got.extras) == (expected, name, "c", extras)
    JSON.encode(messages.out(message, "e", JSON))


def test_what_members_and_messages_may_not_say() -> None:
    with pytest.raises(BadParameter, match="presence action"):
        messages.appear(InPresence(9, clientId="ada"), "room", "c:0:0")
    with pytest.raises(UserMismatch):
        messages.publish(InMessage(clientId="*"), "room", message_id=None, connection=None)
    sent = [InMessage(data="x" * 40_000), InMessage(data="x" * 40_000)]
    with pytest.raises(MessageTooLarge):
        messages.check_size(sent, [messages.publish(m, "r", message_id=None, connection=None) for m in sent])


def test_an_ephemeral_message_is_told_and_not_kept() -> None:
    sent = InMessage(extras={"ephemeral": True})
    assert messages.publish(sent, "room", message_id=None, connection=None).stored is False


def test_an_annotation_is_as_small_as_a_message() -> None:
    sent = InAnnotation(type="reaction:total.v1", extras={"headers": {"a": messages.MAX_MESSAGE * "x"}})
    with pytest.raises(MessageTooLarge):
        annotating.annotate(sent, "room", message="17@e0")
