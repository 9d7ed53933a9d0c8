"""Several daemons on one port: started, watched, reloaded and drained by the first process."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from sower.systemd import Systemd
from sower.workers import Workers
from tests.cluster.conftest import Redis, made
from tests.e2e.daemon import CONFIG, PATIENCE, Client, Daemon, free_port
from tests.e2e.test_systemd import Manager

COUNT = 3

IMPATIENT = ("-c", "import sower.workers, sower.cli; sower.workers.WATCHDOG = 3.0; sower.cli.main()")
"""Takes a worker that is silent for three seconds for stuck."""


@asynccontextmanager
async def working(
    folder: Path, redis: Redis, manager: Manager | None = None, program: tuple[str, ...] = ("-m", "sower")
) -> AsyncIterator[Daemon]:
    """`sower serve --workers 3`."""
    (daemon,) = made(folder, redis, 1, CONFIG, "2s", os.urandom(4).hex())
    daemon.program = program
    daemon.options = ("--workers", str(COUNT))
    if manager is not None:
        daemon.environment = {"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "400000"}
    await daemon.start()
    try:
        yield daemon
    finally:
        with trio.CancelScope(shield=True):
            if daemon.alive:
                await daemon.stop()


def children(daemon: Daemon) -> list[int]:
    assert daemon.process is not None
    threads = Path(f"/proc/{daemon.process.pid}/task").glob("*/children")
    return sorted(int(word) for thread in threads for word in thread.read_text().split())


def lives(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


async def follow(daemon: Daemon, stack: AsyncExitStack, count: int) -> list[Client]:
    """So many clients of one channel, each on whatever worker it finds."""
    clients = [await stack.enter_async_context(daemon.socket("kept-news")) for _ in range(count)]
    for client in clients:
        await client.expect("welcome")
    return clients


async def until(condition: Any) -> None:
    with trio.fail_after(PATIENCE):
        while not await condition():  # noqa: ASYNC110 - what other processes do has no event
            await trio.sleep(0.05)


async def test_three_workers_on_one_port_are_one_daemon(tmp_path: Path, redis: Redis) -> None:
    async with working(tmp_path, redis) as daemon, AsyncExitStack() as stack:
        clients = await follow(daemon, stack, 12)
        for n in range(6):
            await daemon.publish("kept-news", n)
        for client in clients:
            assert await client.events(6) == list(range(6))
        assert len(children(daemon)) == COUNT
        homes = sorted(path.parent.name for path in daemon.folder.glob("worker-*/sower.db"))
        assert homes == ["worker-1", "worker-2", "worker-3"]

        async def counted() -> bool:
            answers = [(await daemon.request("GET", "/channels")).json() for _ in range(6)]
            return all([one["subscribers"] for one in answer["channels"]] == [12] for answer in answers)

        await until(counted)
        for command in ("channels", "top"):
            run = [sys.executable, "-m", "sower", command, "--json", "--config", str(daemon.config)]
            answer = await trio.run_process(run, capture_stdout=True)
            assert b"kept-news" in answer.stdout, command
        workers = children(daemon)
        assert await daemon.stop(signal.SIGTERM) == 0
        for client in clients:
            code, _ = await client.closing()
            assert code != 1006
        assert not any(map(lives, workers))


async def test_a_worker_that_dies_or_hangs_is_started_again_while_the_others_serve(
    tmp_path: Path, redis: Redis
) -> None:
    async with working(tmp_path, redis, program=IMPATIENT) as daemon:
        before = children(daemon)
        os.kill(before[0], signal.SIGKILL)
        os.kill(before[1], signal.SIGSTOP)

        async def again() -> bool:
            return len(children(daemon)) == COUNT and not set(before[:2]) & set(children(daemon))

        await until(again)
        await until(lambda: all_answer(daemon))
        assert set(before[2:]) <= set(children(daemon))


async def all_answer(daemon: Daemon) -> bool:
    """Whether whoever is asked answers, and all workers have come back."""
    answers = [await daemon.request("GET", "/health/ready", auth=False) for _ in range(8)]
    return all(answer.status_code == 200 for answer in answers)


async def test_workers_end_when_the_first_process_is_killed(tmp_path: Path, redis: Redis) -> None:
    async with working(tmp_path, redis) as daemon:
        workers = children(daemon)
        await daemon.stop(signal.SIGKILL)

        async def gone() -> bool:
            return not any(map(lives, workers))

        await until(gone)


async def test_systemd_and_a_reload_know_all_workers_as_one_daemon(tmp_path: Path, redis: Redis) -> None:
    manager = Manager(tmp_path)
    async with working(tmp_path, redis, manager) as daemon:
        await manager.until("READY=1")
        assert await all_answer(daemon)
        text = daemon.config.read_text()

        async def reloads() -> int:
            found = 0
            for path in daemon.folder.glob("worker-*/sower.db"):
                with sqlite3.connect(path) as database:
                    found += database.execute("SELECT count(*) FROM audit WHERE kind = 'reloaded'").fetchone()[0]
            return found

        async def reloaded(times: int) -> None:
            async def enough() -> bool:
                return await reloads() == times

            await until(enough)

        daemon.config.write_text(text + "\n[limits]\nmeta = '2KiB'\n")
        assert daemon.process is not None
        manager.drop()
        daemon.process.send_signal(signal.SIGHUP)
        await manager.until("RELOADING=1")
        await manager.until("READY=1")  # once all have
        await reloaded(COUNT)
        daemon.config.write_text(text)
        assert (await daemon.request("POST", "/reload")).json()["taken"] == ["limits.meta"]
        await reloaded(2 * COUNT)
        await manager.until("WATCHDOG=1")
        await daemon.stop()
        await manager.until("STOPPING=1")


def refusal(folder: Path, text: str, *words: str) -> str:
    """What is said where it cannot start."""
    config = folder / "sower.toml"
    config.write_text(text)
    config.chmod(0o600)
    run = [sys.executable, "-m", "sower", "serve", "--config", str(config), *words]
    answer = subprocess.run(run, capture_output=True, text=True, timeout=PATIENCE)
    assert answer.returncode not in (0, None)
    return answer.stderr


def test_workers_without_a_cluster_a_free_port_or_redis_are_refused_with_the_reason(
    tmp_path: Path, redis: Redis
) -> None:
    listen = '[server]\nlisten = ["127.0.0.1:{}"]\n'
    cluster = f'[cluster]\nurl = "{redis.url}"\n'
    assert "cluster.url" in refusal(tmp_path, listen.format(1) + CONFIG, "--workers", "2")
    assert "127.0.0.1:0" in refusal(tmp_path, listen.format(0) + cluster + CONFIG, "--workers", "2")
    assert "Another process" in refusal(tmp_path, listen.format(redis.port) + cluster + CONFIG, "--workers", "2")
    away = f'[cluster]\nurl = "redis://127.0.0.1:{free_port()}/0"\n'
    assert "Redis cannot be reached" in refusal(tmp_path, listen.format(free_port()) + away + CONFIG, "--workers", "2")


async def test_a_signal_that_ends_all_is_not_missed_by_workers_that_are_just_being_started() -> None:
    async def soon() -> AsyncIterator[int]:
        for _ in range(3):
            await trio.lowlevel.checkpoint()  # and now threads start the processes
        yield signal.SIGTERM
        await trio.sleep_forever()

    workers = Workers(2, ["sleep", "60"], [], lambda: None, Systemd("", watchdog=None))
    with trio.fail_after(PATIENCE):
        assert await workers.run(soon()) == 128 + signal.SIGTERM


async def test_a_worker_that_cannot_be_started_again_ends_nothing(tmp_path: Path) -> None:
    """No room for a process, or an upgrade that has just taken the program away."""
    program = tmp_path / "program"
    program.write_text(f"""#!{sys.executable}
import os, socket, sys
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", os.environ["NOTIFY_SOCKET"])
os.unlink(sys.argv[0])
""")
    program.chmod(0o700)

    async def once_it_failed() -> AsyncIterator[int]:
        while "worker_not_started" not in [line["event"] for line in lines]:
            await trio.lowlevel.checkpoint()
        yield signal.SIGTERM
        await trio.sleep_forever()

    with capture_logs() as lines, trio.fail_after(PATIENCE):
        assert await Workers(1, [str(program)], [], lambda: None, Systemd()).run(once_it_failed()) == 0


BEATING = (
    "import os, socket, sys, time; open(sys.argv[1], 'a').write('x');"
    "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.connect(os.environ['NOTIFY_SOCKET']); s.send(b'READY=1')\n"
    "while True: s.send(b'WATCHDOG=1'); time.sleep(0.05)"
)
"""A worker that says that it is alive. Its argument is a file to which it adds a letter when it starts."""


async def test_workers_are_not_taken_for_stuck_by_a_first_process_that_hung_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sower.workers.WATCHDOG", 1.5)
    starts, serve = tmp_path / "starts", trio.Event()

    async def later() -> AsyncIterator[int]:
        await serve.wait()
        for _ in range(2):
            time.sleep(2.0)  # noqa: ASYNC251 - nothing goes on meanwhile
            await trio.sleep(0.02)
        yield signal.SIGTERM
        await trio.sleep_forever()

    command = [sys.executable, "-c", BEATING, str(starts)]
    await Workers(2, command, [], serve.set, Systemd("", watchdog=None)).run(later())
    assert starts.read_text() == "xx"
