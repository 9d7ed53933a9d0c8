"""Starting the daemon, and saying where it is. Nothing here imports typer, see sower/cli/__init__.py."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import structlog
import trio

from sower.cli import logs
from sower.config import Config
from sower.config_file import Loaded, find_config, load, load_dev
from sower.daemon import serve
from sower.errors import ConfigError
from sower.net.listen import Listener
from sower.systemd import Systemd, inherited_sockets
from sower.worker import Worker


def launch(config: Path | None, *, dev: bool = False, workers: int | None = None) -> None:
    """Run the daemon with this config, else with the one that is found; dev: with an own one; workers: so many of it.

    Raises SowerError.
    """
    loaded = load_dev() if dev else find_config(config)
    worker = Worker.from_environment(os.environ)
    logs.set_up(worker and worker.number)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # so much is one worth that comes before it listens or while it ends

    def ready(listeners: Sequence[Listener]) -> None:
        _show(loaded, [str(listener) for listener in listeners], dev=dev)

    def reread() -> Config:
        return load_dev().config if dev else load(loaded.path).config

    systemd, inherited = Systemd.from_environment(os.environ), inherited_sockets(os.environ)
    if worker is not None:
        trio.run(_work, worker, loaded, systemd, strict_exception_groups=True)
    elif workers is not None:
        sys.exit(_watch(workers, loaded, ready, systemd, inherited))
    else:
        trio.run(
            lambda: serve(loaded.config, ready=ready, reread=reread, systemd=systemd, inherited=inherited),
            strict_exception_groups=True,
        )


async def _work(worker: Worker, loaded: Loaded, systemd: Systemd) -> None:
    """Be one of several on a port; the first process says where they listen."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker.end_with_the_first)
        await serve(
            worker.own(loaded.config),
            ready=lambda listeners: None,
            reread=lambda: worker.own(load(loaded.path).config),
            systemd=systemd,
            inherited=worker.sockets,
            shared=True,
        )
        nursery.cancel_scope.cancel()


def _watch(
    count: int,
    loaded: Loaded,
    ready: Callable[[Sequence[Listener]], None],
    systemd: Systemd,
    inherited: Sequence[socket.socket],
) -> int:
    """Be the one that starts them. Only it needs what is imported here."""
    from sower.workers import serve_with_workers

    command = (sys.executable, "-P", "-m", "sower", "serve", "--config", str(loaded.path.absolute()))
    run = partial(serve_with_workers, ready=ready, systemd=systemd, inherited=inherited)
    return trio.run(run, loaded.config, count, command, strict_exception_groups=True)


def _show(loaded: Loaded, addresses: Sequence[str], *, dev: bool) -> None:
    """The panel for a person, or one line for a log."""
    if not dev and not sys.stderr.isatty():
        structlog.get_logger("sower").info("ready", listen=list(addresses), config=str(loaded.path))
        return
    from rich.panel import Panel
    from rich.text import Text

    from sower.cli.terminal import err as console

    app = loaded.config.apps[0]
    address = _url(addresses[0])
    panel = Text()
    panel.append("Listening  ").append(" ".join(map(_url, addresses)) + "\n", style="bold")
    panel.append(f"App        {app.id}\nKey        {app.key}\n")
    panel.append(f"Secret     {app.secret if dev else 'in ' + str(loaded.path)}\n")
    if loaded.config.web.demo:
        panel.append(f"Demo       {address}/demo\n")
    if loaded.config.web.dashboard:
        panel.append(f"Dashboard  {address}/dashboard\n")
    panel.append(f"Config     {loaded.path}\nDatabase   {loaded.config.store.path}")
    console.print(Panel(panel, title="Sower", border_style="green", expand=False))
    # The two lines to copy stand outside the panel, so that no border is copied with them.
    secret = app.secret if dev else "SECRET"
    body = '{"channel":"demo","event":"greeting","data":"hello"}'
    console.print("See what is said on a channel:\n", style="dim")
    console.print(f"  {_command(loaded)}\n", soft_wrap=True, highlight=False)
    console.print("Say something:\n", style="dim")
    console.print(
        f"  curl -u {app.key}:{secret} {address}/events/publish -d '{body}'\n", soft_wrap=True, highlight=False
    )


def _command(loaded: Loaded) -> str:
    """The command that follows a channel, as it works from here."""
    program = "sower" if shutil.which("sower") == sys.argv[0] else sys.argv[0]
    try:
        found = find_config(None, dev_too=True).path.resolve() == loaded.path.resolve()
    except ConfigError:
        found = False
    return f"{program} tail demo" + ("" if found else f" --config {loaded.path}")


def _url(address: str) -> str:
    """A listener's address as one opens it."""
    if address.startswith("unix:"):
        return address
    return f"https://{address.removeprefix('tls:')}" if address.startswith("tls:") else f"http://{address}"
