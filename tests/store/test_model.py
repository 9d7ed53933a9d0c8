"""The journal against a naive model: a list of messages a channel, through restarts and kills."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from sower.config import Duration, History
from sower.core.message import SERIALS_PER_SECOND, Message
from sower.store.journal import Journal
from tests.store.opened import NOW, opened

CHANNELS = st.sampled_from(["a", "b"])
HISTORIES = {"a": History(messages=3, age=Duration(100)), "b": History(messages=200, age=Duration(30))}
WINDOW = 50.0


class Kept:
    """One channel as the model sees it: everything ever stored, and who had which id."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.all: list[Message] = []
        self.ids: dict[str, int] = {}

    def visible(self, now: float) -> list[Message]:
        oldest = int((now - self.history.age) * SERIALS_PER_SECOND)
        return [m for m in self.all[-self.history.messages :] if m.serial > oldest]

    def append(self, message: Message, now: float) -> int:
        first = self.ids.get(message.id or "")
        if first is not None and first > (now - WINDOW) * SERIALS_PER_SECOND:
            return first
        if message.id is not None:
            self.ids[message.id] = message.serial
        self.all.append(message)
        return message.serial

    def gap(self, since: int, now: float) -> bool:
        """Whether something after `since` was stored and cannot be seen, or `since` was never reached."""
        if not self.all:
            return since > 0
        seen = {m.serial for m in self.visible(now)}
        return since > self.all[-1].serial or any(m.serial > since and m.serial not in seen for m in self.all)


class JournalModel(RuleBasedStateMachine):
    """Whatever happens, a reader sees what the model shows, and a gap where the model has one."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sower-model-"))
        self.folders = [self.folder]
        self.now = NOW
        self.last = int(NOW * SERIALS_PER_SECOND)
        self.model = {name: Kept(history) for name, history in HISTORIES.items()}

    def teardown(self) -> None:
        for folder in getattr(self, "folders", []):
            shutil.rmtree(folder, ignore_errors=True)

    @rule(
        steps=st.lists(
            st.tuples(
                CHANNELS,
                st.lists(st.sampled_from([None, None, "x", "y"]), min_size=1, max_size=8),
                st.floats(0.0, 20.0),
                st.booleans(),
            ),
            min_size=1,
            max_size=6,
        ),
        killed=st.booleans(),
    )
    def run_for_a_while(self, steps: list[tuple[str, list[str | None], float, bool]], killed: bool) -> None:
        async def life() -> None:
            async with opened(self.folder, now=lambda: self.now, remember_ids=WINDOW) as journal:
                for channel, ids, seconds, sweeps in steps:
                    await self._append(journal, channel, ids)
                    self.now += seconds
                    if sweeps:
                        await journal.sweep(HISTORIES.get, keep_audit=60.0)
                    await self._compare(journal)
                if killed:
                    copy = Path(tempfile.mkdtemp(prefix="sower-model-"))
                    shutil.copytree(self.folder, copy, dirs_exist_ok=True)
                    self.folder = copy
                    self.folders.append(copy)

        trio.run(life)

    async def _append(self, journal: Journal, channel: str, ids: list[str | None]) -> None:
        batch: list[Message] = []
        for message_id in ids:
            self.last = max(self.last + 1, int(self.now * SERIALS_PER_SECOND))
            batch.append(Message(self.last, "e", b"%d" % self.last, id=message_id))
        stored = await journal.append("1", channel, batch, HISTORIES[channel])
        expected = [self.model[channel].append(message, self.now) for message in batch]
        assert [s.serial for s in stored] == expected
        assert [s.fresh for s in stored] == [m.serial == serial for m, serial in zip(batch, expected, strict=True)]

    async def _compare(self, journal: Journal) -> None:
        for name, kept in self.model.items():
            page = await journal.page("1", name, limit=1000, history=kept.history)
            assert [m.serial for m in page.messages] == [m.serial for m in kept.visible(self.now)]
            positions = [m.serial for m in kept.all[-6:]] + [self.last + 5]
            for since in positions:
                got = await journal.since("1", name, since, limit=1000, history=kept.history)
                assert [m.serial for m in got.messages] == [
                    m.serial for m in kept.visible(self.now) if m.serial > since
                ]
                assert got.gap == kept.gap(since, self.now), (name, since)


TestJournalModel = JournalModel.TestCase
TestJournalModel.settings = settings(max_examples=40, stateful_step_count=6, deadline=None)
