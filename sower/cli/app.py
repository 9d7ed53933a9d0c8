"""`sower app`: add, list and remove apps while the daemon runs."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import trio
import typer

from sower.cli.client import AppOption, ConfigOption, JsonOption, KeyOption, SecretOption, UrlOption, find_daemon
from sower.cli.terminal import print_json, print_table, usage

app = typer.Typer(help="Add, list and remove apps while the daemon runs.", no_args_is_help=True, rich_markup_mode=None)

AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        metavar="CAPABILITY",
        help="A further Ably key that allows this, JSON of resource -> operations. May be repeated.",
    ),
]


@app.command()
def add(
    id: Annotated[str | None, typer.Option("--id", help="The app's id; else the next free one.")] = None,
    allow: AllowOption = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """Add an app with a fresh key and secret, and print them once. It is there at once, and after a restart.

    \b
      sower app add
      sower app add --json --allow '{"chat:*": ["subscribe", "history"]}' --allow '{"*": ["*"]}'
    """
    with usage("--allow"):
        capabilities = [_capability(text) for text in allow or ()]
    daemon = find_daemon(config, url, app, key, secret_file)
    body: dict[str, Any] = {"ably": capabilities, **({"id": id} if id is not None else {})}
    made = trio.run(daemon.request, "POST", "/apps", body)
    if as_json:
        print_json({**made, "url": daemon.url})
        return
    lines = [f"{name} {made[name]}" for name in ("id", "key", "secret")]
    lines += [f"ably {one['key']} {msgspec.json.encode(one['capability']).decode()}" for one in made["ably"]]
    print("\n".join(lines), flush=True)


@app.command(name="list")
def list_apps(
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """List the apps: the config's, and those that were added.

    \b
      sower app list
      sower app list --json
    """
    daemon = find_daemon(config, url, app, key, secret_file)
    answer = trio.run(daemon.request, "GET", "/apps")
    if as_json:
        print_json(answer)
    else:
        rows = [
            [one["id"], one["key"], "added" if one["added"] else "config", str(one["connections"])]
            for one in answer["apps"]
        ]
        print_table(["id", "key", "from", "connections"], rows)


@app.command()
def remove(
    app_id: Annotated[str, typer.Argument(metavar="ID", help="The id of an app that was added.")],
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """Remove an app that was added, and end its clients: its keys open nothing any more. Its id is not given again.

    \b
      sower app remove 1002
    """
    daemon = find_daemon(config, url, app, key, secret_file)
    answer = trio.run(daemon.request, "DELETE", f"/apps/{quote(app_id, safe='')}")
    print_json(answer) if as_json else print(answer["removed"])


def _capability(text: str) -> dict[str, list[str]]:
    """Raises ValueError."""
    try:
        return msgspec.json.decode(text, type=dict[str, list[str]])
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{text[:64]!r} is not JSON of resource -> operations: {error}") from error
