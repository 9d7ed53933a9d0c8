"""`sower config`: make a config, check one, and show what is in force."""

from __future__ import annotations

import os
import re
import secrets
from pathlib import Path
from typing import Annotated, Any

import msgspec
import tomli_w
import typer

from sower.cli.client import ConfigOption, JsonOption
from sower.cli.terminal import err, print_json
from sower.config import Config, Duration, Rate, Size
from sower.config_docs import example
from sower.config_file import find_config, write_private
from sower.errors import ConfigError
from sower.quantities import show_duration, show_rate, show_size

MASK = "********"

app = typer.Typer(help="Make, check and show the config.", no_args_is_help=True, rich_markup_mode=None)


@app.command()
def init(
    path: Annotated[Path, typer.Option(help="Where to write it.")] = Path("sower.toml"),
) -> None:
    """Write a config with every setting, its default, and fresh keys.

    \b
      sower config init
      sower config init --path /etc/sower/sower.toml
    """
    if os.path.exists(path):
        raise ConfigError(f"{path} is there already and stays as it is. Name another with --path.")
    write_private(path, example(secrets.token_hex(8), secrets.token_hex(16)))
    print(path)
    err.print(f"Start the daemon with: sower serve --config {path}", markup=False, soft_wrap=True)


@app.command()
def check(config: ConfigOption = None) -> None:
    """Read the config and say what is wrong with it, by line and key.

    \b
      sower config check
      sower config check --config /etc/sower/sower.toml
    """
    loaded = find_config(config, dev_too=True)
    apps, rules = len(loaded.config.apps), len(loaded.config.channels)
    print(f"{loaded.path}: ok, {apps} app{'s' * (apps != 1)}, {rules} channel rule{'s' * (rules != 1)}")


@app.command()
def show(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every setting that is in force, defaults included and secrets masked.

    \b
      sower config show
      sower config show --json
    """
    shown = masked(find_config(config, dev_too=True).config)
    print_json(shown) if as_json else print(tomli_w.dumps(shown), end="")


PASSWORD = re.compile(r"(://[^:/?#]*:)[^/?#]+(?=@)|([?&]password=)[^&]+")
"""Of a URL that has one."""

KEY_SECRET = re.compile(r":.+")
"""Of an Ably key, NAME:SECRET. An app's own key has no colon."""


def masked(config: Config) -> dict[str, Any]:
    """A config as it is written in TOML: quantities with their units, nothing that is None, no secret."""
    return _plain(config)


def _plain(value: Any, name: str = "") -> Any:
    if isinstance(value, Rate):
        return show_rate(value)
    if isinstance(value, msgspec.Struct):
        fields = {field: getattr(value, field) for field in value.__struct_fields__}
        return {field: _plain(inner, field) for field, inner in fields.items() if inner not in (None, "")}
    if isinstance(value, tuple):
        return [_plain(inner) for inner in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, Duration):
        return show_duration(value)
    if isinstance(value, Size):
        return show_size(value)
    if name == "headers":  # a webhook's: they carry tokens
        return dict.fromkeys(value, MASK)
    if name == "url" and isinstance(value, str):
        return PASSWORD.sub(rf"\1\2{MASK}", value)
    if name == "key" and isinstance(value, str):
        return KEY_SECRET.sub(f":{MASK}", value)
    if name == "keys":
        return {_plain(key, "key"): _plain(allowed) for key, allowed in value.items()}
    return MASK if name in ("secret", "old_secret", "secret_key") else value
