"""`sower backup`: a copy of the database, made while the daemon runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sower.cli.client import ConfigOption, JsonOption
from sower.cli.terminal import note, print_json
from sower.config_file import find_config
from sower.quantities import show_size
from sower.store.backup import back_up


def backup(
    file: Annotated[Path, typer.Argument(help="Where to write the copy; nothing must be there yet.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Copy the database to one file, checked, whether the daemon runs or not. All that was acknowledged is in it.

    \b
      sower backup /var/backups/sower-$(date +%F).db
    """
    copied = back_up(find_config(config, dev_too=True).config.store.path, file)
    if as_json:
        print_json({"path": str(copied.path), "bytes": copied.size, "messages": copied.messages})
    else:
        print(copied.path)
        note("copied", f"{show_size(copied.size)}, {copied.messages} messages")
