"""What changes make of messages."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.config import ChannelRule, History
from sower.core.grants import ALL, Can, Grant
from sower.core.message import Act, Annotation, Kind, Message, Revision
from sower.core.rules import Pattern, RuleBook
from sower.core.versions import (
    MOST_CHANGES,
    NULL,
    annotated,
    as_of,
    as_told,
    decide,
    demand,
    numbered,
    revise,
    summary_of,
    version_of,
)
from sower.errors import (
    BadData,
    ChangesOff,
    Forbidden,
    MessageTooLarge,
    NotIdentified,
    OwnsNothing,
    SowerError,
    TooMany,
)

FIRST = Message(
    1, "note", b"hello", Kind.TEXT, "ada", "id-1", b'{"encoding":"utf-8","extras":{"a":1},"connection":"c"}'
)

BOOK = RuleBook([ChannelRule(match="kept", history=History()), ChannelRule(match="*")])


def change(
    act: Act, data: bytes = NULL, kind: Kind = Kind.JSON, *, event: str = "", extra: bytes | None = None,
    serial: int = 2, user: str | None = "bob", own: bool = False,
) -> Message:  # fmt: skip
    return Message(serial, event, data, kind, user, None, extra, about=Revision(1, act, serial, own=own))


def test_what_a_change_does_not_say_stays_and_the_message_keeps_its_place_and_its_user() -> None:
    now = revise(FIRST, change(Act.UPDATED, event="other"), 100)
    assert (now.serial, now.event, now.data, now.user, now.id, now.extra) == (
        1,
        "other",
        b"hello",
        "ada",
        "id-1",
        FIRST.extra,
    )
    assert now.about == Revision(1, Act.UPDATED, 2, "bob")
    now = revise(FIRST, change(Act.DELETED, b'{"b":2}', extra=b'{"encoding":null,"extras":{}}'), 100)
    assert (now.data, now.kind, now.extra) == (b'{"b":2}', Kind.JSON, b'{"extras":{},"connection":"c"}')


def test_data_is_appended_to_data_of_its_kind_up_to_the_limit_and_told_alone() -> None:
    appended = change(Act.APPENDED, b", you", Kind.TEXT)
    now = revise(FIRST, appended, 10)
    assert (now.data, now.about) == (b"hello, you", Revision(1, Act.UPDATED, 2, "bob"))
    told = as_told(now, appended)
    assert (told.serial, told.data, told.event, told.user) == (2, b", you", "note", "ada")
    assert told.about == Revision(1, Act.APPENDED, 2, "bob")
    nothing = Message(1, "", NULL)
    assert revise(nothing, appended, 10).data == b", you"
    assert revise(Message(1, "", b'"a text"'), appended, 20).data == b"a text, you"
    for refused in (Message(1, "", b'{"a":1}'), Message(1, "", b"\x00", Kind.BINARY)):
        with pytest.raises(BadData):
            revise(refused, appended, 100)
    with pytest.raises(MessageTooLarge, match="has 10 bytes"):
        revise(FIRST, appended, 9)


ACTS = st.sampled_from([Act.UPDATED, Act.DELETED, Act.APPENDED])
EXTRAS = st.sampled_from([None, b'{"encoding":null}', b'{"encoding":"x"}', b'{"extras":{"k":2}}'])


@given(st.lists(st.tuples(ACTS, st.sampled_from([NULL, b"", b"ab"]), st.sampled_from(["", "n"]), EXTRAS), max_size=8))
def test_the_versions_as_they_were_told_make_the_message_as_it_is(
    said: list[tuple[Act, bytes, str, bytes | None]],
) -> None:
    now, told = FIRST, list[Message]()
    for serial, (act, data, event, extra) in enumerate(said, 2):
        kind = Kind.JSON if data == NULL else Kind.TEXT
        one = change(act, data, kind, event=event, extra=extra, serial=serial)
        now = revise(now, one, 1000)
        told.append(as_told(now, one))
        assert as_of(FIRST, told) == now


def closed(*can: Can, user: str | None = "ada") -> Grant:
    return Grant("1", "key", user, claims=((Pattern("*"), frozenset(can)),), closed=True)


def allowed(
    grant: Grant, about: Revision | Annotation, channel: str = "kept"
) -> Revision | Annotation | type[SowerError]:
    try:
        return demand(grant, about, grant.user, channel, BOOK.of(channel), True)
    except SowerError as error:
        return type(error)


@pytest.mark.parametrize(
    ("act", "whole", "own"),
    [
        (Act.UPDATED, Can.UPDATE_ANY, Can.UPDATE_OWN),
        (Act.APPENDED, Can.UPDATE_ANY, Can.UPDATE_OWN),
        (Act.DELETED, Can.DELETE_ANY, Can.DELETE_OWN),
    ],
)
def test_a_change_needs_its_right_on_any_message_or_on_ones_own(act: Act, whole: Can, own: Can) -> None:
    about = Revision(1, act)
    assert allowed(closed(whole), about) == about
    assert allowed(closed(own), about) == Revision(1, act, own=True)
    assert allowed(closed(own, user=None), about) is OwnsNothing
    assert allowed(closed(*ALL), about) is Forbidden
    assert allowed(Grant("1", "key", server=True), about) == about
    assert allowed(closed(whole), about, "unkept") is ChangesOff
    mine, theirs = change(act, b"x", Kind.TEXT, user="ada", own=True), change(act, b"x", Kind.TEXT, own=True)
    assert revise(FIRST, mine, 100).event == "note"
    with pytest.raises(Forbidden, match="is of 'ada', and 'bob' may"):
        revise(FIRST, theirs, 100)
    with pytest.raises(Forbidden, match="is of nobody in particular, and 'bob' may"):
        revise(Message(1, "note", b"1"), theirs, 100)


def test_an_annotation_needs_its_right_and_where_clients_are_counted_a_user() -> None:
    about = Annotation(1, "likes:flag.v1")
    assert allowed(closed(Can.ANNOTATE), about) == about
    assert allowed(closed(Can.ANNOTATIONS), about) is Forbidden
    assert allowed(closed(Can.ANNOTATE, user=None), about) is NotIdentified
    assert allowed(closed(Can.ANNOTATE, user=None), Annotation(1, "n:total.v1")) == Annotation(1, "n:total.v1")


@pytest.mark.parametrize(
    ("grant", "about", "channel", "why"),
    [
        (closed(*ALL), Revision(1, Act.UPDATED), "unkept", "Messages of 'unkept' are not kept"),
        (closed(), Revision(1, Act.UPDATED), "kept", "does not allow update-any on 'kept'"),
        (
            closed(Can.DELETE_OWN, user=None),
            Revision(1, Act.DELETED),
            "kept",
            "On 'kept' this client may change its own",
        ),
    ],
)
def test_who_may_not_change_a_message_is_told_what_is_missing(
    grant: Grant, about: Revision, channel: str, why: str
) -> None:
    with pytest.raises(SowerError) as refused:
        demand(grant, about, grant.user, channel, BOOK.of(channel), True)
    assert re.search(why, refused.value.message)


def test_a_change_has_its_own_serial_and_a_summary_stands_behind_its_annotation() -> None:
    following = iter([8]).__next__
    assert numbered(Revision(1, Act.UPDATED, own=True), 7, following) == Revision(1, Act.UPDATED, 7, own=True)
    assert numbered(Annotation(1, "likes:flag.v1"), 7, following) == Annotation(1, "likes:flag.v1", next=8)


def test_a_message_is_its_first_version_until_it_is_changed_and_keeps_it_where_it_is_annotated() -> None:
    assert version_of(FIRST) == Revision(1, Act.CREATED, 1)
    assert summary_of(FIRST) is None
    liked = annotated(FIRST, b"{}")
    assert (liked.data, liked.about, summary_of(liked)) == (
        FIRST.data,
        Revision(1, Act.CREATED, 1, summary=b"{}"),
        b"{}",
    )
    changed = revise(liked, change(Act.UPDATED, b"hi", Kind.TEXT), 100)
    assert version_of(changed) == Revision(1, Act.UPDATED, 2, "bob", summary=b"{}")
    assert annotated(changed, None).about == Revision(1, Act.UPDATED, 2, "bob")
    told = Message(3, "", NULL, about=Revision(1, Act.SUMMARISED, 3, summary=b'{"a":{}}'))
    assert as_of(FIRST, [told]) == annotated(FIRST, b'{"a":{}}')


def test_only_a_revision_changes_a_message() -> None:
    with pytest.raises(TypeError):
        revise(FIRST, Message(2, "", b"1"), 100)


def test_a_change_is_told_with_its_own_id_and_sender_and_says_why_it_was_made() -> None:
    sender = object()
    noted = Message(
        2, "", b"new", Kind.TEXT, "bob", "id-2", about=Revision(1, Act.UPDATED, 2, note=b'"typo"'), sender=sender
    )
    decided = decide(FIRST, 0, noted, 100)
    assert decided.now == revise(FIRST, noted, 100)
    assert decided.now.about == Revision(1, Act.UPDATED, 2, "bob", b'"typo"')
    (told,) = decided.told
    assert (told.serial, told.id, told.sender, told.data) == (2, "id-2", sender, b"new")
    assert decided.now.id == "id-1"


def test_an_annotation_is_told_and_behind_it_the_summary_where_that_is_another_one() -> None:
    liked = Message(2, "like", NULL, user="bob", about=Annotation(1, "likes:flag.v1", next=3))
    now, told = decide(FIRST, 0, liked, 100)
    summary = b'{"likes:flag.v1":{"clientIds":["bob"],"total":1}}'
    assert now == annotated(FIRST, summary)
    said, summed = told
    assert said is liked
    assert (summed.serial, summed.event, summed.data, summed.user) == (3, "note", NULL, "ada")
    assert summed.about == Revision(1, Act.SUMMARISED, 1, summary=summary)
    again = Message(4, "like", NULL, user="bob", about=Annotation(1, "likes:flag.v1", next=5))
    assert decide(now, 1, again, 100) == (now, (again,))
    odd = Message(4, "like", NULL, user="bob", about=Annotation(1, "likes:odd.v1", next=5))
    assert decide(now, 1, odd, 100) == (now, (odd,))


def test_a_message_is_changed_so_many_times_and_held_to_its_size() -> None:
    longer = change(Act.APPENDED, b"!", Kind.TEXT)
    assert decide(FIRST, MOST_CHANGES - 1, longer, 6).now.data == b"hello!"
    with pytest.raises(TooMany, match=f"changed and annotated {MOST_CHANGES} times; {MOST_CHANGES} are allowed"):
        decide(FIRST, MOST_CHANGES, longer, 6)
    with pytest.raises(MessageTooLarge, match="has 6 bytes"):
        decide(FIRST, 0, longer, 5)


def test_what_is_told_after_a_summary_counts_too() -> None:
    summed = Message(3, "", NULL, about=Revision(1, Act.SUMMARISED, 3, summary=b"{}"))
    longer = Message(4, "note", b"!", Kind.TEXT, "ada", about=Revision(1, Act.APPENDED, 4, "bob", summary=b"{}"))
    assert as_of(FIRST, [summed, longer]).data == b"hello!"
