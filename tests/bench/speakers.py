"""How a message with a number is published in each protocol, by hand, so that every acknowledgement is seen.

Pusher's and PubNub's publishes have no id: what is in doubt must not be sent again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from trio_websocket import WebSocketConnection, open_websocket_url

from tests.bench.dialects import PUSHER, Target

CONNECTS_WITHIN = 2.0
"""Seconds for a socket's handshake. trio-websocket waits this long when its server dies before it could ask."""


class Refused(Exception):
    """The daemon answered that it did not take a publish."""


Speak = Callable[[httpx.AsyncClient, Target, str, int], Awaitable[str]]
"""(client, target, channel, number) -> the serial, "" where the protocol does not tell. Raises Refused."""


def data(number: int) -> dict[str, int]:
    """What a message with a number says."""
    return {"n": number}


def number_in(said: Any) -> int:
    """The number in a message's data, whichever protocol it came by."""
    return int((json.loads(said) if isinstance(said, str) else said)["n"])


async def native(client: httpx.AsyncClient, target: Target, channel: str, number: int) -> str:
    body = {"channel": channel, "event": "tick", "data": data(number), "id": f"n{number}"}
    return _taken(await client.post("/events/publish", json=body))["published"][0]["serial"]


async def ably(client: httpx.AsyncClient, target: Target, channel: str, number: int) -> str:
    body = {"name": "tick", "data": json.dumps(data(number)), "encoding": "json", "id": f"n{number}"}
    key = (f"1001.{target.key}", target.secret)
    answer = await client.post(f"/channels/{channel}/messages", json=body, auth=key)
    return _taken(answer)["serials"][0].partition("@")[0]


async def pusher(client: httpx.AsyncClient, target: Target, channel: str, number: int) -> str:
    body = json.dumps({"name": "tick", "channels": [channel], "data": json.dumps(data(number))}).encode()
    assert PUSHER.sign is not None
    path = PUSHER.sign(target, "/apps/1001/events", body)
    _taken(await client.post(path, content=body, headers={"Content-Type": "application/json"}, auth=None))
    return ""


async def pubnub(client: httpx.AsyncClient, target: Target, channel: str, number: int) -> str:
    said = json.dumps(data(number), separators=(",", ":"))
    path = f"/publish/pub-{target.key}/sub-{target.key}/0/{channel}/0/{said}"
    query = {"uuid": "killed", "timestamp": str(int(time.time()))}
    return _taken(await client.get(path, params=query, auth=None))[2]


OVER_HTTP: dict[str, Speak] = {"native": native, "ably": ably, "pusher": pusher, "pubnub": pubnub}

WITHOUT_ID = ("pusher", "pubnub")
"""What these say is never said again."""


class AblySocket:
    """Publishes over one of Ably's sockets, one message at a time."""

    def __init__(self, target: Target) -> None:
        key = f"1001.{target.key}:{target.secret}"
        url = f"ws://{target.host}:{target.port}/?v=6&format=json&key={key}"
        self._opening = open_websocket_url(url, connect_timeout=CONNECTS_WITHIN)
        self._connection: WebSocketConnection | None = None
        self._sent = 0

    async def __aenter__(self) -> AblySocket:
        self._connection = await self._opening.__aenter__()
        return self

    async def __aexit__(self, *told: Any) -> bool | None:
        return await self._opening.__aexit__(*told)

    async def publish(self, channel: str, number: int) -> str:
        """Returns the serial. Raises Refused."""
        assert self._connection is not None
        message = {"name": "tick", "data": json.dumps(data(number)), "encoding": "json", "id": f"n{number}"}
        frame = {"action": 15, "channel": channel, "msgSerial": self._sent, "messages": [message]}
        await self._connection.send_message(json.dumps(frame))
        while True:
            answer = json.loads(await self._connection.get_message())
            if answer["action"] == 2 or answer["action"] == 9:
                raise Refused(json.dumps(answer))
            if answer["action"] == 1 and answer["msgSerial"] + answer["count"] > self._sent:
                self._sent += 1
                return answer["res"][-1]["serials"][0].partition("@")[0]


def _taken(answer: httpx.Response) -> Any:
    if answer.status_code not in (200, 201):
        raise Refused(f"a publish was refused with {answer.status_code}: {answer.text}")
    return answer.json()
