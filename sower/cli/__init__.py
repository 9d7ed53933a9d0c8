"""The `sower` command: one module of this folder a subcommand, and typer to tell which one is meant.

A daemon that was asked for plainly is started before typer is imported: with what typer brings along it takes 9 MiB
that stay for as long as the daemon lives.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import cast

COMMANDS = {
    "serve": "Start the daemon.",
    "tail": "Follow a channel, or the daemon itself with --all.",
    "publish": "Publish an event.",
    "token": "Mint a token for a private channel, or inspect one.",
    "dashboard": "Print a token with which a person signs in to the dashboard.",
    "presence": "Show who is in a channel.",
    "channels": "List the channels that somebody follows.",
    "history": "Read what a channel has kept.",
    "audit": "Read the record of who was let in, refused, published and minted.",
    "webhooks": "List the webhooks that wait, and why.",
    "backup": "Copy the database while the daemon runs.",
    "restore": "Put a copy of the database back.",
    "key": "Make, rotate and retire the keys of apps.",
    "app": "Add, list and remove apps while the daemon runs.",
    "migrate": "Take over the keys of another vendor's or server's apps.",
    "config": "Make, check and show the config.",
    "top": "Watch what the daemon does.",
    "doctor": "Say what is wrong with an installation, and the remedy.",
    "check": "Say whether the daemon is well, for a monitoring system.",
    "bench": "Load one's own server, and say how fast it is.",
    "kick": "End one connection.",
    "reload": "Have the daemon take a changed config over.",
    "explain": "Explain an error code, a close code or a status.",
    "completion": "Print the completion script of a shell.",
}
"""Every command with its short help, so that `sower --help` imports none of them."""


def main() -> None:
    """The entry point. Exit codes: 0 ok, 1 failed, 2 usage, 3 no daemon, 4 not authorised, 5 bad config."""
    # Neither a missing file (`sower serve >&-`) nor a terminal that cannot show a letter ends a command.
    sys.stdin = sys.stdin or open(os.devnull)  # noqa: SIM115 - for as long as the process
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    cast(TextIOWrapper, sys.stdout).reconfigure(errors="backslashreplace")
    try:
        _run(sys.argv[1:])
    except Exception as error:
        from sower.cli.terminal import fail, find
        from sower.errors import SowerError

        known = find(SowerError, error)
        if known is None:
            raise
        sys.exit(fail(known))


def _run(words: list[str]) -> None:
    match [] if "_SOWER_COMPLETE" in os.environ else words:
        case ["serve", "--config", path] if path.isprintable() and not path.startswith("-"):
            _serve(Path(path))
        case ["serve"]:
            _serve(None)
        case _:
            from sower.cli.program import run

            run()


def _serve(config: Path | None) -> None:
    from sower.cli.launch import launch

    try:
        launch(config)
    except KeyboardInterrupt:  # before the daemon listens to signals
        sys.exit(1)
