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
    workers: Annotated[
        int | None,
        typer.Option(help="Run so many daemons on the same port, one for each core. It needs a [cluster]."),
    ] = None,
) -> None:
    """Start the daemon.

    \b
      sower serve --dev
      sower serve --config /etc/sower/sower.toml
      sower serve --config /etc/sower/sower.toml --workers 4
    """
    if dev and config is not None:
        raise typer.BadParameter(f"it has a config of its own; leave it out to serve {config}.", param_hint="--dev")
    if dev and workers is not None:
        because = "it has a config of its own without a [cluster]; leave it out to have --workers."
        raise typer.BadParameter(because, param_hint="--dev")
    launch(config, dev=dev, workers=workers)
