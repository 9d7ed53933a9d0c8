"""One order: everybody on a channel hears the same messages in the same order, each once, whatever they speak."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import trio

from sower.core.grants import sign
from tests.e2e.daemon import KEY, SECRET
from tests.e2e.followers import Follower, Socket, connect_all
from tests.scenarios.stage import Server, Stage

FOLLOWERS, PUBLISHERS, EACH = 100, 4, 60
OF_EACH_DIALECT, EACH_DIALECT = 8, 30
ABLY = f"1001.{KEY}:{SECRET}"

Said = tuple[str, int]
"""Who published it, and its number."""


async def fan_out(stage: Stage) -> str:
    """Servers and clients publish at once on one channel: all hear all in one order, each publisher's in its own."""
    channel = stage.name("kept-fan")
    followers = [Follower(stage.port, channel) for _ in range(FOLLOWERS)]
    await connect_all(followers)

    async def serve(number: int) -> None:
        server = Server(stage.port)
        for n in range(EACH):
            await server.publish(channel, [f"server {number}", n])
        await server.close()

    async def speak(number: int) -> None:
        client = Socket(stage.port)
        await client.open(f"/ws/{channel}?key={KEY}")
        for n in range(EACH):
            await client.say({"type": "publish", "event": "n", "data": [f"client {number}", n], "id": f"{number} {n}"})
            if stage.chance.random() < 0.2:
                await trio.sleep(0.002)
        acknowledged = 0
        while acknowledged < EACH:
            acknowledged += (await client.hear())["type"] == "ack"
        await client.drop("close")

    total = 2 * PUBLISHERS * EACH
    async with trio.open_nursery() as nursery:
        for number in range(PUBLISHERS):
            nursery.start_soon(serve, number)
            nursery.start_soon(speak, number)
        for follower in followers:
            nursery.start_soon(follower.until, total)
    order = [(who, n) for who, n in followers[0].heard]
    check_order(order, 2 * PUBLISHERS, EACH)
    assert all(follower.heard == followers[0].heard for follower in followers), "not all heard the same order"
    for follower in followers:
        await follower.drop()
    return f"{total} messages of {2 * PUBLISHERS} publishers to {FOLLOWERS} clients, one order"


def check_order(order: list[Said], publishers: int, each: int) -> None:
    """Each publisher's messages are all there, once and in its order."""
    by: dict[str, list[int]] = {}
    for who, n in order:
        by.setdefault(who, []).append(n)
    assert len(by) == publishers, sorted(by)
    for who, numbers in by.items():
        assert numbers == list(range(each)), f"{who}'s arrived as {numbers}"


def _read(data: Any) -> Said:
    who, n = json.loads(data) if isinstance(data, str) else data
    return who, n


class Listener:
    """Somebody of one dialect on a channel."""

    def __init__(self, stage: Stage, channel: str) -> None:
        self.stage = stage
        self.channel = channel
        self.heard: list[Said] = []

    async def join(self) -> None:
        """Be there: what is published from now on is heard."""

    async def listen(self, count: int) -> None:
        """Hear until so many were heard, then go."""


class Native(Listener):
    async def join(self) -> None:
        self.client = Follower(self.stage.port, self.channel)
        await self.client.connect()

    async def listen(self, count: int) -> None:
        await self.client.until(count)
        self.heard = [_read(data) for data in self.client.heard]
        await self.client.drop(self.stage.chance.choice(("reset", "end", "close")))


class Pusher(Listener):
    async def join(self) -> None:
        self.client = Socket(self.stage.port)
        await self.client.open(f"/app/{KEY}?protocol=7&client=js&version=8.4.0")
        await self.client.hear()
        await self.client.say({"event": "pusher:subscribe", "data": {"channel": self.channel}})
        assert (await self.client.hear())["event"] == "pusher_internal:subscription_succeeded"

    async def listen(self, count: int) -> None:
        while len(self.heard) < count:
            self.heard.append(_read((await self.client.hear())["data"]))
        await self.client.drop("close")


class Ably(Listener):
    async def join(self) -> None:
        self.client = Socket(self.stage.port)
        await self.client.open(f"/?key={quote(ABLY)}&v=6&format=json")
        assert (await self.client.hear())["action"] == 4
        await self.client.say({"action": 10, "channel": self.channel})
        assert (await self.client.hear())["action"] == 11

    async def listen(self, count: int) -> None:
        while len(self.heard) < count:
            frame = await self.client.hear()
            if frame["action"] == 15:
                self.heard += [_read(message["data"]) for message in frame["messages"]]
        await self.client.drop("end")


class PubNub(Listener):
    async def join(self) -> None:
        self.server = Server(self.stage.port)
        self.at = await self._poll("0")

    async def _poll(self, at: str) -> str:
        target = f"/v2/subscribe/sub-{KEY}/{self.channel}/0?tt={at}&uuid=u-{id(self)}"
        status, body = await self.server.ask("GET", target, basic=False)
        assert status == 200, body
        answer = json.loads(body)
        self.heard += [_read(message["d"]) for message in answer["m"]]
        return answer["t"]["t"]

    async def listen(self, count: int) -> None:
        while len(self.heard) < count:
            self.at = await self._poll(self.at)
        leave = f"/v2/presence/sub-key/sub-{KEY}/channel/{self.channel}/leave?uuid=u-{id(self)}"
        assert (await self.server.ask("GET", leave, basic=False))[0] == 200
        await self.server.close()


class ServerSent(Listener):
    async def join(self) -> None:
        self.stream = await trio.open_tcp_stream("127.0.0.1", self.stage.port)
        await self.stream.send_all(f"GET /sse/{self.channel}?key={KEY} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
        self.text = b""
        while b"event: welcome" not in self.text:
            self.text += await self.stream.receive_some()

    async def listen(self, count: int) -> None:
        while self.text.count(b"\nevent: event") + self.text.startswith(b"event: event") < count or not (
            self.text.endswith(b"\n\n")
        ):
            self.text += await self.stream.receive_some()
        for line in self.text.decode().splitlines():
            if line.startswith("data:") and '"type":"event"' in line:
                self.heard.append(_read(json.loads(line[5:])["data"]))
        await self.stream.aclose()


async def mixed_dialects(stage: Stage) -> str:
    """Every dialect publishes on one channel and listens to it: the same messages, the same order, each once."""
    channel = stage.name("kept-mixed")
    listeners = [
        kind(stage, channel) for kind in (Native, Pusher, Ably, PubNub, ServerSent) for _ in range(OF_EACH_DIALECT)
    ]
    publishers = (native_server, native_client, pusher_server, ably_client, pubnub_client)
    total = len(publishers) * EACH_DIALECT
    async with trio.open_nursery() as joining:
        for listener in listeners:
            joining.start_soon(listener.join)
    async with trio.open_nursery() as nursery:
        for publish in publishers:
            nursery.start_soon(publish, stage, channel)
        for listener in listeners:
            nursery.start_soon(listener.listen, total)
    check_order(listeners[0].heard, len(publishers), EACH_DIALECT)
    for listener in listeners:
        assert listener.heard == listeners[0].heard, f"{type(listener).__name__} heard {listener.heard}"
    return f"{total} messages of 5 dialects to {len(listeners)} listeners of 5, one order"


Publish = Callable[[Stage, str], Awaitable[None]]


async def native_server(stage: Stage, channel: str) -> None:
    server = Server(stage.port)
    for n in range(EACH_DIALECT):
        await server.publish(channel, ["native server", n])
    await server.close()


async def native_client(stage: Stage, channel: str) -> None:
    client = Socket(stage.port)
    await client.open(f"/ws/{channel}?key={KEY}")
    for n in range(EACH_DIALECT):
        await client.say({"type": "publish", "event": "n", "data": ["native client", n], "id": str(n)})
        while (await client.hear())["type"] != "ack":
            pass
    await client.drop("close")


async def pusher_server(stage: Stage, channel: str) -> None:
    server = Server(stage.port)
    for n in range(EACH_DIALECT):
        body = {"name": "n", "channels": [channel], "data": json.dumps(["pusher", n])}
        digest = hashlib.md5(json.dumps(body).encode(), usedforsecurity=False).hexdigest()
        query = f"auth_key={KEY}&auth_timestamp={int(time.time())}&auth_version=1.0&body_md5={digest}"
        signature = sign(SECRET.encode(), f"POST\n/apps/1001/events\n{query}")
        target = f"/apps/1001/events?{query}&auth_signature={signature}"
        status, answer = await server.ask("POST", target, body, basic=False)
        assert status == 200, answer
    await server.close()


async def ably_client(stage: Stage, channel: str) -> None:
    client = Socket(stage.port)
    await client.open(f"/?key={quote(ABLY)}&v=6&format=json&echo=false")
    await client.hear()
    for n in range(EACH_DIALECT):
        data = {"name": "n", "data": json.dumps(["ably", n])}
        await client.say({"action": 15, "channel": channel, "msgSerial": n, "messages": [data]})
        assert (await client.hear())["action"] == 1
    await client.drop("close")


async def pubnub_client(stage: Stage, channel: str) -> None:
    server = Server(stage.port)
    for n in range(EACH_DIALECT):
        said = quote(json.dumps(["pubnub", n]))
        target = f"/publish/pub-{KEY}/sub-{KEY}/0/{channel}/0/{said}?uuid=publisher"
        status, answer = await server.ask("GET", target, basic=False)
        assert status == 200, answer
    await server.close()
