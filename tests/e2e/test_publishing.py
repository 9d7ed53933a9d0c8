"""Publishing over HTTP: batches, pipelines, and order."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import trio

from tests.e2e.daemon import KEY, SECRET, running

PIPELINED = 300


def request(channel: str, data: int) -> bytes:
    body = json.dumps({"channel": channel, "event": "e", "data": data}).encode()
    basic = b64encode(f"{KEY}:{SECRET}".encode())
    head = b"POST /events/publish HTTP/1.1\r\nHost: h\r\nAuthorization: Basic " + basic
    return head + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def test_pipelined_publishes_are_answered_and_stored_in_their_order(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        stream = await trio.open_tcp_stream("127.0.0.1", daemon.port)
        async with trio.open_nursery() as nursery:
            pipeline = b"".join(request(f"kept-{n % 3}", n) for n in range(PIPELINED))
            nursery.start_soon(stream.send_all, pipeline)
            answers = b""
            while answers.count(b"HTTP/1.1 200") < PIPELINED or not answers.endswith(b"]}"):
                answers += await stream.receive_some()
        serials = [
            json.loads(part)["published"][0]["serial"]
            for part in answers.split(b"\r\n\r\n")[1:]
            for part in [part.partition(b"HTTP/1.1")[0]]
        ]
        assert len(set(serials)) == PIPELINED
        for channel in range(3):
            page = (await daemon.request("GET", f"/history/kept-{channel}?limit=1000")).json()
            assert [event["data"] for event in page["events"]] == list(range(channel, PIPELINED, 3))
            assert [event["serial"] for event in page["events"]] == serials[channel::3]


async def test_a_batch_is_checked_whole_before_anything_of_it_is_published(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        events = [{"channel": "kept-a", "event": "e", "data": 1}, {"channel": "kept-a", "event": "", "data": 2}]
        answer = await daemon.request("POST", "/events/publish", json={"events": events})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "bad_event")
        assert (await daemon.request("GET", "/history/kept-a")).json()["events"] == []


async def test_one_event_goes_to_several_channels(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        body = {"channels": ["kept-a", "kept-b", "room"], "event": "e", "data": [1]}
        published = (await daemon.request("POST", "/events/publish", json=body)).json()["published"]
        assert [p["channel"] for p in published] == ["kept-a", "kept-b", "room"]
        for channel in ("kept-a", "kept-b"):
            page = (await daemon.request("GET", f"/history/{channel}")).json()
            assert [event["data"] for event in page["events"]] == [[1]]


async def test_the_same_id_in_a_channel_without_history_is_delivered_once(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("room") as client:
        await client.expect("welcome")
        serials = {await daemon.publish("room", n, id="same") for n in range(3)}
        await daemon.publish("room", "last")
        assert len(serials) == 1
        assert await client.events(2) == [0, "last"]
