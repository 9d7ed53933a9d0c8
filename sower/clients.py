"""All connected clients: what they ask for over their sockets is checked here and posted to the hub.

Rule 1: nothing here waits. What takes time answers later, through the session.
Rule 2: a client may do what its grant, its channel's rule and its rate allow; each refusal says which it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import trio

from sower.access import Access
from sower.activity import Activity
from sower.collector import Collector
from sower.config import Config
from sower.console import Console
from sower.core.answer import Acknowledged, Connected
from sower.core.attendance import Use
from sower.core.command import (
    Appear,
    Complain,
    Connect,
    Credentials,
    Finish,
    Publish,
    PublishAll,
    Renew,
    SignIn,
    SocketCommand,
    Subscribe,
    Unsubscribe,
    UpdateMeta,
    WatchFrames,
)
from sower.core.connection import read, state
from sower.core.grants import HEARING, Can, Grant
from sower.core.limits import Bucket
from sower.core.rules import OF_USER, Rules
from sower.errors import (
    AppFull,
    Finished,
    NotAuthorised,
    NoUser,
    PresenceOff,
    RateLimited,
    SowerError,
    TooLarge,
    TooMany,
    UserMismatch,
)
from sower.hub import Hub
from sower.inbox import MetaChange, Subscription
from sower.net.framing import NO_FAREWELL, Farewell, FramedAudience
from sower.net.keepalive import Keepalive
from sower.net.reader import Reader
from sower.net.session import Session, State
from sower.net.shared import Bounds, Shared
from sower.publishing import Publishing
from sower.users import Users

SUBSCRIBE_ONLY = frozenset({Can.SUBSCRIBE})

NEED = {Can.SUBSCRIBE: Use.HEAR | Use.WATCH, Can.PUBLISH: Use.PUBLISH, Can.PRESENCE: Use.APPEAR}
"""What must be allowed for each use."""


COUNTED_AT_ONCE = 4096
"""Sessions that are counted before other tasks run: about a millisecond."""


class Clients:
    """now: seconds since 1970. nursery: where sessions' writers run."""

    def __init__(
        self,
        config: Config,
        hub: Hub,
        access: Access,
        activity: Activity,
        keepalive: Keepalive,
        collector: Collector,
        nursery: trio.Nursery,
        *,
        now: Callable[[], float],
    ) -> None:
        self._limits = config.limits
        self.shared = Shared(self, Bounds.of(config), nursery, hub.tally)
        self.reader = Reader(self._went)
        self.users = Users()
        self._by_app: Counter[str] = Counter()
        self._empty = trio.Event()
        self._hub = hub
        self._access = access
        self._activity = activity
        self._publishing = Publishing(config.limits, hub, access, activity)
        self._keepalive = keepalive
        self._collector = collector
        self._now = now
        self._console = Console(activity, self.find, now)

    def use(self, config: Config) -> None:
        """Go on with this config; who is connected is held to its bounds from the next look on."""
        self._limits = config.limits
        self._publishing.use(config.limits)
        self.shared.bounds = Bounds.of(config)

    # Coming and going

    def __len__(self) -> int:
        return len(self.reader)

    @property
    def now(self) -> float:
        """trio's clock at the keepalive's last tick."""
        return self._keepalive.now

    @property
    def wall(self) -> float:
        """Seconds since 1970."""
        return self._now()

    def find(self, session_id: str) -> Session | None:
        """The session of this id, where it is connected."""
        return self.reader.find(session_id)

    def check_room(self, app_id: str) -> None:
        """Whether an app may have one connection more. Raises AppFull."""
        app = self._access.apps[app_id]
        if self._by_app[app_id] >= app.connections:
            raise AppFull(f"The app {app_id} has {app.connections} connections, as many as its connections allows.")

    def came(self, session: Session, head: bytes, buffered: bytes) -> None:
        """A socket was opened: say so, do what that asks for, and read it from now on.

        head: what accepts it. buffered: what the client has said already
        """
        self._enter(session)
        session.begin(head)
        if not session.subscriptions and session.ending is None:
            self._activity.connected(session.grant, session.id, session.address, "")
        farewell = session.hear(buffered) if buffered else None
        if farewell is not None:
            self.reader.end(session, farewell)

    def streams(self, session: Session, head: bytes) -> None:
        """A stream was asked for: where all that it follows is allowed it begins, with these bytes.

        Raises SowerError; then nothing was sent and nothing of it stays.
        """
        try:
            for command in session.conversation.begin():
                self.perform(session, command)
        except SowerError:
            session.closed = True
            for subscription in session.subscriptions:
                subscription.end(at_once=True)
            raise
        session.wire.acknowledged_within(self.shared.bounds.pong_within)
        session.write(head)
        self._enter(session)

    def _enter(self, session: Session) -> None:
        expires = session.grant.expires
        first = session.conversation.ping_every or self.shared.bounds.ping_every
        self.reader.add(session)
        self._by_app[session.grant.app] += 1
        self._collector.came()
        self._hub.tally.connects += 1
        self._keepalive.look_again(session, first if expires is None else min(first, expires - self._now()))

    def _went(self, session: Session, farewell: Farewell) -> None:
        """A socket ended: its subscriptions end with it."""
        session.closed = True
        session.release()
        subscriptions, session.subscriptions = session.subscriptions, ()
        for subscription in subscriptions:
            subscription.end()
        for forget in (self._keepalive.forget, self.users.went, self._console.went):
            forget(session)
        self._by_app[session.grant.app] -= 1
        code, reason = farewell.code, farewell.reason
        if session.ending is not None:
            code, reason = session.conversation.close(session.ending), session.ending.code
        self._activity.disconnected(session.grant, session.id, session.address, code, reason)
        if not len(self.reader):
            self._empty.set()

    async def census(self) -> Counter[tuple[str, State]]:
        """How many sessions there are of each dialect and state."""
        found: Counter[tuple[str, State]] = Counter()
        for number, session in enumerate(self.reader):
            found[session.audience.dialect, session.state] += 1
            if number % COUNTED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return found

    def connections(self, app_id: str) -> int:
        """How many of an app's clients are connected."""
        return self._by_app[app_id]

    async def gone(self) -> None:
        """Wait until no session is left."""
        while len(self.reader):
            self._empty = trio.Event()
            await self._empty.wait()

    def look_again(self, session: Session, after: float) -> None:
        """Have a session tended within so many seconds."""
        self._keepalive.look_again(session, after)

    # What they ask for

    def perform(self, session: Session, command: SocketCommand) -> None:
        """Do what a client asks. Raises SowerError."""
        self.count(session, 1)
        if isinstance(command, Publish):
            self._publishing.publish(session, command)
        elif isinstance(command, Subscribe):
            self._subscribe(session, command)
        elif isinstance(command, PublishAll):
            self._publishing.publish_all(session, command)
        elif isinstance(command, UpdateMeta):
            self._update_meta(session, command)
        elif isinstance(command, Appear):
            self._appear(session, command)
        elif isinstance(command, Unsubscribe):
            self._unsubscribe(session, command.channel)
            session.answer(command, Acknowledged())
        elif isinstance(command, Connect):
            self._connect(session, command)
        elif isinstance(command, Finish):
            self._finish(session, command)
        elif isinstance(command, Renew):
            self._renew(session, command)
        elif isinstance(command, SignIn):
            self._sign_in(session, command)
        elif isinstance(command, WatchFrames):
            self._console.begin(session, command)
        elif isinstance(command, Complain):
            raise command.error
        else:
            session.answer(command, Acknowledged())

    def count(self, session: Session, frames: int) -> None:
        """Count what a session sent against limits.frames. Raises RateLimited."""
        speech = session.speech
        if speech is None:
            return  # the first after a silence, or what opening the socket asks for
        now = trio.current_time()
        if speech.frames is None:
            speech.frames = Bucket(self._limits.frames, now)
        wait = speech.frames.take(now, frames)
        if wait:
            raise RateLimited("Frames come faster than limits.frames.", retry_after=wait)

    def _subscribe(self, session: Session, command: Subscribe) -> None:
        name, before = command.channel, session.subscription(command.channel)
        first = not session.subscriptions
        try:
            grant, can = self._allowed(session, command)
            rules = self._hub.rules.of(name)
            user, meta = self._member(grant, command, rules)
            audience, uses = _audience(session, command, can), self._uses(grant, command, rules)
            if before is not None and before.user == user:
                before.begin(command, meta, can, audience, uses=uses, again=True)
                return
            if len(session.subscriptions) >= self._limits.subscriptions:
                raise TooMany(f"This client follows {self._limits.subscriptions} channels, limits.subscriptions.")
            subscription = Subscription(self._hub.open(grant.app, name), session, audience, user)
            subscription.grace = command.grace
            if before is not None:
                self._unsubscribe(session, name)
            subscription.begin(command, meta, can, uses=uses)
        except SowerError as error:
            told = self._access.refusal(session.address, error)
            self._activity.refused(session.grant.app, session.address, name, told)
            raise told from error
        session.grant = grant
        session.subscriptions = (*session.subscriptions, subscription)
        if first and command.proof is None and not session.heard:
            self._activity.connected(grant, session.id, session.address, name)
        else:
            self._activity.subscribed(grant, session, session.address, name, proved=command.proof is not None)

    def _allowed(self, session: Session, command: Subscribe) -> tuple[Grant, frozenset[Can]]:
        """The grant with which a client may subscribe, and what of what it wants it may do.

        Raises NotAuthorised, Forbidden.
        """
        grant, name = session.grant, command.channel
        if command.proof is not None:
            self._access.check(grant.key, command.proof)
            return (grant if session.subscription(name) is not None else grant.proved(name)), command.wants
        rules, client_events = self._hub.rules.of(name), self._access.apps[grant.app].client_events
        can = frozenset(c for c in command.wants if grant.allows(c, name, rules, client_events))
        if not can:
            grant.demand(next(iter(command.wants), Can.SUBSCRIBE), name, rules, client_events)
        return grant, command.wants if can == command.wants else can  # mostly shared: a set of its own is 216 bytes

    def _uses(self, grant: Grant, command: Subscribe, rules: Rules) -> Use:
        """What of what a subscriber is there for it is allowed."""
        uses, client_events = command.uses, self._access.apps[grant.app].client_events
        for can, needing in NEED.items():
            if uses & needing and not grant.allows(can, command.channel, rules, client_events):
                uses &= ~needing
        return uses

    def _member(self, grant: Grant, command: Subscribe, rules: Rules) -> tuple[str | None, bytes | None]:
        """The user id that a subscriber is present as, where it is one, and its meta. Raises TooLarge."""
        proved = command.proof is not None and command.user is not None
        user, meta = (command.user, command.meta) if proved else (grant.user, grant.meta)
        client_events = self._access.apps[grant.app].client_events
        if not rules.presence or not grant.allows(Can.PRESENCE, command.channel, rules, client_events):
            user = None
        if user is None:
            if command.as_member:
                raise NotAuthorised(f"{command.channel!r} is for members: show who the client is, or sign in first.")
            return None, None
        if meta is not None and len(meta) > self._limits.meta:
            raise TooLarge(f"The member's meta has {len(meta)} bytes; limits.meta is {self._limits.meta}.")
        return user, meta

    def _unsubscribe(self, session: Session, channel: str) -> None:
        subscription = session.subscription(channel)
        if subscription is not None:
            self.drop(session, subscription)

    def drop(self, session: Session, subscription: Subscription) -> None:
        """End a subscription, and what was proved for it; its member leaves at once."""
        name, grant = subscription.channel, session.grant
        if grant.expires is None and not (grant.closed or name.startswith(OF_USER)):  # else it is a key's or a token's
            session.grant = grant.without(name)
        session.subscriptions = tuple(s for s in session.subscriptions if s is not subscription)
        subscription.end(at_once=True)

    def _sign_in(self, session: Session, command: SignIn) -> None:
        """From now on this socket speaks for a user, on every channel. Raises BadSignature, UserMismatch."""
        try:
            self._access.check(session.grant.key, command.proof)
            before = self.users.user_of(session)
            if before is not None and before != command.user:
                raise UserMismatch(f"This socket is signed in as {before[:64]!r} already.")
        except SowerError as error:
            told = self._access.refusal(session.address, error)
            self._activity.refused(session.grant.app, session.address, "", told)
            raise told from error
        if before is None:
            own = OF_USER + command.user
            session.grant = replace(session.grant, user=command.user, meta=command.info).proved(own, SUBSCRIBE_ONLY)
        self._activity.signed_in(session.grant, session.id, session.address)
        session.answer(command, Acknowledged())
        self.users.came(session, command)

    def _appear(self, session: Session, command: Appear) -> None:
        name, grant = command.channel, session.grant
        subscription, rules = session.subscription(name), self._hub.rules.of(name)
        if subscription is None or not (rules.presence or rules.members):
            raise PresenceOff(f"This client does not follow {name!r}, or nobody can be present there.")
        self._demand(grant, Can.PRESENCE, name, rules)
        user = command.user or grant.user
        if user is None:
            raise NoUser(f"To be present on {name!r}, a client must say who it is.")
        if not grant.speaks_for(user):
            raise UserMismatch(f"This client does not speak for {user[:64]!r}.")
        self._check_meta(command.meta, command.extra)
        subscription.tree.post(MetaChange(subscription, command, user))

    def _update_meta(self, session: Session, command: UpdateMeta) -> None:
        subscription = session.subscription(command.channel)
        if subscription is None or subscription.user is None:
            raise PresenceOff(f"This client is not a member of {command.channel!r}, so it has no meta.")
        self._check_meta(command.meta)
        subscription.tree.post(MetaChange(subscription, command, subscription.user))

    def _check_meta(self, meta: bytes, extra: bytes | None = None) -> None:
        size = len(meta) + len(extra or b"")
        if size > self._limits.meta:
            raise TooLarge(f"The member's meta has {size} bytes; limits.meta is {self._limits.meta}.")

    def _connect(self, session: Session, command: Connect) -> None:
        """Give the connection a name that outlives its socket: a new one, or the one that the statement proves."""
        grant = session.grant
        credential = self._access.credential(grant.key)
        refused: SowerError | None = None
        if command.statement is not None:
            try:
                continued = read(credential, command.statement, grant.user)
            except SowerError as error:
                refused = error
            else:
                session.continues = continued.connection
                replaced = self.find(continued.session)
                if replaced is not None and replaced is not session:
                    self.reader.end(replaced, NO_FAREWELL)
        statement = state(credential, session.connection, session.id, grant.user)
        any_user = grant.any_user and grant.user is None
        session.answer(command, Connected(session.connection, statement, grant.user, any_user, refused))

    def _finish(self, session: Session, command: Finish) -> None:
        if command.at_once:
            for subscription in session.subscriptions:
                self._unsubscribe(session, subscription.channel)
        session.end(Finished())

    def _renew(self, session: Session, command: Renew) -> None:
        """A new token takes over where it speaks for the same user and still allows what goes on."""
        try:
            grant = self._access.authorise(Credentials(token=command.token, verify=command.verify))
            if grant.any_user and session.grant.user is not None:
                grant = replace(grant, user=session.grant.user, any_user=False)
            if grant.app != session.grant.app or grant.user != session.grant.user:
                raise UserMismatch("The new token is for another app or user than the one this socket began with.")
            lost = self._lost(session, grant)
            if lost and not command.partial:
                raise next(iter(lost.values()))
        except SowerError as error:
            told = self._access.refusal(session.address, error)
            self._activity.refused(session.grant.app, session.address, "", told)
            raise told from error
        session.grant = grant
        if grant.expires is not None:
            self.look_again(session, grant.expires - self._now() - session.conversation.asks_before(grant))
        session.answer(command, Acknowledged())
        for channel, error in lost.items():
            self._unsubscribe(session, channel)
            session.refuse(Subscribe(channel), error)

    def _lost(self, session: Session, grant: Grant) -> dict[str, SowerError]:
        """The channels that a session follows and this grant does not allow it, and why."""
        lost: dict[str, SowerError] = {}
        for name, allowed in ((s.channel, s.can) for s in session.subscriptions):
            try:
                for can in (allowed & HEARING) or allowed:
                    self._demand(grant, can, name, self._hub.rules.of(name))
            except SowerError as error:
                lost[name] = error
        return lost

    def _demand(self, grant: Grant, can: Can, name: str, rules: Rules) -> None:
        grant.demand(can, name, rules, self._access.apps[grant.app].client_events)


def _audience(session: Session, command: Subscribe, can: frozenset[Can]) -> FramedAudience:
    """How a subscription's deliveries are said to this client; not at all where it may not subscribe."""
    if command.encoder is not None:
        return session.audience.of(command.encoder.within(can))
    return session.audience if Can.SUBSCRIBE in can else session.audience.silent
