"""dialects/ably/acknowledgements.py: whatever order channels are done in, answers go out in the client's, each once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sower.core.command import Ping
from sower.dialects.ably.acknowledgements import Acknowledgements
from sower.dialects.ably.codes import ErrorInfo
from sower.dialects.ably.wire import Action


@given(
    order=st.permutations(range(8)), failed=st.sets(st.integers(0, 7)), sizes=st.lists(st.integers(1, 3), min_size=8)
)
def test_every_frame_is_answered_once_in_the_order_of_the_client(
    order: list[int], failed: set[int], sizes: list[int]
) -> None:
    waiting, frames = Acknowledgements(), [[Ping(str(n)) for _ in range(sizes[n])] for n in range(8)]
    for serial, commands in enumerate(frames):
        waiting.expect(serial, commands)
    told: list[tuple[int, bool]] = []
    for serial in order:
        for command in frames[serial]:
            error = ErrorInfo("no", 40000, 400) if serial in failed else None
            for frame in waiting.settle(command, serials=[f"s{serial}"], error=error):
                first, count = frame.msgSerial or 0, frame.count or 0
                for n in range(first, first + count):
                    told.append((n, frame.action == Action.ACK))
                    if frame.res is not None:
                        assert frame.res[n - first].serials == [f"s{n}"] * sizes[n]
    assert told == [(n, n not in failed) for n in range(8)]
    assert len(waiting) == 0
