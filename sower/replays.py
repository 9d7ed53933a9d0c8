"""What newcomers to a channel are given of what was said before: each by a task of its own, page by page.

Rule 1: a newcomer is welcomed by its replay, when the journal has said whether something is missing: what is told
        of a gap is the truth.
Rule 2: what comes live meanwhile is held behind the replay; what is above the head at which the newcomer entered
        comes live, so the seam has no gap and no duplicate.
Rule 3: a journal that cannot be read is a gap to the newcomer and no fault of the channel.
Rule 4: where a replay stands is kept here and not in its task, so that a restarted channel goes on with it.
"""

from __future__ import annotations

import msgspec
import structlog
import trio

from sower.config import History
from sower.core.answer import Welcome
from sower.core.channel import Channel
from sower.core.command import Subscribe
from sower.core.message import SERIALS_PER_SECOND, Message, Position
from sower.errors import JournalFailed
from sower.inbox import Subscriber, Subscription
from sower.store.journal import Page
from sower.surroundings import Surroundings

REPLAY_PAGE = 200
"""Messages read from the journal at a time for a replay. Centrifugo recovers at most 300 at all."""

REPLAY_BYTES = 256 * 1024
"""Bytes of what is told at a time: more may not wait for a client that reads slowly, however much it asked for."""

MOST_REWOUND = 100
"""Messages that a newcomer may begin with, Ably's limit for `rewind` by count."""


READ_AGAIN = (0.5, 1.0, 0.0)
"""Seconds to wait after each time that the journal could not be read."""

log = structlog.get_logger(__name__)


class Replay(msgspec.Struct):
    """What one newcomer still misses: the messages after `since` up to the head that it entered at.

    welcome: None once it was told
    newest:  how many messages it begins with, None where it goes on after `since`
    limit:   messages that are read at a time
    """

    command: Subscribe
    welcome: Welcome | None
    since: Position
    upto: int
    newest: int | None
    limit: int


class Replays:
    """The replays of one channel with history."""

    def __init__(self, app: str, channel: str, history: History, node: Surroundings) -> None:
        self._app = app
        self._channel = channel
        self._history = history
        self._log = node.log
        self._tally = node.tally
        self._now = node.now
        self._waiting: dict[Subscription, Replay] = {}
        self._nursery: trio.Nursery | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, newcomer: Subscription, command: Subscribe, welcome: Welcome, head: int) -> None:
        """Give a newcomer what it asked for of the messages up to the head, and its welcome before."""
        if newcomer in self._waiting:  # it is being given that
            newcomer.subscriber.answer(command, welcome)
            return
        newcomer.subscriber.hold()
        newest = command.rewind.messages if command.rewind is not None and command.since is None else None
        replay = Replay(command, welcome, command.since or self._rewound(command), head, newest, REPLAY_PAGE)
        self._waiting[newcomer] = replay
        self._start(newcomer, replay)

    def end(self, subscription: Subscription) -> None:
        """It has what it asked for, or goes before. What was held behind its replay follows."""
        if self._waiting.pop(subscription, None) is not None:
            subscription.subscriber.release()

    def run(self, nursery: trio.Nursery) -> None:
        """Run the replays in this nursery from now on, those that were interrupted too."""
        self._nursery = nursery
        for newcomer, replay in self._waiting.items():
            self._start(newcomer, replay)

    def rest(self) -> None:
        """The nursery has ended."""
        self._nursery = None

    def _rewound(self, command: Subscribe) -> Position:
        seconds = command.rewind.seconds if command.rewind is not None else None
        return Position("", 0 if seconds is None else max(0, int((self._now() - seconds) * SERIALS_PER_SECOND)))

    def _start(self, newcomer: Subscription, replay: Replay) -> None:
        if self._nursery is not None:
            self._nursery.start_soon(self._replay, newcomer, replay, name=f"replay {self._channel}")

    async def _replay(self, newcomer: Subscription, replay: Replay) -> None:
        """Give one newcomer what it missed, as fast as it reads; then let it go live."""
        subscriber = newcomer.subscriber
        while not subscriber.closed:
            page = _fitting(await self._read(replay))
            if newcomer not in self._waiting:  # it left meanwhile, or before this began
                return
            self._welcome(newcomer, replay, page)
            subscriber.write_ahead(newcomer.audience.encode(self._channel, page.messages))
            if not page.more:
                break
            replay.since = Position(self._log.epoch, page.messages[-1].serial)
            replay.newest, replay.limit = None, min(2 * len(page.messages), REPLAY_PAGE)
            await subscriber.drained()
        self.end(newcomer)

    async def _read(self, replay: Replay) -> Page:
        """The next page; a gap where the journal cannot be read for a while."""
        for pause in READ_AGAIN:
            try:
                return await (self._next(replay) if replay.newest is None else self._newest(replay, replay.newest))
            except JournalFailed as error:
                log.warning("replay_failed", channel=self._channel, why=error.message)
                await trio.sleep(pause)
        return Page([], gap=True, more=False)

    async def _next(self, replay: Replay) -> Page:
        """What was told after a position; to one who rewinds, what was published, as it is where it enters."""
        since = 0 if self._lost(replay) else replay.since.serial
        return await self._log.since(
            self._app,
            self._channel,
            since,
            upto=replay.upto,
            limit=replay.limit,
            history=self._history,
            in_order=replay.command.since is not None,
            as_of=replay.upto,
        )

    async def _newest(self, replay: Replay, count: int) -> Page:
        page = await self._log.page(
            self._app,
            self._channel,
            before=replay.upto + 1,
            limit=min(count, MOST_REWOUND),
            newest_first=True,
            history=self._history,
            as_of=replay.upto,
        )
        return Page(page.messages[::-1], gap=False, more=False)

    def _lost(self, replay: Replay) -> bool:
        return replay.since.epoch not in ("", self._log.epoch)

    def _welcome(self, newcomer: Subscription, replay: Replay, page: Page) -> None:
        """Welcome it when its first page is there; and say whether something between is gone."""
        position, since = Position(self._log.epoch, replay.upto), replay.command.since
        missing = since is not None and (page.gap or self._lost(replay))
        if replay.welcome is not None:
            welcome = msgspec.structs.replace(
                replay.welcome,
                resumed=since is not None and not missing and since.serial <= replay.upto,
                follows=since if since is not None and not missing else _before(page.messages, position),
                backlog=bool(page.messages),
            )
            replay.welcome = None
            newcomer.subscriber.answer_ahead(replay.command, welcome)
            if since is not None:
                self._tally.recover(whole=not missing)
        if missing:
            newcomer.subscriber.tell_gap(self._channel, replay.since, position)


async def skip(node: Surroundings, app: str, channel: str, state: Channel[Subscriber], upto: int) -> None:
    """Go on after what may be stored up to a serial and never was told: to who follows the channel it is a gap."""
    epoch = node.log.epoch
    try:
        upto = await node.log.head(app, channel)
    except JournalFailed as error:
        log.warning("head_unread", channel=channel, why=error.message)
    since = Position(epoch, state.head)
    if upto <= since.serial:
        return
    node.tally.recover(whole=False)
    for tap in state.taps:
        tap.begin(upto, len(state.presence) if state.presence is not None else 0)
    for followers in state.audiences.values():
        for subscriber in followers:
            subscriber.tell_gap(channel, since, Position(epoch, upto))
    state.head = upto


def _fitting(page: Page) -> Page:
    """So much of a page as is told at a time."""
    size = 0
    for count, message in enumerate(page.messages[:-1], 1):
        size += len(message.data) + len(message.extra or b"")
        if size >= REPLAY_BYTES:
            return Page(page.messages[:count], gap=page.gap, more=True)
    return page


def _before(messages: list[Message], position: Position) -> Position:
    """The position before the first of these; where there are none, this one."""
    return Position(position.epoch, messages[0].serial - 1) if messages else position
