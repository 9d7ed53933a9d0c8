"""What a client or a server may ask for, whatever protocol it speaks (core/answer.py has what it is answered).

A dialect makes Commands out of bytes and bytes out of Answers. Nothing between knows the protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from sower.core.attendance import EVERY_USE, Use
from sower.core.grants import Can, Credential, Grant
from sower.core.message import Annotation, Delivery, Did, Kind, Position, Revision
from sower.core.revocations import By
from sower.errors import SowerError

SUBSCRIBING = frozenset({Can.SUBSCRIBE})

Verify = Callable[[str, Mapping[str, Credential], float], Grant]
"""Reads a token: its text, the credentials by key, and the time in seconds since 1970. Raises SowerError."""


class Wording(Protocol):
    """How one channel's deliveries are said; it compares equal to those that say the same."""

    @property
    def is_text(self) -> bool: ...

    def encode(self, channel: str, deliveries: Sequence[Delivery]) -> Sequence[bytes]: ...


class OwnWording(Wording, Protocol):
    """One that a subscriber asked for. within: how deliveries are said to who may do only this."""

    def within(self, can: frozenset[Can]) -> Wording: ...


class Credentials(msgspec.Struct, frozen=True):
    """What somebody showed to be let in; nothing of it is checked yet.

    user:   the user id that a client gives itself; a token's own user wins over it
    verify: how the protocol reads its tokens, where they are not the daemon's own
    """

    key: str | None = None
    secret: str | None = None
    token: str | None = None
    user: str | None = None
    signature: Signature | None = None
    verify: Verify | None = None


class Proof(msgspec.Struct, frozen=True):
    """A signature over one text: HMAC-SHA256 with the key's secret, in lower-case hexadecimal digits."""

    key: str
    signature: str
    signed: str


class Signature(msgspec.Struct, frozen=True):
    """A signed request.

    signed:    what may have been signed, the likeliest first: SDKs differ in how they write a query. Read once
    timestamp: seconds since 1970, as the request says
    skew:      seconds by which it may be off
    app:       the id of the app that is asked, None where the key alone says it
    nonce:     what makes the request one of its kind, so that it is not used twice
    """

    key: str
    signature: str
    signed: Iterable[str]
    timestamp: float
    skew: float
    app: str | None = None
    nonce: str | None = None


class Publish(msgspec.Struct, frozen=True, gc=False):
    """Publish one event on one channel.

    data:    the publisher's bytes, verbatim
    id:      idempotency key: the same id within store.remember_ids is stored once
    exclude: a session that shall not get it
    echo:    whether the publishing session itself gets it
    extra:   as of Message
    stored:  whether the channel's history has it, where it keeps one
    told:    whether subscribers get it
    about:   the earlier message that it changes or annotates; as of Message
    """

    channel: str
    event: str
    data: bytes
    kind: Kind = Kind.JSON
    user: str | None = None
    id: str | None = None
    exclude: str | None = None
    echo: bool = False
    extra: bytes | None = None
    stored: bool = True
    told: bool = True
    about: Revision | Annotation | None = None


class PublishAll(msgspec.Struct, frozen=True):
    """Publish several events; all are checked before the first is accepted. Those of one channel stay together.

    Over a socket it needs no subscription.
    counted: whether the answer says how many follow each channel
    """

    publishes: tuple[Publish, ...]
    counted: bool = False


class Rewind(msgspec.Struct, frozen=True):
    """How far back a newcomer begins: with the last so many messages, or those of the last so many seconds."""

    messages: int | None = None
    seconds: float | None = None


class Subscribe(msgspec.Struct, frozen=True):
    """Follow a channel from now on, or from the position `since`.

    proof:     what opens a private channel, where it is no token
    user:      the member that the proof speaks for
    meta:      JSON bytes that the member brings
    as_member: whether there is no following it without being a member
    most:      members that the channel may have for this subscriber to become one
    rewind:    how far back to begin, where there is no position
    wants:     what the subscriber means to do: it may do what of this its grant allows, and must be allowed some
    encoder:   how this channel's deliveries are said, where it is not as the socket's other ones
    grace:     seconds that its members stay when its socket is lost, where it is not as the channel's rule has it
    uses:      what it is there for, as far as it is allowed
    counts:    whether it is told how many there are, now and after changes
    """

    channel: str
    since: Position | None = None
    proof: Proof | None = None
    user: str | None = None
    meta: bytes | None = None
    as_member: bool = False
    most: int | None = None
    rewind: Rewind | None = None
    wants: frozenset[Can] = SUBSCRIBING
    encoder: OwnWording | None = None
    grace: float | None = None
    uses: Use = EVERY_USE
    counts: bool = False


class Unsubscribe(msgspec.Struct, frozen=True):
    """Stop following a channel; its member leaves at once."""

    channel: str


class Appear(msgspec.Struct, frozen=True):
    """Be a member of a channel that one follows, say something new of that member, or let it leave.

    user: None for whoever the client is; one connection may have several members
    meta: JSON bytes
    id, extra: as of Appearance
    """

    channel: str
    did: Did
    user: str | None
    meta: bytes
    id: str | None = None
    extra: bytes | None = None


class UpdateMeta(msgspec.Struct, frozen=True):
    """Replace the meta of one's own member. meta: JSON bytes."""

    channel: str
    meta: bytes
    id: str | None = None


class Renew(msgspec.Struct, frozen=True):
    """Go on with a new token before the old one expires.

    verify:  as of Credentials
    partial: whether channels that the new token does not allow are left; else the token is refused for them
    """

    token: str
    id: str | None = None
    verify: Verify | None = None
    partial: bool = False


class Connect(msgspec.Struct, frozen=True):
    """Be a connection that outlives its socket. statement: the one with which an earlier one is continued."""

    statement: str | None = None


class Finish(msgspec.Struct, frozen=True):
    """End the connection. at_once: for good, so its members get no grace period."""

    at_once: bool = True


class SignIn(msgspec.Struct, frozen=True):
    """Say who one is, for all channels of this socket.

    info:      JSON bytes that the user brings as a member
    watchlist: the users of whose coming and going it wants to be told
    said:      what was signed, as it came
    """

    proof: Proof
    user: str
    info: bytes | None
    watchlist: tuple[str, ...]
    said: str


class WatchFrames(msgspec.Struct, frozen=True):
    """See what passes between another session's client and the daemon, for as long as this socket is open."""

    session: str


class Complain(msgspec.Struct, frozen=True):
    """Say what was wrong with what a client asked for, where that came to light before anything was done.

    channel: the one that it wanted to follow
    final:   whether the socket ends with it
    """

    error: SowerError
    channel: str | None = None
    final: bool = False


class Ping(msgspec.Struct, frozen=True):
    """Ask for a sign of life."""

    id: str | None = None


class ReadHistory(msgspec.Struct, frozen=True):
    """Read a channel's journal. since and before are exclusive serials. presence: that of its members' doings.

    as_of: where each message is as it was then, and not as it is now
    """

    channel: str
    since: Position | None = None
    before: Position | None = None
    limit: int = 100
    newest_first: bool = False
    presence: bool = False
    as_of: Position | None = None


class ReadPresence(msgspec.Struct, frozen=True):
    """Read who is in a channel. seen: connection by connection, also where the channel's rule has no presence."""

    channel: str
    seen: bool = False


class ListChannels(msgspec.Struct, frozen=True):
    """List the occupied channels whose name begins with `prefix`."""

    prefix: str = ""
    limit: int | None = 1000


class ReadOccupancy(msgspec.Struct, frozen=True):
    """Read how many follow a channel, and the event that it remembers."""

    channel: str


class Terminate(msgspec.Struct, frozen=True):
    """End every connection that is signed in as a user."""

    user: str


class ListSessions(msgspec.Struct, frozen=True):
    """List the connected clients, those first that most waits for, or that are silent longest; or this one alone."""

    limit: int = 100
    by_silence: bool = False
    session: str | None = None


class ReadStats(msgspec.Struct, frozen=True):
    """Read what the daemon does now."""


class Kick(msgspec.Struct, frozen=True):
    """End one connection; its client may come back."""

    session: str


class ReadTime(msgspec.Struct, frozen=True):
    """Read the daemon's clock."""


class Reload(msgspec.Struct, frozen=True):
    """Take the changed config over."""


class ReadTrend(msgspec.Struct, frozen=True):
    """Read what the daemon did in the last quarter of an hour."""


class ReadAudit(msgspec.Struct, frozen=True):
    """Read the newest audit records. kinds: none for all. since, before: seconds since 1970; before is exclusive."""

    kinds: tuple[str, ...] = ()
    before: float | None = None
    limit: int = 100
    since: float = 0.0


class Admit(msgspec.Struct, frozen=True):
    """Ask for a token that allows for a while what the secret allows. ttl: seconds."""

    ttl: float


class Identify(msgspec.Struct, frozen=True):
    """Ask whose credential this is."""


class AddApp(msgspec.Struct, frozen=True):
    """Add an app while the daemon runs.

    id:           None for one that is free
    capabilities: for each a further Ably key that allows this: resource -> operations
    """

    id: str | None = None
    capabilities: tuple[Mapping[str, tuple[str, ...]], ...] = ()


class ListApps(msgspec.Struct, frozen=True):
    """List the apps: the config's, and those that were added."""


class RemoveApp(msgspec.Struct, frozen=True):
    """Remove an app that was added, and end its clients."""

    id: str


class Mint(msgspec.Struct, frozen=True):
    """Make a token. ttl: seconds. meta: any JSON value. can: names of capabilities; None for all."""

    channel: str
    user: str | None = None
    ttl: float = 3600.0
    can: tuple[str, ...] | None = None
    meta: object = None


class Revoke(msgspec.Struct, frozen=True):
    """Make tokens of a key worthless that were issued before a moment, by default now.

    before: seconds since 1970. margin: seconds in which clients that are connected may get a new one
    """

    key: str
    targets: tuple[tuple[By, str], ...]
    before: float | None
    margin: float


class Batch(msgspec.Struct, frozen=True):
    """Several commands, each of which may fail alone."""

    commands: tuple[PublishAll | ReadPresence | Complain, ...]


class Issue(msgspec.Struct, frozen=True):
    """Make a token in a protocol's own form.

    make: given the credential, the time in seconds since 1970 and a random id, the token; raises SowerError
    user: for the audit
    once: what the signed request that asks for it is called, and how many seconds none of that name may ask again
    """

    make: Callable[[Credential, float, str], str]
    user: str | None = None
    once: tuple[str, float] | None = None


SocketCommand = (
    Publish
    | PublishAll
    | Subscribe
    | Unsubscribe
    | Appear
    | UpdateMeta
    | Connect
    | Renew
    | SignIn
    | WatchFrames
    | Complain
    | Ping
    | Finish
)
AppCommand = AddApp | ListApps | RemoveApp
OperatorCommand = ListSessions | ReadStats | ReadTrend | ReadAudit | Kick | Reload | Admit | Identify
HttpCommand = (
    PublishAll
    | ReadHistory
    | ReadPresence
    | ListChannels
    | ReadOccupancy
    | ReadTime
    | Terminate
    | Mint
    | Issue
    | Revoke
    | Batch
    | AppCommand
    | OperatorCommand
    | Complain
)
