"""What an operator sees of a real daemon over HTTP, and who may see it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from sower.errors import Kicked
from tests.e2e.daemon import KEY, PATIENCE, SECRET, Daemon, running

OTHER = 'id = "2002"\nkey = "other-key"\nsecret = "other-secret-0123456789"\n'


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    async with running(tmp_path) as daemon:
        daemon.config.write_text(daemon.config.read_text() + f"\n[[apps]]\n{OTHER}")
        await daemon.stop()
        daemon.environment = {"WATCHDOG_USEC": "400000"}  # goes round hub and journal every 0.1 s
        await daemon.start(keep_config=True)
        yield daemon


async def ask(daemon: Daemon, path: str, method: str = "GET") -> Any:
    answer = await daemon.request(method, path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def samples(daemon: Daemon) -> dict[tuple[str, str], float]:
    """Every sample of /metrics, by its name and its labels' values."""
    answer = await daemon.request("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[tuple[str, str], float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            found[sample.name, " ".join(sample.labels.values())] = sample.value
    return found


async def test_sessions_are_listed_with_dialect_state_and_channels(daemon: Daemon) -> None:
    async with daemon.socket("presence-room", user="ada", token=await token(daemon)) as ada:
        session = (await ada.expect("welcome"))["session"]
        (found,) = (await ask(daemon, "/sessions"))["sessions"]
        assert found | {"silent": 0, "state": ""} == {
            "session": session,
            "dialect": "native",
            "user": "ada",
            "address": "127.0.0.1",
            "state": "",
            "backlog": 0,
            "silent": 0,
            "channels": ["presence-room"],
            "subscriptions": 1,
        }
        assert found["state"] in ("awake", "asleep")


async def token(daemon: Daemon) -> str:
    answer = await daemon.request("POST", "/channels/presence-room/auth", json={"user": "ada"})
    return answer.json()["token"]


async def test_more_sessions_than_asked_for_are_counted(daemon: Daemon) -> None:
    async with daemon.socket("a") as a, daemon.socket("b") as b:
        await a.expect("welcome")
        await b.expect("welcome")
        listed = await ask(daemon, "/sessions?limit=1&order=silence")
        assert (len(listed["sessions"]), listed["count"]) == (1, 2)
        assert (await daemon.request("GET", "/sessions?order=name")).json()["error"]["code"] == "bad_request"


async def test_a_kicked_client_is_closed_so_that_it_comes_back_and_it_is_on_record(daemon: Daemon) -> None:
    async with daemon.socket("news") as client:
        session = (await client.expect("welcome"))["session"]
        assert await ask(daemon, f"/sessions/{session}", "DELETE") == {"kicked": session}
        assert await client.closing() == (Kicked.close, "kicked")
    gone = await daemon.request("DELETE", f"/sessions/{session}")
    assert gone.json()["error"]["code"] == "not_found"


async def test_stats_count_what_happened(daemon: Daemon) -> None:
    async with daemon.socket("news") as client:
        await client.expect("welcome")
        for number in range(3):
            await daemon.publish("news", number)
        await client.events(3)
        stats = await ask(daemon, "/stats")
        assert stats["totals"]["publishes"] == 3
        assert stats["totals"]["deliveries"] == 3
        assert stats["rates"]["deliveries"] > 0
        assert sum(stats["sessions"]["native"].values()) == 1
        assert [fault for fault in stats["faults"] if fault["check"] != "lag"] == []
        assert stats["memory"] > 10_000_000
        assert (await ask(daemon, "/channels"))["channels"] == [{"channel": "news", "subscribers": 1, "published": 3}]


@pytest.mark.parametrize("path", ["/sessions", "/stats", "/metrics"])
async def test_only_a_server_may_look_and_only_at_its_own_app(daemon: Daemon, path: str) -> None:
    async with daemon.socket("news") as client:
        session = (await client.expect("welcome"))["session"]
        assert (await daemon.request("GET", f"{path}?key={KEY}", auth=False)).status_code == 403
        assert (await daemon.request("DELETE", f"/sessions/{session}?key={KEY}", auth=False)).status_code == 403
        wrong = await daemon.request("GET", path, auth=False, headers={"Authorization": "Basic eDp5"})
        assert wrong.status_code == 401
        async with httpx.AsyncClient(
            base_url=daemon.url, auth=("other-key", "other-secret-0123456789"), timeout=PATIENCE
        ) as other:
            assert (await other.get("/sessions")).json() == {"sessions": [], "count": 0}
            assert (await other.delete(f"/sessions/{session}")).status_code == 404


async def test_metrics_count_messages_sessions_recoveries_and_refusals(daemon: Daemon) -> None:
    position = ""
    async with daemon.socket("kept-news") as client:
        position = (await client.expect("welcome"))["position"]
    await daemon.publish("kept-news", "missed")
    await daemon.request("GET", "/channels?key=nobody", auth=False)
    async with daemon.socket("kept-news", since=position) as client:
        await client.expect("welcome")
        assert await client.events(1) == ["missed"]
        async with daemon.socket("kept-news", since=f"other{position}") as lost:
            await lost.expect("welcome")
            await lost.expect("gap")
            found = await samples(daemon)
            with trio.fail_after(PATIENCE):
                while found["sower_recoveries_total", "gap"] < 1 or found["sower_recoveries_total", "hit"] < 1:
                    found = await samples(daemon)
    assert found["sower_publishes_total", ""] == 1
    assert found["sower_connects_total", ""] == 3
    assert sum(value for (name, labels), value in found.items() if name == "sower_sessions" and "native" in labels) == 2
    assert found["sower_refusals_total", "unknown_key"] == 1
    assert found["sower_ready", "journal"] == 1
    assert found["sower_journal_commit_rows_sum", ""] == 1
    assert found["sower_journal_commit_seconds_count", ""] >= 1
    assert ("sower_loop_lag_seconds_count", "") in found
    assert found["process_resident_memory_bytes", ""] > 1e7


async def test_no_word_of_a_user_becomes_a_label(daemon: Daemon) -> None:
    async with daemon.socket("presence-room", user="ada", token=await token(daemon)) as ada:
        await ada.expect("welcome")
        await daemon.publish("presence-room", "x", event="shout")
        text = (await daemon.request("GET", "/metrics")).text
    for word in ("ada", "presence-room", "shout", "127.0.0.1", KEY, SECRET):
        assert f'"{word}"' not in text


async def test_health_needs_no_credential_and_fails_with_its_reason_while_another_process_holds_the_journal(
    daemon: Daemon,
) -> None:
    assert (await daemon.request("GET", "/health/live", auth=False)).json() == {"live": True}
    with trio.fail_after(PATIENCE):  # where the machine has much else to do the loop is late, and that is a fault too
        while (answer := await daemon.request("GET", "/health/ready", auth=False)).status_code != 200:
            await trio.lowlevel.checkpoint()
    assert answer.json() == {"ready": True, "faults": []}
    other = apsw.Connection(str(daemon.folder / "sower.db"))
    other.execute("BEGIN IMMEDIATE")
    reasons = ["a transaction has not ended", "database is locked"]  # SQLite waits 5 s for the lock
    with trio.fail_after(PATIENCE):
        while reasons:
            answer = await daemon.request("GET", "/health/ready", auth=False)
            for fault in answer.json()["faults"]:
                assert answer.status_code == 503
                assert fault["check"] in ("journal", "lag")
                if reasons and reasons[0] in fault["detail"]:
                    reasons.pop(0)
    assert (await daemon.request("GET", "/health/live", auth=False)).status_code == 200
    other.execute("ROLLBACK")
    with trio.fail_after(PATIENCE):
        while (await daemon.request("GET", "/health/ready", auth=False)).status_code != 200:
            await trio.lowlevel.checkpoint()
    other.close()
