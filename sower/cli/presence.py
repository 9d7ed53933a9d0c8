"""`sower presence`: who is in a channel."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

import trio
import typer

from sower.cli.client import (
    AppOption,
    ConfigOption,
    JsonOption,
    KeyOption,
    SecretOption,
    UrlOption,
    find_daemon,
)
from sower.cli.terminal import data_text, print_json, print_table


def presence(
    channel: Annotated[str, typer.Argument(help="The channel.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """Show the members of a channel, with how many connections each has.

    \b
      sower presence presence-lobby
      sower presence presence-lobby --json
    """
    daemon = find_daemon(config, url, app, key, secret_file)
    answer = trio.run(daemon.request, "GET", f"/presence/{quote(channel, safe='')}")
    if as_json:
        print_json(answer)
    else:
        rows = [[m["user"], str(m["connections"]), data_text(m["meta"])] for m in answer["members"]]
        print_table(["user", "connections", "meta"], rows)
