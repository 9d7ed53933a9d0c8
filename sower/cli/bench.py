"""`sower bench`: how fast one's own server is, from here."""

from __future__ import annotations

import secrets
import time
from typing import Annotated, Any, NamedTuple

import httpx
import msgspec
import trio
import typer
from rich.progress import BarColumn, Progress, TextColumn
from trio_websocket import ConnectionClosed

from sower.cli.client import (
    PATIENCE,
    AppOption,
    ConfigOption,
    Daemon,
    JsonOption,
    KeyOption,
    SecretOption,
    UrlOption,
    find_daemon,
)
from sower.cli.terminal import err, print_json, print_table

AT_ONCE = 50
"""Clients that connect at the same time."""

LAST_WAIT = 5.0
"""Seconds to wait for the last deliveries."""

decode = msgspec.json.Decoder(dict[str, Any]).decode


class Run(NamedTuple):
    """What a run was asked for."""

    clients: int
    rate: float
    seconds: float
    size: int


class Clients:
    """What all clients have heard: seconds from each publish to each of its deliveries."""

    def __init__(self, expected: int) -> None:
        self.took: list[float] = []
        self.expected = expected
        self.all_heard = trio.Event()

    def heard(self, began: float) -> None:
        """Note one delivery."""
        self.took.append(time.monotonic() - began)
        if len(self.took) >= self.expected:
            self.all_heard.set()


def bench(
    clients: Annotated[int, typer.Option(help="Clients that follow one channel.", min=1, max=10_000)] = 100,
    rate: Annotated[float, typer.Option(help="Publishes a second.", min=0.1, max=10_000)] = 20,
    seconds: Annotated[float, typer.Option(help="How long to publish.", min=0.1, max=600)] = 10,
    size: Annotated[int, typer.Option(help="Bytes of one message.", min=32, max=65_536)] = 128,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """Load the server with clients on one channel of its own, and say how fast it is. They run in this one process,
    so a large crowd measures this process too.

    \b
      sower bench
      sower bench --clients 1000 --rate 5 --json
    """
    run = Run(clients, rate, seconds, size)
    result = trio.run(measure, find_daemon(config, url, app, key, secret_file), run)
    if as_json:
        print_json(result)
    else:
        print_table(["measure", "value"], [[name.replace("_", " "), _shown(value)] for name, value in result.items()])
    if result["lost"]:
        raise typer.Exit(1)


async def measure(daemon: Daemon, run: Run) -> dict[str, float]:
    """Connect, publish, count. Raises DaemonUnreachable, or the error that the daemon told."""
    channel = f"bench-{secrets.token_hex(6)}"
    publishes = max(1, round(run.rate * run.seconds))
    heard = Clients(run.clients * publishes)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"))
    with Progress(*columns, console=err, disable=not err.is_terminal, transient=True) as progress:
        async with trio.open_nursery() as nursery:
            connecting = progress.add_task("connecting", total=run.clients)
            began = trio.current_time()
            limit = trio.CapacityLimiter(AT_ONCE)
            async with trio.open_nursery() as opening:

                async def connect() -> None:
                    async with limit:
                        await nursery.start(_follow, daemon, channel, heard)
                        progress.advance(connecting)

                for _ in range(run.clients):
                    opening.start_soon(connect)
            connected = trio.current_time() - began
            publishing = progress.add_task("publishing", total=publishes)
            began = trio.current_time()
            async for _ in _publish(daemon, channel, publishes, run):
                progress.advance(publishing)
            with trio.move_on_after(LAST_WAIT):
                await heard.all_heard.wait()
            took = trio.current_time() - began
            nursery.cancel_scope.cancel()
    return _summary(run, publishes, heard, connected, took)


async def _follow(
    daemon: Daemon, channel: str, heard: Clients, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    async with daemon.socket(channel, None) as connection:
        await connection.get_message()
        task_status.started()
        try:
            while True:
                frame = decode(await connection.get_message())
                if frame["type"] == "event":
                    heard.heard(frame["data"]["at"])
        except ConnectionClosed:
            return  # what it does not hear is counted as lost


async def _publish(daemon: Daemon, channel: str, publishes: int, run: Run):
    """Publish at the rate, or as fast as the server answers where that is slower."""
    credentials = (daemon.key, daemon.secret)
    async with httpx.AsyncClient(base_url=daemon.url, timeout=PATIENCE, trust_env=False, auth=credentials) as client:
        began = trio.current_time()
        for number in range(publishes):
            await trio.sleep_until(began + number / run.rate)
            data = {"at": time.monotonic(), "pad": "x" * max(0, run.size - 32)}
            answer = await client.post("/events/publish", json={"channel": channel, "event": "bench", "data": data})
            answer.raise_for_status()
            yield number


def _summary(run: Run, publishes: int, heard: Clients, connected: float, took: float) -> dict[str, float]:
    times = sorted(heard.took) or [0.0]
    return {
        "clients": run.clients,
        "connects_per_second": run.clients / max(connected, 1e-9),
        "publishes": publishes,
        "deliveries": len(heard.took),
        "lost": heard.expected - len(heard.took),
        "deliveries_per_second": len(heard.took) / max(took, 1e-9),
        "latency_median_ms": times[len(times) // 2] * 1000,
        "latency_99_percent_ms": times[int(len(times) * 0.99)] * 1000,
        "latency_worst_ms": times[-1] * 1000,
    }


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
