"""Webhooks: facts of channels -> notices in the outbox -> POSTs to whoever asked for them.

    happened()      notes a fact; called where it happens, so it only appends
      writer        forms and stores what was noted, and ends what was held back
        senders     one for each URL

Rule 1: nothing here is waited for by a channel or a publisher.
Rule 2: what was formed is stored before it is sent; what cannot be stored waits and is stored later.
Rule 3: an end (channel_vacated, member_removed) is told HELD_BACK later, and not at all after a return.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import structlog
import trio

from sower.config import App, Webhook
from sower.core.happening import Fact, Happening
from sower.core.holdback import Holdback, Standing
from sower.core.rules import Pattern
from sower.dialects.pusher.webhooks import body, event
from sower.errors import JournalFailed
from sower.store.audit import Audit
from sower.store.outbox import Kept, Notice
from sower.webhook_sender import STORE_AGAIN, Sender

log = structlog.get_logger(__name__)

HELD_BACK = 3.0
"""Seconds that an end waits for a return, Pusher's number."""

BACK_WITHIN = 30.0
"""Seconds after a start in which clients come back: pusher-js tries every 1 to 10 s, ably-js every 15 s."""

GATHERED_FOR = 0.02
"""Seconds in which facts gather, so that batches fill and a storm is few transactions; soketi waits 50 ms."""

MOST_NOTED = 100_000
"""Facts that may wait to be stored."""

FORMED_AT_ONCE = 500
"""Facts of one turn of the writer: some milliseconds, then other tasks run."""

BATCH_BYTES = 64 * 1024
"""Bytes at which a batch is full: receivers refuse large bodies, Express' JSON parser those above 100 KB."""

MOST_BYTES = 256 * 1024 * 1024
"""Bytes of bodies that may wait for one receiver."""

UNCLAIMED_FOR = 86400.0
"""Seconds that notices wait for a URL that the config no longer has, in case that is a slip."""

ENDS = {Fact.OCCUPIED: Fact.VACATED, Fact.MEMBER_ADDED: Fact.MEMBER_REMOVED}
BEGINS = {end: begin for begin, end in ENDS.items()}
TWIN = ENDS | BEGINS


def wanted(apps: Sequence[App]) -> frozenset[tuple[str, Fact]]:
    """What some webhook of an app may want to know, and what is needed to know that."""
    told = {(app.id, fact) for app in apps for webhook in app.webhooks for fact in webhook.events}
    return frozenset(told | {(app, TWIN[fact]) for app, fact in told if fact in TWIN})


class Hook:
    """One webhook of one app: what it wants to know."""

    def __init__(self, webhook: Webhook, sender: Sender) -> None:
        self.sender = sender
        self.app = sender.app.id
        self.batch = webhook.batch
        self.facts = frozenset(webhook.events)
        self.matches = Pattern(webhook.match).matches


class Told(NamedTuple):
    """What a turn of the writer stores: notices with their bodies, and what has begun and ended with them."""

    posts: list[tuple[Notice, bytes]]
    began: list[Standing]
    ended: list[Standing]


class Webhooks:
    """All apps' webhooks. dropped: events that a full queue had no room for.

    now: the wall clock, and ages: the clock by which notices grow old; both seconds since 1970
    """

    def __init__(
        self,
        apps: Sequence[App],
        outbox: Kept,
        audit: Audit,
        *,
        now: Callable[[], float],
        ages: Callable[[], float],
    ) -> None:
        self._hooks = [
            Hook(webhook, Sender(app, webhook, outbox, gave_up=self._gave_up, ages=ages))
            for app in apps
            for webhook in app.webhooks
        ]
        self._wanted = wanted(apps)
        self.senders = {(hook.app, hook.sender.webhook.url): hook.sender for hook in self._hooks}
        self.dropped = 0
        self._outbox = outbox
        self._audit = audit
        self._now = now
        self._ages = ages
        self._noted: deque[tuple[str, Happening]] = deque()
        self._lost: Counter[tuple[str, str]] = Counter()
        self._unstored: Told | None = None
        self._holdback = Holdback()
        self._draining = False
        self._last_id = 0
        self._work = trio.Event()

    def use(self, apps: Sequence[App]) -> None:
        """Sign with these apps' secrets from now on."""
        by_id = {app.id: app for app in apps}
        for sender in self.senders.values():
            sender.app = by_id.get(sender.app.id, sender.app)

    # Where things happen

    def hears(self, app: str, fact: Fact) -> bool:
        """Whether some webhook of an app may want to know a fact."""
        return (app, fact) in self._wanted

    def happened(self, app: str, happening: Happening) -> None:
        """Note a fact that `hears` wants."""
        if len(self._noted) < MOST_NOTED:
            self._noted.append((app, happening))
        else:
            self._lost[app, f"{MOST_NOTED} facts wait for the journal already"] += 1
        self._work.set()

    def drain(self) -> None:
        """From now on no end is told: the clients are sent away, and come back to the next daemon."""
        self._draining = True

    # The writer

    async def run(self) -> None:
        """Store and send until cancelled; what was noted by then is stored."""
        notices, standing = await self._outbox.load()
        self._last_id = notices[-1].id if notices else 0
        await self._restore(standing)
        await self._resume(notices)
        async with trio.open_nursery() as nursery:
            for sender in self.senders.values():
                nursery.start_soon(sender.run, name=f"webhook {sender.webhook.url}")
            try:
                await self._write()
            finally:
                with trio.CancelScope(shield=True):
                    await self._store_last()

    async def _restore(self, standing: Sequence[Standing]) -> None:
        """Hold what the last daemon told; its clients are coming back."""
        self._holdback.restore(standing, trio.current_time() + BACK_WITHIN)

    async def _resume(self, notices: Sequence[Notice]) -> None:
        """Go on with what the last daemon left."""
        forgotten: list[Notice] = []
        for notice in notices:
            sender = self.senders.get((notice.app, notice.url))
            if sender is not None:
                sender.add(notice)
            elif self._ages() - notice.time > UNCLAIMED_FOR:
                notice.error = "no webhook of the config has its url"
                self._gave_up(notice)
                forgotten.append(notice)
        await self._outbox.delete(*forgotten)

    async def _write(self) -> None:
        while True:
            end = None if self._draining else self._holdback.next_end()
            with trio.move_on_at(float("inf") if end is None else end):
                await self._work.wait()
            self._work = trio.Event()
            if len(self._noted) < FORMED_AT_ONCE:
                await trio.sleep(GATHERED_FOR)
            await self._turn()
            if self._noted:
                self._work.set()

    async def _turn(self) -> None:
        """Form, store and hand over some of what was noted, as often as that takes."""
        while True:
            try:
                return await self._store()
            except JournalFailed as error:
                log.error("webhooks_not_stored", why=error.message)
            await trio.sleep(STORE_AGAIN)

    async def _store(self) -> None:
        """Raises JournalFailed, and then the next call stores the same. Storing it twice is harmless."""
        told = self._unstored = self._unstored or self._form()
        await self._outbox.store(*told)
        self._unstored = None
        for notice, _ in told.posts:
            self.senders[notice.app, notice.url].add(notice)

    async def _store_last(self) -> None:
        try:
            while self._noted or self._unstored:
                await self._store()
        except JournalFailed as error:
            log.error("webhooks_lost", facts=len(self._noted), why=error.message)

    def _form(self) -> Told:
        """Some of what was noted as notices, and what is held back no longer."""
        noted = [self._noted.popleft() for _ in range(min(len(self._noted), FORMED_AT_ONCE))]
        told = Told([], [], [])
        facts = [(app, happening) for app, happening in noted if self._is_news(app, happening, told)]
        if not self._draining:
            told.ended.extend(self._holdback.over(trio.current_time()))
        for one in told.ended:
            fact = Fact.MEMBER_REMOVED if one.user else Fact.VACATED
            facts.append((one.app, Happening(fact, one.channel, user=one.user or None)))
        for hook in self._hooks:
            wanted = [h for app, h in facts if app == hook.app and h.fact in hook.facts and hook.matches(h.channel)]
            self._form_for(hook, wanted, told)
        self._tell_lost()
        return told

    def _is_news(self, app: str, happening: Happening, told: Told) -> bool:
        """Whether a fact is to be told now."""
        fact, channel = happening.fact, happening.channel
        if fact not in TWIN:
            return True
        if not any(h.app == app and h.facts & {fact, TWIN[fact]} and h.matches(channel) for h in self._hooks):
            return False
        one = Standing(app, channel, happening.user or "")
        if fact in BEGINS:
            self._holdback.ends(one, trio.current_time() + (BACK_WITHIN if happening.parting else HELD_BACK))
            return False
        if self._holdback.begins(one):
            told.began.append(one)
            return True
        return False

    def _form_for(self, hook: Hook, facts: Sequence[Happening], told: Told) -> None:
        """One webhook's notices."""
        sender, now = hook.sender, self._now()
        most, waiting, size = sender.webhook.queue, sender.waiting, sender.waiting_bytes
        for part in _parts([(h.channel, event(h)) for h in facts], hook.batch):
            if waiting >= most or size >= MOST_BYTES:
                self._lost[hook.app, f"{sender.webhook.url}: {waiting} POSTs of {size} bytes wait already"] += len(part)
                continue
            self._last_id += 1
            channels = tuple(dict.fromkeys(channel for channel, _ in part))
            content = body(now, [one for _, one in part])
            waiting, size = waiting + 1, size + len(content)
            notice = Notice(self._last_id, hook.app, sender.webhook.url, channels, self._ages(), size=len(content))
            told.posts.append((notice, content))

    def _tell_lost(self) -> None:
        lost, self._lost = self._lost, Counter()
        for (app, why), count in lost.items():
            self.dropped += count
            log.error("webhook_events_dropped", app=app, why=why, events=count)
            self._audit.record("webhook_given_up", app=app, detail=why, count=count)

    def _gave_up(self, notice: Notice) -> None:
        log.error("webhook_given_up", app=notice.app, url=notice.url, attempts=notice.attempts, why=notice.error)
        channel = notice.channels[0] if notice.channels else None
        detail = f"{notice.url}: {notice.error}, {notice.attempts} attempts"
        self._audit.record("webhook_given_up", app=notice.app, channel=channel, detail=detail)


def _parts(events: Sequence[tuple[str, bytes]], most: int) -> Iterator[list[tuple[str, bytes]]]:
    """Events in their order, cut where there are `most` of them or BATCH_BYTES."""
    part: list[tuple[str, bytes]] = []
    size = 0
    for one in events:
        if part and (len(part) >= most or size + len(one[1]) > BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one[1])
    if part:
        yield part
