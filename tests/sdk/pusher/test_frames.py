"""What no SDK sends: each malformed frame gets its documented error, and the process and the neighbours live."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path

import trio
from trio_websocket import ConnectionClosed, open_websocket_url

from tests.e2e.daemon import KEY, Daemon
from tests.sdk.pusher.world import APP, RULES, Socket, daemon_running, established, sign, socket


async def test_who_is_not_let_in_is_told_why_by_an_error_and_a_close_with_the_same_code(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP) as daemon:
        for key, query, code in (
            ("nobody", "protocol=7", 4001),
            (KEY, "", 4008),
            (KEY, "protocol=", 4008),
            (KEY, "protocol=4", 4007),
            (KEY, "protocol=8", 4007),
            (KEY, "protocol=7&version=%00", 4006),
            (KEY, "protocol=7&version=" + "9" * 65, 4006),
        ):
            async with socket(daemon, query, key) as client:
                assert (await client.expect("pusher:error"))["data"]["code"] == code
                assert await client.closing() == code


async def test_a_page_of_another_origin_is_told_4009_so_that_its_sdk_does_not_come_back(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP, server='origins = ["https://good.example"]') as daemon:
        for origin, code in (("https://good.example", None), ("https://bad.example", 4009)):
            url, headers = f"ws://127.0.0.1:{daemon.port}/app/{KEY}?protocol=7", [(b"Origin", origin.encode())]
            async with open_websocket_url(url, extra_headers=headers) as connection:
                client = Socket(connection)
                if code is None:
                    await client.expect("pusher:connection_established")
                else:
                    assert (await client.expect("pusher:error"))["data"]["code"] == code
                    assert await client.closing() == code


async def test_protocols_5_to_7_are_greeted_also_with_parameters_that_nobody_knows(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP) as daemon:
        for protocol in (5, 6, 7):
            async with socket(daemon, f"protocol={protocol}&client=Pysher&version=0.6.0&flash=false&x=y") as client:
                data = json.loads((await client.expect("pusher:connection_established"))["data"])
                assert data["activity_timeout"] == 120
                secret, dot, number = data["socket_id"].partition(".")
                assert (secret.isdigit(), dot, number.isdigit()) == (True, ".", True)


async def test_an_app_that_is_full_says_4004(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP + "connections = 1\n") as daemon, established(daemon):
        async with socket(daemon) as second:
            assert (await second.expect("pusher:error"))["data"]["code"] == 4004
            assert await second.closing() == 4004


async def test_a_silent_client_is_closed_with_4201(tmp_path: Path) -> None:
    session = '[session]\nping_every = "200ms"\npong_within = "200ms"\n'
    async with daemon_running(tmp_path, session + APP) as daemon:
        async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as stream:
            head = f"GET /app/{KEY}?protocol=7 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            await stream.send_all(
                (head + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n").encode()
            )
            heard = b""
            with trio.fail_after(60):
                while b"\x10\x69" not in heard:  # 4201
                    heard += await stream.receive_some()
            assert b'"code":4201' in heard


MALFORMED = [
    "",
    "null",
    "[]",
    "{}",
    "no JSON",
    '{"event":5}',
    '{"event":"pusher:nothing"}',
    '{"event":"pusher_internal:member_added","channel":"presence-a","data":{}}',
    '{"event":"not-a-client-event","channel":"private-a","data":1}',
    '{"event":"pusher:subscribe"}',
    '{"event":"pusher:subscribe","data":null}',
    '{"event":"pusher:subscribe","data":{"channel":5}}',
    '{"event":"pusher:subscribe","data":"no JSON"}',
    '{"event":"pusher:unsubscribe"}',
    '{"event":"client-a"}',
    '{"event":"client-a","channel":"not allowed","data":1}',
    '{"event":"client-a","channel":"private-elsewhere","data":1}',
    '{"event":"client-' + "a" * 200 + '","channel":"private-a","data":1}',
    '{"event":"pusher:ping","data":' + "[" * 20_000,
    '{"event":"client-a","channel":"private-a","data":"\\ud800"}',
]


async def test_a_malformed_frame_is_told_43xx_without_a_channel_and_the_socket_goes_on(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP) as daemon:
        for frame in MALFORMED:
            async with established(daemon) as client:
                await client.subscribe("private-a")
                await client.connection.send_message(frame)
                told = await client.expect("pusher:error")
                assert told["data"]["code"] in (4300, 4301), frame
                assert told["data"]["message"], frame
                assert "channel" not in told
                await client.send("pusher:ping")
                await client.expect("pusher:pong")


async def test_a_channel_name_that_is_not_allowed_is_refused_on_that_channel(tmp_path: Path) -> None:
    names = ("", "with space", "slash/", "#other", "#server-to-user-", "é", "x" * 201, "[meta]activity", "a\x00")
    async with daemon_running(tmp_path, APP) as daemon, established(daemon) as client:
        for channel in names:
            await client.send("pusher:subscribe", {"channel": channel})
            refused = await client.expect("pusher:subscription_error")
            assert (refused["channel"], refused["data"]["status"]) == (channel, 400)


async def test_a_member_that_is_not_allowed_is_refused_on_its_channel(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP) as daemon, established(daemon) as client:
        for channel_data, kind in (
            ("no JSON", "SubscriptionError"),
            ("[]", "SubscriptionError"),
            ('{"user_info":{}}', "SubscriptionError"),
            ('{"user_id":""}', "SubscriptionError"),
            ('{"user_id":"' + "x" * 129 + '"}', "SubscriptionError"),
            ('{"user_id":"a","user_info":"' + "x" * 1100 + '"}', "LimitReached"),
        ):
            refused = await client.subscribe("presence-a", channel_data)
            assert (refused["event"], refused["data"]["type"]) == ("pusher:subscription_error", kind), channel_data


async def test_a_frame_before_the_greeting_is_answered_after_it(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP) as daemon, socket(daemon) as client:
        await client.send("pusher:ping")
        await client.expect("pusher:connection_established")
        await client.expect("pusher:pong")


async def test_data_of_the_protocols_own_events_may_be_a_string(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP) as daemon, established(daemon) as client:
        await client.send("pusher:subscribe", '{"channel":"news"}')
        assert await client.expect("pusher_internal:subscription_succeeded") == {
            "event": "pusher_internal:subscription_succeeded",
            "channel": "news",
            "data": "{}",
        }
        for data in ("", "{}", {}):
            await client.send("pusher:ping", data)
            assert await client.hear() == {"event": "pusher:pong", "data": "{}"}


async def test_subscribing_twice_is_answered_twice_and_counted_once(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP) as daemon, established(daemon) as client, established(daemon) as other:
        await client.subscribe("presence-a", '{"user_id":"ada"}')
        await other.subscribe("presence-a", '{"user_id":"bob"}')
        await client.expect("pusher_internal:member_added")
        assert (await other.subscribe("presence-a", '{"user_id":"bob"}'))[
            "event"
        ] == "pusher_internal:subscription_succeeded"
        await other.send("client-a", 1, channel="presence-a")
        assert (await client.expect("client-a"))["data"] == 1
        await other.send("pusher:unsubscribe", {"channel": "presence-a"})
        assert json.loads((await client.expect("pusher_internal:member_removed"))["data"]) == {"user_id": "bob"}
        listed = (await daemon.request("GET", "/channels")).json()["channels"]
        assert [(c["channel"], c["subscribers"], c["members"]) for c in listed] == [("presence-a", 1, 1)]


async def test_who_goes_on_with_malformed_frames_is_closed_and_told_not_to_come_back(tmp_path: Path) -> None:
    async with daemon_running(tmp_path, APP) as daemon, established(daemon) as client:
        for _ in range(11):  # limits.violations is 10
            await client.connection.send_message("no JSON")
        assert await client.closing() == 4009


async def test_random_frames_neither_end_the_daemon_nor_reach_the_neighbours(tmp_path: Path) -> None:
    """Whatever a client sends, the daemon lives, and another socket of the same channel hears published events alone."""
    async with daemon_running(tmp_path, APP + RULES) as daemon, established(daemon) as neighbour:
        await neighbour.subscribe("presence-room", '{"user_id":"ada"}')
        for seed in range(20):
            await _babble(daemon, random.Random(seed))
        await daemon.publish("presence-room", 1, event="end")
        while (frame := await neighbour.hear())["event"] != "end":
            assert frame["event"] in ("pusher_internal:member_added", "pusher_internal:member_removed", "client-a"), (
                frame
            )
        assert daemon.alive


async def _babble(daemon: Daemon, rng: random.Random) -> None:
    async with established(daemon) as client:
        data = '{"user_id":"mallory"}'
        good = [
            {"event": "pusher:subscribe", "data": {"channel": "presence-room", "auth": f"{KEY}:{sign(f'{client.id}:presence-room:{data}')}", "channel_data": data}},
            {"event": "client-a", "channel": "presence-room", "data": {"n": 1}},
            {"event": "pusher:signin", "data": {"auth": f"{KEY}:0", "user_data": "{}"}},
            {"event": "pusher:unsubscribe", "data": {"channel": "presence-room"}},
            {"event": "pusher:ping", "data": {}},
        ]  # fmt: skip
        with suppress(ConnectionClosed):
            for _ in range(30):
                await client.connection.send_message(_mutated(rng, rng.choice(good)))
            await client.send("pusher:ping", "end")
            while (await client.hear())["event"] != "pusher:pong":
                pass
        reason = client.connection.closed
        assert reason is None or reason.code in (4009, 4100), reason


def _mutated(rng: random.Random, frame: dict[str, object]) -> str | bytes:
    text = list(json.dumps(frame))
    for _ in range(rng.choice((0, 0, 1, 1, 3, 10))):
        at = rng.randrange(len(text))
        how = rng.randrange(4)
        if how == 0:
            del text[at:]
            text.append("}")
        elif how == 1:
            text[at] = rng.choice('{}[]",:\\ \x00é5')
        elif how == 2:
            text.insert(at, rng.choice(("null", "{}", '"', "9" * 400, "\\u0000")))
        else:
            text[at : at + 3] = []
            text = text or ["x"]
    whole = "".join(text)
    return whole.encode() if rng.random() < 0.05 else whole
