"""Requests that are held: their answer is not due yet.

    request -> TakingEndpoint.take -> Taken.hold -> Held.answer: the connection goes on

Rule 1: what a client says while its request is held is not read. Its socket is watched for its end alone.
Rule 2: who has gone is told to the waiter at once, so that nothing is kept for it.
Rule 3: every held request ends: with an answer, with its client, or with the daemon.
Rule 4: should the daemon be killed, held clients see a reset: an end without an answer stops PubNub's legacy loop for
        good, after a reset it comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog

from sower.net.http import Response
from sower.net.wire import Wire

if TYPE_CHECKING:
    from sower.net.connection import Connection
    from sower.net.site import Terms

log = structlog.get_logger(__name__)


class Waiter(Protocol):
    """Whoever holds a request until there is something to answer."""

    def went(self) -> None:
        """The client is gone, and with it the request."""
        ...

    def expired(self) -> Response | None:
        """The answer when the time is over, or when the daemon ends; None where it is answered in another way."""
        ...


class Held:
    """One held request. terms: how it wants its answer."""

    __slots__ = ("_connection", "_waiter", "terms")

    def __init__(self, connection: Connection, terms: Terms, waiter: Waiter) -> None:
        self.terms = terms
        self._connection = connection
        self._waiter = waiter

    @property
    def wire(self) -> Wire:
        """Its connection's wire."""
        return self._connection.wire

    def answer(self, response: Response) -> None:
        """Answer it, and let its connection go on. Harmless when it is over."""
        self._connection.answer(self, response)

    def end(self) -> None:
        """Forget it and close its connection. Harmless when it is over."""
        self._connection.end(self)

    def went(self) -> None:
        """Its client is gone."""
        self.end()
        try:
            self._waiter.went()
        except Exception as error:
            log.error("waiter_failed", address=self.wire.address, exc_info=error)

    def expire(self) -> None:
        """Its time is over, or the daemon ends."""
        try:
            answer = self._waiter.expired()
            if answer is not None:
                self.answer(answer)
        except Exception as error:
            log.error("waiter_failed", address=self.wire.address, exc_info=error)
            self.end()
