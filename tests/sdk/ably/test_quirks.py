"""Oddities of Ably's SDKs that the daemon lives with, each by what a user sees of it; the loop on expired tokens is in
test_renewal.py.
"""

from __future__ import annotations

import base64
import json
import signal
import time
from pathlib import Path

import trio
from trio_websocket import open_websocket_url

from tests.sdk.ably.test_auth import NAME, token
from tests.sdk.ably.world import ABLY_KEY, connected, heard, ok, refused, world


async def test_ably_js_drops_an_expired_token_by_itself_once_it_knows_the_daemons_time(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        past = int(time.time() * 1000) - 10_000
        expired = {"token": token(lives=-10), "issued": past - 1000, "expires": past, "capability": '{"*":["*"]}'}
        await ok(script, "rest", client="server", tokenDetails=expired, tokens=[token()])
        await ok(script, "time", client="server")
        assert await ok(script, "history", client="server", channel="room") == [[]]
        assert len(script.told("renewals", client="server")) == 1


async def test_ably_python_takes_its_port_from_the_endpoint_and_another_client_does_its_rest(tmp_path: Path) -> None:
    async with world(tmp_path, sdk="sdk.py") as (_, script):
        await connected(script, "ada")
        await ok(script, "publish", client="ada", channel="room", messages=[{"name": "e"}])
        broken = await script.ask("history", client="ada", channel="room")
        assert "error" in broken, "its REST calls have two ports in their URL"
        await ok(script, "rest", client="server")
        assert [m["name"] for m in (await ok(script, "history", client="server", channel="room"))[0]] == ["e"]
        # Without TLS it refuses to show a key as Basic, before it asks anybody.
        await ok(script, "rest", client="basic", use_token_auth=False)
        assert await refused(script, "history", client="basic", channel="room") == 40103


async def test_history_items_say_who_when_and_over_which_connection_in_both_sdks(tmp_path: Path) -> None:
    for sdk in ("sdk.cjs", "sdk.py"):
        folder = tmp_path / sdk
        folder.mkdir()
        async with world(folder, sdk=sdk) as (_, script):
            ada = await connected(script, "ada", clientId="ada")
            await ok(script, "attach", client="ada", channel="room")
            told = await ok(script, "publish", client="ada", channel="room", messages=[{"name": "e"}])
            live = await heard(script, "ada", "room")
            await ok(script, "rest", client="server")
            (kept,) = (await ok(script, "history", client="server", channel="room"))[0]
            assert kept == live
            assert (kept["user"], kept["connection"], kept["serial"]) == ("ada", ada, told["serials"][0])
            assert kept["id"].startswith(f"{ada}:")
            assert abs(kept["timestamp"] / 1000 - time.time()) < 60


async def test_a_key_that_says_who_it_is_speaks_for_nobody_else_over_rest(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, _):

        async def publish(client_id: str | None) -> int:
            who = {"X-Ably-ClientId": base64.b64encode(b"ada").decode(), "X-Ably-Version": "6"}
            body = [{"name": "e", **({"clientId": client_id} if client_id else {})}]
            answer = await daemon.request(
                "POST", "/channels/room/messages", auth=False, headers=who, json=body, params={"key": ABLY_KEY}
            )
            return 201 if answer.status_code == 201 else answer.json()["error"]["code"]

        assert [await publish(user) for user in (None, "ada", "bob", "*")] == [201, 201, 40012, 40012]
        kept = await daemon.request("GET", "/channels/room/messages", auth=False, params={"key": ABLY_KEY})
        assert [message["clientId"] for message in kept.json()] == ["ada", "ada"]


async def test_a_message_id_that_was_published_before_is_acknowledged_with_the_first_serial(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        await connected(script, "ada")
        await connected(script, "bob")
        await ok(script, "attach", client="ada", channel="room")
        sent = [{"id": "once", "name": "e"}]
        first = await ok(script, "publish", client="ada", channel="room", messages=sent)
        assert await ok(script, "publish", client="bob", channel="room", messages=sent) == first
        await ok(script, "publish", client="bob", channel="room", messages=[{"name": "last"}])
        assert [(await heard(script, "ada", "room"))["name"] for _ in range(2)] == ["e", "last"]


async def test_what_others_call_as_a_connection_calls_its_messages_is_kept_once_and_none_of_its_own(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (daemon, script):
        ada = await connected(script, "ada")
        await connected(script, "eve")
        await ok(script, "attach", client="ada", channel="room")
        await ok(script, "rest", client="server")
        forged = [{"id": f"{ada}:0:0", "name": "forged"}]
        for client in ("eve", "server"):
            await ok(script, "publish", client=client, channel="room", messages=forged)
        event = {"channel": "room", "event": "order", "id": "order-123456:1:2"}
        for _ in range(2):
            assert (await daemon.request("POST", "/events/publish", json=event)).status_code == 200
        await ok(script, "publish", client="ada", channel="room", messages=[{"name": "own"}])
        pages = await ok(script, "history", client="ada", channel="room", params={"direction": "forwards"})
        first, order, own = ((m["name"], m["id"]) for m in pages[0])
        assert (first, order) == (("forged", f"{ada}:0:0"), ("order", "order-123456:1:2"))
        assert own == ("own", f"{ada}:0:0")


async def test_a_message_is_passed_on_to_another_channel_as_it_came(tmp_path: Path) -> None:
    async with world(tmp_path) as (_, script):
        ada = await connected(script, "ada")
        await connected(script, "bob")
        await ok(script, "attach", client="bob", channel="in")
        await ok(script, "attach", client="bob", channel="out")
        await ok(script, "publish", client="ada", channel="in", messages=[{"name": "news"}])
        came = await heard(script, "bob", "in")
        for _ in range(2):
            await ok(
                script, "publish", client="bob", channel="out", messages=[{"id": came["id"], "name": came["name"]}]
            )
        await ok(script, "publish", client="bob", channel="out", messages=[{"name": "last"}])
        told = [await heard(script, "bob", "out") for _ in range(2)]
        assert [(m["name"], m["id"]) for m in told] == [("news", f"{ada}:0:0"), ("last", told[1]["id"])]


async def test_live_order_and_history_are_one_order_whoever_publishes(tmp_path: Path) -> None:
    async with world(tmp_path, "msgpack") as (_, script):
        for client in ("ada", "bob", "ear", "eve"):
            await connected(script, client)
        for client in ("ear", "eve"):
            await ok(script, "attach", client=client, channel="room")
        for client in ("ada", "bob"):
            await script.do("burst", client=client, channel="room", count=50)
        heards = {c: [(await heard(script, c, "room"))["id"] for _ in range(100)] for c in ("ear", "eve")}
        pages = await ok(script, "history", client="ear", channel="room", params={"direction": "forwards"})
        assert heards["ear"] == heards["eve"] == [message["id"] for page in pages for message in page]


async def test_members_of_a_lost_connection_stay_as_long_as_it_asked_and_re_enter_when_it_comes_back(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (daemon, script):
        short = {"transportParams": {"remainPresentFor": "1000"}}
        await connected(script, "gone", clientId="gone", disconnectedRetryTimeout=60_000, **short)
        await connected(script, "back", clientId="back", disconnectedRetryTimeout=200)
        await connected(script, "ear", disconnectedRetryTimeout=200)
        for client in ("gone", "back", "ear"):
            await ok(script, "attach", client=client, channel="room")
        await script.do("watch", client="ear", channel="room")
        for client in ("gone", "back"):
            await ok(script, "enter", client=client, channel="room", data="here")
            await script.hear("presence", client="ear")
        # A drop alone has ably-js come back at once, so the one that is not to is told to close its socket for good.
        began = time.monotonic()
        await script.do("vanish", client="gone")
        left = (await script.hear("presence", client="ear"))["presence"]
        assert (left["action"], left["user"], left["data"]) == ("leave", "gone", "here")
        assert 0.9 < time.monotonic() - began < 14, "and not the 15 s of others"
        # A killed daemon knows no members; the SDK enters its own again, and nobody is there twice.
        await daemon.stop(signal.SIGKILL)
        await daemon.start(keep_config=True)
        for client in ("back", "ear"):
            await script.hear("change", client=client, change="attached", resumed=True)
        await ok(script, "rest", client="server")
        while (members := await ok(script, "members", client="server", channel="room")) == []:
            pass
        assert [(member["user"], member["data"]) for member in members] == [("back", "here")]


async def test_who_is_shown_no_members_is_told_of_its_own_and_enters_again_when_the_daemon_was_killed(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as (daemon, script):
        may = json.dumps({"room": ["presence", "publish"]})
        own = token(**{"x-ably-capability": may, "x-ably-clientId": "ada"})
        await connected(script, "ada", token=own, disconnectedRetryTimeout=200)
        await ok(script, "attach", client="ada", channel="room")
        await script.do("watch", client="ada", channel="room")
        await ok(script, "enter", client="ada", channel="room", data="here")
        told = (await script.hear("presence", client="ada"))["presence"]
        assert (told["action"], told["user"], told["data"]) == ("enter", "ada", "here")
        await daemon.stop(signal.SIGKILL)
        await daemon.start(keep_config=True)

        async def members() -> list[str]:
            asked = {"auth": False, "params": {"key": ABLY_KEY}}
            return [m["data"] for m in (await daemon.request("GET", "/channels/room/presence", **asked)).json()]

        with trio.fail_after(60):
            while await members() != ["here"]:
                pass


async def test_a_token_request_over_plain_http_needs_neither_sdk_nor_version(tmp_path: Path) -> None:
    async with world(tmp_path) as (daemon, _):
        asked = {"keyName": NAME, "clientId": "ada", "ttl": None, "capability": ""}
        answer = await daemon.request(
            "POST", f"/keys/{NAME}/requestToken", auth=False, json=asked, params={"key": ABLY_KEY}
        )
        assert (answer.status_code, answer.json()["clientId"]) == (201, "ada")
        assert "issued" in answer.json(), "ably-js knows TokenDetails by it"


async def test_who_asks_to_rewind_before_it_heard_that_it_is_attached_is_given_what_it_asked_for(
    tmp_path: Path,
) -> None:
    """As ably-js does with `subscribe` and, right after it, `setOptions`."""
    async with world(tmp_path) as (daemon, script):
        await connected(script, "ada")
        for n in range(3):
            await ok(script, "publish", client="ada", channel="room", messages=[{"name": str(n)}])
        address = f"ws://127.0.0.1:{daemon.port}/?v=6&key={ABLY_KEY}"
        with trio.fail_after(60):
            async with open_websocket_url(address) as socket:
                for params in ({}, {"rewind": "2"}, {"rewind": "2"}):
                    await socket.send_message(json.dumps({"action": 10, "channel": "room", "params": params}))
                told: list[str] = []
                while len(told) < 2:
                    told += [m["name"] for m in json.loads(await socket.get_message()).get("messages", ())]
        assert told == ["1", "2"]


async def test_what_is_not_of_its_type_is_refused_alone_and_numbers_in_params_are_read(tmp_path: Path) -> None:
    """JavaScript's SDK sends a name that is a number as one, and params as they were given."""
    async with world(tmp_path) as (_, script):
        await connected(script, "ada")
        for name in ("0", 1, "2"):
            sent = await script.ask("publish", client="ada", channel="room", messages=[{"name": name}])
            assert sent.get("error", {}).get("code") == (40000 if name == 1 else None)
        attached = await ok(script, "attach", client="ada", channel="room", options={"params": {"rewind": 1}})
        assert attached["params"] == {"rewind": "1"}
        assert (await heard(script, "ada", "room"))["name"] == "2"
        assert [told["state"] for told in script.told("state")] == ["connecting"]
