"""Floods: of wrong credentials, connections, subscriptions, publishes, pings and forged tokens. All are bounded, none hurts others."""

from __future__ import annotations

import json
import os
import statistics
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import quote

import trio
import trio.testing

from tests.abuse.credentials import ABLY, FORGED, SUB, ably, basic, http, pubnub, trigger
from tests.e2e.daemon import CONFIG, KEY, PATIENCE, SECRET, Daemon, running
from tests.e2e.followers import Follower, Socket
from tests.e2e.raw import connection, masked
from tests.scenarios.leaks import memory
from tests.scenarios.stage import Server

LIMITS = """
[limits]
refusals = "1/m burst 8"
publishes = "1/m burst 30"
subscriptions = 50
frames = "1/s burst 200"
client_events = "1/m burst 20"
violations = 5
"""

GROWTH = 8 * 1024 * 1024

HELD_UP = 3.0
"""Seconds that a publish may take beside floods, on a machine with much else to do; who is held up waits for their end."""

Attempt = Callable[[Daemon, str], Awaitable[str]]

WRONG: dict[str, Attempt] = {
    "a secret": lambda d, ip: http(d, "GET", "/channels", Authorization=basic(KEY, FORGED), X_Forwarded_For=ip),
    "Pusher's signature": lambda d, ip: http(d, "POST", *trigger(secret=FORGED), X_Forwarded_For=ip),
    "Ably's key": lambda d, ip: http(
        d, "GET", "/channels/a/messages", Authorization=basic(ABLY, FORGED), X_Forwarded_For=ip
    ),
    "Ably's token": lambda d, ip: http(
        d, "GET", "/channels/a/messages", Authorization=f"Bearer {ably(FORGED)}", X_Forwarded_For=ip
    ),
    "PubNub's token": lambda d, ip: http(
        d, "GET", f"/v2/history/sub-key/{SUB}/channel/a?auth={quote(pubnub(FORGED))}&uuid=u", X_Forwarded_For=ip
    ),
}


async def test_after_so_many_wrong_credentials_an_address_is_told_to_wait_in_every_dialect(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + LIMITS, 'trusted_proxies = ["127.0.0.1"]') as daemon:
        for number, (name, attempt) in enumerate(WRONG.items()):
            said = Counter[str]()
            for _ in range(14):
                said[(await attempt(daemon, f"10.0.0.{number}"))[:3]] += 1
            refused = said.pop("401", 0) + said.pop("403", 0)
            assert 8 <= refused <= 9, (name, refused, said)
            assert said.total() == 14 - refused, name
            assert set(said) == {"429"}, (name, said)
            good = await http(
                daemon, "GET", "/channels", Authorization=basic(KEY, SECRET), X_Forwarded_For=f"10.0.0.{number}"
            )
            assert good.startswith("200"), "who shows the right secret is let in"


async def test_sockets_with_wrong_tokens_count_as_the_rest(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + LIMITS) as daemon:
        codes = Counter[str]()
        for _ in range(30):
            socket = Socket(daemon.port)
            await socket.open(f"/ws/private-a?key={KEY}&token=nonsense")
            codes[(await socket.hear())["code"]] += 1
            await socket.drop()
        assert codes["bad_token"] in (8, 9)
        assert codes["rate_limited"] == 30 - codes["bad_token"]


async def test_a_flood_of_connections_is_answered_by_429_and_other_work_goes_on(tmp_path: Path) -> None:
    async with (
        running(tmp_path, CONFIG + '[limits]\nconnects = "1/m burst 30"\n') as daemon,
        daemon.socket("room") as neighbour,
    ):
        await neighbour.expect("welcome")
        server, told = Server(daemon.port), Counter[bytes]()
        await server.publish("room", "before")

        async def come() -> None:
            try:
                async with connection(daemon) as raw:
                    await raw.send(b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
                    told[(await raw.rest())[9:12] or b"reset"] += 1
            except trio.BrokenResourceError:
                told[b"reset"] += 1  # it was turned away before it spoke

        async with trio.open_nursery() as nursery:
            for _ in range(150):
                nursery.start_soon(come)
        assert 20 <= told[b"200"] <= 30, told
        assert told[b"429"] > 0
        assert told[b"429"] + told[b"reset"] + told[b"200"] == 150, told
        await server.publish("room", "after")
        assert await neighbour.events(2) == ["before", "after"]
        await server.close()


async def test_connections_in_all_have_a_cap_and_leave_room_again(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + "[limits]\nconnections = 40\n") as daemon:
        clients = [Follower(daemon.port, "room") for _ in range(40)]
        for client in clients:
            await client.connect()
        async with connection(daemon) as refused:
            heard = await refused.rest()
        assert heard.startswith(b"HTTP/1.1 503 ")
        assert b"limits.connections" in heard
        await clients.pop().drop("close")
        with trio.fail_after(PATIENCE):
            while not (await _connects(daemon)):
                await trio.testing.wait_all_tasks_blocked(0.01)


async def _connects(daemon: Daemon) -> bool:
    async with connection(daemon) as raw:
        await raw.send(b"GET /health/live HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        return (await raw.rest()).startswith(b"HTTP/1.1 200 ")


async def test_a_flood_of_subscriptions_on_one_socket_ends_it_and_leaves_no_channel(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + LIMITS) as daemon:
        socket = Socket(daemon.port)
        await socket.open(f"/app/{KEY}?protocol=7&client=js&version=8.4.0")
        await socket.hear()
        await socket.say({"event": "pusher:subscribe", "data": {"channel": "flood-first"}})
        assert (await socket.hear())["event"] == "pusher_internal:subscription_succeeded"
        for number in range(400):
            try:
                await socket.say({"event": "pusher:subscribe", "data": {"channel": f"flood-{number}"}})
            except trio.BrokenResourceError:
                break
        said = Counter[str]()
        with trio.fail_after(PATIENCE):
            while True:
                opcode, payload = await socket.frame()
                if opcode == 8:
                    break
                said[json.loads(payload)["event"]] += 1
        assert said["pusher_internal:subscription_succeeded"] < 50
        listed = (await daemon.request("GET", "/channels")).json()
        assert listed["count"] <= 50
        await socket.drop()


async def test_a_flood_of_publishes_is_told_to_wait_over_http_and_over_a_socket(tmp_path: Path) -> None:
    async with running(tmp_path, CONFIG + LIMITS) as daemon:
        server, statuses = Server(daemon.port), Counter[int]()
        for n in range(60):
            status, _ = await server.ask("POST", "/events/publish", {"channel": "room", "event": "e", "data": n})
            statuses[status] += 1
        assert statuses == {200: 30, 429: 30}
        await server.close()
        socket = Socket(daemon.port)
        await socket.open(f"/ws/open-a?key={KEY}")
        await socket.hear()
        for n in range(60):
            await socket.say({"type": "publish", "event": "e", "data": n, "id": str(n)})
        said = [await socket.hear() for _ in range(60)]
        assert sum(word["type"] == "ack" for word in said) in (20, 21)
        assert {word["code"] for word in said if word["type"] == "error"} == {"events_too_fast"}
        await socket.drop()


async def test_sockets_that_flood_pings_or_empty_fragments_are_closed_and_a_neighbour_is_not_held_up(
    tmp_path: Path,
) -> None:
    async with running(tmp_path, CONFIG) as daemon:
        assert daemon.process is not None
        neighbour, server, took = Follower(daemon.port, "room"), Server(daemon.port), list[float]()
        await neighbour.connect()
        await server.publish("room", "first")
        before = memory(daemon.process.pid)

        async def flood(piece: bytes) -> None:
            async with await trio.open_tcp_stream("127.0.0.1", daemon.port) as stream:
                await stream.send_all(
                    f"GET /ws/open-a?key={KEY} HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
                )
                try:
                    await stream.send_all(masked(0x01, b"") if piece[0] == 0 else b"")
                    while True:
                        await stream.send_all(piece * 2000)
                except trio.BrokenResourceError:
                    pass

        async def publish() -> None:
            for n in range(20):
                began = trio.current_time()
                await server.publish("room", n)
                took.append(trio.current_time() - began)
                await trio.sleep(0.02)

        with trio.fail_after(240):
            async with trio.open_nursery() as flooding:
                flooding.start_soon(publish)
                for _ in range(6):
                    flooding.start_soon(flood, masked(0x89, b"x"))
                    flooding.start_soon(flood, masked(0x00, b""))
            await neighbour.until(21)
        assert neighbour.heard == ["first", *range(20)]
        assert statistics.median(took) < HELD_UP, took
        assert memory(daemon.process.pid) - before < GROWTH
        await server.close()


async def test_a_flood_of_forged_tokens_and_long_lists_leaves_no_memory_behind(tmp_path: Path) -> None:
    """1,000 of PubNub's of 20 KiB, each with claims and patterns of its own, and 150 lists of 2,000 channels."""
    async with running(tmp_path, CONFIG) as daemon:
        assert daemon.process is not None
        server = Server(daemon.port)
        for _ in range(300):  # until the caches of names and tokens are as full as they get
            await server.ask("GET", _forged(), basic=False)
            await server.ask("GET", _long_list(), basic=False)
        before = memory(daemon.process.pid)
        for _ in range(1000):
            await server.ask("GET", _forged(), basic=False)
        for _ in range(150):
            await server.ask("GET", _long_list(), basic=False)
        grown = memory(daemon.process.pid) - before
        await server.close()
    assert grown < 2 * GROWTH, f"{grown / 2**20:.1f} MiB"


def _forged() -> str:
    from sower.dialects.pubnub.tokens import draft, seal

    unique = os.urandom(4).hex()
    said = draft(1, 10, {"channels": {f"{unique}-{n}": 1 for n in range(600)}}, {}, {}, None)
    return f"/v2/history/sub-key/{SUB}/channel/a?auth={quote(seal(said, 'ab' * 32))}"


def _long_list() -> str:
    unique = os.urandom(3).hex()
    return f"/v2/subscribe/{SUB}/{','.join(f'{unique}{n}' for n in range(2001))}/0?tt=0&uuid=u"


# Bombs in bodies


def _deflated(mebibytes: int) -> bytes:
    squeezer = zlib.compressobj(9, zlib.DEFLATED, 31)
    chunk = b"\x00" * (1024 * 1024)
    return b"".join(squeezer.compress(chunk) for _ in range(mebibytes)) + squeezer.flush()


PUBNUB_POST = f"/publish/pub-{KEY}/{SUB}/0/room/0?uuid=u"
MSGPACK = "application/x-msgpack"
JSON = "application/json"

BOMBS: dict[str, tuple[str, str, bytes]] = {
    "512 MiB in a gzip body": (PUBNUB_POST, "gzip", _deflated(512)),
    "a gzip body in a gzip body": (PUBNUB_POST, "gzip", zlib.compress(_deflated(64))),
    "512 MiB for a native publish": ("/events/publish", "gzip", _deflated(512)),
    "512 MiB for Ably's": ("/channels/room/messages", "gzip", _deflated(512)),
    "an array of 2**31 in MessagePack": ("/channels/room/messages", MSGPACK, b"\xdd\x7f\xff\xff\xff\x01"),
    "a map of 2**31 in MessagePack": ("/channels/room/messages", MSGPACK, b"\xdf\x7f\xff\xff\xff\x01"),
    "bytes of 2**31 in MessagePack": ("/channels/room/messages", MSGPACK, b"\xc6\x7f\xff\xff\xff\x01"),
    "MessagePack 500,000 deep": ("/channels/room/messages", MSGPACK, b"\x91" * 500_000),
    "JSON 500,000 deep": ("/events/publish", JSON, b"[" * 500_000),
    "an event's data 30,000 deep": (
        "/events/publish",
        JSON,
        b'{"channel":"room","event":"e","data":' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    ),
    "a number of 900,000 digits": (
        "/events/publish",
        JSON,
        b'{"channel":"room","event":"e","data":' + b"9" * 900_000 + b"}",
    ),
    "a number of 60,000 digits": (
        "/events/publish",
        JSON,
        b'{"channel":"room","event":"e","data":' + b"9" * 60_000 + b"}",
    ),
    "80,000 fields": (
        "/events/publish",
        JSON,
        b"{" + b",".join(b'"k%d":1' % n for n in range(80_000)) + b"}",
    ),
}


async def test_a_body_that_would_be_large_once_it_is_read_costs_neither_memory_nor_time(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        for which, (target, kind, body) in BOMBS.items():
            assert len(body) < 1024 * 1024
            headers = {"Content_Encoding": "gzip"} if kind == "gzip" else {"Content_Type": kind}
            headers["Authorization"] = basic(ABLY, SECRET) if target.startswith("/channels") else basic(KEY, SECRET)
            await http(daemon, "POST", target, b'{"a":', **headers)
            before, spent = _peak(daemon), _spent(daemon)
            said = await http(daemon, "POST", target, body, **headers)
            assert said[:3] in ("200", "201", "400", "413"), (which, said[:200])
            assert _spent(daemon) - spent < 3, which
            assert _peak(daemon) - before < 2 * GROWTH, f"{which}: {(_peak(daemon) - before) / 2**20:.1f} MiB"
            await daemon.publish("room", "still here")


def _peak(daemon: Daemon) -> int:
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _spent(daemon: Daemon) -> float:
    """Seconds of processor time, which others on the machine do not change."""
    assert daemon.process is not None
    fields = Path(f"/proc/{daemon.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_channels_that_clients_make_up_have_a_bound_and_those_that_are_there_go_on(tmp_path: Path) -> None:
    few = '[limits]\nchannels = 20\n[[channels]]\nmatch = "attended-*"\npresence = true\n'
    async with running(tmp_path, CONFIG + few) as daemon:
        server, socket = Server(daemon.port), Socket(daemon.port)
        await socket.open(f"/app/{KEY}?protocol=7&client=js&version=8.4.0")
        await socket.hear()
        for number in range(20):
            await socket.say({"event": "pusher:subscribe", "data": {"channel": f"made-up-{number}"}})
            assert (await socket.hear())["event"] == "pusher_internal:subscription_succeeded"
        await socket.say({"event": "pusher:subscribe", "data": {"channel": "one-more"}})
        assert (await socket.hear())["event"] == "pusher:subscription_error"

        many = ",".join(f"attended-{number}" for number in range(30))
        heartbeat = await http(daemon, "GET", f"/v2/presence/sub-key/{KEY}/channel/{many}/heartbeat?uuid=ann")
        poll = await http(daemon, "GET", f"/v2/subscribe/{KEY}/{many}/0?uuid=ann&tt=0")
        assert (heartbeat[:3], poll[:3]) == ("503", "503")
        kept = {"channel": "kept-news", "event": "e", "data": 1}
        assert (await server.ask("POST", "/events/publish", kept))[0] == 503
        assert (await server.ask("POST", "/events/publish", {**kept, "channel": "nobody-is-here"}))[0] == 200
        assert (await server.ask("POST", "/events/publish", {**kept, "channel": "made-up-0"}))[0] == 200
        assert (await socket.hear())["channel"] == "made-up-0"
        assert (await daemon.request("GET", "/channels")).json()["count"] == 20
        await socket.drop()
        await server.close()
