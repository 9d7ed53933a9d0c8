"""A hub on a real journal, with followers and publishers who note what they are told."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import apsw
import trio

from sower.config import App, ChannelRule, Config, Duration, History
from sower.core.answer import Receipt
from sower.core.command import Appear, Publish, Subscribe
from sower.core.message import Act, Did, Position, Revision
from sower.errors import SowerError
from sower.health import Health
from sower.hub import Hub
from sower.inbox import MetaChange, Publication, Subscription
from sower.store.journal import Journal
from sower.systemd import Systemd
from tests.store.opened import NOW, opened
from tests.test_channel_tree import PLAIN, Listener, Waiting

HISTORY = History(messages=1000, age=Duration(3600))
CONFIG = Config(
    apps=(App(id="1", key="k", secret="s" * 16),),
    channels=(
        ChannelRule(match="kept-*", history=HISTORY),
        ChannelRule(match="presence-*", history=HISTORY, grace=Duration(5)),
    ),
)

PATIENCE = 25.0
"""Seconds of the daemon's clock in which every publisher has an answer: a commit that takes long, and one that hangs."""


class House:
    """acked: serial by text of what was acknowledged. refused: texts whose last publish was refused, and why."""

    def __init__(self, journal: Journal, hub: Hub, health: Health) -> None:
        self.journal = journal
        self.hub = hub
        self.health = health
        self.acked: dict[tuple[str, str], int] = {}
        self.refused: dict[tuple[str, str], SowerError] = {}
        self._changes: dict[tuple[str, str], Revision] = {}

    def follow(
        self, name: str, *, since: Position | None = None, user: str | None = None
    ) -> tuple[Listener, Subscription]:
        """A follower from now on, or from a position."""
        listener = Listener()
        subscription = Subscription(self.hub.tree("1", name), listener, PLAIN, user)
        command = Subscribe(name, since)
        try:
            subscription.begin(command, b"null" if user else None)
        except SowerError as error:
            listener.said.append(error.code)
        return listener, subscription

    async def publish(self, name: str, *texts: str) -> None:
        """Publish at the same time, each with its text as its id, and wait for all answers."""
        async with trio.open_nursery() as nursery:
            for text in texts:
                nursery.start_soon(self._publish, name, text)

    async def change(self, name: str, text: str, earlier: str) -> None:
        """Change a message that was acknowledged, where it was, and wait for the answer."""
        if (name, earlier) in self.acked:
            self._changes[name, text] = Revision(self.acked[name, earlier], Act.UPDATED)
            await self._publish(name, text)

    async def _publish(self, name: str, text: str) -> None:
        ticket = Waiting()
        command = Publish(name, "e", text.encode(), id=text, about=self._changes.get((name, text)))
        try:
            self.hub.publish("1", Publication(command, None, None, ticket))
        except SowerError as error:
            ticket.settle(error)
        with trio.fail_after(PATIENCE):
            await ticket.done.wait()
        if isinstance(ticket.outcome, Receipt):
            known = self.acked.setdefault((name, text), ticket.outcome.serial)
            assert known == ticket.outcome.serial, f"{text} was acknowledged as {known} and {ticket.outcome.serial}"
            self.refused.pop((name, text), None)
        elif (name, text) not in self.acked:
            assert ticket.outcome is not None
            self.refused[name, text] = ticket.outcome

    async def publish_until_accepted(self, name: str, text: str, within: float = 300.0) -> None:
        """Publish as a careful server does: again with the same id until it is acknowledged."""
        with trio.fail_after(within):
            while (name, text) not in self.acked:
                await self._publish(name, text)
                if (name, text) not in self.acked:
                    await trio.sleep(1)

    def appear(self, subscription: Subscription, user: str, did: Did) -> None:
        """Have a follower come, or go, as a member."""
        command = Appear(subscription.channel, did, user, b"null")
        subscription.tree.post(MetaChange(subscription, command, user))


@asynccontextmanager
async def a_house(
    folder: Path, config: Config = CONFIG, now: Callable[[], float] = lambda: NOW, **more: Any
) -> AsyncGenerator[House]:
    """A hub whose journal is in a folder. Raises StoreError."""
    async with opened(folder, now, **more) as journal, trio.open_nursery() as nursery:
        hub = Hub(config, journal, now=now)
        await nursery.start(hub.run)
        yield House(journal, hub, Health(hub, journal, Systemd("", watchdog=None)))
        nursery.cancel_scope.cancel()


def stored(folder: Path, channel: str) -> list[tuple[str, int]]:
    """What a file has of a channel, oldest first: text and serial. Fails where the file is not whole."""
    database = apsw.Connection(str(folder / "sower.db"))
    try:
        assert database.execute("PRAGMA integrity_check").get == "ok"
        orphans = "SELECT count(*) FROM messages WHERE channel NOT IN (SELECT id FROM channels)"
        assert database.execute(orphans).get == 0, "messages of no channel"
        rows = database.execute(
            "SELECT data, serial FROM messages WHERE channel = (SELECT id FROM channels WHERE name = ?)"
            " ORDER BY serial",
            (channel,),
        )
        return [(bytes(data).decode(), serial) for data, serial in rows]
    finally:
        database.close()
