"""One connection that speaks HTTP: a record and a socket, from its first byte until it ends or is another's.

    ready: bytes -> parser -> begun, in order -> answered, in order -> sent in one write at the turn's end -> waited for
        an answer that is not there yet is awaited by a task, which ends with the last of them
        a WebSocket or a stream goes over to whoever takes it; a poll is held here

Rule 1: requests are begun and answered in their order. Whatever was begun is answered, also where the connection
        ends with it; what is wrong behind good requests is told after their answers.
Rule 2: every wait for a client has a deadline: for a head, for a body, for the next request, for an answer to be read.
Rule 3: while its requests are being answered a client is not read: what it says waits in the kernel, so it has a bound.
Rule 4: when this side ends a connection that the client would go on with, it lingers, so that the answer arrives: a
        socket that is closed with bytes unread is reset, and the client may lose what was sent (RFC 9112 section 9.6).
Rule 5: a connection that rests, or whose request is held, has no task, no timer and no parser.
"""

from __future__ import annotations

import math
import select
from collections import deque
from functools import partial
from types import CoroutineType
from typing import Literal

import trio

from sower.errors import Draining, HandshakeTimeout, RequestTimeout, SowerError
from sower.net.held import Held, Waiter
from sower.net.host import Host
from sower.net.http import Request, Response
from sower.net.keepalive import TICK
from sower.net.parser import RequestParser
from sower.net.routing import SocketEndpoint, Taken
from sower.net.site import USUAL, Begun, Site, Taking, Terms, failed
from sower.net.wire import READ_AT_ONCE, Wire

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

BEGIN_AT_ONCE = 64
"""Requests of one client that are begun before others have their turn: 2 ms of work."""

SEND_WITHIN, SLOWEST = 60.0, 4096
"""Seconds that a client may take to read its answers, and bytes for which it has one more. nginx' send_timeout is 60,
between two writes; Kestrel's MinResponseDataRate is 240 bytes a second."""

LINGER_FOR = 2.0
"""Seconds that a refused peer may go on talking. nginx' lingering_timeout is 5."""

LINGER_BYTES = 4 * 1024 * 1024
"""Bytes that it may say meanwhile."""

LAST_REQUEST_WITHIN = 1.0
"""Seconds in which a request's head may still come once the daemon ends: a few round trips of a bad network."""

TALK, ROOM, END = select.EPOLLIN, select.EPOLLOUT, select.EPOLLRDHUP
"""What a socket is watched for. The kernel adds EPOLLERR and EPOLLHUP itself."""

GONE = END | select.EPOLLHUP | select.EPOLLERR

State = Literal["new", "rest", "head", "body", "turn", "answer", "send", "held", "linger", "over"]
"""What a connection waits for: its first byte, its next request, the rest of a head or body; its turn, an answer, room
for an answer; what a poll waits for; the client's end; nothing any more."""


class Connection:
    """One connection. watched: the events that the kernel tells of it; due: the keepalive's slot, -1 for none."""

    __slots__ = (
        "_begun",
        "_cut",
        "_deadline",
        "_held",
        "_host",
        "_left",
        "_parser",
        "_site",
        "_taking",
        "_unsent",
        "_wanted",
        "_words",
        "due",
        "state",
        "watched",
        "wire",
    )

    def __init__(self, wire: Wire, site: Site, host: Host) -> None:
        self.wire = wire
        self.state: State = "new"
        self.watched = 0
        self.due = -1
        self._site = site
        self._host = host
        self._parser: RequestParser | None = None
        self._begun: list[Begun] = []
        self._taking: Taking | None = None
        self._held: Held | None = None
        self._words = b""
        self._unsent: bytes | memoryview = b""
        self._deadline = 0.0
        self._left = 0
        self._wanted = True  # the client would go on
        self._cut = False  # it may not

    @property
    def reads(self) -> bool:
        """Whether it has a parser: part of a request is here, or one that is not answered yet."""
        return self._parser is not None

    # What comes

    def ready(self, events: int) -> None:
        """Its socket can be read or written, or has ended."""
        state = self.state
        if state in ("rest", "head", "body"):
            self.go_on()
        elif state == "send":
            if self._send(self._unsent):
                self._said()
        elif state == "linger":
            self._drop()
        elif self._held is not None:
            if events & GONE:
                self._held.went()
        elif state != "over":
            self._host.watch(self, 0)

    def go_on(self) -> None:
        """Read, unless something is still to be begun."""
        parser = self._parser
        if parser is None or not parser.requests:
            data = self.wire.recv_now(READ_AT_ONCE)
            if data is None:
                self._wait()
                return
            if not data:
                self.close()
                return
            if parser is not None:
                parser.feed(data)
            else:
                known = self._site.heads.read(data, self.wire.address) if self.state == "rest" else None
                if known is not None:
                    self._begin_known(known)
                    return
                parser = self._read_first(data)
        if parser.requests:
            self.state = "turn"
            self._begin_all(parser.requests)
            self._answer()
        else:
            self._wait()

    def _begin_known(self, request: Request) -> None:
        """Begin a request that has come alone. Mostly its answer is there at once, and it rests as before."""
        begun = self._site.begin(request)
        answer = begun.answer if isinstance(begun, Begun) and begun.terms is USUAL else None
        if isinstance(answer, Response) and answer.status != 500 and not self._host.closing:
            self._host.send_soon(self)
            self._words = answer.encode(keep_alive=True)
            return
        self.state = "turn"
        self._keep(begun)
        self._answer()

    def _read_first(self, data: bytes) -> RequestParser:
        """Read bytes with a parser that has read none yet."""
        parser = self._parser = self._site.lend(self.wire.address)
        parser.feed(data)
        if self.state == "rest":
            self._site.heads.learn(data, parser)
        return parser

    def _begin_all(self, requests: deque[Request]) -> None:
        """Begin the requests that wait, up to one that takes the connection over.

        So pipelined publishes are posted in their order, and none waits for the commit of the one before it.
        """
        while requests and len(self._begun) < BEGIN_AT_ONCE and self._taking is None:
            self._keep(self._site.begin(requests.popleft()))

    def _keep(self, begun: Begun | Taking) -> None:
        if isinstance(begun, Taking):
            self._taking = begun
        else:
            self._begun.append(begun)

    # What is answered

    def _answer(self) -> None:
        """Answer what can be answered by now."""
        begun, words = self._begun, b""
        while begun and isinstance(answer := begun[0].answer, Response):
            terms = begun.pop(0).terms
            words += self._worded(terms, answer, last=not begun)
        if words:
            self._say(words)
        else:
            self._said()

    def _say(self, words: bytes) -> None:
        """Have this sent with what others say."""
        if not self._words:
            self._host.send_soon(self)
        self._words += words

    def send(self) -> None:
        """Send what was answered, and go on."""
        words, self._words = self._words, b""
        if self.state == "over" or not self._send(words):
            return
        if self.state == "rest":
            self._allow("rest")
        else:
            self._said()

    def _worded(self, terms: Terms, response: Response, *, last: bool) -> bytes:
        self._wanted = terms.keep_alive
        self._cut = self._cut or self._host.closing or terms.cut or response.status == 500
        goes_on = terms.keep_alive and not (last and self._cut)
        return response.encode(keep_alive=goes_on, head_only=terms.head_only, more=terms.more)

    def _send(self, data: bytes | memoryview) -> bool:
        """Whether all was sent. If not, the rest is sent when there is room, or the client is gone."""
        try:
            sent = self.wire.send_now(data)
        except trio.BrokenResourceError:
            self.close()
            return False
        if sent == len(data):
            self._unsent = b""
            return True
        self._unsent = memoryview(data)[sent:]
        if self.state != "send":
            self.state = "send"
            self._until(SEND_WITHIN)
        else:
            self._deadline += sent / SLOWEST
        self._host.watch(self, ROOM)
        return False

    def _said(self) -> None:
        """Go on, now that all is sent that could be answered."""
        if self._begun:
            answer = self._begun[0].answer
            if isinstance(answer, Response):
                self._answer()
            elif self.state != "answer":
                self.state = "answer"
                if answer is not None:  # else a task waits for it still
                    self._host.start(self._await_answers)
        elif not self._wanted:
            self.close()
        elif self._cut:
            self._linger()
        elif self._taking is not None:
            self._let_take(self._taking)
        elif self._parser is not None and self._parser.requests:
            self.state = "turn"
            self._host.soon(self)
        else:
            self._wait()

    async def _await_answers(self) -> None:
        """Wait for answers that are not there yet, one after the other."""
        while self.state == "answer" and self._begun:
            begun = self._begun[0]
            request, terms, answer = begun.request, begun.terms, begun.answer
            if isinstance(answer, CoroutineType):
                self._begun[0] = Begun(request, terms, None)
                try:
                    answer = await answer
                except Exception as error:  # noqa: BLE001 - the boundary of a request: its fault is its own
                    answer = failed(request, error)
            if self._begun:  # else it is over
                self._begun[0] = Begun(request, terms, answer)
            if self.state == "answer":
                self._answer()

    # What is waited for

    def _wait(self) -> None:
        """Wait for what the client says next."""
        parser, waits = self._parser, "head" if self.state in ("new", "head") else "rest"
        if parser is not None:
            if parser.fault is not None:
                self._refuse(parser.fault)
                return
            if parser.wants_continue:
                parser.wants_continue = False
                if not self._send(CONTINUE):
                    return
            if not self._put_parser_by():
                waits = "body" if parser.in_body else "head"
        if self.state != waits:
            self.state = waits
            self._allow(waits)
        self._host.watch(self, TALK)

    def _put_parser_by(self) -> bool:
        """Give back a parser that has nothing half read: it is many times a connection's size. Whether none is left."""
        parser = self._parser
        if parser is not None and parser.idle:
            self._parser = None
            self._site.take_back(parser)
        return self._parser is None

    def _allow(self, waits: State) -> None:
        """Set the deadline of a wait. That for the next request may be two ticks late, and costs a request little."""
        settings = self._site.settings
        if waits == "body":
            self._until(settings.body_timeout)
        elif self._host.closing:
            self._until(LAST_REQUEST_WITHIN)
        elif waits == "head":
            self._until(settings.head_timeout)
        else:
            self._deadline = self._host.now + TICK + settings.keep_alive
            if self.due < 0:
                self._host.look_again(self, settings.keep_alive)

    def _until(self, seconds: float) -> None:
        self._deadline = trio.current_time() + seconds
        self._host.look_again(self, seconds)

    def hurry(self) -> None:
        """The daemon ends: the head that it waits for must come soon. Not at once: a request may be under way, and one
        that has no answer stops PubNub's legacy loop for good."""
        if self.state in ("rest", "head"):
            self._allow(self.state)

    def tend(self, now: float, wall: float) -> float | None:
        """Look after its deadline. Returns seconds until the next look, None when it needs none."""
        if now < self._deadline:
            return self._deadline - now if self._deadline < math.inf else None
        if self.state == "head" and (self.reads or not self._host.closing):
            self._refuse(Draining() if self._host.closing else HandshakeTimeout())
        elif self.state == "body":
            self._refuse(RequestTimeout())
        elif self._held is not None:
            self._held.expire()
        elif self.state in ("rest", "head", "send", "linger"):
            self.close()
        return None

    # How it ends

    def _refuse(self, error: SowerError) -> None:
        """Say what is wrong with what was read, and read no more."""
        self._cut = True
        if self._send(self._site.refusal(error)):
            self._linger()

    def _linger(self) -> None:
        """After the last word: wait a little for the client to stop talking."""
        self.wire.finish()
        self.state = "linger"
        self._left = LINGER_BYTES
        self._until(LINGER_FOR)
        self._host.watch(self, TALK)

    def _drop(self) -> None:
        data = self.wire.recv_now(READ_AT_ONCE)
        if data is not None:
            self._left -= len(data)
            if not data or self._left <= 0:
                self.close()

    def close(self) -> None:
        """End it, and give the socket back."""
        if self.state != "over":
            self._leave()
            self.wire.close()

    def _leave(self) -> None:
        self.state = "over"
        self._host.leave(self)
        if self._parser is not None:
            self._parser.close()
        for begun in self._begun:
            if isinstance(begun.answer, CoroutineType):
                begun.answer.close()
        self._begun = []

    # Who takes it

    def _let_take(self, taking: Taking) -> None:
        """Let a request have the connection, or answer it as any other."""
        request, terms, endpoint = taking.request, taking.terms, taking.endpoint
        self._taking, self.state = None, "turn"
        peer, self.wire.address = self.wire.address, request.address
        answer: Response | None = None
        try:
            if isinstance(endpoint, SocketEndpoint):
                self._give(taking, endpoint, self._site.handshake(request, endpoint, closing=self._host.closing))
            else:
                self._put_parser_by()
                answer = endpoint.take(Taken(self.wire, request, taking.params, partial(self._hold, terms), terms.more))
        except Exception as error:  # noqa: BLE001 - the boundary of a request: its fault is its own
            self._let_go()
            answer = failed(request, error)
        if answer is None and self.state == "turn":
            self._host.watch(self, 0)
            self._leave()
        if answer is not None or self._held is not None:
            self.wire.address = peer  # the next request may be another client's
        if answer is not None:
            self._begun.append(Begun(request, terms, answer))
            self._answer()

    def _give(self, taking: Taking, endpoint: SocketEndpoint, accepted: bytes) -> None:
        """Give the socket to its endpoint, with the 101 to send."""
        behind = (self._parser.left if self._parser is not None else None) or b""
        self._host.watch(self, 0)
        self._leave()
        self._host.give(self.wire, partial(endpoint.open, self.wire, taking.request, taking.params, accepted, behind))

    # A request that is held

    def _hold(self, terms: Terms, waiter: Waiter, seconds: float) -> Held:
        """Hold a request for so many seconds at most."""
        held = self._held = Held(self, terms, waiter)
        self.state = "held"
        self._host.holding.add(held)
        self._host.watch(self, END)
        self.wire.reset_at_death(True)
        self._deadline = math.inf
        if self._host.closing or seconds < math.inf:
            self._until(0.0 if self._host.closing else seconds)
        return held

    def _let_go(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._host.holding.discard(held)
            self.wire.reset_at_death(False)
            self.state = "turn"

    def answer(self, held: Held, response: Response) -> None:
        """Answer a held request, and go on. Harmless when it is over."""
        if self._held is held:
            self._let_go()
            self._say(self._worded(held.terms, response, last=True))

    def end(self, held: Held) -> None:
        """Close the connection of a held request. Harmless when it is over."""
        if self._held is held:
            self._let_go()
            self.close()
