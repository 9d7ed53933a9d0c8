"""Crowds: who comes and goes in all ways there are, who is present from many tabs, and who does not read."""

from __future__ import annotations

import json
import socket
from collections import Counter
from urllib.parse import quote

import trio
import trio.testing

from tests.e2e.daemon import KEY
from tests.e2e.followers import Follower, Socket, connect_all
from tests.scenarios.ordering import ABLY
from tests.scenarios.returning import ENDS
from tests.scenarios.stage import Server, Stage, token

VISITS, VISITORS = 1200, 40
USERS, MOVES, MOVERS = 60, 900, 12
STALLED, READERS = 4, 8
LARGE = "x" * 60_000


async def churn(stage: Stage) -> str:
    """Clients of all kinds come, do a little, and go in all ways there are; a neighbour hears every word meant for it."""
    did = Counter[str]()
    neighbour = Follower(stage.port, stage.name("open-neighbour"))
    await neighbour.connect()
    visits = iter(range(VISITS))

    async def visitor() -> None:
        server = Server(stage.port)
        for visit in visits:
            kind = stage.chance.choice(KINDS)
            await kind(stage, stage.name("open-churn", stage.chance.randrange(50)))
            did[kind.__name__] += 1
            if visit % 10 == 0:
                await server.publish(neighbour.channel, visit)
        await server.close()

    with trio.fail_after(240):
        async with trio.open_nursery() as nursery:
            for _ in range(VISITORS):
                nursery.start_soon(visitor)
        await neighbour.until(VISITS // 10)
    assert sorted(neighbour.heard) == list(range(0, VISITS, 10))
    await neighbour.drop()
    return f"{did.total()} visits of {len(did)} kinds"


async def talks(stage: Stage, channel: str) -> None:
    """Publishes on its socket and is acknowledged."""
    client = Socket(stage.port)
    await client.open(f"/ws/{channel}?key={KEY}")
    await client.say({"type": "publish", "event": "n", "data": 1, "id": "1"})
    while (await client.hear())["type"] != "ack":
        pass
    await client.drop(stage.chance.choice(ENDS))


async def breaks_off(stage: Stage, channel: str) -> None:
    """Goes in the middle of a head, of a frame, or of a body."""
    stream = await trio.open_tcp_stream("127.0.0.1", stage.port)
    begun = stage.chance.choice(
        (
            b"GET /ws/" + channel.encode() + b" HTTP/1.1\r\nHost:",
            b"POST /events/publish HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\n{",
            b"",
        )
    )
    if begun:
        await stream.send_all(begun)
        await stream.aclose()
    else:
        client = Socket(stage.port)
        await client.open(f"/ws/{channel}?key={KEY}")
        assert client.stream is not None
        await client.stream.send_all(b"\x81\xfe\x10\x00\0\0\0\0{")
        await client.drop(stage.chance.choice(ENDS))
        await stream.aclose()


async def switches(stage: Stage, channel: str) -> None:
    """One of Pusher's that follows channels and leaves them."""
    client = Socket(stage.port)
    await client.open(f"/app/{KEY}?protocol=7&client=js&version=8.4.0")
    await client.hear()
    for number in range(5):
        await client.say({"event": "pusher:subscribe", "data": {"channel": f"{channel}-{number}"}})
        while (await client.hear())["event"] != "pusher_internal:subscription_succeeded":
            pass
        if number % 2:
            await client.say({"event": "pusher:unsubscribe", "data": {"channel": f"{channel}-{number}"}})
    await client.drop(stage.chance.choice(ENDS))


async def enters(stage: Stage, channel: str) -> None:
    """One of Ably's that is present for somebody, and leaves so or so."""
    client = Socket(stage.port)
    await client.open(f"/?key={quote(ABLY)}&v=6&format=json&clientId=c{stage.chance.randrange(1000)}")
    await client.hear()
    await client.say({"action": 10, "channel": channel})
    await client.say({"action": 14, "channel": channel, "msgSerial": 0, "presence": [{"action": 2, "data": "d"}]})
    while (await client.hear())["action"] != 1:
        pass
    if stage.chance.random() < 0.5:
        await client.say({"action": 12, "channel": channel})
        while (await client.hear())["action"] != 13:
            pass
    await client.say({"action": 7})
    await client.drop(stage.chance.choice(ENDS))


async def polls(stage: Stage, channel: str) -> None:
    """One of PubNub's whose poll is held when it goes."""
    server, user = Server(stage.port), f"u{stage.chance.randrange(10**9)}"
    target = f"/v2/subscribe/sub-{KEY}/{channel}/0?uuid={user}&tt="
    _, body = await server.ask("GET", target + "0", basic=False)
    with trio.move_on_after(stage.chance.uniform(0, 0.05)):
        await server.ask("GET", target + json.loads(body)["t"]["t"], basic=False)
    await server.ask("GET", f"/v2/presence/sub-key/sub-{KEY}/channel/{channel}/leave?uuid={user}", basic=False)
    await server.close()


async def streams(stage: Stage, channel: str) -> None:
    """Server-sent events."""
    stream = await trio.open_tcp_stream("127.0.0.1", stage.port)
    await stream.send_all(f"GET /sse/{channel}?key={KEY} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    await stream.receive_some()
    await stream.aclose()


async def falls_back(stage: Stage, channel: str) -> None:
    """One of Pusher's that no WebSocket reaches, and that may go before it has read anything."""
    stream = await trio.open_tcp_stream("127.0.0.1", stage.port)
    session = f"{stage.chance.randrange(1000):03}/{stage.chance.randrange(10**8):08}"
    kind = stage.chance.choice(("xhr", "xhr_streaming", "xhr_streaming"))
    path = f"/pusher/app/{KEY}/{session}/{kind}?protocol=7&client=js&version=8.6.0"
    await stream.send_all(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n".encode())
    if stage.chance.random() < 0.5:
        await stream.receive_some()
    await stream.aclose()


async def asks(stage: Stage, channel: str) -> None:
    """Requests, good and bad, on one connection."""
    server = Server(stage.port)
    for target in (
        "/channels",
        f"/presence/{channel}",
        "/nowhere",
        "/history/kept-a?limit=1",
        "/history/kept-a?limit=x",
    ):
        status, _ = await server.ask("GET", target)
        assert status < 500, target
    status, _ = await server.ask("GET", "/stats", basic=False)
    assert status in (401, 403, 429), status
    await server.close()


KINDS = (talks, breaks_off, switches, enters, polls, streams, falls_back, asks)


class Observer:
    """Somebody who may see who is present, and keeps the list as any client would."""

    def __init__(self, stage: Stage, channel: str) -> None:
        self.client = Follower(stage.port, channel, f"&token={token(channel, 'observer', 'subscribe')}")
        self.members: set[str] = set()
        self.news = 0

    async def come(self) -> None:
        self.members = set((await self.client.connect())["members"])

    async def watch(self) -> None:
        while True:
            word = await self.client.hear()
            self.news += 1
            if word["type"] == "join":
                assert word["user"] not in self.members, f"{word['user']} joined twice"
                self.members.add(word["user"])
            elif word["type"] == "leave":
                assert word["user"] in self.members, f"{word['user']} left and was not there"
                self.members.remove(word["user"])


async def presence_storm(stage: Stage) -> str:
    """Users come and go with up to three tabs each: one join and one leave for each, and all agree on who is there."""
    channel = stage.name("presence-storm")
    observers = [Observer(stage, channel) for _ in range(3)]
    for observer in observers:
        await observer.come()
    tabs: dict[str, list[Follower]] = {f"user-{number}": [] for number in range(USERS)}
    tokens = {user: token(channel, user) for user in tabs}
    busy: set[str] = set()
    moves = iter(range(MOVES))

    async def mover() -> None:
        for _ in moves:
            user = stage.chance.choice([user for user in tabs if user not in busy])
            busy.add(user)
            if len(tabs[user]) < 3 and stage.chance.random() < 0.55:
                tab = Follower(stage.port, channel, f"&token={tokens[user]}")
                await tab.connect()
                tabs[user].append(tab)
            elif tabs[user]:
                await tabs[user].pop(stage.chance.randrange(len(tabs[user]))).drop(stage.chance.choice(ENDS))
            busy.discard(user)

    async def agreed(expected: set[str]) -> None:
        with trio.fail_after(120):
            while any(observer.members != expected for observer in observers):
                await trio.testing.wait_all_tasks_blocked(0.02)
        status, body = await stage.server.ask("GET", f"/presence/{channel}")
        assert status == 200
        assert {member["user"] for member in json.loads(body)["members"]} == expected

    with trio.fail_after(240):
        async with trio.open_nursery() as watching:
            for observer in observers:
                watching.start_soon(observer.watch)
            async with trio.open_nursery() as moving:
                for _ in range(MOVERS):
                    moving.start_soon(mover)
            here = {user for user, open_tabs in tabs.items() if open_tabs}
            await agreed(here)
            for tab in [tab for open_tabs in tabs.values() for tab in open_tabs]:
                await tab.drop(stage.chance.choice(ENDS))
            await agreed(set())
            watching.cancel_scope.cancel()
    for observer in observers:
        await observer.client.drop()
    return f"{MOVES} moves of {USERS} users, {observers[0].news} joins and leaves, {len(here)} there before all left"


async def slow_clients(stage: Stage) -> str:
    """Who does not read is closed by its bound; who reads gets everything in order, and nobody waits."""
    channel = stage.name("kept-slow")
    stalled = [Follower(stage.port, channel) for _ in range(STALLED)]
    readers = [Follower(stage.port, channel) for _ in range(READERS)]
    await connect_all([*stalled, *readers])
    for client in stalled:
        assert client.stream is not None
        client.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    before, sent = await _slow(stage), 0
    with trio.fail_after(120):
        while await _slow(stage) - before < STALLED:
            for _ in range(4):
                await stage.server.publish(channel, {"n": sent, "pad": LARGE})
                sent += 1
            async with trio.open_nursery() as reading:
                for reader in readers:
                    reading.start_soon(reader.until, sent)
    assert all([said["n"] for said in reader.heard] == list(range(sent)) for reader in readers)
    for client in [*stalled, *readers]:
        await client.drop("reset")
    return f"{STALLED} closed after {sent} messages of 60 kB, {READERS} readers heard all in order"


async def _slow(stage: Stage) -> float:
    return (await stage.metrics()).get("sower_slow_consumers_total", 0.0)
