"""What commands are answered, whatever the protocol: a dialect makes bytes out of it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from sower.core.attendance import NOBODY, Attendance
from sower.core.command import SUBSCRIBING, ReadHistory
from sower.core.grants import Can
from sower.core.message import Appearance, Message, Position
from sower.core.presence import MemberView
from sower.core.record import Record
from sower.errors import SowerError


class Receipt(msgspec.Struct, frozen=True):
    """A message was accepted (and stored, where the channel keeps history) at `serial`.

    fresh: False where one with the same id was before, whose serial this is
    """

    channel: str
    serial: int
    fresh: bool = True


class Occupancy(msgspec.Struct, frozen=True):
    """How many subscribers a channel has, and how many members where it has presence.

    cached:    the event that it remembers, and for how many seconds yet
    published: messages since it woke
    """

    channel: str
    subscribers: int
    members: int | None
    cached: tuple[Message, float] | None = None
    published: int = 0
    attendance: Attendance = NOBODY


class Published(msgspec.Struct, frozen=True):
    """occupancies: of each channel, where that was asked for"""

    receipts: tuple[Receipt, ...]
    occupancies: tuple[Occupancy, ...] = ()


class Welcome(msgspec.Struct, frozen=True):
    """A subscription began at `position`; the deliveries after it follow.

    user:    the member or user that the subscriber is
    members: who is there, the newcomer included; None where the channel has no presence
    seen:    the members' connections, as they appeared last
    can:     what of what it wanted the subscriber may do
    resumed: whether nothing is missing since the position that it asked for
    backlog: whether messages follow that came before
    follows: the position after which messages follow, where it is not `position`
    moment:  the serial of now: what members did before has a lower one, while `position` is that of a message
    """

    channel: str
    position: Position
    user: str | None = None
    members: tuple[MemberView, ...] | None = None
    seen: tuple[Appearance, ...] = ()
    can: frozenset[Can] = SUBSCRIBING
    resumed: bool = False
    backlog: bool = False
    follows: Position | None = None
    moment: int = 0


class Connected(msgspec.Struct, frozen=True):
    """A connection's name, and the statement that continues it.

    user:    who the client is; any_user: whether it may speak for anybody
    refused: why it is not the one that was to be continued
    """

    connection: str
    statement: str
    user: str | None
    any_user: bool
    refused: SowerError | None = None


class Acknowledged(msgspec.Struct, frozen=True):
    """Done. appearance: what was done, where the client said something of a member."""

    appearance: Appearance | None = None


class HistoryPage(msgspec.Struct, frozen=True):
    """A page of the journal. next: the exclusive serial where the next page starts, None on the last one."""

    asked: ReadHistory
    position: Position
    messages: tuple[Message, ...]
    gap: bool
    next: int | None


class Members(msgspec.Struct, frozen=True):
    channel: str
    members: tuple[MemberView, ...]
    seen: tuple[Appearance, ...] = ()


class ChannelList(msgspec.Struct, frozen=True):
    channels: tuple[Occupancy, ...]


class SessionView(msgspec.Struct, frozen=True):
    """One connected client.

    state:    awake, asleep or backlogged
    backlog:  bytes that wait for it
    silent:   seconds since it was last known to have said something
    channels: the first of those that it follows; subscriptions: how many these are
    """

    session: str
    dialect: str
    user: str | None
    address: str
    state: str
    backlog: int
    silent: float
    channels: tuple[str, ...]
    subscriptions: int


class SessionList(msgspec.Struct, frozen=True):
    """count: all sessions of the app, also those that were not listed."""

    sessions: tuple[SessionView, ...]
    count: int


class Stats(msgspec.Struct, frozen=True):
    """What the daemon does now, all apps together.

    uptime:    seconds
    faults:    why it should get no traffic, each a check and its reason
    sessions:  how many there are, by dialect and state
    rates:     what happens in a second, over the last ten
    totals:    what happened since the start
    loop_lag:  seconds that the loop was late, at its worst in the last seconds
    memory:    bytes of memory
    """

    version: str
    uptime: float
    faults: tuple[tuple[str, str], ...]
    sessions: dict[str, dict[str, int]]
    channels: int
    rates: dict[str, float]
    totals: dict[str, int]
    loop_lag: float
    memory: int


class Revoked(msgspec.Struct, frozen=True):
    """Tokens issued before `before` are refused; who is connected with one ends at `applies`. Seconds since 1970."""

    before: float
    applies: float


class Answers(msgspec.Struct, frozen=True):
    """What a batch came to, command by command."""

    answers: tuple[Published | Members | SowerError, ...]


class Issued(msgspec.Struct, frozen=True):
    """A token in a protocol's own form."""

    token: str


class Time(msgspec.Struct, frozen=True):
    """Seconds since 1970."""

    now: float


class Reloaded(msgspec.Struct, frozen=True):
    """taken: the settings that are in force now. waiting: those that need a restart."""

    taken: tuple[str, ...]
    waiting: tuple[str, ...]


class Trend(msgspec.Struct, frozen=True):
    """Rates in a second, the oldest first, one for each `every` seconds."""

    every: float
    publishes: tuple[float, ...]
    deliveries: tuple[float, ...]


class AuditPage(msgspec.Struct, frozen=True, omit_defaults=True):
    """The newest first. silent: daemons of a cluster that did not answer."""

    records: tuple[Record, ...]
    silent: tuple[str, ...] = ()


class Identity(msgspec.Struct, frozen=True):
    """Whose credential it is.

    expires: seconds since 1970, None for never
    others:  what the app's key is called by other protocols' clients: ably, publish and subscribe (PubNub's)
    """

    app: str
    key: str
    expires: float | None
    others: dict[str, str]


class AblyKey(msgspec.Struct, frozen=True):
    """A key as Ably's SDKs show it: NAME:SECRET. capability: what it allows, resource -> operations."""

    key: str
    capability: Mapping[str, tuple[str, ...]]


class AddedApp(msgspec.Struct, frozen=True):
    """An app that was added, with its secrets: they are told this once."""

    id: str
    key: str
    secret: str
    ably: tuple[AblyKey, ...]


class AppView(msgspec.Struct, frozen=True):
    """added: while the daemon ran; else it is the config's. connections: open ones."""

    id: str
    key: str
    added: bool
    connections: int


class AppList(msgspec.Struct, frozen=True):
    apps: tuple[AppView, ...]


class Minted(msgspec.Struct, frozen=True):
    """A token. expires: seconds since 1970."""

    channel: str
    token: str
    expires: float


class Watched(msgspec.Struct, frozen=True):
    """Users on a client's watchlist came or went. It is told to them unasked."""

    online: tuple[str, ...] = ()
    offline: tuple[str, ...] = ()


SocketAnswer = Receipt | Published | Welcome | Connected | Acknowledged
OperatorAnswer = SessionList | Stats | Trend | AuditPage | Reloaded | Identity
HttpAnswer = (
    Published
    | HistoryPage
    | Members
    | ChannelList
    | Occupancy
    | Minted
    | Issued
    | Revoked
    | Answers
    | Time
    | Acknowledged
    | AddedApp
    | AppList
    | OperatorAnswer
)
