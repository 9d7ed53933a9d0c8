"""`sower backup` of a daemon under load, and `sower restore`."""

from __future__ import annotations

import json
from pathlib import Path

import apsw
import trio

from tests.cli.shell import sower
from tests.e2e.daemon import running

PUBLISHERS = 4


async def test_a_backup_under_load_holds_all_that_was_acknowledged_before_it_began(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    under_load = trio.Event()
    copy = tmp_path / "backup.db"
    async with running(tmp_path) as daemon, trio.open_nursery() as nursery:

        async def publish(publisher: int) -> None:
            while True:
                acknowledged.add(await daemon.publish(f"kept-{publisher}", "x"))
                if len(acknowledged) == 40:
                    under_load.set()

        for publisher in range(PUBLISHERS):
            nursery.start_soon(publish, publisher)
        await under_load.wait()
        before = set(acknowledged)
        ended = await sower(tmp_path, "backup", str(copy), "--json")
        assert ended.code == 0, ended.err
        assert len(acknowledged) > len(before), "publishing went on"
        nursery.cancel_scope.cancel()
    database = apsw.Connection(str(copy))
    assert database.execute("PRAGMA integrity_check").get == "ok"
    kept = {str(serial) for (serial,) in database.execute("SELECT serial FROM messages")}
    database.close()
    assert kept >= before
    assert json.loads(ended.out) == {"path": str(copy), "bytes": copy.stat().st_size, "messages": len(kept)}


async def test_a_restore_waits_for_the_daemon_to_stop_and_brings_back_what_was_copied(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        await daemon.publish("kept-a", "copied")
        assert (await sower(tmp_path, "backup", "copy.db")).code == 0
        again = await sower(tmp_path, "backup", "copy.db")
        assert (again.code, "is there already" in again.err) == (5, True)
        await daemon.publish("kept-a", "later")
        async with daemon.socket("kept-a") as client:
            position = (await client.expect("welcome"))["position"]
        refused = await sower(tmp_path, "restore", "copy.db")
        assert (refused.code, "Stop the daemon first" in refused.err) == (5, True)
        await daemon.stop()
        restored = await sower(tmp_path, "restore", "copy.db")
        assert (restored.code, restored.out) == (0, "sower.db\n")
        assert "sower.db.before-" in restored.err
        await daemon.start()
        page = (await daemon.request("GET", "/history/kept-a")).json()
        assert [event["data"] for event in page["events"]] == ["copied"]
        async with daemon.socket("kept-a", since=position) as client:
            await client.expect("welcome")
            await client.expect("gap")
