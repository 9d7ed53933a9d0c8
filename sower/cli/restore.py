"""`sower restore`: put a copy of the database back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sower.cli.client import ConfigOption
from sower.cli.terminal import note
from sower.config_file import find_config
from sower.store.backup import restore as put_back


def restore(
    file: Annotated[Path, typer.Argument(help="A copy that `sower backup` made.")],
    config: ConfigOption = None,
) -> None:
    """Put a copy in the database's place while the daemon is stopped. What was there is kept beside it.

    \b
      sower restore /var/backups/sower-2026-11-24.db
    """
    path = find_config(config, dev_too=True).config.store.path
    kept = put_back(file, path)
    print(path)
    if kept is not None:
        note("kept", f"what was there before is now {kept}")
