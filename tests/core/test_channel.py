"""core/channel.py: who gets what, encoded once for each audience."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sower.config import ChannelRule
from sower.core.channel import IDS_REMEMBERED, Channel
from sower.core.message import Act, Appearance, Delivery, Did, Joined, Kind, Message, Revision
from sower.core.rules import RuleBook
from sower.errors import TooMany


class Spelled:
    """An audience that counts how often it encodes."""

    def __init__(self, word: bytes = b"") -> None:
        self.word = word
        self.encoded = 0

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> bytes:
        self.encoded += 1
        return b"".join([self.word + d.data + b";" for d in deliveries if isinstance(d, Message)])


def channel(name: str = "room", **rule: object) -> Channel[str]:
    rules = RuleBook([ChannelRule(match="*", **rule)])  # type: ignore[arg-type]
    return Channel(name, rules.of(name), head=0, most_members=100)


def received(room: Channel[str], deliveries: list[Delivery], **more: object) -> dict[str, bytes]:
    got: dict[str, bytes] = {}
    for parcel in room.parcels(deliveries, **more):  # type: ignore[arg-type]
        for recipient in parcel.recipients:
            got[recipient] = got.get(recipient, b"") + parcel.data
    return got


def test_a_batch_is_encoded_once_for_each_audience() -> None:
    room, short, long = channel(), Spelled(b"s"), Spelled(b"l")
    for name in ("ada", "bob", "cy"):
        room.add(name, short)
    room.add("dan", long)
    got = received(room, [Message(1, "e", b"1"), Message(2, "e", b"2")])
    assert got == {"ada": b"s1;s2;", "bob": b"s1;s2;", "cy": b"s1;s2;", "dan": b"l1;l2;"}
    assert (short.encoded, long.encoded) == (1, 1)


def test_a_sender_gets_all_of_a_batch_but_its_own() -> None:
    room, audience = channel(), Spelled()
    for name in ("ada", "bob", "cy"):
        room.add(name, audience)
    got = received(room, [Message(1, "e", b"1", sender="ada"), Message(2, "e", b"2", sender="bob")])
    assert got == {"ada": b"2;", "bob": b"1;", "cy": b"1;2;"}


def test_newcomers_get_none_of_what_came_before_them() -> None:
    room, audience = channel(), Spelled()
    room.add("ada", audience)
    room.add("bob", audience)
    assert received(room, [Message(1, "e", b"1")], besides=["bob"]) == {"ada": b"1;"}


def test_an_audience_that_is_told_nothing_gets_no_parcel() -> None:
    room = channel()
    room.add("ada", Spelled())
    assert room.parcels([Joined("bob")]) == []


def test_a_recipient_list_does_not_change_while_it_is_handed_out() -> None:
    room, audience = channel(), Spelled()
    room.add("ada", audience)
    parcel = room.parcels([Message(1, "e", b"1")])[0]
    room.add("bob", audience)
    room.remove("ada", audience)
    assert list(parcel.recipients) == ["ada"]


def test_a_channel_that_everybody_left_is_vacant() -> None:
    room, audience = channel("presence-room", grace=0), Spelled()
    room.add("tab", audience)
    room.present().enter(Appearance(Did.ENTERED, "ada", "tab", b"1", 1), "tab")
    room.remove("tab", audience)
    assert not room.vacant
    room.present().leave("ada", "tab", "tab", 0.0, 2)
    assert room.vacant
    assert room.audiences == {}


def test_a_publish_id_is_known_within_its_window_only() -> None:
    room = channel()
    room.remember_id("a", 7, until=10.0)
    assert room.known_id("a", now=9.9) == 7
    assert room.known_id("a", now=10.0) is None
    assert room.remembers(9.9)
    assert not room.remembers(10.0)


def test_the_memory_for_publish_ids_has_a_bound() -> None:
    room = channel()
    for serial in range(IDS_REMEMBERED + 1):
        room.remember_id(str(serial), serial, until=10.0)
    assert room.known_id("0", now=0.0) is None
    assert room.known_id(str(IDS_REMEMBERED), now=0.0) == IDS_REMEMBERED


NAMES = st.sampled_from("abcd")


@given(
    members=st.dictionaries(NAMES, st.sampled_from([0, 1]), max_size=4),
    senders=st.lists(st.none() | NAMES, max_size=6),
)
@settings(max_examples=200)
def test_each_subscriber_gets_each_message_once_in_order_and_never_its_own(
    members: dict[str, int], senders: list[str | None]
) -> None:
    room, audiences = channel(), (Spelled(), Spelled())
    for name, audience in members.items():
        room.add(name, audiences[audience])
    batch: list[Delivery] = [Message(n, "e", b"%d" % n, sender=sender) for n, sender in enumerate(senders)]
    expected = {name: b"".join(b"%d;" % n for n, sender in enumerate(senders) if sender != name) for name in members}
    assert received(room, batch) == {name: data for name, data in expected.items() if data}


def test_the_last_event_is_remembered_until_its_time_is_over() -> None:
    room, first, last = channel(), Message(1, "e", b"1"), Message(2, "e", b"2")
    assert room.cached(0.0) is None
    room.cache(first, until=10.0)
    room.cache(last, until=20.0)
    assert room.cached(5.0) == (last, 15.0)
    assert room.remembers(19.9)
    assert room.cached(20.0) is None
    assert not room.remembers(20.0)


def test_a_new_event_makes_the_next_miss_news_again() -> None:
    room = channel()
    room.missed = True
    room.cache(Message(1, "e", b"1"), until=10.0)
    assert not room.missed


def test_a_channel_begins_as_it_is_told_and_has_members_where_its_rule_says_so() -> None:
    rules = RuleBook([ChannelRule(match="presence-*", grace=7)]).of("presence-a")  # type: ignore[arg-type]
    room: Channel[str] = Channel("presence-a", rules, head=5, most_members=1)
    assert (room.name, room.rules, room.head, room.missed) == ("presence-a", rules, 5, False)
    assert not room.remembers(0.0)
    assert room.presence is not None
    assert room.presence.grace == 7
    assert channel().presence is None


def test_a_channel_without_presence_gets_members_when_they_are_asked_for_with_the_same_bounds() -> None:
    room = Channel[str]("room", RuleBook([ChannelRule(match="*", grace=7)]).of("room"), head=0, most_members=1)  # type: ignore[arg-type]
    members = room.present()
    assert members is room.present()
    assert members.grace == 7
    members.enter(Appearance(Did.ENTERED, "ada", "1", b"1", 1), "1")
    with pytest.raises(TooMany):
        members.enter(Appearance(Did.ENTERED, "bob", "2", b"1", 1), "2")


class Named:
    """An audience that is told on which channel, and nothing of some."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.deaf = deaf

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> bytes:
        return b"" if self.deaf else channel.encode() * len(deliveries)


def test_a_parcel_says_how_many_deliveries_are_in_it_and_a_deaf_audience_keeps_nobody_from_theirs() -> None:
    room = channel("room")
    room.add("dan", Named(deaf=True))
    room.add("ada", Named())
    batch: list[Delivery] = [Message(1, "e", b"1", sender="bob"), Message(2, "e", b"2", sender="ada")]
    own, others = None, None
    for parcel in room.parcels(batch):
        recipients = list(parcel.recipients)
        own, others = (parcel, others) if recipients == ["ada"] else (own, parcel)
    assert own is not None
    assert (own.data, own.count) == (b"room", 1)
    assert others is not None
    assert (others.data, others.count) == (b"roomroom", 2)


class Bucket:
    """A tap."""

    def __init__(self, followers: int) -> None:
        self.followers = followers
        self.begun: list[tuple[int, int]] = []

    def begin(self, head: int, members: int) -> None:
        self.begun.append((head, members))

    def take(self, deliveries: Sequence[Delivery]) -> None: ...


def test_a_tap_begins_once_at_the_head_is_followed_through_and_ends_alone() -> None:
    plain, peopled = channel(), channel("presence-room")
    peopled.head = 9
    peopled.present().enter(Appearance(Did.ENTERED, "ada", "1", b"1", 1), "1")
    tap, other = Bucket(2), Bucket(0)
    for room in (plain, peopled):
        assert room.taps == ()
        room.begin_tap(tap)
        room.begin_tap(tap)
        room.begin_tap(other)
        assert room.taps == (tap, other)
        assert room.subscribers == 2
        assert not room.vacant
        room.end_tap(tap)
        assert room.taps == (other,)
        assert room.subscribers == 0
    assert tap.begun == [(0, 0), (9, 1)]
    assert plain.vacant


def test_a_publish_id_that_is_said_again_is_the_youngest_and_as_many_as_the_bound_are_known() -> None:
    room = channel()
    for serial in range(IDS_REMEMBERED):
        room.remember_id(str(serial), serial, until=10.0)
    assert room.known_id("0", now=0.0) == 0
    room.remember_id("0", 7, until=20.0)
    room.remember_id("new", 8, until=20.0)
    assert room.known_id("0", now=0.0) == 7
    assert room.known_id("1", now=0.0) is None


def test_neighbours_of_one_sender_are_encoded_together_and_what_a_sender_gets_is_encoded_once_with_the_rest() -> None:
    room, audience = channel(), Spelled()
    for name in ("ada", "bob"):
        room.add(name, audience)
    senders = (None, None, "ada", "ada", None)
    parcels = room.parcels([Message(n, "e", b"%d" % n, sender=sender) for n, sender in enumerate(senders)])
    assert [(parcel.data, list(parcel.recipients), parcel.count) for parcel in parcels] == [
        (b"0;1;2;3;4;", ["bob"], 5),
        (b"0;1;4;", ["ada"], 3),
    ]
    assert audience.encoded == 3
    got = received(room, [Joined("cy", b"null"), Message(5, "e", b"5", sender="ada"), Message(6, "e", b"6")])
    assert got == {"ada": b"6;", "bob": b"5;6;"}


def test_a_last_event_that_was_deleted_is_given_to_nobody() -> None:
    room, last = channel("cache-room"), Message(5, "e", b"5")
    room.cache(last, until=10.0)
    for since, before in ((5, 9), (1, 5)):
        room.forget(since, before)
        assert room.cached(0.0) == (last, 10.0)
    room.forget(4, 6)
    assert room.cached(0.0) is None


def test_the_last_event_is_kept_as_its_changes_left_it_and_no_longer_for_them() -> None:
    room = channel("cache-room")
    room.cache(Message(1, "e", b"draft", Kind.TEXT), until=10.0)
    changes = [
        Message(2, "e", b"plain", Kind.TEXT),
        Message(2, "e", b"other", Kind.TEXT, about=Revision(9, Act.UPDATED, 2)),
        Message(3, "e", b"an", Kind.TEXT, about=Revision(1, Act.UPDATED, 3)),
        Message(4, "e", b"swer", Kind.TEXT, about=Revision(1, Act.APPENDED, 4)),
        Message(5, "e", b"null", about=Revision(1, Act.SUMMARISED, 4, summary=b"{}")),
    ]
    room.revise(changes)
    revised = Message(1, "e", b"answer", Kind.TEXT, about=Revision(1, Act.UPDATED, 4, summary=b"{}"))
    assert room.cached(0.0) == (revised, 10.0)
