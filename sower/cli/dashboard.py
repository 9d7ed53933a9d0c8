"""`sower dashboard`: a token with which a person signs in to the dashboard, without being told the secret."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from sower.cli.client import AppOption, ConfigOption, JsonOption, choose_app, find_daemon
from sower.cli.terminal import err, print_json, usage
from sower.cli.token_formats import seconds_of
from sower.config_file import find_config
from sower.core.grants import Credential, mint
from sower.core.record import Record
from sower.store.audit import append
from sower.there import is_there


def dashboard(
    ttl: Annotated[str, typer.Option(help="How long it is good: 10m, 8h, 30d.")] = "8h",
    as_json: JsonOption = False,
    config: ConfigOption = None,
    app: AppOption = None,
) -> None:
    """Print a token that allows for a while what the app's secret allows, and say where the dashboard is.

    \b
      sower dashboard
      sower dashboard --ttl 10m --app 1001
    """
    loaded = find_config(config, dev_too=True)
    owner = choose_app(loaded.config, app)
    with usage("--ttl"):
        seconds = seconds_of(ttl)
    now = time.time()
    made = mint(
        Credential(owner.id, owner.key, owner.secret.encode()),
        channels={},
        user=None,
        issued=now,
        expires=now + seconds,
        token_id=secrets.token_hex(8),
        admin=True,
    )
    if is_there(Path(loaded.config.store.path)):
        detail = f"by `sower dashboard`, an admin's, {ttl}"
        append(loaded.config.store.path, Record(now, "token_minted", owner.id, owner.key, None, None, detail))
    url = f"{find_daemon(config, None, app, None, None).url}/dashboard"
    if as_json:
        print_json({"url": url, "token": made, "expires": int(now + seconds)})
        return
    err.print(f"Sign in at {url} with this token:", style="dim")
    print(made)
