"""sower/parts.py: what a daemon is made of, as it goes from one config to the next."""

from __future__ import annotations

import gc
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from sower.config_file import parse
from sower.dialects.interface import HttpCall
from sower.dialects.native.stream import stream_routes
from sower.net.tls import Certificate
from sower.parts import Parts
from sower.store.ages import Ages
from sower.store.audit import Audit
from sower.store.journal import Journal
from sower.systemd import Systemd
from tests.e2e.daemon import CONFIG, SECRET


@asynccontextmanager
async def parts_of_a_daemon(folder: Path) -> AsyncGenerator[Parts]:
    """With a config whose secret is another one each time that it is read."""
    read = 0

    def reread():
        nonlocal read
        read += 1
        return parse(CONFIG.replace(SECRET, f"{SECRET}-{read}"), folder / "sower.toml")

    config = reread()
    async with (
        Journal.open(
            config.store.path,
            sync=config.store.sync,
            remember_ids=config.store.remember_ids,
            keep_audit=config.store.keep_audit,
            rules_fingerprint="",
            boot_id="",
            now=time.time,
            ages=Ages(time.time),
        ) as journal,
        trio.open_nursery() as nursery,
    ):
        yield Parts(config, journal, Audit(journal), Systemd(), nursery, Certificate(), reread, now=time.time)


async def test_what_a_config_was_served_with_is_freed_by_its_counts_at_a_reload(tmp_path: Path) -> None:
    """The collector sees nothing of it: it lives long, so it was frozen."""
    async with parts_of_a_daemon(tmp_path) as parts:
        for _ in range(2):
            assert parts.reloader.reload().taken == ("apps 1001.secret",)
        gc.collect()
        for _ in range(3):
            parts.reloader.reload()
        assert gc.collect() == 0


def test_streams_from_before_and_after_a_reload_are_told_in_the_same_words() -> None:
    call = HttpCall("GET", "/sse/news", {"channel": "news"}, {"key": "k"}, {}, b"", "key=k")
    before, after = (stream_routes("epoch")[0].open(call).encoder for _ in range(2))
    assert before == after
    assert hash(before) == hash(after)
