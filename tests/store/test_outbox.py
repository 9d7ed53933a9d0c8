"""store/outbox.py on a real SQLite file, against a model: order by channel, nothing lost, nothing sent again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from sower.core.holdback import Standing
from sower.core.lanes import Lanes
from sower.errors import JournalFailed, StoreError
from sower.store.outbox import Notice, Outbox, waiting
from sower.store.schema import _V1, APPLICATION_ID, VERSION
from tests.store.opened import HISTORY, NOW, message, opened

URL = "http://127.0.0.1/hooks"


def notice(number: int, *channels: str) -> Notice:
    return Notice(number, "1", URL, channels or ("c",), NOW, size=3)


async def test_what_was_stored_is_there_after_a_restart_with_its_attempts_and_its_body(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        outbox = Outbox(journal)
        failed = notice(1, "a", "b")
        await outbox.store([(failed, b"one"), (notice(2), b"two")], [Standing("1", "a"), Standing("1", "a", "ada")], [])
        failed.attempts, failed.next_try, failed.error = 3, NOW + 8, "answered 500"
        await outbox.failed(failed)
    async with opened(tmp_path) as journal:
        outbox = Outbox(journal)
        notices, standing = await outbox.load()
        assert notices == [failed, notice(2)]
        assert standing == [Standing("1", "a", "ada"), Standing("1", "a")], "a channel after its members"
        assert [await outbox.body(n) for n in notices] == [b"one", b"two"]
    assert waiting(str(tmp_path / "sower.db")) == [failed, notice(2)]


async def test_storing_the_same_twice_is_storing_it_once(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        outbox = Outbox(journal)
        for _ in range(2):
            await outbox.store([(notice(1), b"one")], [Standing("1", "a")], [Standing("1", "gone")])
        assert await outbox.load() == ([notice(1)], [Standing("1", "a")])


async def test_what_cannot_be_written_is_not_there_in_part_and_leaves_publishes_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        outbox = Outbox(journal)
        outcomes: dict[str, bool] = {}

        async def attempt(name: str, call: Callable[[], object]) -> None:
            try:
                await call()  # type: ignore[misc]
                outcomes[name] = True
            except JournalFailed:
                outcomes[name] = False

        too_large = [(notice(1), b"small"), (notice(2), b"x" * 200_000)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attempt, "outbox", lambda: outbox.store(too_large, [Standing("1", "a")], []))
            nursery.start_soon(attempt, "publish", lambda: journal.append("1", "c", [message(1)], HISTORY))
            journal._writing.db.limit(apsw.SQLITE_LIMIT_LENGTH, 100_000)  # type: ignore[attr-defined]
        assert outcomes == {"outbox": False, "publish": True}
        assert await outbox.load() == ([], [])


def test_a_database_that_is_not_there_yet_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="has not run"):
        waiting(str(tmp_path / "sower.db"))


async def test_a_database_of_the_first_version_is_migrated_with_all_that_is_in_it(tmp_path: Path) -> None:
    first = apsw.Connection(str(tmp_path / "sower.db"))
    with first:
        first.execute(_V1)
        first.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1")
        first.execute("INSERT INTO channels VALUES (1, '1', 'c', ?, 0)", (message(1).serial,))
        first.execute("INSERT INTO messages VALUES (1, ?, 'e', ?, 0, NULL, NULL)", (message(1).serial, b"1"))
    first.close()
    async with opened(tmp_path) as journal:
        page = await journal.page("1", "c", limit=9, history=HISTORY)
        assert page.messages == [message(1)]
        await Outbox(journal).store([(notice(1), b"one")], [], [])
        assert await Outbox(journal).load() == ([notice(1)], [])
    second = apsw.Connection(str(tmp_path / "sower.db"))
    assert second.execute("PRAGMA user_version").get == VERSION


class OutboxModel(RuleBasedStateMachine):
    """Kills at any moment: every notice reaches its receiver, each channel's in order, none after its deletion."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sower-outbox-"))
        self.folders = [self.folder]
        self.made: dict[int, tuple[str, ...]] = {}
        self.accepted: list[int] = []
        self.deleted: set[int] = set()

    def teardown(self) -> None:
        for folder in getattr(self, "folders", []):
            shutil.rmtree(folder, ignore_errors=True)

    @rule(
        steps=st.lists(
            st.one_of(
                st.tuples(st.just("make"), st.lists(st.sampled_from("abc"), min_size=1, max_size=2, unique=True)),
                st.tuples(st.sampled_from(["accepted", "accepted and killed", "refused"]), st.just(None)),
            ),
            min_size=1,
            max_size=12,
        )
    )
    def run_for_a_while(self, steps: list[tuple[str, list[str] | None]]) -> None:
        trio.run(self._live, steps)

    async def _live(self, steps: list[tuple[str, list[str] | None]]) -> None:
        async with opened(self.folder) as journal:
            outbox, lanes = Outbox(journal), Lanes[Notice]()
            for left in (await outbox.load())[0]:
                assert left.id not in self.deleted
                assert left.channels == self.made[left.id]
                lanes.add(left, left.channels, 0.0)
            for step, channels in steps:
                if channels is not None:
                    fresh = notice(len(self.made) + 1, *channels)
                    await outbox.store([(fresh, b"%d" % fresh.id)], [], [])
                    self.made[fresh.id] = fresh.channels
                    lanes.add(fresh, fresh.channels, 0.0)
                elif (place := lanes.take(0.0)) is not None:
                    assert await outbox.body(place.item) == b"%d" % place.item.id
                    if step == "refused":
                        place.item.attempts += 1
                        await outbox.failed(place.item)
                        lanes.again(place, 0.0)
                        continue
                    self._accept(place.item)
                    if step == "accepted and killed":
                        break
                    await outbox.delete(place.item)
                    self.deleted.add(place.item.id)
                    lanes.done(place)
            copy = Path(tempfile.mkdtemp(prefix="sower-outbox-"))  # as a kill would leave it
            shutil.copytree(self.folder, copy, dirs_exist_ok=True)
        self.folder = copy
        self.folders.append(copy)
        left_over = {n.id for n in waiting(str(copy / "sower.db"))}
        assert left_over == set(self.made) - self.deleted, "nothing is lost, and nothing is left that was deleted"

    def _accept(self, taken: Notice) -> None:
        assert taken.id not in self.deleted, "sent again after it was accepted and that was committed"
        for other, channels in self.made.items():
            if other < taken.id and set(channels) & set(taken.channels):
                assert other in self.deleted, f"{taken.id} overtook {other}"
        self.accepted.append(taken.id)


TestOutboxModel = OutboxModel.TestCase
TestOutboxModel.settings = settings(max_examples=30, stateful_step_count=5, deadline=None)
