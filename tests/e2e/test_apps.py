"""What an app that is removed while it is used means to its clients, in each protocol's words."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import trio
from trio_websocket import open_websocket_url

from sower.errors import UnknownKey
from tests.e2e.daemon import PATIENCE, Client, running


async def test_the_clients_of_a_removed_app_are_ended_for_good_and_nobody_elses(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        made = (await daemon.request("POST", "/apps", json={})).json()
        key, pubnub = made["key"], f"sub-{made['key']}"
        polled: list[httpx.Response] = []

        async def poll() -> None:
            now = (await daemon.request("GET", "/time/0")).json()[0]
            path = f"/v2/subscribe/{pubnub}/room/0"
            polled.append(await daemon.request("GET", path, auth=False, params={"tt": now, "uuid": "ada"}))

        with trio.fail_after(PATIENCE):
            async with (
                daemon.socket("room", key=key) as theirs,
                daemon.socket("room") as ours,
                open_websocket_url(f"ws://127.0.0.1:{daemon.port}/app/{key}?protocol=7") as pusher,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(poll)
                await theirs.expect("welcome")
                await ours.expect("welcome")
                assert json.loads(await pusher.get_message())["event"] == "pusher:connection_established"
                assert (await daemon.request("GET", "/apps")).json()["apps"][1]["connections"] == 2
                while "sower_held_requests 1.0" not in (await daemon.request("GET", "/metrics")).text:
                    assert not polled
                await daemon.request("DELETE", f"/apps/{made['id']}")
                assert (await theirs.closing())[0] == UnknownKey.close
                assert (await Client(pusher).closing())[0] == 4001  # Pusher's clients do not come back
                await daemon.publish("room", "still")
                assert (await ours.expect("event"))["data"] == "still"
        assert polled[0].json()["m"] == []
        answer = await daemon.request("GET", f"/v2/subscribe/{pubnub}/room/0", auth=False, params={"tt": 0})
        assert (answer.status_code, answer.json()["message"]) == (400, "Invalid Subscribe Key")
