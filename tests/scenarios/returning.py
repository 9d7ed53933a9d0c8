"""Clients that lose their connection, again and again, and daemons that end: no gap, no duplicate."""

from __future__ import annotations

import signal
import socket
from collections import Counter

import trio

from sower.errors import Draining
from tests.e2e.daemon import Daemon
from tests.e2e.followers import Follower, connect_all
from tests.scenarios.stage import CONFIG, PATIENT, Server, Stage

STORM_CLIENTS, STORM_RETURNS, STORM_CHANNELS = 500, 20, 10
DRAIN_CLIENTS, DRAINS = 200, 2
ENDS = ("reset", "end", "close")


class Publisher:
    """Publishes numbers on all channels until told to stop, each until it is accepted, as a careful server does."""

    def __init__(self, port: int, channels: list[str], pause: float) -> None:
        self._server = Server(port)
        self._channels = channels
        self._pause = pause
        self.accepted = 0
        self.stopping = False

    async def run(self) -> None:
        while not self.stopping:
            body = {"channels": self._channels, "event": "n", "data": self.accepted, "id": str(self.accepted)}
            try:
                status, _ = await self._server.ask("POST", "/events/publish", body)
            except (OSError, trio.BrokenResourceError):
                await trio.sleep(0.01)  # the connection ended with the daemon: the same again, with the same id
                continue
            self.accepted += status == 200
            await trio.sleep(self._pause)
        await self._server.close()


async def recovery_storm(stage: Stage) -> str:
    """500 clients lose their connection 20 times while there is publishing: 0 gaps, 0 duplicates."""
    channels = [stage.name("kept-storm", number) for number in range(STORM_CHANNELS)]
    clients = [Follower(stage.port, channels[number % STORM_CHANNELS]) for number in range(STORM_CLIENTS)]
    before = await stage.metrics()
    await connect_all(clients)
    publisher = Publisher(stage.port, channels, pause=0.05)

    async def lose_and_return(client: Follower) -> None:
        for _ in range(STORM_RETURNS):
            await client.until(len(client.heard) + stage.chance.choice((0, 0, 0, 1)))
            await client.drop(stage.chance.choice(ENDS))
            await trio.sleep(stage.chance.uniform(0, 0.1))
            await client.connect()

    async with trio.open_nursery() as publishing:
        publishing.start_soon(publisher.run)
        async with trio.open_nursery() as returning:
            for client in clients:
                returning.start_soon(lose_and_return, client)
        publisher.stopping = True
    async with trio.open_nursery() as reading:
        for client in clients:
            reading.start_soon(client.until, publisher.accepted)
    wrong = [client for client in clients if client.heard != list(range(publisher.accepted))]
    assert not wrong, f"{len(wrong)} clients heard something else, one of them {wrong[0].heard}"
    async with trio.open_nursery() as leaving:
        for client in clients:
            leaving.start_soon(client.drop)
    after = await stage.metrics()
    gaps = 'sower_recoveries_total{outcome="gap"}'
    assert after.get(gaps, 0.0) == before.get(gaps, 0.0)
    resumed = after["sower_recoveries_total"] - before["sower_recoveries_total"]
    assert resumed >= STORM_CLIENTS * STORM_RETURNS * 0.9, "who had heard something comes back with a position"
    return f"{resumed:.0f} returns, {publisher.accepted} messages to each, 0 gaps, 0 duplicates"


async def drain_under_load(stage: Stage) -> str:
    """Daemons that end while there is publishing close everybody with 1012's meaning, and the next ones go on."""
    folder = stage.folder / f"drain-{stage.round}"
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as unit:
        daemon = Daemon(folder, CONFIG, server=PATIENT)
        daemon.port, daemon.inherits = unit.getsockname()[1], unit
        await daemon.start()
        try:
            return await _drain(daemon, stage)
        finally:
            with trio.CancelScope(shield=True):
                await daemon.stop(signal.SIGKILL)


async def _drain(daemon: Daemon, stage: Stage) -> str:
    channels = [stage.name("kept-drain", number) for number in range(4)]
    clients = [Follower(daemon.port, channels[number % 4]) for number in range(DRAIN_CLIENTS)]
    await connect_all(clients)
    publisher, codes = Publisher(daemon.port, channels, pause=0.005), Counter[int]()

    async def come_back(client: Follower) -> None:
        codes[await client.follow()] += 1
        await client.connect()

    async with trio.open_nursery() as publishing:
        publishing.start_soon(publisher.run)
        for _ in range(DRAINS):
            async with trio.open_nursery() as coming_back:
                for client in clients:
                    coming_back.start_soon(come_back, client)
                await trio.sleep(stage.chance.uniform(0.1, 0.5))
                assert daemon.process is not None
                daemon.process.send_signal(signal.SIGTERM)
                assert await trio.to_thread.run_sync(daemon.process.wait, abandon_on_cancel=True) == 0
                assert daemon.process.stderr is not None
                daemon.process.stderr.close()
                await daemon.start()
        publisher.stopping = True
    async with trio.open_nursery() as reading:
        for client in clients:
            reading.start_soon(client.until, publisher.accepted)
    assert codes == {Draining.close: DRAIN_CLIENTS * DRAINS}, codes
    wrong = [client for client in clients if client.heard != list(range(publisher.accepted))]
    assert not wrong, f"{len(wrong)} clients heard something else, one of them {wrong[0].heard}"
    for client in clients:
        await client.drop()
    return f"{DRAINS} drains of {DRAIN_CLIENTS} clients, {publisher.accepted} messages to each, 0 gaps, 0 duplicates"
