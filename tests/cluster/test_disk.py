"""A node whose own disk hangs: what daemons share does not wait for it."""

from __future__ import annotations

import secrets
import threading
import time
from pathlib import Path

import pytest
import trio

from sower import hub
from sower.cluster.hub import ClusterHub
from sower.cluster.node import Node
from sower.config import Cluster
from sower.core.record import Record
from sower.core.rules import RuleBook
from sower.health import Health
from sower.store import journal as store
from sower.systemd import Systemd
from tests.cluster.conftest import Redis
from tests.faults.disk import a_disk
from tests.faults.house import CONFIG, House
from tests.store.opened import opened


async def test_a_disk_that_hangs_keeps_nobody_from_publishing_and_hearing(
    tmp_path: Path, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "ANSWERS_WITHIN", 0.1)
    monkeypatch.setattr(hub, "LOOK_EVERY", 0.01)
    well = threading.Event()
    cluster = Cluster(url=redis.url, prefix=secrets.token_hex(4))
    with a_disk() as disk:
        async with (
            opened(tmp_path, time.time) as journal,
            Node.open(cluster, RuleBook(CONFIG.channels).kept, 600.0) as node,
            trio.open_nursery() as nursery,
        ):
            shared = ClusterHub(CONFIG, journal, node, now=time.time)
            await nursery.start(shared.run)
            house = House(journal, shared, Health(shared, journal, Systemd("", watchdog=None)))
            listener, _ = house.follow("kept-news")
            await house.publish("kept-news", "before")
            disk.fault = lambda number, what: void(well.wait())
            journal.note(Record(0.0, "started", None, None, None, None, "", 1))
            journal.flush()
            with trio.fail_after(30):
                while not journal.hangs:  # noqa: ASYNC110 - a thread has no event
                    await trio.sleep(0.01)
            texts = [f"while-{n}" for n in range(3000)]
            for at in range(0, len(texts), 300):
                await house.publish("kept-news", *texts[at : at + 300])
            assert journal.hangs
            well.set()
            await house.publish("kept-news", "after")
            assert house.refused == {}
            heard = "".join(listener.said).removeprefix("welcome").split()
            assert (heard[0], heard[-1]) == ("before", "after")
            assert sorted(heard[1:-1]) == sorted(texts)
            nursery.cancel_scope.cancel()


def void(_: object) -> None:
    """Nothing."""
