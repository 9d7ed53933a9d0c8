"""One model of channels, presence, recovery and publish ids, with a client of every protocol on one hub that restarts.

Rule 1: a client's stream is the channel's order from where it was told that it begins, and it was told of every break.
Rule 2: a publish id is stored once, whichever protocols say it, and whenever the daemon was killed between.
Rule 3: who is present is the same in the hub, and in what each protocol's clients were told.
Rule 4: nothing is acknowledged or told before it is committed, and the history is what was acknowledged.

SOWER_MODEL_RUNS says how many lives of a hub are tried.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import trio
import trio.testing
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from sower.core.message import Did
from tests.model.house import CHANNELS, KEPT, WAITS, House, is_kept

RUNS = int(os.environ.get("SOWER_MODEL_RUNS", "100"))

AT_ONCE = 8
"""Things that happen before the hub does the first of them, at the most."""

WHO, PUBNUB = st.integers(0, 3), 4
WHERE = st.sampled_from(CHANNELS)
SPOKEN = st.tuples(st.integers(0, PUBNUB), WHERE, st.sampled_from([None, None, "a", "b"]), st.booleans())
SCRATCH = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Everything(RuleBasedStateMachine):
    """What clients do is gathered, and happens at once: a hub takes what waits as one batch.

    Trio runs in a thread of its own, and only while a rule waits for it, so that a life goes the same way each time.
    """

    @initialize()
    def begin(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sower-model-", dir=SCRATCH))
        (self._folder / "0").mkdir()
        self._gathered: list[Callable[[], Awaitable[None]]] = []
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._live)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def _live(self) -> None:
        clock = trio.testing.MockClock()

        async def main() -> None:
            self._house = House(clock, self._folder / "0")
            async with trio.open_nursery() as nursery:
                await nursery.start(self._house.run)
                self._token = trio.lowlevel.current_trio_token()
                self._ready.set()

        try:
            trio.run(main, clock=clock)
        except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
            self._error = error
        finally:
            self._ready.set()

    def _soon(self, what: Callable[..., Awaitable[None]], *how: Any) -> None:
        self._gathered.append(lambda: what(self._house, *how))
        if len(self._gathered) >= AT_ONCE:
            self.look()

    @rule()
    def look(self) -> None:
        """Have it happen, and hold all against the model."""
        gathered, self._gathered = self._gathered, []

        async def happen() -> None:
            for one in gathered:
                await one()
            await self._house.settle()
            await self._house.check()

        try:
            trio.from_thread.run(happen, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled):
            raise AssertionError("the hub ended") from self._error

    def teardown(self) -> None:
        try:
            self.look()
        finally:
            if self._error is None:
                trio.from_thread.run_sync(self._house.end, trio_token=self._token)
            self._thread.join()
            shutil.rmtree(self._folder)
        assert self._error is None, self._error

    @rule(who=WHO, where=WHERE, enters=st.booleans())
    def attach(self, who: int, where: str, enters: bool) -> None:
        self._soon(_attach, (who, where), enters)

    @rule(who=WHO, where=WHERE)
    def attach_too(self, who: int, where: str) -> None:
        self._soon(_attach, (who, where))

    @rule(spoken=SPOKEN, times=st.integers(1, 3))
    def publish(self, spoken: tuple[Any, ...], times: int) -> None:
        self._soon(_publish, times, *spoken)

    @rule(spoken=SPOKEN, times=st.integers(1, 3))
    def publish_more(self, spoken: tuple[Any, ...], times: int) -> None:
        self._soon(_publish, times, *spoken)

    @rule(who=WHO, where=WHERE)
    def leave(self, who: int, where: str) -> None:
        self._soon(_leave, (who, where))

    @rule(
        who=WHO, where=WHERE, missed=st.integers(0, 2 * KEPT), back=st.booleans(), later=st.sampled_from((0.0, *WAITS))
    )
    def drop(self, who: int, where: str, missed: int, back: bool, later: float) -> None:
        self._soon(_drop, who, where, missed, back)
        if later:
            self._soon(_wait, later)

    @rule(who=st.integers(2, 3), where=WHERE, did=st.sampled_from(list(Did)))
    def appear(self, who: int, where: str, did: Did) -> None:
        self._soon(_appear, (who, where), did)

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: float) -> None:
        self._soon(_wait, seconds)

    @rule(how=st.sampled_from(["end", "kill", "power"]), turns=st.integers(0, 12), back=st.booleans())
    def restart(self, how: str, turns: int, back: bool) -> None:
        self._soon(_restart, how, turns, back)

    @rule(
        spoken=st.lists(SPOKEN, min_size=1, max_size=4),
        committed=st.booleans(),
        then=st.sampled_from(["go on"] * 4 + ["kill", "power"]),
    )
    def hold_commits_up(self, spoken: list[tuple[Any, ...]], committed: bool, then: str) -> None:
        self._soon(_hold_up, spoken, committed, then)


async def _attach(house: House, which: tuple[int, str], enters: bool = False) -> None:
    link = house.links[which]
    if link.transport is None:
        house.attach(link, link.last if link.speaker.resumes else None)
    if enters:
        house.appear(link, Did.ENTERED)


async def _publish(house: House, times: int, *spoken: Any) -> None:
    for _ in range(times):
        house.publish(*spoken)


async def _leave(house: House, which: tuple[int, str]) -> None:
    link = house.links[which]
    if link.transport is not None:
        await house.settle()
        house.leave(link, at_once=True)


async def _drop(house: House, who: int, where: str, missed: int, back: bool) -> None:
    """A client's connection breaks. missed: messages that are published before it is back, if it comes back."""
    await house.settle()
    broken = [which for which, link in house.links.items() if which[0] == who and link.transport is not None]
    for which in broken:
        house.leave(house.links[which], at_once=False)
    if missed:
        await house.settle()
        await _publish(house, missed, PUBNUB, where, None, True)
        await house.settle()
    for which in broken if back else ():
        await _attach(house, which)


async def _appear(house: House, which: tuple[int, str], did: Did) -> None:
    await _attach(house, which)
    house.appear(house.links[which], did)


async def _wait(house: House, seconds: float) -> None:
    await house.wait(seconds)
    await house.check()


async def _restart(house: House, how: str, turns: int, back: bool) -> None:
    """turns: of trio's loop before it, so that it comes in the middle of things. back: all clients come back at once."""
    for _ in range(turns):
        await trio.lowlevel.checkpoint()
    were = [which for which, link in house.links.items() if link.transport is not None]
    await house.restart(how)
    for which in were if back else ():
        await _attach(house, which)


async def _hold_up(house: House, spoken: list[tuple[Any, ...]], committed: bool, then: str) -> None:
    await house.settle()
    house.journal.hold_up(committed=committed)
    sent = [(one[1], house.publish(*one)) for one in spoken]
    await house.journal.quiet()
    house.poller.poll(house.polls, house.room)
    for channel, one in sent:
        if one is not None and is_kept(channel):
            assert not one.acknowledged, "it is acknowledged before it is committed"
            assert one.number not in house.poller.heard[channel]
            for at in range(len(house.speakers)):
                link = house.links[at, channel]
                if link.transport is not None:
                    link.read()
                    heard = [number for number, _ in link.stretches[-1].heard]
                    assert one.number not in heard, "it is told before it is committed"
    if then == "go on":
        house.journal.go_on()
    else:
        await house.restart(then)


def test_every_client_hears_the_order_or_of_a_break_ids_are_stored_once_and_all_see_the_same_members() -> None:
    lives = settings(max_examples=RUNS, stateful_step_count=30, deadline=None)
    run_state_machine_as_test(Everything, settings=lives)  # type: ignore[no-untyped-call]
