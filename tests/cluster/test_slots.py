"""Daemons on a Redis Cluster of three masters, which broadcast what is said in their own slots alone."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from sower.cluster.archive import Archive
from sower.cluster.changes import make
from sower.cluster.entries import Spoken
from sower.cluster.keys import Keys, shard_of
from sower.cluster.links import Links, slot_of
from sower.cluster.places import Place
from sower.core.message import Act, Kind, Message, Revision
from tests.cluster.conftest import Master, RedisCluster, cluster, redis_cluster, servers, wait_for
from tests.cluster.test_faults import hear_until, hear_what_stands, until_ready
from tests.cluster.test_model import HISTORY, node_of
from tests.cluster.test_presence import ROOM, token
from tests.cluster.test_presence import until as there_are
from tests.cluster.test_sentinel import is_primary
from tests.cluster.test_workers import until
from tests.e2e.daemon import CONFIG, SECRET, Client, Daemon, free_port
from tests.e2e.test_webhooks import about, config
from tests.receiver import receiving

APPS = ("1001", "1002", "1003", "1004", "1005", "1006")
"""On all three masters, which a test checks."""

MORE = "".join(f'\n[[apps]]\nid = "{app}"\nkey = "key-{app}"\nsecret = "{SECRET}"\n' for app in APPS[1:])


@asynccontextmanager
async def daemons(folder: Path, masters: RedisCluster, count: int = 2) -> AsyncIterator[list[Daemon]]:
    async with cluster(folder, masters, count, CONFIG + MORE, prefix="slots") as nodes:
        yield nodes


def key_of(app: str) -> str:
    return "test-key" if app == APPS[0] else f"key-{app}"


async def publish(node: Daemon, app: str, data: Any, **more: Any) -> httpx.Response:
    body = {"channel": "kept-news", "event": "e", "data": data, **more}
    async with httpx.AsyncClient(base_url=node.url, auth=(key_of(app), SECRET), trust_env=False) as client:
        return await client.post("/events/publish", json=body)


async def history(node: Daemon, app: str) -> list[Any]:
    async with httpx.AsyncClient(base_url=node.url, auth=(key_of(app), SECRET), trust_env=False) as client:
        answer = await client.get("/history/kept-news?limit=1000")
    return [event["data"] for event in answer.json()["events"]]


def master_of(masters: RedisCluster, app: str) -> Master:
    return masters.master_of(Keys("slots", app, "kept-news").topic)


def test_keys_are_counted_as_redis_counts_them(masters: RedisCluster) -> None:
    keys = Keys("slots", "1001", "a{b}c")
    assert (
        len({slot_of(key) for key in (keys.topic, keys.clock, keys.state, keys.here, keys.index, keys.ids + b"x")}) == 1
    )
    for key in (keys.topic, b"", b"plain", b"{}x", b"{a", b"a}b{c}{d}"):
        assert str(slot_of(key)) == masters.masters[0].command("CLUSTER", "KEYSLOT", key.decode())


async def test_a_message_is_changed_and_read_on_the_master_that_has_its_app(masters: RedisCluster) -> None:
    async with node_of(masters) as node:
        for app in APPS:
            (said,) = await node.say(app, "a", node.keys(app, "a"), [(Spoken("e", b"x", 1, None, None, None), b"m")])
            appended = Message(0, "", b"y", Kind.TEXT, id="1", about=Revision(said.serial, Act.APPENDED))
            made = [await make(node, app, "a", appended, None, 10) for _ in range(2)]
            assert made == [(made[0].serial, True), (made[0].serial, False)]
            archive = Archive(node)
            for in_order, data in ((False, [b"xy"]), (True, [b"x", b"xy"])):
                page = await archive.page(app, "a", limit=9, history=HISTORY, in_order=in_order)
                assert [message.data for message in page.messages] == data
            await archive.delete(app, "a", said.serial - 1, said.serial + 1)
            assert (await archive.page(app, "a", limit=9, history=HISTORY, in_order=True)).messages == []


async def test_apps_are_spread_over_masters_and_each_is_one_order_on_all_nodes(
    tmp_path: Path, masters: RedisCluster
) -> None:
    async with daemons(tmp_path, masters) as (one, two):
        assert len({master_of(masters, app) for app in APPS}) == 3
        assert len({shard_of(app) for app in APPS}) == len(APPS)
        for app in APPS:
            async with two.socket("kept-news", key=key_of(app)) as client:
                position = (await client.expect("welcome"))["position"]
                serials = [(await publish(node, app, n, id=str(n))).json() for n, node in enumerate((one, two, one))]
                assert await client.events(3) == [0, 1, 2]
                assert (await publish(two, app, 0, id="0")).json() == serials[0]
            await publish(one, app, 3)
            async with one.socket("kept-news", key=key_of(app), since=position) as client:
                await client.expect("welcome")
                assert await client.events(4) == [0, 1, 2, 3]
            assert await history(two, app) == [0, 1, 2, 3]
        async with one.socket(ROOM, token=await token(one, "ann")) as ann:
            await ann.expect("welcome")
            async with two.socket(ROOM, token=await token(two, "bob")) as bob:
                await bob.expect("welcome")
                await there_are([one, two], {"ann": 1, "bob": 1})
        topic = Keys("slots", "1001", "kept-news").topic.decode()
        async with one.socket("kept-news") as client:
            await client.expect("welcome")
            assert master_of(masters, "1001").command("PUBSUB", "SHARDNUMSUB", topic).split()[-1] in ("1", "2")


async def test_webhooks_and_audit_are_those_of_all_nodes(tmp_path: Path, masters: RedisCluster) -> None:
    async with (
        receiving() as receiver,
        cluster(tmp_path, masters, 2, config(receiver.url), prefix="hooked") as (one, two),
    ):
        async with one.socket(ROOM, token=await token(one, "ann")) as ann:
            await ann.expect("welcome")
            async with two.socket(ROOM, token=await token(two, "ann")) as again:
                await again.expect("welcome")
            await publish(two, APPS[0], 1)
        await receiver.until(lambda: "channel_vacated" in about(receiver, ROOM))
        assert about(receiver, ROOM) == ["channel_occupied", "member_added", "member_removed", "channel_vacated"]
        page = (await two.request("GET", "/audit?kind=connected")).json()
        assert len({record["node"] for record in page["records"]}) == 2
        assert "silent" not in page


async def test_a_server_that_is_named_first_and_away_is_passed_over(masters: RedisCluster) -> None:
    there = masters.masters[0].port
    place = Place.read(f"redis+cluster://127.0.0.1:{free_port()},127.0.0.1:{there}")
    owners = await Links(place, replicas=0, heard=lambda topic, payload: None).ask_owners()
    assert there in {where.port for _, _, where in owners}


async def test_a_master_that_is_killed_stops_its_own_apps_alone_until_it_is_back(
    tmp_path: Path, masters: RedisCluster
) -> None:
    async with daemons(tmp_path, masters) as (one, two):
        dies = master_of(masters, APPS[0])
        other = next(app for app in APPS if master_of(masters, app) is not dies)
        async with (
            two.socket("kept-news", key=key_of(APPS[0])) as here,
            two.socket("kept-news", key=key_of(other)) as there,
        ):
            await here.expect("welcome")
            await there.expect("welcome")
            await publish(one, APPS[0], "before")
            with masters.without(dies):
                refused = await publish(one, APPS[0], "meanwhile", id="m")
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "cluster_failed")
                ready = await one.request("GET", "/health/ready")
                assert (ready.status_code, str(dies.port) in ready.text) == (503, True)
                assert (await publish(one, other, "goes on")).status_code == 200
                assert (await there.events(1)) == ["goes on"]
            for node in (one, two):
                await until_ready(node)
            assert (await publish(two, APPS[0], "meanwhile", id="m")).status_code == 200
            assert await here.events(2) == ["before", "meanwhile"]


async def test_members_come_and_what_was_missed_is_read_while_another_master_is_away(
    tmp_path: Path, masters: RedisCluster
) -> None:
    async with daemons(tmp_path, masters) as (one, two):
        home, all_ = master_of(masters, APPS[0]), masters.master_of(b"slots:{all}:nodes")
        away = next(master for master in masters.masters if master not in (home, all_))
        async with one.socket(ROOM, token=await token(one, "ann")) as ann, two.socket("kept-news") as news:
            await ann.expect("welcome")
            await news.expect("welcome")
            assert two.process is not None
            with masters.without(away):
                async with two.socket(ROOM, token=await token(two, "bob")) as bob:
                    await bob.expect("welcome")
                    assert (await ann.expect("join"))["user"] == "bob"
                    two.process.send_signal(signal.SIGSTOP)
                    home.command("CLIENT", "KILL", "TYPE", "PUBSUB")

                    async def published() -> bool:
                        return (await publish(one, APPS[0], "missed")).status_code == 200

                    await until(published)
                    two.process.send_signal(signal.SIGCONT)
                    assert await news.events(1) == ["missed"]
            for node in (one, two):
                await until_ready(node)


async def test_who_comes_is_noted_while_another_master_is_away_whatever_the_node_is_called(
    masters: RedisCluster,
) -> None:
    async with node_of(masters) as node:
        home = master_of(masters, APPS[0])
        away = next(master for master in masters.masters if master is not home)
        with masters.without(away):
            for number in range(20):
                node.name = f"{number:032x}"
                await node.estate.note(APPS[0], f"room-{number}")


async def test_a_master_that_hangs_is_noticed_where_nobody_asks_it_anything(masters: RedisCluster) -> None:
    line = Links(Place.read(masters.url), replicas=0, heard=lambda topic, payload: None)
    async with line.open():
        with masters.masters[1].hanging():

            async def noticed() -> bool:
                return str(masters.masters[1].port) in line.fault

            await until(noticed)
    wait_for(masters.is_whole)


async def test_a_replica_takes_over_from_its_master_with_all_that_was_acknowledged(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder, redis_cluster(Path(folder)) as masters:
        dies, home = master_of(masters, APPS[0]), Path(folder) / "replica"
        home.mkdir()
        replica = masters.copy(home, dies)
        with servers(replica):
            async with (
                cluster(tmp_path, masters, 2, CONFIG + MORE, prefix="slots", more="replicas = 1\n") as (one, two),
                two.socket("kept-news") as client,
            ):
                await client.expect("welcome")
                acknowledged: list[str] = []
                stop = trio.Event()
                async with trio.open_nursery() as nursery:
                    for name, node in (("a", one), ("b", two)):
                        nursery.start_soon(keep_publishing, node, APPS[0], name, acknowledged, stop)
                    await trio.sleep(0.3)
                    dies.kill()
                    before = len(acknowledged)
                    refused = await publish(one, APPS[0], "nobody decides now")
                    assert (refused.status_code, refused.json()["error"]["retry"]) == (503, True)
                    await until(lambda: is_primary(replica))
                    dies.start()  # as the replica of the other, so that there is one to ask for

                    async def goes_on() -> bool:
                        return len(acknowledged) > before + 5

                    await until(goes_on)
                    stop.set()
                await publish(one, APPS[0], "last")
                heard, kept = await hear_what_stands(client, "last"), await history(one, APPS[0])
                assert heard == kept
                assert len(set(heard)) == len(heard)
                assert set(acknowledged) <= set(heard)


async def test_a_master_that_lost_its_data_is_another_epoch(tmp_path: Path, masters: RedisCluster) -> None:
    async with daemons(tmp_path, masters) as (one, two), two.socket("kept-news") as client:
        position = (await client.expect("welcome"))["position"]
        await publish(one, APPS[0], "before")
        assert await client.events(1) == ["before"]
        master_of(masters, APPS[0]).command("FLUSHALL")
        await client.expect("gap")

        async def renewed() -> bool:
            page = (await one.request("GET", "/history/kept-news")).json()
            return page["position"].partition(":")[0] != position.partition(":")[0]

        await until(renewed)
        await publish(one, APPS[0], "after")
        assert await hear_until_last(client) == "after"


async def hear_until_last(client: Client) -> Any:
    while (frame := await client.hear())["type"] == "gap":
        pass
    return frame["data"]


async def test_nothing_is_missed_while_a_slot_moves_to_another_master(tmp_path: Path, masters: RedisCluster) -> None:
    async with daemons(tmp_path, masters) as (one, two), two.socket("kept-news", key=key_of(APPS[1])) as client:
        await client.expect("welcome")
        acknowledged: list[str] = []
        stop = trio.Event()
        start = master_of(masters, APPS[1])
        to = next(master for master in masters.masters if master is not start)
        async with trio.open_nursery() as nursery:
            for name, node in (("a", one), ("b", two)):
                nursery.start_soon(keep_publishing, node, APPS[1], name, acknowledged, stop)
            await trio.sleep(0.3)
            await trio.to_thread.run_sync(move, masters, Keys("slots", APPS[1], "kept-news").topic, start, to)
            count = len(acknowledged)

            async def goes_on() -> bool:
                return len(acknowledged) > count + 10

            await until(goes_on)
            stop.set()
        await publish(one, APPS[1], "last")
        heard = await hear_until(client, "last")
        kept = await history(one, APPS[1])
        assert master_of(masters, APPS[1]) is to
        assert heard == kept[-len(heard) :]
        assert len(set(heard)) == len(heard)
        assert set(acknowledged) <= set(heard)


def move(masters: RedisCluster, key: bytes, start: Master, to: Master) -> None:
    """One slot with all its keys, as `redis-cli --cluster reshard` does it."""
    slot = str(slot_of(key))
    ids = {one: one.command("CLUSTER", "MYID") for one in (start, to)}
    to.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[start])
    start.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[to])

    def moved() -> bool:
        if keys := start.command("CLUSTER", "GETKEYSINSLOT", slot, "100").split():
            start.command("MIGRATE", "127.0.0.1", str(to.port), "", "0", "5000", "KEYS", *keys)
        return not keys

    wait_for(moved)
    for master in (to, start, *masters.masters):
        master.command("CLUSTER", "SETSLOT", slot, "NODE", ids[to])


async def keep_publishing(node: Daemon, app: str, name: str, acknowledged: list[str], stop: trio.Event) -> None:
    """One after the other, each with an id until it is acknowledged."""
    n = 0
    while not stop.is_set():
        word = f"{name}-{n}"
        if (await publish(node, app, word, id=word)).status_code == 200:
            acknowledged.append(word)
            n += 1
        else:
            await trio.sleep(0.02)
