"""`sower publish`: say something on a channel."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import msgspec
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
from sower.cli.terminal import print_json, usage


def publish(
    channel: Annotated[str, typer.Argument(help="The channel.")],
    event: Annotated[str, typer.Argument(help="The event's name.")],
    data: Annotated[str, typer.Argument(help="JSON, or any other text; - reads stdin.")] = "null",
    id: Annotated[str | None, typer.Option("--id", help="Publishing the same id again stores nothing anew.")] = None,
    user: Annotated[str | None, typer.Option("--user", help="Publish in the name of this user.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """Publish an event, and print its serial.

    \b
      sower publish demo greeting '{"hello": "world"}'
      date | sower publish demo time -
    """
    daemon = find_daemon(config, url, app, key, secret_file)
    with usage("DATA"):
        body: dict[str, Any] = {"channel": channel, "event": event, "data": read_data(data)}
    body |= {name: value for name, value in (("id", id), ("user", user)) if value is not None}
    answer = trio.run(daemon.request, "POST", "/events/publish", body)
    if as_json:
        print_json(answer)
    else:
        print(answer["published"][0]["serial"])


def read_data(given: str) -> msgspec.Raw | str:
    """The data of an event: JSON verbatim where it is JSON, else the text itself without its last line break.

    Raises UnicodeDecodeError.
    """
    text = sys.stdin.buffer.read().decode() if given == "-" else given
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text.removesuffix("\n")
    return msgspec.Raw(text.encode())
