"""A Redis whose replica takes over, as Sentinel decides it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from sower.cli.redis import examine_redis
from sower.cluster.entries import Entry, Spoken
from sower.cluster.facts import Report
from sower.cluster.hub import ClusterHub
from sower.cluster.node import Node
from sower.config import Cluster, Config
from sower.config_sense import sense
from sower.core.rules import RuleBook
from sower.errors import ClusterFailed
from sower.health import Health
from sower.systemd import Systemd
from tests.cluster.conftest import Redis, Sentinel, cluster, servers, wait_for
from tests.cluster.test_faults import hear_what_stands, keep_publishing, publish, until_ready
from tests.cluster.test_workers import until
from tests.faults.house import CONFIG as HOUSE
from tests.faults.house import House
from tests.store.opened import opened


class Watched(NamedTuple):
    """A primary, its replica, and who looks after them."""

    primary: Redis
    replica: Redis
    sentinel: Sentinel


@contextmanager
def watched(folder: Path) -> Iterator[Watched]:
    primary, replica = (Redis(made(folder / name)) for name in ("primary", "replica"))
    sentinel = Sentinel(made(folder / "sentinel"), primary)
    with servers(primary, replica, sentinel):
        primary.start("--repl-diskless-sync-delay", "0")
        replica.start("--replicaof", "127.0.0.1", str(primary.port))
        wait_for(lambda: "state=online" in primary.command("INFO", "replication"))
        sentinel.start()
        wait_for(lambda: str(replica.port) in sentinel.command("SENTINEL", "REPLICAS", sentinel.SERVICE).split())
        yield Watched(primary, replica, sentinel)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def test_a_failover_loses_nothing_that_replicas_had_to_acknowledge(tmp_path: Path) -> None:
    with watched(tmp_path) as servers_:
        async with cluster(tmp_path, servers_.sentinel, more="replicas = 1\n") as (one, two):
            async with one.socket("kept-news") as here, two.socket("kept-news") as there:
                await here.expect("welcome")
                await there.expect("welcome")
                acknowledged: list[str] = []
                stop = trio.Event()
                async with trio.open_nursery() as nursery:
                    for number, node in enumerate((one, two)):
                        nursery.start_soon(keep_publishing, node, f"p{number}", acknowledged, stop)
                    await trio.sleep(0.5)
                    servers_.primary.kill()
                    before = len(acknowledged)
                    answer = await publish(one, "kept-news", "nobody decides now")
                    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "cluster_failed")
                    assert answer.json()["error"]["retry"] is True
                    replica = servers_.replica
                    await until(lambda: is_primary(replica))
                    # The one that was killed comes back as the replica of the other, so that there is one to ask for.
                    servers_.primary.start("--replicaof", "127.0.0.1", str(replica.port))
                    for node in (one, two):
                        await until_ready(node)

                    async def goes_on() -> bool:
                        return len(acknowledged) > before + 5

                    await until(goes_on)
                    stop.set()
                await one.publish("kept-news", "last")
                heard = [await hear_what_stands(client, "last") for client in (here, there)]
                kept = [e["data"] for e in (await two.request("GET", "/history/kept-news?limit=1000")).json()["events"]]
                assert heard[0] == heard[1] == kept
                assert len(set(kept)) == len(kept)
                assert set(acknowledged) <= set(kept)


async def is_primary(server: Redis) -> bool:
    return "role:master" in server.command("INFO", "replication")


async def test_who_heard_what_a_replica_lacked_is_told_so_though_others_have_spoken_since(
    tmp_path: Path, redis: Redis
) -> None:
    shared = Cluster(url=redis.url, prefix="heard")
    async with (
        opened(tmp_path, time.time) as journal,
        Node.open(shared, RuleBook(HOUSE.channels).kept, 600.0) as node,
        Node.open(shared, RuleBook(HOUSE.channels).kept, 600.0) as other,
        trio.open_nursery() as nursery,
    ):
        hub = ClusterHub(HOUSE, journal, node, now=time.time)
        await nursery.start(hub.run)
        house = House(journal, hub, Health(hub, journal, Systemd("", watchdog=None)))
        listener, _ = house.follow("kept-news")
        keys = node.keys("1", "kept-news")

        async def say(word: str) -> int:
            said: list[tuple[Entry | Report, bytes]] = [(Spoken("e", word.encode(), 1, None, None, None), b"m")]
            return (await other.say("1", "kept-news", keys, said))[0].serial

        async def hear(word: str) -> None:
            async def heard() -> bool:
                return word in "".join(listener.said)

            await until(heard)

        await hear("welcome")
        kept, lost = await say("kept"), await say("lost")
        await hear("lost")
        for stream in (keys.kept, keys.latest):
            await other.line.ask(b"XDEL", stream, f"{lost}-0")
        await other.line.ask(b"HSET", keys.state, b"head", f"{kept:017d}", b"kept", f"{kept:017d}")
        await say("since")
        await hear("since")
        assert "".join(listener.said).removeprefix("welcome").split() == ["kept", "lost", "gapsince"]
        nursery.cancel_scope.cancel()


class Guarded(Sentinel):
    """Asks for a password, and knows a user besides with the rights that the manual names."""

    PASSWORD, USER, THEIRS = "asks&for/it", "sower", "pass%word"

    def options(self, *more: str) -> tuple[str, ...]:
        options = super().options(*more)
        rights = "-@all +sentinel|get-master-addr-by-name +@connection"
        with (self.folder / "sentinel.conf").open("a") as file:
            file.write(f"requirepass {self.PASSWORD}\nuser {self.USER} on >{self.THEIRS} {rights}\n")
        return options

    def command(self, *words: str) -> str:
        return super().command("--no-auth-warning", "-a", self.PASSWORD, *words)


async def test_sentinels_that_ask_for_a_password_are_given_that_of_the_url(tmp_path: Path) -> None:
    primary = Redis(made(tmp_path / "primary"))
    sentinel = Guarded(made(tmp_path / "sentinel"), primary)
    with servers(primary, sentinel):
        primary.start()
        sentinel.start()
        asked = "sentinel_password=asks%26for%2Fit", "sentinel_username=sower&sentinel_password=pass%25word"
        for options in asked:
            config = Cluster(url=f"{sentinel.url}?{options}")
            assert not [problem for problem in sense(Config(cluster=config)) if problem.path[0] == "cluster"]
            async with Node.open(config, lambda name: None, 60.0) as node:
                assert node.line.up
            findings = await examine_redis(config)
            assert {finding.state for finding in findings} <= {"good", "unsure"}, findings
        for options, why in (("", "already authenticated"), ("?sentinel_password=wrong", "username-password")):
            config = Cluster(url=f"{sentinel.url}{options}")
            with pytest.raises(ClusterFailed, match=why):
                async with Node.open(config, lambda name: None, 60.0):
                    pass
            findings = await examine_redis(config)
            assert why in findings[0].text
            assert "sentinel_password" in findings[0].remedy


async def test_a_replica_that_lacked_what_was_acknowledged_is_another_epoch_and_clients_are_told(
    tmp_path: Path,
) -> None:
    with watched(tmp_path) as servers_:
        async with cluster(tmp_path, servers_.sentinel) as (one, two), two.socket("kept-news") as client:
            position = (await client.expect("welcome"))["position"]
            await one.publish("kept-news", "copied")
            wait_for(lambda: servers_.primary.command("WAIT", "1", "1000") == "1")
            servers_.replica.command("CONFIG", "SET", "masterauth", "wrong")
            servers_.replica.command("CLIENT", "KILL", "TYPE", "master")
            await one.publish("kept-news", "lost")
            assert await client.events(2) == ["copied", "lost"]
            servers_.primary.kill()
            await until(lambda: is_primary(servers_.replica))
            await until_ready(two)
            await client.expect("gap")
            page = (await one.request("GET", "/history/kept-news")).json()
            assert [event["data"] for event in page["events"]] == ["copied"]
            assert page["position"].partition(":")[0] != position.partition(":")[0]
            await two.publish("kept-news", "on")
            while (frame := await client.hear())["type"] == "gap":  # first of the broken chain, then of the epoch
                pass
            assert frame["data"] == "on"
