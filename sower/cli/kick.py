"""`sower kick`: end one connection."""

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
from sower.cli.terminal import print_json


def kick(
    session: Annotated[str, typer.Argument(help="A session's id, as sower top and GET /sessions show it.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """End one connection, with a code on which its client comes back. `sower audit --kind kicked` has the record.

    \b
      sower kick 8fe2f8e19b2c1a
    """
    daemon = find_daemon(config, url, app, key, secret_file)
    answer = trio.run(daemon.request, "DELETE", f"/sessions/{quote(session, safe='')}")
    print_json(answer) if as_json else print(answer["kicked"])
