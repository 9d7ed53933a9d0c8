"""A client that applies what it is told has what the history has: live, after a break, and after attaching with rewind."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from sower.core.message import Act, Annotation, Kind, Message, Revision
from sower.core.versions import summary_of
from tests.store.opened import HISTORY, opened, serial


class Step(NamedTuple):
    """What is published next, and on which of the messages before. kind: an Act, or None for an annotation."""

    kind: Act | None
    on: int
    text: str
    batch: bool


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from([Act.CREATED, Act.UPDATED, Act.APPENDED, Act.APPENDED, Act.DELETED, None]),
        st.integers(0, 2),
        st.sampled_from(["x", "yy", ""]),
        st.booleans(),
    ),
    min_size=1,
    max_size=14,
)


class Client:
    """What a client makes of what it is told: by message, its data, what was done last, and its summary."""

    def __init__(self) -> None:
        self.state: dict[int, tuple[bytes, Act, bytes | None]] = {}
        self.last = 0

    def take(self, message: Message) -> None:
        self.last = max(self.last, message.serial)
        about = message.about
        if isinstance(about, Annotation):
            return
        of = message.serial if about is None else about.of
        act = Act.CREATED if about is None else about.act
        data, before, summary = self.state.get(of, (b"", Act.CREATED, None))
        if act is Act.SUMMARISED:
            self.state[of] = data, before, summary_of(message)
        elif act is Act.APPENDED:
            self.state[of] = data + message.data, Act.UPDATED, summary
        else:
            self.state[of] = message.data, act, summary_of(message) if about is not None else summary

    def copy(self) -> Client:
        client = Client()
        client.state, client.last = dict(self.state), self.last
        return client


@given(STEPS, st.data())
@settings(max_examples=60, deadline=None)
def test_whoever_applies_what_it_is_told_has_what_the_history_has(steps: list[Step], data: st.DataObject) -> None:
    async def life(folder: Path) -> None:
        async with opened(folder) as journal:
            firsts = [serial(1)]
            live, cut, pending = Client(), list[Client](), [Message(serial(1), "e", b"", Kind.TEXT)]
            for number, step in enumerate(steps):
                at, of = serial(10 + 2 * number), firsts[step.on % len(firsts)]
                text = Message(at, "", step.text.encode(), Kind.TEXT)
                if step.kind is Act.CREATED:
                    pending.append(text)
                    firsts.append(at)
                elif step.kind is None:
                    pending.append(Message(at, "", b"null", about=Annotation(of, "n:total.v1", next=at + 1)))
                else:
                    pending.append(Message(at, "", text.data, Kind.TEXT, about=Revision(of, step.kind, at)))
                if step.batch:
                    continue
                stored = await journal.append("1", "c", pending, HISTORY, largest=1000)
                for message, outcome in zip(pending, stored, strict=True):
                    for told in (message,) if message.about is None else outcome.told:
                        live.take(told)
                pending = []
                cut.append(live.copy())
            if not cut:
                return
            head = data.draw(st.sampled_from(cut))  # the head at which a client comes back; what is above is told live
            upto = head.last
            for client in [c for c in cut if c.last <= upto]:
                back = client.copy()
                since = client.last
                while True:
                    page = await journal.since("1", "c", since, upto=upto, limit=2, history=HISTORY, in_order=True)
                    for message in page.messages:
                        back.take(message)
                    if not page.more:
                        break
                    since = page.messages[-1].serial
                assert {of: (d, a) for of, (d, a, _) in back.state.items()} == {
                    of: (d, a) for of, (d, a, _) in head.state.items()
                }
            rewound = Client()
            page = await journal.page("1", "c", before=upto + 1, limit=100, history=HISTORY, as_of=upto)
            for message in page.messages:
                rewound.take(message)
            assert {of: (d, a) for of, (d, a, _) in rewound.state.items()} == {
                of: (d, a) for of, (d, a, _) in head.state.items()
            }
            now = Client()
            for message in (await journal.page("1", "c", limit=100, history=HISTORY)).messages:
                now.take(message)
            assert now.state == live.state

    with tempfile.TemporaryDirectory() as folder:
        trio.run(life, Path(folder))
