"""What clients that poll ask for, and what they are answered: they hold no socket, so each request says who asks.

Their commands name several channels at once, and groups of channels that are kept on the server. Whoever may do it
on one of them and not on another is refused as a whole, and told of which.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

import msgspec

from sower.core.answer import HistoryPage, Members
from sower.core.command import ReadHistory
from sower.core.message import Message


class Reach(IntEnum):
    """What a source stands for."""

    CHANNEL = 0
    GROUP = 1
    PREFIX = 2


class Source(NamedTuple):
    """What a poll follows.

    name:     a channel's or a group's, or what the names of channels begin with
    presence: whether it is who comes and goes that is told, in place of what is published
    """

    reach: Reach
    name: str
    presence: bool = False


class Names(NamedTuple):
    """Channels, and groups of channels."""

    channels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()


class Poll(msgspec.Struct, frozen=True):
    """Answer with what is above the cursor; where nothing is, as soon as something comes.

    cursor:  a serial; 0 for: answer at once with where the channels stand
    user:    who is present on what is followed, None for nobody
    passes:  a test of each message, None where all pass
    seconds: how long the user is present after this poll has ended
    states:  the user's meta by channel or group, JSON bytes
    """

    sources: tuple[Source, ...]
    cursor: int
    user: str | None = None
    passes: Callable[[Message], bool] | None = None
    seconds: float = 300.0
    states: tuple[tuple[str, bytes], ...] = ()


class ReadClock(msgspec.Struct, frozen=True):
    """Ask for the time."""


class ReadHistories(msgspec.Struct, frozen=True):
    """Read the journals of several channels. Channels that keep no history are left out, unless all do."""

    asked: tuple[ReadHistory, ...]


class CountMessages(msgspec.Struct, frozen=True):
    """Count what is after a serial, on each of several channels."""

    since: tuple[tuple[str, int], ...]


class DeleteHistory(msgspec.Struct, frozen=True):
    """Delete the messages between two exclusive serials, for good."""

    channel: str
    since: int
    before: int


class Attend(msgspec.Struct, frozen=True):
    """Be present for so many seconds. states: as of Poll."""

    names: Names
    user: str
    seconds: float
    states: tuple[tuple[str, bytes], ...] = ()


class Absent(msgspec.Struct, frozen=True):
    """Be present no longer."""

    names: Names
    user: str


class ReadMembers(msgspec.Struct, frozen=True):
    """Read who is in several channels; names of None stand for all channels that somebody is in."""

    names: Names | None


class FindUser(msgspec.Struct, frozen=True):
    """Read where a user is present."""

    user: str


class ReadState(msgspec.Struct, frozen=True):
    """Read a user's meta on several channels."""

    names: Names
    user: str


class SetState(msgspec.Struct, frozen=True):
    """Replace a user's meta on several channels, and be present there for so many seconds. state: JSON bytes."""

    names: Names
    user: str
    state: bytes
    seconds: float


class ChangeGroup(msgspec.Struct, frozen=True):
    """Add channels to a group, which makes it where there is none, and take others out."""

    group: str
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()


class DeleteGroup(msgspec.Struct, frozen=True):
    """Forget a group."""

    group: str


class ReadGroup(msgspec.Struct, frozen=True):
    """Read which channels a group has; a group of None stands for the names of all groups."""

    group: str | None


class Vouch(msgspec.Struct, frozen=True):
    """Sign what a token says with the key's secret. said: the text to sign, for a time in seconds since 1970."""

    said: Callable[[float], str]


class Withdraw(msgspec.Struct, frozen=True):
    """Accept one token no longer. signed, signature: as of Voucher. expires: seconds since 1970."""

    signed: str
    signature: str
    expires: float


class React(msgspec.Struct, frozen=True):
    """Add an action to a message, or take it away again.

    at:     the serial of the action that is taken away, None where one is added
    told:   the event that subscribers get, from what was done to its data
    """

    channel: str
    message: int
    user: str
    told: Callable[[Reaction, bool], bytes]
    kind: str = ""
    value: str = ""
    at: int | None = None


class ReadReactions(msgspec.Struct, frozen=True):
    """Read the actions on a channel's messages between two exclusive serials, the newest of them."""

    channel: str
    since: int
    before: int
    limit: int


class ReadReacted(msgspec.Struct, frozen=True):
    """Read a channel's journal, and the actions on what is found."""

    asked: ReadHistory


PollingCommand = (
    ReadClock
    | ReadHistories
    | CountMessages
    | DeleteHistory
    | Attend
    | Absent
    | ReadMembers
    | FindUser
    | ReadState
    | SetState
    | ChangeGroup
    | DeleteGroup
    | ReadGroup
    | Vouch
    | Withdraw
    | React
    | ReadReactions
    | ReadReacted
)


class Clock(msgspec.Struct, frozen=True):
    """The time as a serial."""

    serial: int


class Histories(msgspec.Struct, frozen=True):
    pages: tuple[HistoryPage, ...]


class Counts(msgspec.Struct, frozen=True):
    counts: tuple[tuple[str, int], ...]


class Rooms(msgspec.Struct, frozen=True):
    """Who is in which channel; only channels that somebody is in."""

    rooms: tuple[Members, ...]


class Places(msgspec.Struct, frozen=True):
    """Names of channels or of groups."""

    names: tuple[str, ...]


class States(msgspec.Struct, frozen=True):
    """A user's meta by channel, JSON bytes; only where there is one."""

    states: tuple[tuple[str, bytes], ...]


class Vouched(msgspec.Struct, frozen=True):
    """What was signed, and its signature as of Proof."""

    signed: str
    signature: str


class Reaction(msgspec.Struct, frozen=True):
    """An action on a message. message, at: serials of the message and of the action itself."""

    message: int
    at: int
    user: str
    kind: str
    value: str


class Reactions(msgspec.Struct, frozen=True):
    """more: whether there are older ones."""

    reactions: tuple[Reaction, ...]
    more: bool = False


class Reacted(msgspec.Struct, frozen=True):
    page: HistoryPage
    reactions: tuple[Reaction, ...]


PollingAnswer = Clock | Histories | Counts | Rooms | Places | States | Vouched | Reactions | Reacted
