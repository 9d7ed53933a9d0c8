"""One connected client: what is written to it, what waits for it, and what it says.

Rule 1: write() never blocks and never raises. It is one system call; what the socket does not take waits in the
        backlog, which has a bound in bytes and in age. A writer task lives only as long as there is a backlog.
Rule 2: order holds through every path: while there is a backlog, everything goes through it.
Rule 3: a session ends once, whoever ends it, and its subscriptions end with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import trio

from sower.core.command import SocketAnswer, SocketCommand
from sower.core.grants import Grant
from sower.core.limits import Bucket
from sower.core.message import Position
from sower.dialects.interface import Conversation
from sower.errors import BadRequest, NoPong, RateLimited, SlowConsumer, SowerError, TokenExpired, TooLarge
from sower.net import frames
from sower.net.backlog import Backlog
from sower.net.frames import NO_FAREWELL, Farewell, FramedAudience
from sower.net.wire import Wire

if TYPE_CHECKING:
    from sower.inbox import Subscription

CLOSE_WITHIN = 5.0
"""Seconds that a client has to answer a close frame. websockets' close_timeout is 10, Centrifuge's 1."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one session may use, in bytes, seconds and frames: [session] and [limits] of the config."""

    backlog: int
    backlog_age: float
    ping_every: float
    pong_within: float
    message: int
    violations: int


class Door(Protocol):
    """Where a session's commands go."""

    def perform(self, session: Session, command: SocketCommand) -> None:
        """Do it, now or later. Raises SowerError."""
        ...

    def look_again(self, session: Session, after: float) -> None:
        """Have the session tended within so many seconds."""
        ...


class Session:
    """One WebSocket after its handshake.

    id:        random, what other parts and `exclude` call it
    ending:    why this side closes it, None while it does not
    closed:    nothing more is written to it
    heard:     whether anything came since it was last tended
    pinged_at: when it was pinged without an answer so far, on trio's clock; 0.0 when it was not
    due:       the keepalive's tick at which it is tended next
    """

    __slots__ = (
        "_backlog",
        "_bounds",
        "_door",
        "_nursery",
        "address",
        "audience",
        "client_events",
        "closed",
        "conversation",
        "due",
        "ending",
        "frames",
        "grant",
        "heard",
        "id",
        "pinged_at",
        "subscriptions",
        "violations",
        "wire",
    )

    def __init__(
        self,
        wire: Wire,
        session_id: str,
        grant: Grant,
        conversation: Conversation,
        audience: FramedAudience,
        door: Door,
        bounds: Bounds,
        nursery: trio.Nursery,
    ) -> None:
        self.wire = wire
        self.address = wire.address
        self.id = session_id
        self.grant = grant
        self.conversation = conversation
        self.audience = audience
        self.subscriptions: dict[str, Subscription] = {}
        self.closed = False
        self.ending: SowerError | None = None
        self.heard = True
        self.pinged_at = 0.0
        self.due = 0
        self.frames: Bucket | None = None
        self.client_events: Bucket | None = None
        self.violations = 0
        self._door = door
        self._bounds = bounds
        self._nursery = nursery
        self._backlog: Backlog | None = None

    # Outbound

    def write(self, data: bytes) -> None:
        """Send now what the socket takes; the rest waits."""
        if self.closed:
            return
        if self._backlog is not None:
            self._add(self._backlog, data)
            return
        try:
            sent = self.wire.send_now(data)
        except trio.BrokenResourceError:
            return  # the reader finds out too, and ends the session
        if sent < len(data):
            self._open_backlog().add(data[sent:])

    def write_ahead(self, data: bytes) -> None:
        """Send before everything that is held."""
        if self._backlog is None or not self._backlog.held:
            self.write(data)
        elif data:
            self._backlog.add_ahead(data)

    def hold(self) -> None:
        """Keep what comes live back until `release`, so that a replay can go ahead of it."""
        if not self.closed:
            (self._backlog or self._open_backlog()).hold()

    def release(self) -> None:
        """Let what was kept back follow."""
        if self._backlog is not None:
            self._backlog.release()

    async def drained(self) -> None:
        """Wait until all that went ahead is with the operating system."""
        if self._backlog is not None:
            await self._backlog.spent()

    def answer(self, command: SocketCommand, answer: SocketAnswer) -> None:
        """Say the answer to a command."""
        self._say(self.conversation.answer(self.id, command, answer))

    def refuse(self, command: SocketCommand | None, error: SowerError) -> None:
        """Say why a command was not done; where the protocol has it so, that ends the session."""
        if self.conversation.ends(command):
            self.end(error)
        else:
            self._say(self.conversation.refuse(command, error))

    def tell_gap(self, subscription: Subscription, since: Position, position: Position) -> None:
        """Say that something after `since` is gone."""
        payload = self.conversation.gap(subscription.command.channel, since, position)
        self.write_ahead(self.audience.frame(payload))

    def end(self, error: SowerError) -> None:
        """Close from this side: an error frame, a close frame, and a deadline for the client to answer it."""
        if self.ending is not None or self.closed:
            return
        self.ending = error
        payload = self.conversation.refuse(None, error)
        goodbye = (self.audience.frame(payload) if payload else b"") + frames.close(error.close, error.code)
        if self._backlog is not None:
            self._backlog.cut(goodbye)
        else:
            self.write(goodbye)
        self.closed = True
        self._door.look_again(self, CLOSE_WITHIN)

    def _say(self, payload: bytes) -> None:
        if payload:
            self.write(self.audience.frame(payload))

    def _add(self, backlog: Backlog, data: bytes) -> None:
        if backlog.size + len(data) > self._bounds.backlog:
            self.end(SlowConsumer(f"{backlog.size} bytes waited for it, session.backlog is {self._bounds.backlog}."))
        else:
            backlog.add(data)

    def _open_backlog(self) -> Backlog:
        backlog = self._backlog = Backlog(trio.current_time())
        self._nursery.start_soon(self._drain, backlog, name=f"writer {self.id}")
        self._door.look_again(self, self._bounds.backlog_age)
        return backlog

    async def _drain(self, backlog: Backlog) -> None:
        """The writer: send the backlog, then vanish."""
        try:
            while (chunk := await backlog.next()) is not None:
                await self.wire.send_all(chunk)
                backlog.sent(len(chunk), trio.current_time())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.closed = True
            backlog.cut(b"")  # lets a replay that waits for it go on to its end
        self._backlog = None

    # Inbound

    async def serve(self, buffered: bytes) -> Farewell:
        """Do what the client asks until its socket ends. Returns how it ended; never raises for what a client did."""
        inbound = frames.Inbound(self._bounds.message)
        self._perform_all(self.conversation.begin())
        data = buffered
        while True:
            if data:
                self._take(inbound, data)
                if inbound.ended:
                    return inbound.farewell
            data = await self.wire.recv()
            if not data:
                return NO_FAREWELL
            self.heard = True

    def _take(self, inbound: frames.Inbound, data: bytes) -> None:
        for message in inbound.feed(data):
            if self.closed:
                return
            try:
                commands = self.conversation.receive(message.payload, is_text=message.is_text)
            except SowerError as error:
                self._count_violation(None, error)
            else:
                self._perform_all(commands)
        if inbound.reply_due and not self.closed:
            self.write(inbound.reply())

    def _perform_all(self, commands: Sequence[SocketCommand]) -> None:
        for command in commands:
            try:
                self._door.perform(self, command)
            except SowerError as error:
                self._count_violation(command, error)

    def _count_violation(self, command: SocketCommand | None, error: SowerError) -> None:
        """Refuse, and end who goes on with what is malformed or too fast."""
        self.refuse(command, error)
        if isinstance(error, BadRequest | TooLarge | RateLimited):
            self.violations += 1
            if self.violations > self._bounds.violations:
                self.end(error)

    # Its clock, kept by the keepalive

    def tend(self, now: float, wall: float) -> float | None:
        """Look after the session. Returns seconds until the next look, None when it needs none.

        now: trio's clock; wall: seconds since 1970, which tokens count in
        """
        bounds = self._bounds
        if self.ending is not None:
            self.wire.shutdown()
        if self.closed:
            return None
        if self.grant.expires is not None and self.grant.expires <= wall:
            return self._end_soon(TokenExpired())
        waits = now - self._backlog.since if self._backlog is not None and self._backlog.size else 0.0
        if waits >= bounds.backlog_age:
            return self._end_soon(SlowConsumer(f"Bytes waited {waits:.0f} s for it, session.backlog_age."))
        if self.heard:
            self.heard = False
            self.pinged_at = 0.0
        elif self.pinged_at and now - self.pinged_at >= bounds.pong_within:
            return self._end_soon(NoPong(f"No answer came within {bounds.pong_within:.0f} s, session.pong_within."))
        elif not self.pinged_at:
            self.write(frames.PING)
            self.pinged_at = now
        look = bounds.pong_within if self.pinged_at else bounds.ping_every
        if waits:
            look = min(look, bounds.backlog_age - waits)
        return look if self.grant.expires is None else min(look, self.grant.expires - wall)

    def _end_soon(self, error: SowerError) -> float:
        self.end(error)
        return CLOSE_WITHIN
