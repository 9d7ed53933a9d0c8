"""`sower migrate`: take over what another server knows, so that all keys stay."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sower.cli.client import ConfigOption
from sower.cli.terminal import err
from sower.config import App
from sower.config_edit import append_table
from sower.config_file import PLACES, find_config
from sower.dialects.pusher.migration import read_apps
from sower.env_file import parse_env
from sower.errors import ConfigError

app = typer.Typer(
    help="Take over the keys of another vendor's or server's apps.", no_args_is_help=True, rich_markup_mode=None
)


@app.callback()
def migrate() -> None:
    """Take over the keys of another vendor's or server's apps."""


@app.command()
def pusher(
    env_file: Annotated[str, typer.Argument(metavar="ENVFILE", help="An env file of your app's server; - for stdin.")],
    config: ConfigOption = None,
) -> None:
    """Write the apps that an env file names into the config, with their ids, keys and secrets.

    It reads PUSHER_APP_ID, PUSHER_APP_KEY and PUSHER_APP_SECRET (also without APP_), SOKETI_DEFAULT_APP_... and
    REVERB_APP_...; without a config it makes ./sower.toml.

    \b
      sower migrate pusher .env
      sower migrate pusher - --config /etc/sower/sower.toml < .env
    """
    add_apps(read_apps(parse_env(read_text(env_file))), config)


def read_text(path: str) -> str:
    """A file, or stdin. Raises ConfigError."""
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error


def add_apps(apps: list[dict[str, Any]], given: Path | None) -> None:
    """Append [[apps]] tables to the config; those that are there already stay. Prints the file's path.

    Raises ConfigError: for an id or a key that is another app's, too.
    """
    path, known = _target(given)
    added = False
    for table in apps:
        if any((app.id, app.key, app.secret) == (table["id"], table["key"], table["secret"]) for app in known):
            err.print(f"The app {table['id']} is there already.", markup=False)
            continue
        append_table(path, "apps", table)
        added = True
        err.print(f"Added the app {table['id']}, key {table['key']}.", markup=False)
    print(path, flush=True)
    if added:
        err.print("`sower reload` has a running daemon take it over.", markup=False)


def _target(given: Path | None) -> tuple[Path, tuple[App, ...]]:
    """The config to write to, and its apps; ./sower.toml where there is none yet."""
    if given is None and not any(place.exists() for place in PLACES):
        given = PLACES[0]
    if given is not None and not given.exists():
        return given, ()
    loaded = find_config(given)
    return loaded.path, loaded.config.apps
