"""ably-js in Chromium, in a page of another origin."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.e2e.daemon import running as daemon_running
from tests.sdk.ably.world import ABLY_KEY, APP, HERE, RULES
from tests.sdk.script import running as script_running


async def test_a_page_connects_publishes_is_present_and_reads_history_and_errors(tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    assert chromium is not None
    async with (
        daemon_running(tmp_path, APP + RULES) as daemon,
        script_running(HERE / "browser.cjs", str(daemon.port), ABLY_KEY, chromium) as script,
    ):
        told = (await script.hear("page"))["page"]
    # Where it is told to poll, the transport without a WebSocket, it gives up at once and tries again later.
    whole = {"data": {"from": "a page"}, "same": True, "members": ["page"], "missing": 40003, "declined": 80003}
    assert told == whole
