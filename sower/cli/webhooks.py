"""`sower webhooks`: what receivers have not accepted yet, and why."""

from __future__ import annotations

import time

import msgspec

from sower.cli.client import ConfigOption, JsonOption
from sower.cli.terminal import moment, print_json, print_table
from sower.config_file import find_config
from sower.store.outbox import Notice, waiting


def webhooks(as_json: JsonOption = False, config: ConfigOption = None) -> None:
    """List the webhooks that wait, from the database, whether the daemon runs or not.

    \b
      sower webhooks
      sower webhooks --json
    """
    loaded = find_config(config, dev_too=True)
    urls = {(app.id, webhook.url) for app in loaded.config.apps for webhook in app.webhooks}
    busy: dict[tuple[str, str, str], int] = {}
    rows: list[list[str]] = []
    for notice in waiting(loaded.config.store.path):
        before = [busy[lane] for lane in _lanes(notice) if lane in busy]
        why = _why(notice, min(before, default=None), (notice.app, notice.url) in urls)
        busy.update((lane, notice.id) for lane in _lanes(notice))
        if as_json:
            print_json({**msgspec.to_builtins(notice), "why": why})
        rows.append(row(notice, why))
    if not as_json:
        print_table(["id", "since", "app", "channel", "attempts", "next try", "why", "url"], rows)


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
