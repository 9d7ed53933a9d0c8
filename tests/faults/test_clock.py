"""The wall clock jumps an hour forward and back, and nothing that is promised by time is broken by it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from sower.access import Access
from sower.activity import Activity
from sower.config import App, Config, Duration, History, Limits
from sower.core.command import Credentials, Signature
from sower.core.grants import Grant, sign
from sower.core.message import Message, Position, next_serial
from sower.core.polling import Withdraw
from sower.errors import RequestRepeated, TokenExpired
from sower.hub import Hub
from sower.polling.vouching import Vouching
from sower.store import ages as ages_module
from sower.store.ages import SLEW, Ages
from sower.store.audit import Audit
from sower.store.journal import Journal
from sower.store.shelf import JournalShelf
from tests.faults.house import HISTORY, a_house
from tests.net.test_session import BOUNDS
from tests.net.test_session import a_house as a_house_of_sockets
from tests.store.opened import NOW, message, opened, serial
from tests.test_channel_tree import a_house as a_house_in_memory

HOUR = 3600.0


class Wall:
    """A wall clock that goes with trio's, and is set now and then."""

    def __init__(self) -> None:
        self.set_by = 0.0
        self._began = trio.current_time()

    def __call__(self) -> float:
        return NOW + self.set_by + trio.current_time() - self._began


@pytest.mark.parametrize("jumps", [(HOUR, -HOUR), (-HOUR, HOUR), (-HOUR, -HOUR), (HOUR, HOUR)], ids=str)
async def test_serials_only_ever_rise_and_followers_miss_nothing_when_the_clock_jumps_among_publishes(
    tmp_path: Path, patient_clock: trio.testing.MockClock, jumps: tuple[float, float]
) -> None:
    wall = Wall()
    async with a_house(tmp_path, now=wall, ages=Ages(wall)) as house:
        follower, _ = house.follow("kept-a")
        for number, jump in enumerate((0.0, *jumps, 0.0)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(house.publish, "kept-a", f"{number}a", f"{number}b")
                wall.set_by += jump
                nursery.start_soon(house.publish, "kept-a", f"{number}c")
            await trio.sleep(1)
        assert not house.refused
        page = await house.journal.page("1", "kept-a", limit=100, history=HISTORY)
        serials = [m.serial for m in page.messages]
        assert serials == sorted(set(serials)) == sorted(house.acked.values())
        assert follower.heard.split() == [m.data.decode() for m in page.messages]
        again, _ = house.follow("kept-a", since=Position(house.journal.epoch, serials[3]))
        await trio.sleep(1)
        assert again.said[0] == "welcome"
        assert again.heard.split() == [m.data.decode() for m in page.messages[4:]]
        last = serials[-1]
    async with a_house(tmp_path, now=lambda: NOW - HOUR) as house:
        await house.publish("kept-a", "after a restart")
        assert house.acked["kept-a", "after a restart"] > last


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
async def test_a_publish_that_is_repeated_after_the_clock_jumped_is_stored_once(
    tmp_path: Path, patient_clock: trio.testing.MockClock, jump: float
) -> None:
    wall = Wall()
    async with opened(tmp_path, wall, ages=Ages(wall), remember_ids=600.0) as journal:
        await journal.append("1", "c", [message(1, id="a")], HISTORY)
        wall.set_by = jump
        again = await journal.append("1", "c", [message(2, id="a", at=wall())], HISTORY)
        assert (again[0].serial, again[0].fresh) == (serial(1), False)


async def test_history_neither_hides_nor_loses_what_is_young_when_the_clock_jumps(
    tmp_path: Path, patient_clock: trio.testing.MockClock
) -> None:
    wall = Wall()
    async with opened(tmp_path, wall, ages=Ages(wall)) as journal:
        await journal.append("1", "c", [message(n) for n in range(1, 4)], HISTORY)
        for jump in (HOUR + 1, 0, -HOUR, 0):
            wall.set_by = jump
            await journal.sweep(lambda name: HISTORY, 3600)
            page = await journal.since("1", "c", serial(1), limit=10, history=HISTORY)
            assert ([m.data for m in page.messages], page.gap) == ([b"2", b"3"], False)


async def test_what_is_old_goes_also_after_a_jump_and_at_most_a_tenth_early(
    tmp_path: Path, patient_clock: trio.testing.MockClock
) -> None:
    wall = Wall()
    async with opened(tmp_path, wall, ages=Ages(wall)) as journal:

        async def there() -> bool:
            return bool((await journal.page("1", "c", limit=10, history=HISTORY)).messages)

        await journal.append("1", "c", [message(1)], HISTORY)
        wall.set_by = HOUR
        await pass_time(journal, HISTORY.age / (1 + SLEW) - 20)
        assert await there()
        await pass_time(journal, 40)
        assert not await there()


async def test_what_is_said_after_the_clock_was_set_back_is_not_old_and_its_id_not_forgotten(
    tmp_path: Path, patient_clock: trio.testing.MockClock
) -> None:
    wall, kept = Wall(), History(messages=100, age=Duration(600))
    ages, last, said = Ages(wall), 0, list[bytes]()
    async with opened(tmp_path, wall, ages=ages, remember_ids=600.0) as journal:
        for minutes, jump in ((0, 0.0), (0, -HOUR), (11, 0.0), (11, 0.0), (30, 0.0), (20, 0.0)):
            wall.set_by += jump
            for _ in range(3 * minutes):
                patient_clock.jump(20)
                ages()
            said.append(f"{len(said)}".encode())
            for fresh in (True, False):
                last = next_serial(last, wall())
                publish = Message(last, "e", said[-1], id=said[-1].decode())
                assert [stored.fresh for stored in await journal.append("1", "c", [publish], kept)] == [fresh]
            page = await journal.page("1", "c", limit=100, history=kept)
            assert page.messages[-1].data == said[-1]
        assert [m.data for m in page.messages] == said[-1:], "all else is old where the clock is beyond where it was"


async def pass_time(journal: Journal, seconds: float) -> None:
    """As a daemon does: its health is looked after every few seconds."""
    until = trio.current_time() + seconds
    while trio.current_time() < until:
        await journal.ping()
        await trio.sleep(min(20, until - trio.current_time()))


@given(steps=st.lists(st.tuples(st.floats(0.01, 100), st.floats(-2 * HOUR, 2 * HOUR)), max_size=30))
@settings(max_examples=200, deadline=None)
def test_however_the_clock_is_set_ages_never_leap_nor_go_back_and_come_to_where_it_is(
    steps: list[tuple[float, float]],
) -> None:
    time, wall = [0.0], [NOW]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ages_module.trio, "current_time", lambda: time[0])
        ages = Ages(lambda: wall[0])
        before = ages()
        for passed, jump in [*steps, *[(50.0, 0.0)] * 1000]:
            time[0] += passed
            wall[0] += passed + jump
            age = ages()
            assert 0 <= age - before <= (1 + SLEW) * passed + 1e-5
            off_before, before = abs(wall[0] - passed - jump - before), age
            assert jump or abs(wall[0] - age) <= off_before + 1e-5


async def test_a_members_grace_is_as_long_as_promised_whatever_the_clock_does(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for jump in (HOUR, -HOUR):
        async with a_house_in_memory() as house:
            watcher, _ = house.subscribe("presence-room", user="ada")
            _, leaver = house.subscribe("presence-room", user="bob")
            await trio.sleep(1)
            leaver.end()
            monkeypatch.setattr(house.hub, "now", lambda jump=jump: 1_700_000_000.0 + jump)
            await trio.sleep(5.9)
            assert "Left" not in watcher.heard
            await trio.sleep(0.2)
            assert watcher.heard.endswith("Left(bob) ")


KEY, SECRET = "one", "a-secret-0123456789abcdef"


def access_at(wall: Callable[[], float]) -> Access:
    return Access((App(id="1", key=KEY, secret=SECRET),), Limits(), now=wall)


async def test_a_request_is_not_repeated_by_whoever_sets_the_clock_forward_and_back(
    patient_clock: trio.testing.MockClock,
) -> None:
    wall = Wall()
    access = access_at(wall)
    signature = Signature(KEY, sign(SECRET.encode(), "t"), ("t",), NOW, 300, "1", nonce="once")
    assert access.authorise(Credentials(signature=signature)).server
    wall.set_by = HOUR
    access.authorise(Credentials(signature=replace(signature, timestamp=wall(), nonce="another")))
    wall.set_by = 0.0
    with pytest.raises(RequestRepeated):
        access.authorise(Credentials(signature=signature))


async def test_a_revoked_token_stays_revoked_when_the_clock_goes_forward_and_back(
    tmp_path: Path, patient_clock: trio.testing.MockClock
) -> None:
    wall = Wall()
    async with opened(tmp_path, wall, ages=Ages(wall)) as journal:
        access = access_at(wall)
        activity = Activity(Hub(Config(apps=tuple(access.apps.values())), journal, now=wall), Audit(journal), now=wall)
        vouching = Vouching(access, activity, journal, JournalShelf(journal))
        server = access.authorise(Credentials(key=KEY, secret=SECRET))
        for text, jump in (("mine", 0.0), ("another", HOUR)):
            wall.set_by = jump
            withdraw = Withdraw(text, sign(SECRET.encode(), text), wall() + HOUR / 2)
            await vouching.revoke(server, "127.0.0.1", withdraw)
        wall.set_by = 0.0
        revoked = sign(SECRET.encode(), "mine")
        assert revoked in access.revoked
        restarted = access_at(wall)
        await Vouching(restarted, activity, journal, JournalShelf(journal)).load()
        assert revoked in restarted.revoked


async def test_a_token_ends_its_socket_when_the_clock_says_so_and_a_clock_set_back_holds_nobody_up() -> None:
    async with a_house_of_sockets() as house:
        session, _ = house.session(grant=Grant("1", "k", expires=NOW + HOUR / 2))
        now = session.silent_since
        for wall in (NOW, NOW - HOUR, NOW):
            look = session.tend(now, wall)
            assert session.ending is None
            assert look is not None
            assert 0 < look <= BOUNDS.ping_every
        session.tend(now, NOW + HOUR)
        assert isinstance(session.ending, TokenExpired)
