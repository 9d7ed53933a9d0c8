"""Channels through real sockets and a real daemon: order, exclusion, client events, recovery, presence."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import trio

from tests.e2e.daemon import KEY, running

pytestmark = pytest.mark.usefixtures("sleep_after")


async def test_a_subscriber_is_welcomed_and_hears_events_in_order_each_once(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("room") as client:
        welcome = await client.expect("welcome")
        assert welcome["channel"] == "room"
        assert len(welcome["session"]) > 12
        serials = [await daemon.publish("room", {"n": n}, event="tick") for n in range(20)]
        heard = [await client.expect("event") for _ in range(20)]
        assert [event["data"] for event in heard] == [{"n": n} for n in range(20)]
        assert [event["serial"] for event in heard] == serials
        assert serials == sorted(serials)
        assert {event["event"] for event in heard} == {"tick"}


async def test_data_passes_verbatim_byte_for_byte(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("room") as client:
        await client.expect("welcome")
        data = '{"b":1, "a":  12345678901234567890123, "\\u00e9":"\\/"}'
        body = '{"channel":"room","event":"e","data":' + data + "}"
        await daemon.request("POST", "/events/publish", content=body)
        assert data in await client.connection.get_message()


async def test_a_client_event_is_acknowledged_and_not_echoed_unless_asked(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("open-a") as ada, daemon.socket("open-a") as bob:
        await ada.expect("welcome")
        await bob.expect("welcome")
        await ada.send(type="publish", event="hi", data=1, id="x1")
        ack = await ada.expect("ack")
        assert ack["id"] == "x1"
        event = await bob.expect("event")
        assert (event["data"], event["serial"]) == (1, ack["serial"])
        await ada.send(type="publish", event="hi", data=2, id="x2", echo=True)
        assert {(await ada.hear())["type"] for _ in range(2)} == {"ack", "event"}


async def test_an_excluded_session_gets_nothing_and_everybody_else_does(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("room") as ada, daemon.socket("room") as bob:
        session = (await ada.expect("welcome"))["session"]
        await bob.expect("welcome")
        await daemon.publish("room", "not for ada", exclude=session)
        await daemon.publish("room", "for both")
        assert await ada.events(1) == ["for both"]
        assert await bob.events(2) == ["not for ada", "for both"]


async def test_since_replays_what_was_missed_and_goes_live_at_the_seam(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        async with daemon.socket("kept-a") as client:
            epoch = (await client.expect("welcome"))["position"].partition(":")[0]
            first = await daemon.publish("kept-a", 0)
            await client.events(1)
        for n in range(1, 301):
            await daemon.publish("kept-a", n) if n % 100 == 0 else None
        await daemon.request(
            "POST",
            "/events/publish",
            json={"events": [{"channel": "kept-a", "event": "e", "data": n} for n in range(500)]},
        )
        async with trio.open_nursery() as nursery, daemon.socket("kept-a", since=f"{epoch}:{first}") as client:

            async def go_on() -> None:
                for n in range(500, 550):
                    await daemon.publish("kept-a", n)

            nursery.start_soon(go_on)
            await client.expect("welcome")
            assert await client.events(3 + 550) == [100, 200, 300, *range(550)]


async def test_a_position_survives_a_kill_of_the_daemon(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        async with daemon.socket("kept-a") as client:
            position = (await client.expect("welcome"))["position"]
            await daemon.publish("kept-a", "before")
        await daemon.stop(signal.SIGKILL)
        await daemon.start()
        await daemon.publish("kept-a", "after")
        async with daemon.socket("kept-a", since=position) as client:
            await client.expect("welcome")
            assert await client.events(2) == ["before", "after"]


async def test_a_position_whose_history_is_gone_gets_a_gap(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("room") as client:
        position = (await client.expect("welcome"))["position"]
        await daemon.publish("room", 1)
        await client.events(1)
        async with daemon.socket("room", since=position) as late:
            await late.expect("welcome")
            assert (await late.expect("gap"))["since"] == position


async def test_presence_joins_updates_and_leaves_reach_everybody_after_their_snapshot(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        tokens = {}
        for user in ("ada", "bob"):
            answer = await daemon.request(
                "POST", "/channels/presence-a/auth", json={"user": user, "meta": {"of": user}}
            )
            tokens[user] = answer.json()["token"]
        async with daemon.socket("presence-a", token=tokens["ada"]) as ada:
            welcome = await ada.expect("welcome")
            assert (welcome["user"], welcome["members"]) == ("ada", {"ada": {"of": "ada"}})
            async with daemon.socket("presence-a", token=tokens["bob"]) as bob:
                assert set((await bob.expect("welcome"))["members"]) == {"ada", "bob"}
                assert await ada.expect("join") == {"type": "join", "user": "bob", "meta": {"of": "bob"}}
                async with daemon.socket("presence-a", token=tokens["bob"]) as second_tab:
                    await second_tab.expect("welcome")
                    listed = (await daemon.request("GET", "/presence/presence-a")).json()
                    assert {m["user"]: m["connections"] for m in listed["members"]} == {"ada": 1, "bob": 2}
                await bob.send(type="presence", meta={"busy": True}, id="m")
                assert {(await bob.hear())["type"] for _ in range(2)} == {"ack", "update"}
                assert await ada.expect("update") == {"type": "update", "user": "bob", "meta": {"busy": True}}
            assert await ada.expect("leave") == {"type": "leave", "user": "bob"}


async def test_a_restart_leaves_no_ghosts(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        token = (await daemon.request("POST", "/channels/presence-a/auth", json={"user": "ada"})).json()["token"]
        async with daemon.socket("presence-a", token=token) as client:
            await client.expect("welcome")
            await daemon.stop(signal.SIGKILL)
        await daemon.start()
        assert (await daemon.request("GET", "/presence/presence-a")).json()["count"] == 0


async def test_sigterm_closes_with_1012_and_exits_0(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("room") as client:
        await client.expect("welcome")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.stop)
            code, reason = await client.closing()
        assert (code, reason) == (1012, "draining")
        assert daemon.process is not None
        assert daemon.process.returncode == 0


async def test_channels_are_listed_with_their_occupancy(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("room-1") as ada, daemon.socket("room-1") as bob:
        await ada.expect("welcome")
        await bob.expect("welcome")
        async with daemon.socket("other") as cy:
            await cy.expect("welcome")
            listed = (await daemon.request("GET", "/channels?prefix=room")).json()
            assert listed == {"channels": [{"channel": "room-1", "subscribers": 2, "published": 0}], "count": 1}
            assert (await daemon.request("GET", "/channels")).json()["count"] == 2
            refused = await daemon.request("GET", f"/channels?key={KEY}", auth=False)
            assert refused.status_code == 403


async def test_history_pages_lead_to_each_other_both_ways(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        for n in range(7):
            await daemon.publish("kept-a", n)
        for order, expected in (("asc", list(range(7))), ("desc", list(range(6, -1, -1)))):
            path, heard = f"/history/kept-a?limit=3&order={order}", []
            while path:
                page = (await daemon.request("GET", path)).json()
                assert page["gap"] is False
                heard += [event["data"] for event in page["events"]]
                path = page["next"]
            assert heard == expected


async def test_sixty_four_publishers_of_one_id_store_one_row(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        serials: set[str] = set()

        async def publish() -> None:
            serials.add(await daemon.publish("kept-a", "once", id="the-same"))

        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(publish)
        page = (await daemon.request("GET", "/history/kept-a")).json()
        assert len(serials) == len(page["events"]) == 1
