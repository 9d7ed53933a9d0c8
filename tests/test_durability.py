"""A killed daemon loses nothing that it acknowledged."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.kill import CHANNELS, kill_many
from tests.bench.ledger import Event, Ledger
from tests.bench.speakers import OVER_HTTP

ROUNDS = 10


@pytest.fixture
def ledger() -> Ledger:
    """Three messages sent on `c`, two of them acknowledged, one seen by a subscriber."""
    ledger = Ledger()
    ledger.sent["c"] |= {1, 2, 3}
    ledger.acked["c"] |= {1: "100", 2: "200"}
    ledger.seen["c"].add(Event(1, "100"))
    return ledger


@pytest.mark.parametrize(
    "history",
    [
        [Event(1, "100"), Event(2, "200")],
        [Event(1, "100"), Event(2, "200"), Event(3, "300")],
        [Event(1, "100"), Event(3, "150"), Event(2, "200")],
    ],
    ids=["in doubt and absent", "in doubt and there", "in doubt and in between"],
)
def test_a_message_in_doubt_may_be_there_or_not(ledger: Ledger, history: list[Event]) -> None:
    assert ledger.in_doubt("c") == [3]
    assert ledger.problems("c", history) == []


@pytest.mark.parametrize(
    ("history", "problem"),
    [
        ([Event(1, "100")], "acknowledged and missing: [2]"),
        ([Event(1, "100"), Event(2, "200"), Event(2, "201")], "there twice: [2]"),
        ([Event(1, "100"), Event(2, "222")], "there with another serial than acknowledged: [2]"),
        ([Event(1, "100"), Event(2, "200"), Event(4, "400")], "there and never sent: [4]"),
        ([Event(2, "200"), Event(1, "100")], "not after the one before it: [1]"),
        ([Event(1, "101"), Event(2, "200")], "delivered and not in history"),
    ],
)
def test_the_comparison_names_what_is_wrong(ledger: Ledger, history: list[Event], problem: str) -> None:
    assert any(problem in line for line in ledger.problems("c", history))


@pytest.mark.slow
async def test_kills_at_random_moments_lose_no_acknowledged_message_of_any_protocol_and_double_none(
    tmp_path: Path,
) -> None:
    outcome = await kill_many(tmp_path, ROUNDS, seed=2, sync="normal")
    assert outcome.problems == []
    assert outcome.rounds == ROUNDS
    assert outcome.acked > ROUNDS * len(CHANNELS)
    assert set(outcome.by) == {*OVER_HTTP, "ably's socket"}
