"""subscribe v2: `GET /v2/subscribe/{sub}/{channels}/0?tt=&tr=&channel-group=&filter-expr=&heartbeat=&state=`.

Without a timetoken, or with 0, it is a handshake and answered at once; else it is held until something comes that is
above the timetoken.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import msgspec

from sower.core.polling import Names, Poll, Reach, Source
from sower.dialects.interface import HttpCall, Polled
from sower.dialects.pubnub.asking import (
    PRESENCE,
    Keys,
    number,
    parse_list,
    raw_segment,
    read_credentials,
    read_user,
    split_names,
    timetoken,
)
from sower.dialects.pubnub.envelopes import Envelopes
from sower.dialects.pubnub.filters import compiled
from sower.errors import BadChannelName, BadRequest

HEARTBEAT, SHORTEST, LONGEST = 300, 20, 320
"""Seconds that a user is present after the last sign of life: where the client does not say, and the bounds."""

SHARED = 10_000
"""Lists of channels and groups that are read once."""

SHORT = 256
"""Characters of a list up to which it is among them: 10,000 of 36 KiB, which anybody may send, would be gigabytes."""

MAX_DOTS = 2
"""In a wildcard: a.* and a.b.*, PubNub's limit."""

_read_states = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode_subscribe(keys: Keys, call: HttpCall) -> Polled:
    """A request into a poll. Raises BadRequest, BadChannelName, BadFilter, UnknownKey."""
    sources = _sources_in(raw_segment(call, -2), call.query.get("channel-group", ""))
    if not sources:
        raise BadRequest("The request names no channel and no group.")
    filter_text = call.query.get("filter-expr")
    poll = Poll(
        sources,
        timetoken(call, "tt") or 0,
        read_user(call),
        compiled(filter_text) if filter_text and filter_text.strip() else None,
        heartbeat(call),
        read_states(call),
    )
    return Polled(read_credentials(keys, call), poll, words_of(call.params["sub"]))


def _sources_in(channels: str, groups: str) -> tuple[Source, ...]:
    """Read once where it is short: a client asks again after each message."""
    return (_shared if len(channels) + len(groups) <= SHORT else _read)(channels, groups)


@lru_cache(SHARED)
def _shared(channels: str, groups: str) -> tuple[Source, ...]:
    """One object for all who follow the same."""
    return _read(channels, groups)


def _read(channels: str, groups: str) -> tuple[Source, ...]:
    return tuple(dict.fromkeys(_sources(Names(parse_list(channels), split_names(groups)))))


@lru_cache(1000)
def words_of(subscribe_key: str) -> Envelopes:
    """The one object for all polls of a keyset."""
    return Envelopes(subscribe_key)


def heartbeat(call: HttpCall) -> float:
    """Seconds that the user stays present. Raises BadRequest."""
    return float(number(call, "heartbeat", HEARTBEAT, SHORTEST, LONGEST))


def read_states(call: HttpCall) -> tuple[tuple[str, bytes], ...]:
    """The user's state by channel or group. Raises BadRequest for what is no object of objects."""
    given = call.query.get("state")
    if not given:
        return ()
    try:
        states = [(name, bytes(state)) for name, state in _read_states(given).items()]
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"state is an object of channel to state: {error}.") from error
    for name, state in states:
        if not state.startswith(b"{"):
            raise BadRequest(f"The state for {name[:64]!r} is no object.")
    return tuple(states)


def _sources(names: Names) -> Iterator[Source]:
    for name in names.channels:
        plain, presence = _bare(name)
        if plain.endswith(".*"):
            if plain.count(".") > MAX_DOTS:
                raise BadChannelName(f"Wildcard maximum depth exceeded: {plain[:64]!r}.")
            yield Source(Reach.PREFIX, plain[:-1], presence)
        else:
            yield Source(Reach.CHANNEL, plain, presence)
    for name in names.groups:
        plain, presence = _bare(name)
        yield Source(Reach.GROUP, plain, presence)


def _bare(name: str) -> tuple[str, bool]:
    return (name[: -len(PRESENCE)], True) if name.endswith(PRESENCE) and name != PRESENCE else (name, False)
