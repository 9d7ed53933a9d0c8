"""Sending one webhook's notices: a few at a time, in each channel's order, again and again until one is accepted.

Rule 1: only a 2xx is acceptance, and only after that is committed the channel's next notice is sent.
Rule 2: what is not accepted is sent again with the same body, ever more rarely, until it is older than retry_for
        (and then once at least); after that it is given up, which the audit says.
Rule 3: a notice that waits for its next attempt holds back its own channels and no others.
Rule 4: publishers come first: the longer a round of the loop takes, the rarer the POSTs.
"""

from __future__ import annotations

import random
import ssl
from collections.abc import Awaitable, Callable
from http.cookiejar import DefaultCookiePolicy

import httpx
import structlog
import trio

from sower import __version__
from sower.config import App, Webhook
from sower.core.lanes import Lanes, Place
from sower.dialects.pusher.webhooks import headers
from sower.errors import JournalFailed
from sower.store.outbox import Kept, Notice

log = structlog.get_logger(__name__)

NAME = {"User-Agent": f"Sower/{__version__}"}

AT_ONCE = 8
"""POSTs to one receiver at the same time."""

FIRST_RETRY, LAST_RETRY = 1.0, 60.0
"""Seconds between the first two attempts, and at most: each wait is twice the one before, less up to a quarter."""

DOUBLED = 6
"""Times that the wait is doubled: then it is the longest, and who tries for a day comes to powers that no float has."""

ROUNDS_BETWEEN = 10
"""Rounds of the loop from one POST to the next. A POST takes about 0.6 ms of processor, a round under load as much."""

MOST_ANSWER = 64 * 1024
"""Bytes of an answer that are read so that its connection can be used again; nobody looks at them."""

STORE_AGAIN = 1.0
"""Seconds until something is written again that the journal could not write."""


class Sender:
    """One webhook of one app.

    gave_up: told of each notice that is given up
    ages:    the clock by which notices grow old, seconds since 1970
    waiting, waiting_bytes: POSTs that the receiver has not accepted yet, and their bodies
    accepted, refused, given_up: POSTs so far, counted for the metrics
    """

    def __init__(
        self,
        app: App,
        webhook: Webhook,
        outbox: Kept,
        *,
        gave_up: Callable[[Notice], None],
        ages: Callable[[], float],
    ) -> None:
        self.app = app
        self.webhook = webhook
        self.waiting = 0
        self.waiting_bytes = 0
        self.accepted = 0
        self.refused = 0
        self.given_up = 0
        self._outbox = outbox
        self._gave_up = gave_up
        self._ages = ages
        self._lanes: Lanes[Notice] = Lanes()
        self._more = trio.Event()
        self._slots = trio.Semaphore(AT_ONCE)

    def add(self, notice: Notice) -> None:
        """Have a stored notice sent after those that are here."""
        wait = min(max(0.0, notice.next_try - self._ages()), LAST_RETRY)
        self._lanes.add(notice, notice.channels, trio.current_time() + wait)
        self.waiting += 1
        self.waiting_bytes += notice.size
        self._more.set()

    async def run(self) -> None:
        """Send until cancelled."""
        limits = httpx.Limits(max_connections=AT_ONCE, max_keepalive_connections=AT_ONCE, keepalive_expiry=30.0)
        system = ssl.create_default_context()  # trusts what the machine trusts
        async with (
            httpx.AsyncClient(headers=NAME, limits=limits, verify=system, timeout=None, trust_env=False) as client,
            trio.open_nursery() as nursery,
        ):
            client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))  # none is kept
            while True:
                await self._slots.acquire()
                nursery.start_soon(self._send, client, await self._next())
                await _give_way()

    async def _next(self) -> Place[Notice]:
        while True:
            place = self._lanes.take(trio.current_time())
            if place is not None:
                return place
            self._more = trio.Event()
            due = self._lanes.next_due()
            with trio.move_on_at(float("inf") if due is None else due):
                await self._more.wait()

    async def _send(self, client: httpx.AsyncClient, place: Place[Notice]) -> None:
        notice = place.item
        try:
            problem = await self._attempt(client, notice)
            if not problem:
                self.accepted += 1
            elif self._note_failure(notice, problem):
                await self._store(self._outbox.failed, notice)
                self._lanes.again(place, trio.current_time() + notice.next_try - self._ages())
                return
            await self._store(self._outbox.delete, notice)
            self.waiting -= 1
            self.waiting_bytes -= notice.size
            self._lanes.done(place)
        finally:
            self._slots.release()
            self._more.set()

    async def _attempt(self, client: httpx.AsyncClient, notice: Notice) -> str:
        """POST it. Returns why it was not accepted, nothing where it was."""
        try:
            body = await self._outbox.body(notice)
            signed = headers(self.app.key, self.app.secret, body)
            with trio.fail_after(self.webhook.timeout):
                async with client.stream(
                    "POST", self.webhook.url, content=body, headers={**self.webhook.headers, **signed}
                ) as answer:
                    await _drain(answer)
            return "" if answer.is_success else f"answered {answer.status_code}"
        except trio.TooSlowError:
            return f"no answer within {self.webhook.timeout:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError, JournalFailed) as error:
            return str(error) or type(error).__name__

    def _note_failure(self, notice: Notice, problem: str) -> bool:
        """Whether it is tried again, and when."""
        self.refused += 1
        now = self._ages()
        wait = min(FIRST_RETRY * 2.0 ** min(notice.attempts, DOUBLED), LAST_RETRY) * random.uniform(0.75, 1.0)
        notice.attempts += 1
        notice.error = problem[:200]
        notice.next_try = now + wait
        if now - notice.time < self.webhook.retry_for:
            return True
        self.given_up += 1
        self._gave_up(notice)
        return False

    async def _store(self, change: Callable[[Notice], Awaitable[None]], notice: Notice) -> None:
        """Make a change to the outbox, and as often as it takes. What is known is written even when all ends."""
        while True:
            try:
                with trio.CancelScope(shield=True):
                    await change(notice)
            except JournalFailed as error:
                log.error("webhook_not_stored", url=notice.url, why=error.message)
                await trio.sleep(STORE_AGAIN)
            else:
                return


async def _give_way() -> None:
    """Wait for as long as some rounds of the loop take now: nothing to speak of where little is going on."""
    began = trio.current_time()
    await trio.lowlevel.checkpoint()
    await trio.sleep((trio.current_time() - began) * (ROUNDS_BETWEEN - 1))


async def _drain(answer: httpx.Response) -> None:
    read = 0
    async for part in answer.aiter_raw():
        read += len(part)
        if read > MOST_ANSWER:
            return
