"""Webhooks from a real daemon to a real receiver that fails, hangs and comes back, over kills of the daemon."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import trio

from sower.store.outbox import waiting
from tests.cli.shell import sower
from tests.e2e.daemon import CONFIG, PATIENCE, Client, Daemon, running
from tests.receiver import Receiver, receiving

ALL = [
    "channel_occupied",
    "channel_vacated",
    "member_added",
    "member_removed",
    "client_event",
    "cache_miss",
    "subscription_count",
]


def config(url: str, **more: Any) -> str:
    """The usual config with one webhook, and counts."""
    words = {"url": url, "events": ALL, **more}
    hook = "".join(f"{name} = {json.dumps(value)}\n" for name, value in words.items())
    app, rules = CONFIG.split("[[channels]]", 1)
    return f"{app}subscription_count = true\n[[apps.webhooks]]\n{hook}\n[[channels]]{rules}"


async def token(daemon: Daemon, channel: str, user: str) -> str:
    answer = await daemon.request("POST", f"/channels/{channel}/auth", json={"user": user})
    return answer.json()["token"]


async def publish(client: Client, *numbers: int) -> None:
    """Publish numbers over a socket, each acknowledged before the next."""
    for n in numbers:
        await client.send(type="publish", event="n", data=n, id=str(n))
        await client.expect("ack")


def about(receiver: Receiver, channel: str) -> list[str]:
    return [event["name"] for event in receiver.accepted if event["channel"] == channel]


async def test_all_seven_kinds_reach_the_receiver_in_their_order(tmp_path: Path) -> None:
    async with receiving() as receiver, running(tmp_path, config(receiver.url)) as daemon:
        room = "presence-cache-room"
        async with daemon.socket(room, token=await token(daemon, room, "ada")) as ada:
            welcome = await ada.expect("welcome")
            await ada.send(type="publish", event="client-hello", data={"big": 9007199254740993}, id="1")
            await ada.expect("ack")
        async with daemon.socket("open-room") as client:
            await client.expect("welcome")
        await receiver.until(
            lambda: "channel_vacated" in about(receiver, room) and len(about(receiver, "open-room")) == 4
        )
    assert [name for name in about(receiver, room) if name != "client_event"] == [
        "channel_occupied",
        "member_added",
        "cache_miss",
        "member_removed",
        "channel_vacated",
    ]
    assert sorted(about(receiver, "open-room")) == sorted(
        ["channel_occupied", "subscription_count", "subscription_count", "channel_vacated"]
    )
    [said] = [event for event in receiver.accepted if event["name"] == "client_event"]
    secret, number = said.pop("socket_id").split(".")
    assert f"{int(secret):012x}{int(number):x}" == welcome["session"]
    assert said == {
        "name": "client_event",
        "channel": room,
        "event": "client-hello",
        "data": {"big": 9007199254740993},
        "user_id": "ada",
    }


async def test_a_client_event_that_is_sent_again_with_its_id_is_told_once(tmp_path: Path) -> None:
    async with receiving() as receiver, running(tmp_path, config(receiver.url, events=["client_event"])) as daemon:
        for channel in ("open-a", "kept-a"):
            async with daemon.socket(channel) as client:
                await client.expect("welcome")
                await publish(client, 1)
                await publish(client, 1, 2)
        await receiver.accept(4)
    for channel in ("open-a", "kept-a"):
        assert [event["data"] for event in receiver.accepted if event["channel"] == channel] == [1, 2]


async def test_a_page_reload_tells_nothing(tmp_path: Path) -> None:
    async with receiving() as receiver, running(tmp_path, config(receiver.url, events=ALL[:4])) as daemon:
        pass_of_ada = await token(daemon, "presence-a", "ada")
        for _ in range(3):
            async with daemon.socket("presence-a", token=pass_of_ada) as ada:
                await ada.expect("welcome")
        await receiver.accept(4)
    assert about(receiver, "presence-a") == ["channel_occupied", "member_added", "member_removed", "channel_vacated"]


async def test_a_receiver_that_fails_hangs_and_is_gone_over_two_kills_misses_nothing_and_keeps_the_order(
    tmp_path: Path,
) -> None:
    database = str(tmp_path / "sower.db")
    async with receiving() as receiver:
        port, url = receiver.port, receiver.url
        receiver.answer = lambda _: 500
        daemon = Daemon(tmp_path, config(url, events=["client_event"], timeout="5s"))
        await daemon.start()
        async with daemon.socket("open-a") as a, daemon.socket("open-b") as b:
            await a.expect("welcome")
            await b.expect("welcome")
            await publish(a, *range(10))
            await publish(b, *range(10))
            receiver.answer = lambda _: None
            await publish(a, *range(10, 20))
            await until(lambda: len(waiting(database)) == 30)
        first = {post.events[0]["channel"]: post.body for post in receiver.posts}
    await daemon.stop(signal.SIGKILL)
    await daemon.start()
    async with daemon.socket("open-b") as b:
        await b.expect("welcome")
        await publish(b, *range(10, 20))
        await until(lambda: len(waiting(database)) == 40)
    await daemon.stop(signal.SIGKILL)
    await daemon.start()
    async with receiving(port) as receiver:
        await receiver.accept(40)
        await until(lambda: waiting(database) == [])
        assert {post.body for post in receiver.posts} >= set(first.values()), "a retry has the same body"
        for channel in ("open-a", "open-b"):
            assert [e["data"] for e in receiver.accepted if e["channel"] == channel] == list(range(20))
    assert await daemon.stop() == 0


async def test_a_killed_daemon_s_channels_are_not_told_again_when_their_clients_come_back(tmp_path: Path) -> None:
    async with receiving() as receiver:
        daemon = Daemon(tmp_path, config(receiver.url, events=ALL[:4]))
        await daemon.start()
        async with daemon.socket("presence-a", token=await token(daemon, "presence-a", "ada")) as ada:
            await ada.expect("welcome")
            await receiver.accept(2)
            await until(lambda: waiting(str(tmp_path / "sower.db")) == [])
            await daemon.stop(signal.SIGKILL)
        await daemon.start()
        async with daemon.socket("presence-a", token=await token(daemon, "presence-a", "ada")) as ada:
            await ada.expect("welcome")
            async with daemon.socket("open-b") as b:
                await b.expect("welcome")
                await receiver.accept(3)
        await daemon.stop()
        assert about(receiver, "presence-a") == ["channel_occupied", "member_added"]


async def test_the_command_lists_what_waits_and_why(tmp_path: Path) -> None:
    async with receiving() as receiver:
        receiver.answer = lambda _: 503
        async with running(tmp_path, config(receiver.url, events=["client_event"])) as daemon:
            async with daemon.socket("open-a") as client:
                await client.expect("welcome")
                await publish(client, 1, 2)
            await until(lambda: [n.attempts > 0 for n in waiting(str(tmp_path / "sower.db"))] == [True, False])
            shown = await sower(tmp_path, "webhooks", "--json")
            first, second = [json.loads(line) for line in shown.out.splitlines()]
            assert (first["channels"], first["url"], first["error"]) == (["open-a"], receiver.url, "answered 503")
            assert first["next_try"] > first["time"]
            assert second["why"] == f"{first['id']} comes before it on its channel"
        listed = await sower(tmp_path, "webhooks")
        assert [line.split("\t")[6] for line in listed.out.splitlines()] == [first["why"], second["why"]]
        path = tmp_path / "sower.toml"
        path.write_text(path.read_text().replace(receiver.url, "http://127.0.0.1:1/other"))
        lost = await sower(tmp_path, "webhooks")
        assert lost.out.count("no webhook of the config has its url") == 2


async def test_the_headers_that_prove_who_calls_are_not_shown(tmp_path: Path) -> None:
    (tmp_path / "sower.toml").write_text(config("http://127.0.0.1:1/", headers={}).replace("{}", '{X = "top-secret"}'))
    shown = await sower(tmp_path, "config", "show")
    assert shown.code == 0
    assert "http://127.0.0.1:1/" in shown.out
    assert "top-secret" not in shown.out


async def until(condition: Any) -> None:
    """Wait until this holds."""
    with trio.fail_after(PATIENCE * 3):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.02)
