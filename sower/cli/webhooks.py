"""`sower webhooks`: what receivers have not accepted yet, and why."""

from __future__ import annotations

import time

import msgspec
import trio

from sower.cli import logs
from sower.cli.client import ConfigOption, JsonOption
from sower.cli.terminal import moment, print_json, print_table
from sower.config import Config
from sower.config_file import find_config
from sower.errors import ConfigError
from sower.store.outbox import Notice, waiting


def webhooks(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the webhooks that wait, from the database or a cluster's Redis, whether a daemon runs or not.

    \b
      sower webhooks
      sower webhooks --json
    """
    loaded = find_config(config, dev_too=True)
    urls = {(app.id, webhook.url) for app in loaded.config.apps for webhook in app.webhooks}
    busy: dict[tuple[str, str, str], int] = {}
    rows: list[list[str]] = []
    sender, notices = _waiting(loaded.config)
    for notice in notices:
        before = [busy[lane] for lane in _lanes(notice) if lane in busy]
        why = _why(notice, min(before, default=None), (notice.app, notice.url) in urls)
        busy.update((lane, notice.id) for lane in _lanes(notice))
        if as_json:
            print_json({**msgspec.to_builtins(notice), "why": why})
        rows.append(row(notice, why))
    if not as_json:
        print_table(["id", "since", "app", "channel", "attempts", "next try", "why", "url"], rows)
        if loaded.config.cluster.url:
            print(f"The daemon {sender} sends them." if sender else "No daemon sends them now.")


def _waiting(config: Config) -> tuple[str, list[Notice]]:
    """Which daemon of a cluster sends, and what waits. Raises SowerError."""
    if not config.cluster.url:
        return "", waiting(config.store.path)
    try:
        from sower.cluster.outbox import waiting as waiting_there
    except ImportError as error:
        raise ConfigError("A [cluster] needs the extra of that name: pip install 'sower[cluster]'.") from error
    logs.silence()
    return trio.run(waiting_there, config.cluster)


def row(notice: Notice, why: str) -> list[str]:
    """A notice as cells of a table."""
    first, *others = notice.channels
    channel = f"{first} and {len(others)} more" if others else first
    left = notice.next_try - time.time()
    next_try = "-" if not notice.attempts else "now" if left <= 0 else f"in {left:.0f} s"
    cells = [str(notice.id), moment(notice.time), notice.app, channel, str(notice.attempts), next_try]
    return [*cells, why, notice.url]


def _lanes(notice: Notice) -> list[tuple[str, str, str]]:
    return [(notice.app, notice.url, channel) for channel in notice.channels]


def _why(notice: Notice, before: int | None, is_known: bool) -> str:
    """What a notice waits for."""
    if not is_known:
        return "no webhook of the config has its url"
    if notice.error:
        return notice.error
    return "not sent yet" if before is None else f"{before} comes before it on its channel"
