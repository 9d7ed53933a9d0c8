"""A Redis whose replica takes over, as Sentinel decides it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from sower.cli.redis import examine_redis
from sower.cluster.node import Node
from sower.config import Cluster, Config
from sower.config_sense import sense
from sower.errors import ClusterFailed
from tests.cluster.conftest import Redis, Sentinel, cluster, servers, wait_for
from tests.cluster.test_faults import hear_until, keep_publishing, publish, until_ready
from tests.cluster.test_workers import until


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
                heard = [await hear_until(client, "last") for client in (here, there)]
                kept = [e["data"] for e in (await two.request("GET", "/history/kept-news?limit=1000")).json()["events"]]
                assert heard[0] == heard[1] == kept
                assert len(set(kept)) == len(kept)
                assert set(acknowledged) <= set(kept)


async def is_primary(server: Redis) -> bool:
    return "role:master" in server.command("INFO", "replication")


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
