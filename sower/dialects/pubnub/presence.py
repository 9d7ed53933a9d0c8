"""Presence: heartbeat, leave, here_now in its forms, where_now, and state, under `/v2/presence/sub-key/{sub}`."""

from __future__ import annotations

from functools import partial

import msgspec

from sower.core.answer import Members
from sower.core.polling import (
    Absent,
    Attend,
    FindUser,
    Names,
    Places,
    ReadMembers,
    ReadState,
    Rooms,
    SetState,
    States,
)
from sower.core.presence import MemberView
from sower.dialects.interface import Asked, HttpCall, Reply
from sower.dialects.pubnub.asking import (
    PRESENCE,
    check_user,
    flag,
    known_user,
    number,
    read_credentials,
    read_names,
)
from sower.dialects.pubnub.envelopes import read_state
from sower.dialects.pubnub.keys import Keys
from sower.dialects.pubnub.subscribe import heartbeat, read_states
from sower.dialects.pubnub.words import say
from sower.errors import BadRequest

MOST_USERS = 1000
"""Users of one channel in an answer, PubNub's limit."""

FINE = {"status": 200, "message": "OK", "service": "Presence"}

NO_STATE = msgspec.Raw(b"{}")

_read_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode_heartbeat(keys: Keys, call: HttpCall) -> Asked:
    """GET /channel/{channels}/heartbeat. Raises BadRequest."""
    command = Attend(_followed(read_names(call, -2)), known_user(call), heartbeat(call), read_states(call))
    return Asked(read_credentials(keys, call), command, _fine)


def decode_leave(keys: Keys, call: HttpCall) -> Asked:
    """GET /channel/{channels}/leave."""
    command = Absent(_followed(read_names(call, -2)), known_user(call))
    return Asked(read_credentials(keys, call), command, _left)


def decode_here_now(keys: Keys, call: HttpCall) -> Asked:
    """GET /channel/{channels}: of one channel in a shape of its own, of several and of groups by channel."""
    names = read_names(call, -1)
    if not (names.channels or names.groups):
        return decode_here_now_anywhere(keys, call)
    alone = len(names.channels) == 1 and not names.groups
    encode = partial(_one_room if alone else _rooms, call)
    return Asked(read_credentials(keys, call), ReadMembers(names), encode)


def decode_here_now_anywhere(keys: Keys, call: HttpCall) -> Asked:
    """GET /v2/presence/sub-key/{sub}: of every channel that somebody is in."""
    return Asked(read_credentials(keys, call), ReadMembers(None), partial(_rooms, call))


def _one_room(call: HttpCall, answer: Rooms) -> Reply:
    return say(FINE | (_room(call, answer.rooms[0]) if answer.rooms else _room(call, Members("", ()))))


def _rooms(call: HttpCall, answer: Rooms) -> Reply:
    rooms = {room.channel: _room(call, room) for room in answer.rooms}
    total = sum(len(room.members) for room in answer.rooms)
    payload = {"channels": rooms, "total_channels": len(rooms), "total_occupancy": total}
    return say({**FINE, "payload": payload})


def _room(call: HttpCall, room: Members) -> dict[str, object]:
    said: dict[str, object] = {"occupancy": len(room.members)}
    if not flag(call, "disable_uuids"):
        limit, offset = number(call, "limit", MOST_USERS, 0, MOST_USERS), number(call, "offset", 0, 0, 10**9)
        with_state = flag(call, "state")
        shown = room.members[offset : offset + limit]
        said["uuids"] = [_with_state(member) if with_state else member.user for member in shown]
    return said


def _with_state(member: MemberView) -> dict[str, object]:
    state = read_state(member.meta)
    return {"uuid": member.user, "state": msgspec.Raw(state)} if state else {"uuid": member.user}


def decode_where_now(keys: Keys, call: HttpCall) -> Asked:
    """GET /uuid/{uuid}."""
    return Asked(read_credentials(keys, call), FindUser(check_user(call.params["user"])), _where_reply)


def _where_reply(answer: Places) -> Reply:
    return say({**FINE, "payload": {"channels": answer.names}})


def decode_get_state(keys: Keys, call: HttpCall) -> Asked:
    """GET /channel/{channels}/uuid/{uuid}."""
    names, user = read_names(call, -3), check_user(call.params["user"])
    return Asked(read_credentials(keys, call), ReadState(names, user), partial(_state_reply, names, user))


def _state_reply(names: Names, user: str, answer: States) -> Reply:
    states = {channel: msgspec.Raw(read_state(state) or NO_STATE) for channel, state in answer.states}
    if len(names.channels) == 1 and not names.groups:
        channel = names.channels[0]
        return say({**FINE, "payload": states.get(channel, NO_STATE), "channel": channel, "uuid": user})
    return say({**FINE, "payload": {"channels": states}, "uuid": user})


def decode_set_state(keys: Keys, call: HttpCall) -> Asked:
    """GET /channel/{channels}/uuid/{uuid}/data?state=: the state replaces the one before. Raises BadRequest."""
    given = call.query.get("state", "")
    try:
        _read_object(given)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"state is a JSON object: {error}.") from error
    names = _followed(read_names(call, -4))
    command = SetState(names, check_user(call.params["user"]), given.encode(), heartbeat(call))
    return Asked(read_credentials(keys, call), command, partial(_set_reply, given.encode()))


def _set_reply(state: bytes, answer: object) -> Reply:
    return say({**FINE, "payload": msgspec.Raw(state)})


def _left(answer: object) -> Reply:
    return say({**FINE, "action": "leave"})


def _fine(answer: object) -> Reply:
    return say(FINE)


def _followed(names: Names) -> Names:
    """Who watches a channel's presence is not by that present; a wildcard is no channel."""
    channels = tuple(name for name in names.channels if not name.endswith((PRESENCE, ".*")))
    return Names(channels, tuple(name for name in names.groups if not name.endswith(PRESENCE)))
