"""A reload of a real daemon, by SIGHUP and by command, with a good file and with a bad one."""

from __future__ import annotations

import base64
import json
import signal
from pathlib import Path

import trio

from sower.errors import ConfigError
from tests.cli.shell import sower
from tests.e2e.daemon import KEY, PATIENCE, SECRET, Daemon, running
from tests.e2e.followers import Follower, connect_all

SESSIONS = 1000

NEW_APP = '\n[[apps]]\nid = "1002"\nkey = "new-key"\nsecret = "new-secret-0123456789"\n'


async def hang_up(daemon: Daemon, event: str) -> dict[str, object]:
    """Send SIGHUP. Returns the log line with this event."""
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGHUP)
    with trio.fail_after(PATIENCE):
        while True:
            line = await trio.to_thread.run_sync(daemon.process.stderr.readline, abandon_on_cancel=True)
            if line.startswith(b"{") and json.loads(line)["event"] == event:
                return json.loads(line)


async def sessions(daemon: Daemon) -> set[str]:
    listed = (await daemon.request("GET", f"/sessions?limit={SESSIONS}")).json()
    return {session["session"] for session in listed["sessions"]}


async def test_a_bad_file_touches_none_of_1000_sessions_and_the_old_config_stays_in_force(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        followers = [Follower(daemon.port, "news") for _ in range(SESSIONS)]
        with trio.fail_after(PATIENCE * 3):
            await connect_all(followers)
            before = await sessions(daemon)
            assert len(before) == SESSIONS
            good = daemon.config.read_text()
            daemon.config.write_text(good.replace("[server]", '[server]\ndrain_for = "soon"') + NEW_APP)
            told = await hang_up(daemon, "reload_refused")
            assert "server.drain_for" in str(told["why"])
            assert (await daemon.request("POST", "/reload")).json()["error"]["code"] == ConfigError.code
            assert await sessions(daemon) == before
            await daemon.publish("news", "all hear it")
            async with trio.open_nursery() as nursery:
                for follower in followers:
                    nursery.start_soon(follower.until, 1)
            assert (await daemon.request("GET", "/channels?key=new-key", auth=False)).status_code == 401


async def test_a_good_file_is_taken_over_at_once_and_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon, daemon.socket("news") as client:
        await client.expect("welcome")
        text = daemon.config.read_text().replace(SECRET, "rotated-secret-0123456789")
        daemon.config.write_text(text + '\n[[channels]]\nmatch = "later-*"\n' + NEW_APP)
        told = await hang_up(daemon, "reloaded")
        assert told["taken"] == ["apps 1001.secret", "apps 1002 (new)"]
        assert told["restart_needed"] == ["channels"]
        assert (await daemon.request("GET", "/channels")).status_code == 401  # the old secret
        published = await daemon.request(
            "POST",
            "/events/publish",
            auth=False,
            headers={"Authorization": basic(KEY, "rotated-secret-0123456789")},
            json={"channel": "news", "event": "e", "data": 1},
        )
        assert published.status_code == 200
        assert await client.events(1) == [1]


def basic(key: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{key}:{secret}".encode()).decode()


async def test_the_command_says_what_is_in_force_and_what_waits(tmp_path: Path) -> None:
    async with running(tmp_path) as daemon:
        assert "nothing is different" in (await sower(tmp_path, "reload")).err
        text = daemon.config.read_text()
        daemon.config.write_text(text.replace("[store]\n", '[limits]\nconnections = 10\n[store]\nsync = "full"\n'))
        ended = await sower(tmp_path, "reload")
        assert ended.out.splitlines() == ["in force  limits.connections", "waiting   store.sync"]
        assert "restart" in ended.err
        assert json.loads((await sower(tmp_path, "reload", "--json")).out) == {"taken": [], "waiting": ["store.sync"]}
        daemon.config.write_text(text.replace("[store]\n", "[limits]\nconnections = 0\n[store]\n"))
        ended = await sower(tmp_path, "reload")
        assert (ended.code, "limits.connections: must be above 0" in ended.err) == (5, True)
