"""`sower serve`: start the daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sower.cli.launch import launch


def serve(
    config: Annotated[
        Path | None, typer.Option(help="The config file, else ./sower.toml or /etc/sower/sower.toml.")
    ] = None,
    dev: Annotated[
        bool, typer.Option("--dev", help="Run with an own config and database, made on the first run.")
    ] = False,
) -> None:
    """Start the daemon.

    \b
      sower serve --dev
      sower serve --config /etc/sower/sower.toml
    """
    launch(config, dev=dev)
