"""dialects/pusher/words.py: how each delivery is told, and with which codes sockets end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.core.answer import Watched, Welcome
from sower.core.message import CacheMiss, Counted, Joined, Kind, Left, Message, Position, Updated
from sower.core.presence import MemberView
from sower.dialects.pusher import words
from sower.errors import (
    BadFrame,
    BadRequest,
    ChannelBusy,
    Draining,
    Forbidden,
    NoPong,
    NotAuthorised,
    SlowConsumer,
    SowerError,
    TooLarge,
    tree,
)


def told(channel: str, delivery: Any) -> Any:
    payload = words.said(channel, delivery)
    return json.loads(payload) if payload else None


@pytest.mark.parametrize(
    ("event", "data", "kind", "expected"),
    [
        ("e", b'{"b":1, "a":  2}', Kind.JSON, {"data": '{"b":1, "a":  2}'}),
        ("e", b"no JSON", Kind.TEXT, {"data": "no JSON"}),
        ("e", b"\xff\x00", Kind.BINARY, {"data": "/wA=", "encoding": "base64"}),
        ("client-e", b'{"b": 1}', Kind.JSON, {"data": {"b": 1}}),
        ("client-e", b'"text"', Kind.JSON, {"data": "text"}),
        ("client-e", b'{"b": 1}', Kind.TEXT, {"data": '{"b": 1}'}),
    ],
)
def test_data_is_told_as_text_but_a_clients_as_it_came(event: str, data: bytes, kind: Kind, expected: Any) -> None:
    assert told("a", Message(1, event, data, kind)) == {"event": event, "channel": "a", **expected}


def test_a_sender_is_named_on_presence_channels_alone() -> None:
    message = Message(1, "client-e", b"1", user="ada")
    assert told("presence-a", message)["user_id"] == "ada"
    assert "user_id" not in told("private-a", message)


@pytest.mark.parametrize("event", ["pusher:error", "pusher_internal:member_removed", "pusher:"])
def test_nobody_else_speaks_in_the_protocols_own_names(event: str) -> None:
    assert told("a", Message(1, event, b"{}")) is None


def test_what_the_server_says_itself_has_its_data_as_text() -> None:
    member = {"user_id": "ada", "user_info": {"x": 1}}
    assert told("presence-a", Joined("ada", b'{"x":1}')) == {
        "event": "pusher_internal:member_added",
        "channel": "presence-a",
        "data": json.dumps(member, separators=(",", ":")),
    }
    assert json.loads(told("presence-a", Left("ada", b"1"))["data"]) == {"user_id": "ada"}
    assert json.loads(told("a", Counted(3))["data"]) == {"subscription_count": 3}
    assert told("cache-a", CacheMiss()) == {"event": "pusher:cache_miss", "channel": "cache-a"}
    assert told("presence-a", Updated("ada", b"2")) is None
    assert told("room", Joined("ada")) is None, "pusher-js knows members of presence-* alone"


def test_the_members_are_named_thrice_and_counted() -> None:
    members = (MemberView("10", b"null", 1), MemberView("ada", b'{"x":1}', 2))
    welcome = Welcome("presence-a", Position("e", 1), "ada", members)
    data = json.loads(json.loads(words.succeeded(welcome))["data"])
    assert data == {"presence": {"ids": ["10", "ada"], "hash": {"10": None, "ada": {"x": 1}}, "count": 2}}


def test_a_watchlist_that_says_nothing_is_not_said() -> None:
    assert words.watched(Watched()) == b""
    data = json.loads(json.loads(words.watched(Watched(online=("a",))))["data"])
    assert data == {"events": [{"name": "online", "user_ids": ["a"]}]}


@given(st.text(), st.text(min_size=1, max_size=50))
def test_any_text_arrives_as_it_was(text: str, event: str) -> None:
    try:
        data = text.encode()
        event.encode()
    except UnicodeEncodeError:
        return  # half a surrogate pair, which no decoder lets through
    heard = told("a", Message(1, event, data, Kind.TEXT))
    assert heard is None or heard["data"] == text


@pytest.mark.parametrize("error", tree().values(), ids=list(tree()))
def test_each_error_closes_in_the_range_that_makes_an_sdk_do_what_helps(error: type[SowerError]) -> None:
    code = words.close_code(error())
    assert 4001 <= code < 4300, "pusher-js never comes back after 4300 and above"
    if issubclass(error, BadRequest | NotAuthorised | Forbidden | TooLarge):
        assert code < 4100, "an SDK that comes back would be refused again"
    assert json.loads(words.last_words(error()))["data"]["code"] == code


def test_what_passes_has_its_clients_come_back() -> None:
    assert [words.close_code(error()) for error in (Draining, NoPong)] == [4200, 4201]
    assert {words.close_code(error()) for error in (SlowConsumer, ChannelBusy, SowerError)} == {4100}


def test_a_complaint_never_looks_like_the_end() -> None:
    for of_event, code in ((True, 4301), (False, 4300)):
        assert json.loads(words.complaint(BadFrame("x"), of_event=of_event)) == {
            "event": "pusher:error",
            "data": {"code": code, "message": "x"},
        }
