"""`sower migrate`: take over what another server knows, so that all keys stay."""

from __future__ import annotations

import secrets
import sys
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import typer

from sower.cli.client import ConfigOption
from sower.cli.terminal import err
from sower.config import Config
from sower.config_edit import append_table
from sower.config_file import PLACES, find_config
from sower.dialects.ably.migration import RULE, app_table, read_key
from sower.dialects.pusher.migration import read_apps
from sower.env_file import parse_env
from sower.errors import ConfigError
from sower.there import is_there

FIRST_ID = 1001

EVERYTHING_ON: dict[str, Any] = {
    "match": "*",
    "client_events": True,
    "presence": True,
    "history": {"messages": 1000, "age": "7d"},
}
"""What PubNub's portal switches on for a keyset."""

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


@app.command()
def ably(
    key_file: Annotated[str, typer.Argument(metavar="KEYFILE", help="A file with the key; - for stdin.")],
    config: ConfigOption = None,
) -> None:
    """Write the app of an Ably key, APPID.KEYID:SECRET, into the config; the key stays as it is.

    Where the config has no rules for channels yet, one is added with which all of them keep history, because
    without it a client that was away cannot be given what it missed; and are private, so that no other protocol opens
    what a key or a token of Ably's protects.

    \b
      echo "$ABLY_API_KEY" | sower migrate ably -
      sower migrate ably .env --config /etc/sower/sower.toml
    """
    key = read_key(read_text(key_file))
    path, loaded = _target(config)
    table = app_table(key, loaded.apps, secrets.token_hex(16))
    if table is None:
        err.print(f"The key {key.partition(':')[0]} is there already.", markup=False)
    else:
        append_table(path, "apps", table)
        err.print(f"Added the app {table['id']}, key {key.partition(':')[0]}.", markup=False)
        if not loaded.channels:
            append_table(path, "channels", RULE)
        elif not any(rule.private and rule.history for rule in loaded.channels):
            err.print("Give its channels private = true and history in [[channels]]: see sower-ably(7).", markup=False)
        err.print("`sower reload` has a running daemon take it over.", markup=False)
    print(path, flush=True)


@app.command()
def pubnub(
    secret_file: Annotated[str, typer.Argument(metavar="SECRETFILE", help="A file with the secret key; - for stdin.")],
    publish_key: Annotated[str, typer.Option(help="The keyset's publish key.")],
    subscribe_key: Annotated[str, typer.Option(help="The keyset's subscribe key.")],
    config: ConfigOption = None,
) -> None:
    """Write an app into the config that has a keyset of PubNub's.

    It takes the first free id from 1001 on, and a key of its own for other protocols. Where the config has no rules
    for channels yet, one is added that switches history and presence on for all of them.

    \b
      sower migrate pubnub secret.txt --publish-key pub-c-... --subscribe-key sub-c-...
      sower migrate pubnub - --publish-key pub-c-... --subscribe-key sub-c-... < secret.txt
    """
    secret = read_text(secret_file).strip()
    path, loaded = _target(config)
    known = loaded.apps
    keys = {"publish_key": publish_key, "subscribe_key": subscribe_key}
    same = [a for a in known if (a.pubnub.publish_key, a.pubnub.subscribe_key) == (publish_key, subscribe_key)]
    number = next(n for n in count(FIRST_ID) if str(n) not in [a.id for a in known])
    app_id, key = (same[0].id, same[0].key) if same else (str(number), secrets.token_hex(8))
    add_apps([{"id": app_id, "key": key, "secret": secret, "pubnub": keys}], config)
    if not loaded.channels:
        append_table(path, "channels", EVERYTHING_ON)
    elif not same:
        hint = "Give its channels client_events, history and presence in [[channels]], as far as they use them."
        err.print(hint, markup=False)


def read_text(path: str) -> str:
    """A file, or stdin. Raises ConfigError."""
    try:
        return (sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.") from error


def add_apps(apps: list[dict[str, Any]], given: Path | None) -> None:
    """Append [[apps]] tables to the config; those that are there already stay. Prints the file's path.

    Raises ConfigError: for an id or a key that is another app's, too.
    """
    path, loaded = _target(given)
    known = loaded.apps
    added = False
    for table in apps:
        if any((app.id, app.key, app.secret) == (table["id"], table["key"], table["secret"]) for app in known):
            err.print(f"The app {table['id']} is there already.", markup=False)
            continue
        append_table(path, "apps", table)
        added = True
        err.print(f"Added the app {table['id']}, key {table['key']}.", markup=False)
    print(path, flush=True)
    if added and any(rule.private for rule in loaded.channels):
        err.print("A rule with private = true holds for its channels too: they need a token or a signature there.")
    if added:
        err.print("`sower reload` has a running daemon take it over.", markup=False)


def _target(given: Path | None) -> tuple[Path, Config]:
    """The config to write to, and what it says; ./sower.toml where there is none yet."""
    if given is None and not any(is_there(place) for place in PLACES):
        given = PLACES[0]
    if given is not None and not is_there(given):
        return given, Config()
    loaded = find_config(given)
    return loaded.path, loaded.config
