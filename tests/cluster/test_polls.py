"""PubNub's clients over nodes: wildcards hear what is said at any, and a cursor goes on at another."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from sower.cluster.keys import spoke_of
from tests.cluster.conftest import Redis, made, running_all
from tests.cluster.test_shelf import at, pubnub
from tests.cluster.test_workers import until
from tests.e2e.daemon import PATIENCE, Daemon
from tests.sdk.pubnub.world import CONFIG, KEYSET, SIGNING

SUBSCRIBE, PUBLISH = KEYSET["subscribeKey"], KEYSET["publishKey"]


@pytest.fixture(scope="module")
def pair(redis: Redis, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Daemon]]:
    """Two daemons for the tests of this module, which use channels of their own."""
    with running_all(made(tmp_path_factory.mktemp("pair"), redis, 2, CONFIG, "2s", "pair")) as daemons:
        yield daemons


async def poll(node: Daemon, channels: str, cursor: str, user: str = "") -> tuple[str, list[dict[str, Any]]]:
    """One poll: the next cursor, and envelopes."""
    path = f"/v2/subscribe/{SUBSCRIBE}/{channels}/0"
    with trio.fail_after(PATIENCE):
        answer = (await node.request("GET", path, auth=False, params={"tt": cursor, "uuid": user or "poller"})).json()
    return answer["t"]["t"], answer["m"]


async def told(node: Daemon, channels: str, cursor: str, count: int) -> tuple[str, list[Any]]:
    """Poll until there were so many things: messages' data, and what members did."""
    found: list[Any] = []
    while len(found) < count:
        cursor, envelopes = await poll(node, channels, cursor)
        found += [
            (one["d"]["action"], one["d"]["uuid"]) if one["c"].endswith("-pnpres") else one["d"] for one in envelopes
        ]
    return cursor, found


async def say(node: Daemon, channel: str, message: Any) -> str:
    path = f"/publish/{PUBLISH}/{SUBSCRIBE}/0/{channel}/0/{json.dumps(message)}"
    answer = await node.request("GET", path, auth=False, params={"uuid": "sayer"})
    assert answer.status_code == 200, answer.text
    return answer.json()[2]


async def beat(node: Daemon, channel: str, user: str) -> None:
    path = f"/v2/presence/sub-key/{SUBSCRIBE}/channel/{channel}/heartbeat?uuid={user}&heartbeat=300"
    assert (await node.request("GET", path, auth=False)).status_code == 200


@pytest.mark.parametrize("prefix", ["news", "fleeting"], ids=["kept", "not kept"])
async def test_a_wildcard_hears_the_first_word_of_each_channel_at_whatever_node(
    pair: list[Daemon], prefix: str
) -> None:
    one, two = pair
    await say(one, f"{prefix}.before", "before")
    async with pubnub(pair) as w:
        await w.make("bob", **at(two))
        await w.sdk.do("subscribe", client="bob", channels=[f"{prefix}.*"])
        await w.sdk.hear("status", client="bob", status="PNConnectedCategory")
        for n in range(10):
            await say(one, f"{prefix}.new{n}", n)
        await say(one, f"{prefix}.before", "again")
        await say(two, f"{prefix}.new3", "here")
        await say(one, "elsewhere.a", "unheard")
        assert await w.messages("bob", 12) == [*range(10), "again", "here"]


async def test_a_new_wildcard_finds_what_was_said_at_another_node_since_its_cursor(
    pair: list[Daemon], redis: Redis
) -> None:
    one, two = pair
    cursor = await say(one, "past.a", "known")
    for n in range(3):
        await say(one, f"past.c{n}", n)

    async def named() -> bool:
        names = redis.command("ZRANGE", spoke_of("pair", "1001").decode(), "0", "-1").split()
        return {"past.c0", "past.c1", "past.c2"} <= set(names)

    await until(named)
    assert (await told(two, "past.*", cursor, 3))[1] == [0, 1, 2]


async def test_a_cursor_goes_on_at_another_node_with_messages_and_members(pair: list[Daemon]) -> None:
    one, two = pair
    channels = "room,room-pnpres"
    cursor, nothing = await poll(one, channels, "0")
    assert nothing == []
    async with trio.open_nursery() as nursery:  # both follow the channel
        nursery.start_soon(told, two, channels, cursor, 1)
        await say(one, "room", 0)
    cursor, heard = await told(one, channels, cursor, 1)
    for n, user in enumerate(["ann", "bob", "cid"], 1):
        await beat(pair[n % 2], "room", user)
        await say(pair[(n + 1) % 2], "room", n)
    users = ["poller", "ann", "bob", "cid"]
    expected: list[Any] = [0, 1, 2, 3, *(("join", user) for user in users)]
    node = 0
    while len(heard) < len(expected):
        node = 1 - node
        cursor, more = await told(pair[node], channels, cursor, 1)
        heard += more
    assert sorted(heard, key=str) == sorted(expected, key=str)
    await beat(one, "room", "dan")
    cursor, more = await told(two, channels, cursor, 1)
    assert more == [("join", "dan")]
    await say(two, "room", "last")
    assert (await told(one, channels, cursor, 1))[1] == ["last"]


async def test_what_is_deleted_at_one_node_is_given_to_nobody_at_another(pair: list[Daemon]) -> None:
    one, two = pair
    cursor, _ = await poll(two, "cache-wiped", "0")
    async with two.socket("cache-wiped") as early, pubnub(pair) as w:
        await early.expect("welcome")
        await say(one, "cache-wiped", "secret")
        while (frame := await early.hear())["type"] == "join":  # the poller's, which may come after its first answer
            pass
        assert frame["data"] == "secret"
        assert (await told(two, "cache-wiped", cursor, 1))[1] == ["secret"]
        await w.make("boss", secretKey=SIGNING["secretKey"], **at(one))
        await w.call("boss", "deleteMessages", {"channel": "cache-wiped"})
        async with two.socket("cache-wiped") as late, one.socket("cache-wiped") as first_here:
            for newcomer in (late, first_here):
                await newcomer.expect("welcome")
            await say(one, "cache-wiped", "next")
            for newcomer in (late, first_here):
                assert await newcomer.events(1) == ["next"]
        assert (await told(two, "cache-wiped", cursor, 1))[1] == ["next"]


async def test_an_event_that_greets_newcomers_and_is_not_to_be_kept_is_not(pair: list[Daemon]) -> None:
    one, two = pair
    path = f"/publish/{PUBLISH}/{SUBSCRIBE}/0/cache-passing/0/%22gone%22"
    assert (await one.request("GET", path, auth=False, params={"uuid": "sayer", "store": "0"})).status_code == 200
    async with two.socket("cache-passing") as newcomer:
        await newcomer.expect("welcome")
        assert await newcomer.events(1) == ["gone"]
    page = (await two.request("GET", "/history/cache-passing")).json()
    assert page["events"] == []


async def test_a_poll_hears_what_was_said_while_its_node_was_cut_off_from_redis(
    pair: list[Daemon], redis: Redis
) -> None:
    one, two = pair
    channels = "cut.off,cut.quiet"
    cursor, _ = await poll(two, channels, "0")
    heard: list[Any] = []

    async def held() -> None:
        heard.extend((await told(two, channels, cursor, 1))[1])

    async def accepted() -> bool:
        """Once the other is back."""
        path = f"/publish/{PUBLISH}/{SUBSCRIBE}/0/cut.off/0/%22missed%22"
        return (await one.request("GET", path, auth=False, params={"uuid": "sayer"})).status_code == 200

    assert two.process is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held)
        await trio.sleep(0.3)  # it is held
        two.process.send_signal(signal.SIGSTOP)
        redis.command("CLIENT", "KILL", "TYPE", "PUBSUB")
        await until(accepted)
        two.process.send_signal(signal.SIGCONT)
        with trio.fail_after(PATIENCE):
            while not heard:  # noqa: ASYNC110 - a poll has no event
                await trio.sleep(0.01)
    assert heard == ["missed"]


async def test_nothing_is_counted_after_what_is_above_every_serial(pair: list[Daemon]) -> None:
    began = await say(pair[0], "counted", 1)
    later = await say(pair[0], "counted", 2)
    path = f"/v3/history/sub-key/{SUBSCRIBE}/message-counts/counted"
    for since, count in (("1", 2), (began, 1), (later, 0), ("9" * 17, 0), ("1" + "0" * 17, 0), ("9" * 19, 0)):
        answer = await pair[1].request("GET", path, auth=False, params={"timetoken": since, "uuid": "counter"})
        assert answer.json()["channels"] == {"counted": count}, since


async def test_what_is_before_every_serial_is_nothing_and_no_fault(pair: list[Daemon]) -> None:
    await say(pair[0], "before", 1)
    of_history, of_actions = "/v2/history/sub-key", "/v1/message-actions"
    for start in ("0", "1"):
        for path, nothing in (
            (f"{of_history}/{SUBSCRIBE}/channel/before", [[], 0, 0]),
            (f"{of_actions}/{SUBSCRIBE}/channel/before", {"status": 200, "data": []}),
        ):
            answer = await pair[1].request("GET", path, auth=False, params={"start": start, "uuid": "reader"})
            assert answer.json() == nothing, start
        page = (await pair[1].request("GET", f"/history/before?before={start}")).json()
        assert (page["events"], page["gap"]) == ([], False)
