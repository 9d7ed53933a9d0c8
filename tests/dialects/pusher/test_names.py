"""dialects/pusher/names.py: what is a name, and a socket_id that stands for a session."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sower.dialects.pusher.names import check_channel, check_event, check_user, session_of, socket_id
from sower.errors import BadChannelName, BadEvent, BadFrame, BadRequest


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**31))
def test_a_session_and_its_socket_id_stand_for_each_other(secret: int, fd: int) -> None:
    session = f"{secret:012x}{fd:x}"
    assert re.fullmatch(r"\d+\.\d+", socket_id(session))
    assert session_of(socket_id(session)) == session


@pytest.mark.parametrize("given", ["", "1", "1.", ".1", "1.2.3", "a.b", "-1.2", "1.2\n", "٣.١", "9" * 16 + ".1"])
def test_what_is_no_socket_id_is_refused(given: str) -> None:
    with pytest.raises(BadRequest):
        session_of(given)


def test_the_vendors_names_are_names_and_a_users_channel_is_one() -> None:
    for name in ("a", "private-encrypted-cache-A_1=@,.;", "x" * 200, "#server-to-user-any one/é"):
        assert check_channel(name) == name
    for name in ("", "x" * 201, "a b", "#a", "#server-to-user-", "#server-to-user-" + "x" * 250, "é", "a\n"):
        with pytest.raises(BadChannelName):
            check_channel(name)


def test_events_and_users_have_a_length() -> None:
    assert check_event("App\\Events\\é" + "x" * 100)
    for event in ("", "x" * 201):
        with pytest.raises(BadEvent):
            check_event(event)
    assert check_user("x" * 128, 128)
    for user in ("", "x" * 129):
        with pytest.raises(BadFrame):
            check_user(user, 128)
