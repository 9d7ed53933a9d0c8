"""A client that stops reading: its own backlog is bounded in bytes and in age, and nobody else waits for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from sower.store.audit import read
from tests.e2e import daemon as daemon_module
from tests.e2e.daemon import PATIENCE, running
from tests.e2e.raw import upgraded

pytestmark = pytest.mark.usefixtures("sleep_after")

BOUNDS = {
    "bytes": 'backlog = "256KiB"\nbacklog_age = "1h"\n',
    "age": 'backlog = "1GiB"\nbacklog_age = "1s"\n',
}
LARGE = "x" * 60_000
KEPT = 1000
"""Messages that the channel's history keeps, and that one page shows."""


@pytest.mark.parametrize("bound", BOUNDS)
async def test_who_stops_reading_is_closed_and_the_others_get_everything_in_order(
    tmp_path: Path, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module, "SESSION", daemon_module.SESSION + BOUNDS[bound])
    async with running(tmp_path) as daemon, upgraded(daemon, "kept-a") as stalled:
        async with daemon.socket("kept-a") as reader:
            await reader.expect("welcome")
            sent = 0
            with trio.fail_after(PATIENCE * 2):
                while not any("slow_consumer" in r.detail for r in read(str(tmp_path / "sower.db"))):
                    await daemon.publish("kept-a", {"n": sent, "pad": LARGE})
                    assert (await reader.events(1))[0]["n"] == sent
                    sent += 1
            assert sent > 4
        assert stalled is not None
        page = (await daemon.request("GET", f"/history/kept-a?limit={KEPT}")).json()
        assert [event["data"]["n"] for event in page["events"]] == list(range(max(0, sent - KEPT), sent))


async def test_a_client_that_reads_slowly_but_reads_gets_everything_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("kept-a") as slow:
        await slow.expect("welcome")
        for n in range(12):
            await daemon.publish("kept-a", {"n": n, "pad": LARGE})
        assert [data["n"] for data in await slow.events(12)] == list(range(12))
