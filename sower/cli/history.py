"""`sower history`: what a channel has kept, from the daemon or, when it is down, from its database."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, Literal, cast
from urllib.parse import quote, urlencode

import apsw
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
    choose_app,
    find_daemon,
)
from sower.cli.tail import cells, coloured, lost, read_since
from sower.cli.terminal import note, out, parse_json, print_json, refuse, usage
from sower.config import History
from sower.config_file import find_config
from sower.core.message import Position
from sower.core.rules import RuleBook
from sower.dialects.native.words import event_frame
from sower.errors import DaemonUnreachable, HistoryOff, StoreError
from sower.store.opening import store_error
from sower.store.rows import Reader
from sower.store.sqlite import Database
from sower.there import is_there

DEFAULT_LIMIT = 100
"""Events, as the daemon's GET /history."""


def history(
    ctx: typer.Context,
    channel: Annotated[str, typer.Argument(help="The channel.")],
    since: Annotated[str | None, typer.Option(help="After this: 5m, a serial or a position.")] = None,
    before: Annotated[str | None, typer.Option(help="Before this: 5m, a serial or a position.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=1000, help="So many events at most, else 100.")] = None,
    order: Annotated[Literal["asc", "desc"], typer.Option(help="asc or desc.")] = "asc",
    store: Annotated[Path | None, typer.Option(help="Read this database file and ask no daemon.")] = None,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """Read what a channel has kept, oldest first.

    \b
      sower history orders --since 1h
      sower history orders --order desc --limit 1 --json
    """
    if store is not None:
        refuse(ctx, "--url", "--key", "--secret-file", because="with --store no daemon is asked; leave it out.")
    now = time.time()
    with usage("--since"):
        after = read_since(since, now)
    with usage("--before"):
        until = read_since(before, now)
    query: dict[str, str] = {"limit": str(limit or DEFAULT_LIMIT), "order": order}
    query |= {name: str(value) for name, value in (("since", after), ("before", until)) if value is not None}
    if store is None:
        daemon = find_daemon(config, url, app, key, secret_file)
        try:
            page = trio.run(daemon.request, "GET", f"/history/{quote(channel, safe='')}?{urlencode(query)}")
        except DaemonUnreachable as error:
            if url is not None or key is not None:
                raise
            note("offline", f"{error.message} Reading its database.")
            page = read_file(config, app, channel, None, query)
    else:
        page = read_file(config, app, channel, store, query)
    for event in page["events"]:
        if as_json:
            print_json(event)
        elif out.is_terminal:
            out.print(coloured(event))
        else:
            print("\t".join(cells(event)))
    if page["gap"] and after is not None and lost(after, Position.parse(page["position"])):
        note("gap", "something after the position that was asked for is gone")
    if page["next"] and limit is None:
        bound = "--since" if order == "asc" else "--before"
        note("more", f"go on with {bound} {page['events'][-1]['serial']}")


def read_file(
    config: Path | None, app: str | None, channel: str, store: Path | None, query: dict[str, str]
) -> dict[str, Any]:
    """A page of history as the daemon would answer it, from a database file. Raises StoreError, HistoryOff."""
    loaded = find_config(config, dev_too=True)
    kept = RuleBook(loaded.config.channels).of(channel).history
    if kept is None and store is None:
        raise HistoryOff(f"The channel {channel!r} keeps no history.")
    path = str(store or loaded.config.store.path)
    if not is_there(Path(path)):
        raise StoreError(f"There is no database {path}.")
    serials = {name: Position.parse(query[name]).serial if name in query else None for name in ("since", "before")}
    try:
        db = cast(Database, apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY))
        reader = Reader(db)
        owner = choose_app(loaded.config, app).id
        head = reader.head(owner, channel)
        page = reader.read(
            owner,
            channel,
            since=serials["since"],
            before=serials["before"],
            limit=int(query["limit"]),
            newest_first=query["order"] == "desc",
            history=kept or History(),
            now=time.time(),
        )
        db.close()
    except apsw.Error as error:
        raise store_error(path, error) from error
    return {
        "events": [parse_json(msgspec.json.encode(event_frame(m))) for m in page.messages],
        "position": str(head),
        "gap": page.gap,
        "next": page.more,
    }
