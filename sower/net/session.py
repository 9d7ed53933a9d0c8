"""One connected client: what is written to it, what waits for it, and what it says.

Rule 1: write() never blocks and never raises. It is one system call; what the socket does not take waits in the
        backlog, which has a bound in bytes and in age. A writer task lives only as long as there is a backlog.
Rule 2: order holds through every path: while there is a backlog, everything goes through it.
Rule 3: a session ends once, whoever ends it, and its subscriptions end with it.
Rule 4: a session has no task. Everything that a client can ask is done or posted at once, so one reader serves
        all sockets (net/reader.py), and a silent session is this record, its socket and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import trio

from sower.core.answer import SocketAnswer, Watched
from sower.core.command import SocketCommand, Subscribe
from sower.core.connection import name_of
from sower.core.grants import Grant
from sower.core.message import Position
from sower.dialects.interface import Conversation, Said
from sower.errors import (
    MessageTimeout,
    NoPong,
    RateLimited,
    SlowConsumer,
    SowerError,
    TokenExpired,
)
from sower.net.backlog import Backlog
from sower.net.framing import NO_FAREWELL, Farewell, FramedAudience, Received
from sower.net.shared import READ, SECRET_DIGITS, Shared
from sower.net.speech import Speech
from sower.net.wire import Wire

if TYPE_CHECKING:
    from sower.inbox import Subscription

CLOSE_WITHIN = 5.0
"""Seconds that a client has to answer a close frame. websockets' close_timeout is 10, Centrifuge's 1."""

State = Literal["awake", "asleep", "backlogged"]


class Session:
    """One WebSocket after its handshake, or one stream. secret: 48 random bits.

    continues:    the name of the connection that it goes on with, None while nobody asked for it
    ending:       why this side closes it, None while it does not
    closed:       nothing more is written to it
    farewell:     how it ended, while the client may still be talking: what it says is read and dropped
    speech:       None while it is silent
    heard:        whether anything came since it was last tended; never before what opening it asks for is done
    pinged:       whether it owes an answer to a ping
    silent_since: when it was last known to have said something, on trio's clock
    due:          the keepalive's slot in which it is tended next, -1 for none
    """

    __slots__ = (
        "_backlog",
        "_secret",
        "_shared",
        "audience",
        "closed",
        "continues",
        "conversation",
        "due",
        "ending",
        "farewell",
        "grant",
        "heard",
        "pinged",
        "silent_since",
        "speech",
        "subscriptions",
        "wire",
    )

    def __init__(
        self,
        wire: Wire,
        secret: int,
        grant: Grant,
        conversation: Conversation,
        audience: FramedAudience,
        shared: Shared,
    ) -> None:
        self.wire = wire
        self._secret = secret
        self.grant = grant
        self.conversation = conversation
        self.audience = audience
        self.subscriptions: tuple[Subscription, ...] = ()
        self.speech: Speech | None = None
        self.closed = False
        self.continues: str | None = None
        self.ending: SowerError | None = None
        self.farewell: Farewell | None = None
        self.heard = False
        self.pinged = False
        self.silent_since = shared.door.now
        self.due = -1
        self._shared = shared
        self._backlog: Backlog | None = None

    @property
    def id(self) -> str:
        """What other parts and `exclude` call it: its file number, and 48 random bits that nobody guesses."""
        return f"{self._secret:0{SECRET_DIGITS}x}{self.wire.fileno & 0xFFFFFFFF:x}"

    @property
    def connection(self) -> str:
        """What its connection is called, which others may know; it stays so when the socket is gone."""
        if self.continues is None:
            self.continues = name_of(self.id)
        return self.continues

    @property
    def address(self) -> str:
        """The peer's IP address."""
        return self.wire.address

    @property
    def state(self) -> State:
        """What it costs: a writer task, a parser, or neither."""
        return "backlogged" if self._backlog is not None else "asleep" if self.speech is None else "awake"

    @property
    def backlog(self) -> int:
        """Bytes that wait for it."""
        return 0 if self._backlog is None else self._backlog.size

    @property
    def between_frames(self) -> bool:
        """Whether nothing is half said in either direction."""
        return self._backlog is None and (self.speech is None or self.speech.resting)

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
            self._open_backlog(data[sent:])

    def write_ahead(self, data: bytes) -> None:
        """Send before everything that is held."""
        if self._backlog is None or not self._backlog.held:
            if data:
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

    def subscription(self, channel: str) -> Subscription | None:
        """Its subscription on a channel, where it has one."""
        # A tuple and a walk: most clients follow one or a few channels, and a dict costs 184 bytes of each.
        for subscription in self.subscriptions:
            if subscription.channel == channel:
                return subscription
        return None

    def answer(self, command: SocketCommand, answer: SocketAnswer) -> None:
        """Say the answer to a command."""
        self._say(self.conversation.answer(self, command, answer))

    def answer_ahead(self, command: SocketCommand, answer: SocketAnswer) -> None:
        """Say the answer to a command before everything that is held."""
        self.write_ahead(self._framed(self.conversation.answer(self, command, answer)))

    def refuse(self, command: SocketCommand | None, error: SowerError) -> None:
        """Say why a command was not done; where the protocol has it so, that ends the session."""
        if self.conversation.ends(command):
            self.end(error)
            return
        followed = self.subscription(self.conversation.loses(command))
        if followed is not None:
            self._shared.door.drop(self, followed)
        self._say(self.conversation.refuse(command, error))

    def turn_away(self, subscription: Subscription, command: Subscribe, error: SowerError) -> None:
        """Say that a channel did not let it in: what was begun there is no subscription."""
        self._shared.door.drop(self, subscription)
        self.refuse(command, error)

    def tell(self, word: Watched) -> None:
        """Say what the client did not ask for."""
        self._say(self.conversation.tell(word))

    def ask(self) -> None:
        """Ask the client for a new token, where its protocol can."""
        self._say(self.conversation.ask())

    def tell_gap(self, channel: str, since: Position, position: Position) -> None:
        """Say that something after `since` is gone."""
        self.write_ahead(self._framed(self.conversation.gap(channel, since, position)))

    def end(self, error: SowerError) -> None:
        """Close from this side: an error frame, a close frame, and a deadline for the client to answer it."""
        if self.ending is not None or self.closed:
            return
        self.ending = error
        code = self.conversation.close(error)
        goodbye = self._framed(self.conversation.refuse(None, error)) + self.audience.framing.close(code, error.code)
        if self._backlog is not None:
            self._backlog.cut(goodbye)
        else:
            self.write(goodbye)
        self.closed = True
        self._finish()
        self.due = -1  # it was to be looked at for another reason, and the next look ends it
        self._shared.door.look_again(self, CLOSE_WITHIN if self.farewell is None else 1.0)

    def _finish(self) -> None:
        """The end of the bytes is the end of a stream; a WebSocket has a close frame, which is answered."""
        if self.closed and self._backlog is None and not self.audience.framing.closes:
            self.wire.finish()

    def _say(self, said: Said) -> None:
        if said:
            self.write(self._framed(said))

    def _framed(self, said: Said) -> bytes:
        if isinstance(said, bytes):
            return self.audience.frame(said) if said else b""
        return b"".join([self.audience.frame(payload) for payload in said if payload])

    def _add(self, backlog: Backlog, data: bytes) -> None:
        tally = self._shared.tally
        if backlog.size + len(data) > self._shared.bounds.backlog:
            tally.slow["bytes"] += 1
            self.end(SlowConsumer(f"{backlog.size} bytes waited for it, over session.backlog."))
        else:
            backlog.add(data)
            tally.backlog_high = max(tally.backlog_high, backlog.size)

    def _open_backlog(self, begun: bytes = b"") -> Backlog:
        backlog = self._backlog = Backlog(trio.current_time(), begun)
        self._shared.nursery.start_soon(self._drain, backlog, name=f"writer {self.id}")
        self._shared.door.look_again(self, self._shared.bounds.backlog_age)
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
        self._finish()

    # Inbound

    def begin(self, head: bytes) -> None:
        """Send what accepts the socket, with the greeting behind it, and do what opening it asks for."""
        greeting = self.conversation.greeting(self)
        self.write(head + self.audience.frame(greeting) if greeting else head)
        self._perform_all(self.conversation.begin())

    def receive(self) -> Farewell | None:
        """Read what came, and do what it asks. Returns how the socket ended, None while it goes on."""
        data = self.wire.recv_now(READ)
        if data is None:
            return None
        return self.hear(data) if data else self.farewell or NO_FAREWELL

    def hear(self, data: bytes) -> Farewell | None:
        """Do what these bytes ask. As `receive`."""
        goes_on, self.heard = self.heard, True
        framing = self.audience.framing
        if self.closed:
            return self._feed(data) if framing.closes and self.farewell is None else None
        if self.speech is None or self.speech.inbound is None:
            # With nothing half said before it, a whole frame needs no parser.
            nod = framing.nod(data)
            if nod is not None:
                if nod:
                    self.write(nod)
                return None
            message = framing.whole(data, self._longest)
            if message is not None:
                if goes_on:
                    self.speak()
                self._take(message)
                return None
        return self._feed(data)

    def speak(self) -> Speech:
        """From now on keep what a session needs that goes on speaking."""
        if self.speech is None:
            self.speech = Speech()
            self._shared.door.look_again(self, self._shared.bounds.sleep_after)
        return self.speech

    @property
    def _longest(self) -> int:
        return max(self._shared.bounds.message, self.conversation.longest)

    def _take(self, message: Received) -> None:
        """Do what a message asks."""
        if message.owed:
            self.write(message.owed)
        try:
            commands = self.conversation.receive(self, message.payload, is_text=message.is_text)
        except SowerError as error:
            self._count_violation(None, error)
        else:
            self._perform_all(commands)

    def _feed(self, data: bytes) -> Farewell | None:
        speech = self.speak()
        inbound = speech.inbound or self.audience.framing.inbound(self._longest)
        messages = inbound.feed(data)
        for message in messages:
            if self.closed:
                break
            self._take(message)
        if inbound.reply_due:
            self.write(inbound.reply())
        if inbound.controls and not self.closed:
            self._count(inbound.controls)
        if speech.half_said(inbound, whole=bool(messages), now=trio.current_time):
            self._shared.door.look_again(self, self._shared.bounds.message_within)
        speech.inbound = inbound if speech.goes_on or not inbound.resting else None
        speech.goes_on = True
        return self._ended(inbound.farewell) if inbound.ended else None

    def _ended(self, farewell: Farewell) -> Farewell | None:
        """The socket is done, unless the client broke the protocol: it may be in the middle of a large message, and
        a socket that is closed with bytes unread is reset, which takes our close frame back.
        """
        if farewell.by_peer:
            return farewell
        self.closed = True
        self.farewell = farewell
        self.wire.finish()
        self.due = -1  # as in `end`
        self._shared.door.look_again(self, CLOSE_WITHIN)
        return None

    def _perform_all(self, commands: Sequence[SocketCommand]) -> None:
        if not commands:
            self._count(1)  # what asks for something is counted as that is done
        for command in commands:
            try:
                self._shared.door.perform(self, command)
            except SowerError as error:
                self._count_violation(command, error)

    def _count(self, frames: int) -> None:
        try:
            self._shared.door.count(self, frames)
        except RateLimited as error:
            self._count_violation(None, error)

    def _count_violation(self, command: SocketCommand | None, error: SowerError) -> None:
        """Refuse, and end who goes on with what is malformed or too fast."""
        self.refuse(command, error)
        if self.speak().violated(error, self._shared.bounds.violations):
            self.farewell = self.farewell or NO_FAREWELL  # what more it says is not parsed, nor waited for
            self.end(error)

    # Its clock, kept by the keepalive

    def tend(self, now: float, wall: float) -> float | None:
        """Look after the session. Returns seconds until the next look, None when it needs none.

        now: trio's clock; wall: seconds since 1970, which tokens count in
        """
        bounds = self._shared.bounds
        if self.closed:
            self.wire.shutdown()
            return None
        if self.grant.expires is not None:
            if self.grant.expires <= wall:
                return self._end_soon(TokenExpired())
            if self.grant.expires - wall <= self.conversation.asks_before(self.grant):
                self.ask()
        waits = now - self._backlog.since if self._backlog is not None and self._backlog.size else 0.0
        if waits >= bounds.backlog_age:
            self._shared.tally.slow["age"] += 1
            return self._end_soon(SlowConsumer(f"Bytes waited {waits:.0f} s for it, session.backlog_age."))
        speech = self.speech
        if speech is not None and speech.late(now, bounds.message_within):
            return self._end_soon(MessageTimeout(), 1.0)  # in mid-message it cannot answer a close frame
        ping_every = self.conversation.ping_every or bounds.ping_every
        if self.heard:
            self.silent_since = min(now, self.silent_since + ping_every) if self.pinged else now  # it answers at once
            self.heard = self.pinged = False
        silence = now - self.silent_since
        if silence >= ping_every + bounds.pong_within:
            return self._end_soon(NoPong(f"No answer came within {bounds.pong_within:.0f} s, session.pong_within."))
        if silence >= ping_every and not self.pinged:
            self._ping(now)
            silence = now - self.silent_since
        if speech is not None and silence >= bounds.sleep_after and speech.done(now):
            self.speech = None
        return self._next_look(now, silence, waits, wall)

    def _ping(self, now: float) -> None:
        """Ask for a sign of life; where none can be given, the kernel hears whether it arrives."""
        framing = self.audience.framing
        self.write(framing.ping + self._framed(self.conversation.heartbeat()))
        if framing.pongs:
            self.pinged = True
        else:
            self.silent_since = now

    def _next_look(self, now: float, silence: float, waits: float, wall: float) -> float:
        bounds, ping_every = self._shared.bounds, self.conversation.ping_every or self._shared.bounds.ping_every
        looks = [ping_every - silence] if not self.pinged else [ping_every, ping_every + bounds.pong_within - silence]
        if self.speech is not None:
            looks.append(self.speech.next_look(now, silence, bounds.sleep_after, bounds.message_within))
        if waits:
            looks.append(bounds.backlog_age - waits)
        if self.grant.expires is not None:
            left, before = self.grant.expires - wall, self.conversation.asks_before(self.grant)
            looks.append(left - before if left > before else left)
        return min(looks)

    def _end_soon(self, error: SowerError, within: float = CLOSE_WITHIN) -> float:
        self.end(error)
        return within
