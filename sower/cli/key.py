"""`sower key`: make an app's key, and change its secret while both the old and the new one are accepted."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from sower.cli.client import ConfigOption, JsonOption
from sower.cli.terminal import err, print_json, usage
from sower.config import App, Config
from sower.config_edit import append_table, set_keys
from sower.config_file import Loaded, find_config, write_private
from sower.errors import ConfigError
from sower.store.audit import Record, append
from sower.there import is_there

FIRST_APP = 1001

app = typer.Typer(help="Make, rotate and retire the keys of apps.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def new(
    id: Annotated[str | None, typer.Option("--id", help="The app's id, digits; else the next free one.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
) -> None:
    """Add an app with a fresh key and secret, and print them once.

    \b
      sower key new
      sower key new --id 2002 --json
    """
    loaded = find_config(config, dev_too=True)
    with usage("--id"):
        app_id = next_id(loaded.config) if id is None else free_id(loaded.config, id)
    made = {"id": app_id, "key": secrets.token_hex(8), "secret": secrets.token_hex(16)}
    append_table(loaded.path, "apps", made)
    if as_json:
        print_json(made)
    else:
        print("\n".join(f"{name} {value}" for name, value in made.items()), flush=True)
    _say_reload()
    _note(loaded, "key_minted", app_id, made["key"])


@app.command()
def rotate(
    app_id: Annotated[str, typer.Argument(metavar="APP", help="The app's id.")],
    config: ConfigOption = None,
) -> None:
    """Give an app a new secret; the one it had is accepted until it is retired.

    \b
      sower key rotate 1001
      sower key retire 1001        when every server and token uses the new one
    """
    loaded = find_config(config, dev_too=True)
    index, chosen = find_app(loaded.config, app_id)
    if chosen.old_secret:
        raise ConfigError(f"The app {app_id} has an old secret still: `sower key retire {app_id}` first.")
    fresh = secrets.token_hex(16)
    if chosen.secret_file:
        write_private(loaded.path.parent / chosen.secret_file, f"{fresh}\n{chosen.secret}\n")
    else:
        set_keys(loaded.path, "apps", index, {"old_secret": chosen.secret, "secret": fresh})
    print(fresh, flush=True)
    _say_reload()
    _note(loaded, "key_rotated", app_id, chosen.key)


@app.command()
def retire(
    app_id: Annotated[str, typer.Argument(metavar="APP", help="The app's id.")],
    config: ConfigOption = None,
) -> None:
    """Accept an app's old secret no longer.

    \b
      sower key retire 1001
    """
    loaded = find_config(config, dev_too=True)
    index, chosen = find_app(loaded.config, app_id)
    if not chosen.old_secret:
        raise ConfigError(f"The app {app_id} has no old secret: nothing is being rotated.")
    if chosen.secret_file:
        write_private(loaded.path.parent / chosen.secret_file, f"{chosen.secret}\n")
    else:
        set_keys(loaded.path, "apps", index, {"old_secret": None})
    _say_reload()
    _note(loaded, "key_retired", app_id, chosen.key)


def next_id(config: Config) -> str:
    """An id that no app has."""
    return str(max((int(one.id) for one in config.apps if one.id.isdecimal()), default=FIRST_APP - 1) + 1)


def free_id(config: Config, app_id: str) -> str:
    """This id, where it is one and no app has it. Raises ValueError."""
    if not (app_id.isascii() and app_id.isdigit()):
        raise ValueError(f"{app_id!r} is not digits only, as some SDKs demand")
    if app_id in [existing.id for existing in config.apps]:
        raise ValueError(f"the app {app_id} is there already; `sower key rotate {app_id}` changes its secret")
    return app_id


def find_app(config: Config, app_id: str) -> tuple[int, App]:
    """An app and its place. Raises ConfigError."""
    for index, candidate in enumerate(config.apps):
        if candidate.id == app_id:
            return index, candidate
    raise ConfigError(f"No app has the id {app_id!r}; there are {', '.join(a.id for a in config.apps)}.")


def _note(loaded: Loaded, kind: str, app_id: str, key: str) -> None:
    """Note it in the audit, where there is a database. Last: should it fail, the secret has been shown.

    Raises StoreError.
    """
    if is_there(Path(loaded.config.store.path)):
        append(loaded.config.store.path, Record(time.time(), kind, app_id, detail=f"by `sower key`, key {key}"))


def _say_reload() -> None:
    err.print("`sower reload` has a running daemon take it over.", markup=False)
