"""What keeps an Ably connection alive, and what it is told when its token ends: by the clock, frame by frame."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from sower.config import AblySettings, Duration
from sower.core.answer import Connected
from sower.core.command import Subscribe
from sower.core.grants import Grant
from sower.dialects.ably.channels import ChannelWords
from sower.dialects.ably.socket import ASKS_BEFORE, GRACE_BEYOND, AblyConversation, Manner
from sower.dialects.ably.wire import JSON, Action
from sower.net import frames
from tests.net.test_session import BOUNDS, a_house

CONNECTED = Connected("c1", "statement", "ada", any_user=False)


def conversation(grace: float = 15.0, **params: str) -> AblyConversation:
    settings = AblySettings(grace=Duration(grace))
    return AblyConversation(Manner(JSON, ChannelWords(JSON, "e0"), "e0", settings, BOUNDS.ping_every), params)


def details(talk: AblyConversation) -> dict[str, Any]:
    said = talk.answer("s", talk.begin()[0], CONNECTED)
    assert isinstance(said, bytes)
    return msgspec.json.decode(said)["connectionDetails"]


def attach(talk: AblyConversation) -> Subscribe:
    (command,) = talk.receive("s", b'{"action":10,"channel":"room"}', is_text=True)
    assert isinstance(command, Subscribe)
    return command


HEARTBEAT = frames.text(b'{"action":0}')


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({}, frames.PING + HEARTBEAT),
        ({"heartbeats": "true"}, frames.PING + HEARTBEAT),
        ({"heartbeats": "false"}, frames.PING),
    ],
)
async def test_a_silent_connection_is_told_a_heartbeat_unless_it_sees_pings(
    params: dict[str, str], told: bytes
) -> None:
    async with a_house() as house:
        session, stream = house.session(conversation=conversation(**params))
        session.tend(BOUNDS.ping_every - 1, 0.0)
        session.tend(BOUNDS.ping_every, 0.0)
        assert await stream.receive_some() == told


@pytest.mark.parametrize(
    ("asked", "interval"), [("5000", 5.0), ("100", 5.0), ("60000", 60.0), ("99999999", 1800.0), ("soon", None)]
)
async def test_heartbeat_interval_is_what_is_promised_and_kept(asked: str, interval: float | None) -> None:
    talk = conversation(heartbeatInterval=asked)
    every = BOUNDS.ping_every if interval is None else interval - GRACE_BEYOND
    assert details(talk)["maxIdleInterval"] == (every + GRACE_BEYOND) * 1000
    async with a_house() as house:
        session, stream = house.session(conversation=talk)
        now, pinged = 0.0, list[float]()
        while len(pinged) < 5:
            look = session.tend(now, 0.0)
            if session.pinged:
                assert await stream.receive_some() == frames.PING + HEARTBEAT
                pinged.append(now)
                session.heard = True  # it answered
            assert look is not None
            now += look
        assert pinged == [turn * every for turn in range(1, 6)], "and no later for the time that it may take to answer"


@pytest.mark.parametrize(
    ("asked", "grace"), [(None, 15.0), ("3000", 3.0), ("1", 1.0), ("60000", 15.0), ("nonsense", 15.0)]
)
def test_remain_present_for_lowers_how_long_lost_members_stay(asked: str | None, grace: float) -> None:
    params = {} if asked is None else {"remainPresentFor": asked}
    assert attach(conversation(**params)).grace == grace


async def test_before_its_token_ends_a_client_is_asked_once_for_a_new_one() -> None:
    auth = frames.text(b'{"action":%d}' % Action.AUTH)
    async with a_house() as house:
        talk = conversation(heartbeats="false")
        session, stream = house.session(conversation=talk, grant=Grant("1", "k", expires=1000.0, issued=0.0))
        look = session.tend(0.0, 1000.0 - ASKS_BEFORE - 5)
        assert look == 5.0, "it is looked at again when it is to be asked"
        session.tend(5.0, 1000.0 - ASKS_BEFORE)
        session.tend(6.0, 1000.0 - ASKS_BEFORE + 1)
        assert await stream.receive_some() == auth
        details(talk)  # it has got one, and was told CONNECTED
        session.grant = Grant("1", "k", expires=2000.0, issued=1000.0)
        session.tend(7.0, 2000.0 - ASKS_BEFORE)
        assert await stream.receive_some() == auth
        session.tend(8.0, 2000.0)
        with trio.fail_after(60):
            told = await stream.receive_some()
        assert (b'"action":%d' % Action.DISCONNECTED) in told
        assert b'"code":40142' in told


async def test_a_token_that_is_never_good_for_long_is_left_to_expire() -> None:
    async with a_house() as house:
        session, stream = house.session(
            conversation=conversation(heartbeats="false"), grant=Grant("1", "k", expires=20.0, issued=0.0)
        )
        session.tend(0.0, 19.0)
        session.tend(1.0, 20.0)
        with trio.fail_after(60):
            assert (b'"action":%d' % Action.DISCONNECTED) in (await stream.receive_some())[:20]


def frame(action: int, **more: Any) -> bytes:
    return msgspec.json.encode({"action": action, **more})


def test_what_was_attached_without_a_mode_is_not_used_with_it_until_it_is_attached_again() -> None:
    talk = conversation()
    talk.begin()
    subscribe_only = 1 << 18

    def refused(**sent: Any) -> str | None:
        (command,) = talk.receive("s", msgspec.json.encode({"channel": "room", "msgSerial": 0, **sent}), is_text=True)
        error = getattr(command, "error", None)
        return error and error.code

    publish = {"action": Action.MESSAGE, "messages": [{"name": "e"}]}
    enter = {"action": Action.PRESENCE, "presence": [{"action": 2}]}
    assert refused(**publish) is None, "publishing needs no attachment"
    talk.receive("s", frame(Action.ATTACH, channel="[?rewind=1]room", flags=subscribe_only), is_text=True)
    assert refused(**publish) == refused(**enter) == "mode_not_asked"
    assert refused(**publish | {"channel": "other"}) is None
    talk.receive("s", frame(Action.ATTACH, channel="room", flags=0), is_text=True)
    assert refused(**publish) is refused(**enter) is None
    talk.receive("s", frame(Action.ATTACH, channel="room", flags=subscribe_only), is_text=True)
    talk.receive("s", frame(Action.DETACH, channel="room"), is_text=True)
    assert refused(**publish) is None


@pytest.mark.parametrize("action", [Action.OBJECT, Action.OBJECT_SYNC, 99])
def test_what_is_not_spoken_is_refused_frame_by_frame_and_the_connection_goes_on(action: int) -> None:
    talk = conversation()
    for serial in (0, 1):
        (command,) = talk.receive("s", frame(action, msgSerial=serial), is_text=True)
        assert not talk.ends(command)
        said = talk.refuse(command, command.error)  # type: ignore[union-attr]
        assert isinstance(said, tuple)
        told = msgspec.json.decode(said[0])
        assert (told["action"], told["msgSerial"], told["count"], told["error"]["code"]) == (
            Action.NACK,
            serial,
            1,
            40160,
        )
