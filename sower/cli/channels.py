"""`sower channels`: which channels somebody follows."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

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
from sower.cli.terminal import print_json, print_table


def channels(
    prefix: Annotated[str, typer.Option(help="Only channels whose name begins so.")] = "",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """List the channels that somebody follows, with how many do.

    \b
      sower channels
      sower channels --prefix presence- --json
    """
    daemon = find_daemon(config, url, app, key, secret_file)
    answer = trio.run(daemon.request, "GET", f"/channels?{urlencode({'prefix': prefix})}")
    if as_json:
        print_json(answer)
    else:
        rows = [[c["channel"], str(c["subscribers"]), str(c.get("members", "-"))] for c in answer["channels"]]
        print_table(["channel", "subscribers", "members"], rows)
