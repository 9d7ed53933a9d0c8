"""Pusher's names: channels, events and users, and the socket_id that a session is called by."""

from __future__ import annotations

import re

from sower.core.message import MAX_EVENT_NAME, check_channel_name
from sower.core.rules import OF_USER
from sower.errors import BadChannelName, BadEvent, BadFrame, BadRequest

MAX_NAME = 200
"""Characters of a channel name. The vendor's guide says 164, its SDKs allow 200."""

_NAME = re.compile(rf"[A-Za-z0-9_\-=@,.;]{{1,{MAX_NAME}}}\Z")
_SOCKET_ID = re.compile(r"(\d{1,15})\.(\d{1,10})\Z", re.ASCII)
_SECRET_DIGITS = 12


def check_channel(name: str) -> str:
    """Return a channel name that the vendor allows. Raises BadChannelName."""
    if _NAME.match(name) is not None:
        return name
    if name.startswith(OF_USER) and name != OF_USER:
        return check_channel_name(name)
    raise BadChannelName(
        f"The channel name {name[:64]!r} is not one: 1 to {MAX_NAME} letters, digits and _ - = @ , . ; only."
    )


def check_event(name: str) -> str:
    """Return an event name: any characters, but not too many. Raises BadEvent."""
    if not 0 < len(name) <= MAX_EVENT_NAME:
        raise BadEvent(f"An event name has 1 to {MAX_EVENT_NAME} characters, this one {len(name)}.")
    return name


def check_user(user: str, most: int) -> str:
    """Return a user id of at most so many characters. Raises BadFrame."""
    if not 0 < len(user) <= most:
        raise BadFrame(f"A user id has 1 to {most} characters, user_id in [apps.pusher]; this one has {len(user)}.")
    return user


def is_presence(name: str) -> bool:
    """Whether the channel has members."""
    return name.startswith("presence-")


def socket_id(session: str) -> str:
    """A session's id as Pusher's SDKs demand it: two decimal numbers. They are its secret and its file number."""
    return f"{int(session[:_SECRET_DIGITS], 16)}.{int(session[_SECRET_DIGITS:], 16)}"


def session_of(given: str) -> str:
    """The session that a socket_id names. Raises BadRequest for what is none."""
    match = _SOCKET_ID.match(given)
    if match is None:
        raise BadRequest(f"The socket_id {given[:32]!r} is not two numbers with a dot between them.")
    return f"{int(match[1]):0{_SECRET_DIGITS}x}{int(match[2]):x}"
