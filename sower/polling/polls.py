"""Long polls: each is answered at once with what is above its cursor, or held until something comes.

    begin -> the places that it follows (feeds.py) -> answered, or held (net/held.py) without a task
    a feed tells -> woken -> one task answers all that were woken, in one turn
    above its cursor there is more than the rings hold -> catch_up reads the journal

Rule 1: a cursor is one serial for many channels, so nothing is told above a message that is still in flight: what is
        answered is everything up to some serial, in the order of serials. So a cursor has no gap and no duplicate.
Rule 2: a poll that is held costs a record and its socket; when its client goes, nothing is left of it.
Rule 3: no passing fault ends a poll: its client would take an error for the end of all.
Rule 4: whatever one poll raises ends that poll and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

import structlog
import trio

from sower.core.grants import Grant
from sower.core.polling import Names, Reach, Source
from sower.dialects.interface import Polled, PollWords
from sower.errors import JournalFailed, SowerError
from sower.hub import Hub
from sower.net.held import Held
from sower.net.http import Response
from sower.net.routing import Taken
from sower.polling.allowing import Allowing
from sower.polling.feeds import Bundle, Entry, Track, Verdicts, Waiters
from sower.polling.groups import Groups
from sower.polling.places import Places
from sower.polling.roster import Attendee, Roster

log = structlog.get_logger(__name__)

HOLD = 280.0
"""Seconds that a poll without news is held, as PubNub does; its SDKs give up after 310."""

MOST_TOLD = 100
"""Messages in one answer, PubNub's limit; the next poll goes on."""

GATHER = 0.001
"""Seconds until another look at polls whose news is above a message in flight."""

ANSWERED_AT_ONCE = 64
"""Polls that are answered before other tasks run."""

TRY_AGAIN = 1.0
"""Seconds until another look at a journal that could not be read."""

Piece = tuple[int, bytes]
"""A serial, and an envelope to its end."""


class HeldPoll:
    """One poll. There may be tens of thousands, so it keeps of its request only what its answer needs.

    cursor:  everything up to here is told
    grant:   what it may be told, where it follows a group or a wildcard
    passes:  its filter
    token:   what the token is called that let it in
    seconds: how long its user is present after it
    looked:  whether a wildcard's older channels are known
    """

    __slots__ = (
        "_keeper",
        "app",
        "attendees",
        "cursor",
        "grant",
        "held",
        "looked",
        "passes",
        "places",
        "reading",
        "seconds",
        "token",
        "words",
    )

    def __init__(
        self,
        keeper: Polls,
        polled: Polled,
        grant: Grant,
        places: tuple[Track | Bundle, ...],
        attendees: tuple[Attendee, ...],
    ) -> None:
        self.app = grant.app
        self.words = polled.words
        self.passes = polled.poll.passes
        self.seconds = polled.poll.seconds
        self.token = grant.group
        self.grant = grant if any(isinstance(place, Bundle) for place in places) else None
        self.places = places
        self.attendees = attendees
        self.cursor = polled.poll.cursor
        self.held: Held | None = None
        self.looked = False
        self.reading = False
        self._keeper = keeper

    @property
    def tracks(self) -> Iterable[Track]:
        """All that it follows."""
        return (track for place in self.places for track in place.tracks)

    # As a held request

    def went(self) -> None:
        """Its client is gone."""
        self._keeper.leave(self)

    def expired(self) -> Response:
        """Nothing came: the next poll goes on from here."""
        self._keeper.leave(self)
        return _response(self.words, self.cursor, ())


class Turn:
    """What polls that are answered in one turn share: their answers, and which messages pass which filters."""

    __slots__ = ("answers", "verdicts")

    def __init__(self) -> None:
        self.answers: dict[tuple[object, ...], Response] = {}
        self.verdicts: Verdicts = {}


class Polls:
    """All polls. nursery: where journals are read for them."""

    def __init__(
        self,
        hub: Hub,
        allowing: Allowing,
        groups: Groups,
        roster: Roster,
        places: Places,
        nursery: trio.Nursery,
    ) -> None:
        self._hub = hub
        self._allowing = allowing
        self._groups = groups
        self._roster = roster
        self._places = places
        self._nursery = nursery
        self._woken: Waiters = {}
        self._work = trio.Event()
        places.wake = self.wake

    def begin(self, grant: Grant, polled: Polled, taken: Taken) -> Response | None:
        """Answer a poll, or hold it. Raises NamesForbidden, TooMany, TooManyChannels, TooLarge."""
        poll, app = polled.poll, grant.app
        self._allowing.demand_sources(grant, poll.sources)
        channels = self._groups.resolve(grant, _names(poll.sources))
        self._hub.demand_room(app, channels)
        states = self._roster.states_of(app, poll.states)
        places = self._places.of(app, poll.sources, polled.words)
        attendees: tuple[Attendee, ...] = ()
        if poll.user is not None:
            attendees = self._roster.attend(app, poll.user, channels, poll.seconds, states)
        if not poll.cursor:
            return _response(polled.words, self._hub.cursor(app), ())
        held = HeldPoll(self, polled, grant, places, attendees)
        held.cursor = min(held.cursor, self._hub.next_serial())  # a clock ahead of ours would miss what is to come
        behind = self._is_behind(held)
        settled = self._hub.settled(app)
        response = None if behind else self._collect(held, settled)
        if response is not None:
            return response
        self._hold(held, taken, grant.expires)
        if behind:
            self._catch_up_soon(held)
        elif any(track.newest > settled for track in held.tracks):
            self.wake({held: None})  # what is in flight may end without a word to it
        return None

    def _hold(self, poll: HeldPoll, taken: Taken, expires: float | None) -> None:
        seconds = HOLD if expires is None else min(HOLD, max(0.0, expires - self._hub.now()))
        poll.held = taken.hold(poll, seconds)
        for place in poll.places:
            place.waiting[poll] = None
        for attendee in poll.attendees:
            attendee.polls += 1

    def leave(self, poll: HeldPoll) -> None:
        """Forget a poll."""
        self._woken.pop(poll, None)
        poll.held = None
        for place in poll.places:
            place.waiting.pop(poll, None)
        self._places.used(poll.places)
        until = trio.current_time() + poll.seconds
        for attendee in poll.attendees:
            attendee.polls -= 1
            attendee.until = max(attendee.until, until)

    def _answer(self, poll: HeldPoll, response: Response) -> None:
        held = poll.held
        if held is not None:
            self.leave(poll)
            held.answer(response)

    def end_app(self, app: str) -> None:
        """Answer all polls of an app that is no more: the next one of each is refused."""
        self._end(lambda poll: poll.app == app)

    def end_token(self, token: str) -> None:
        """Answer all polls that were let in with a token that is accepted no longer; as end_app."""
        self._end(lambda poll: poll.token == token)

    def _end(self, ends: Callable[[HeldPoll], bool]) -> None:
        for poll in self._places.waiting():
            if isinstance(poll, HeldPoll) and ends(poll):
                self._answer(poll, _response(poll.words, poll.cursor, ()))

    # What wakes them

    def wake(self, waiters: Waiters) -> None:
        """Something came for these."""
        self._woken.update(waiters)
        self._work.set()

    async def run(self) -> None:
        """Answer whoever was woken, until cancelled."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            while self._woken:
                woken, self._woken = self._woken, {}
                if await self._answer_all(woken):
                    await trio.sleep(GATHER)
                else:
                    await trio.lowlevel.checkpoint()

    async def _answer_all(self, woken: Waiters) -> bool:
        """Whether some have news that is not settled yet."""
        unsettled, turn = False, Turn()
        for number, poll in enumerate(woken, 1):
            if isinstance(poll, HeldPoll) and poll.held is not None and not poll.reading:
                try:
                    unsettled = self._look_at(poll, turn) or unsettled
                except Exception as error:  # noqa: BLE001 - the boundary of a poll: its fault is its own
                    self._fail(poll, error)
            if number % ANSWERED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
        return unsettled

    def _look_at(self, poll: HeldPoll, turn: Turn) -> bool:
        """Answer a poll that was woken. Whether it has news that is not settled yet."""
        settled = self._hub.settled(poll.app)
        if self._is_behind(poll):
            self._catch_up_soon(poll)
        elif (response := self._collect(poll, settled, turn)) is not None:
            self._answer(poll, response)
        elif any(track.newest > settled for track in poll.tracks):
            self._woken[poll] = None
            return True
        return False

    def _fail(self, poll: HeldPoll, error: Exception) -> None:
        log.error("poll_failed", app=poll.app, exc_info=error)
        self._answer(poll, Response.error(SowerError()))

    # What they are told

    def _collect(self, poll: HeldPoll, settled: int, turn: Turn | None = None) -> Response | None:
        """What the rings have for a poll, None for nothing."""
        key = None
        if turn is not None and all(isinstance(place, Track) for place in poll.places):
            key = (poll.places, poll.cursor, poll.passes, settled)
            if key in turn.answers:
                return turn.answers[key]
        pieces = self._from_rings(poll, settled, {} if turn is None else turn.verdicts)
        if not pieces:
            poll.cursor = max(poll.cursor, settled)  # what there was did not pass its filter
            return None
        response = _told(poll, pieces)
        if turn is not None and key is not None:
            turn.answers[key] = response
        return response

    def _from_rings(self, poll: HeldPoll, upto: int, verdicts: Verdicts) -> dict[int, bytes]:
        """Envelopes by serial. What is reached twice comes once, the direct way."""
        pieces: dict[int, bytes] = {}
        for place in poll.places:
            for track in place.tracks:
                entries = track.after(poll.cursor, upto)
                if entries and self._opens(poll, place, track):
                    _add(pieces, poll, place, entries, verdicts)
        return pieces

    def _opens(self, poll: HeldPoll, place: Track | Bundle, track: Track) -> bool:
        if isinstance(place, Track) or poll.grant is None:
            return True
        return self._allowing.opens(poll.grant, place.source, track.spring.name)

    # What is older than the rings

    def _is_behind(self, poll: HeldPoll) -> bool:
        """Whether the journal has something that the rings may not have. A new wildcard does not know its channels."""
        cursor = poll.cursor
        for place in poll.places:
            new = isinstance(place, Bundle) and place.source.reach is Reach.PREFIX and cursor < place.begun
            if new and not poll.looked:
                return True
            if any(track.behind(cursor) for track in place.tracks):
                return True
        return False

    def _catch_up_soon(self, poll: HeldPoll) -> None:
        poll.reading = True
        self._nursery.start_soon(self._catch_up, poll, name="poll catches up")

    async def _catch_up(self, poll: HeldPoll) -> None:
        """Read the journal until the poll is answered, is gone, or waits for what is to come."""
        try:
            while poll.held is not None and self._is_behind(poll):
                try:
                    if not await self._read_some(poll):
                        return  # a feed has not begun; it wakes the poll
                except JournalFailed as error:
                    log.warning("poll_waits_for_the_journal", why=error.message)
                    await trio.sleep(TRY_AGAIN)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(poll, error)
        finally:
            poll.reading = False
        if poll.held is not None:
            self.wake({poll: None})

    async def _read_some(self, poll: HeldPoll) -> bool:
        """Whether something was read. Raises JournalFailed."""
        await self._look_for_channels(poll)
        behind = [(place, track) for place in poll.places for track in place.tracks if track.behind(poll.cursor)]
        if not all(track.spring.begun for _, track in behind):
            return False
        pieces: dict[int, bytes] = {}
        bound = poll.cursor if not behind else 10**18
        floors = [(track, track.floor) for _, track in behind]
        for (place, track), (_, floor) in zip(behind, floors, strict=True):
            bound = min(bound, await self._read_track(poll, place, track, floor, pieces))
        if any(track.floor != floor for track, floor in floors):
            bound = min(bound, *(floor for _, floor in floors))  # a ring moved on meanwhile
        bound = min(bound, self._hub.settled(poll.app))
        pieces = {serial: piece for serial, piece in pieces.items() if serial <= bound}
        for serial, piece in self._from_rings(poll, bound, {}).items():
            pieces.setdefault(serial, piece)
        if pieces:
            self._answer(poll, _told(poll, pieces))
        poll.cursor = max(poll.cursor, bound)
        return True

    async def _read_track(
        self, poll: HeldPoll, place: Track | Bundle, track: Track, floor: int, pieces: dict[int, bytes]
    ) -> int:
        """Read one page of one channel. Returns the serial up to which all of it was read."""
        tree, history = track.spring.tree, track.spring.tree.rules.history
        if history is None or not self._opens(poll, place, track):
            return floor
        page = await self._hub.log.since(tree.app, tree.name, poll.cursor, upto=floor, limit=MOST_TOLD, history=history)
        words = track.spring.words
        entries = [Entry(m.serial, words.envelope(tree.name, m), m) for m in page.messages]
        _add(pieces, poll, place, entries, {})
        return page.messages[-1].serial if page.more else 10**18

    async def _look_for_channels(self, poll: HeldPoll) -> None:
        """Take into a new wildcard the channels that stored something since the poll's cursor."""
        for place in poll.places:
            if isinstance(place, Bundle) and place.source.reach is Reach.PREFIX and not poll.looked:
                await self._places.look_back(place, poll.cursor)
        poll.looked = True


def _add(
    pieces: dict[int, bytes], poll: HeldPoll, place: Track | Bundle, entries: Iterable[Entry], verdicts: Verdicts
) -> None:
    passes = poll.passes
    for entry in entries:
        if entry.passes(passes, verdicts):
            pieces.setdefault(entry.serial, entry.envelope + place.end)


def _told(poll: HeldPoll, pieces: dict[int, bytes]) -> Response:
    """The answer with the oldest of these; the next poll goes on behind the last one."""
    serials = list(islice(sorted(pieces), MOST_TOLD))
    return _response(poll.words, serials[-1], [pieces[serial] for serial in serials])


def _response(words: PollWords, cursor: int, envelopes: Iterable[bytes]) -> Response:
    reply = words.answer(cursor, list(envelopes))
    return Response(reply.status, reply.body, reply.headers)


def _names(sources: Iterable[Source]) -> Names:
    """Where whoever follows these is present."""
    plain = [source for source in sources if not source.presence]
    channels = tuple(source.name for source in plain if source.reach is Reach.CHANNEL)
    return Names(channels, tuple(source.name for source in plain if source.reach is Reach.GROUP))
