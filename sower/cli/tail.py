"""`sower tail`: follow a channel, or the daemon itself, through reconnects, without missing or repeating anything."""

from __future__ import annotations

import random
import signal
import time
from typing import Annotated, Any

import trio
import typer
from rich.text import Text
from trio_websocket import ConnectionClosed, WebSocketConnection

from sower.activity import FEED
from sower.cli.client import (
    AppOption,
    ConfigOption,
    Daemon,
    JsonOption,
    KeyOption,
    SecretOption,
    UrlOption,
    find_daemon,
    told_error,
)
from sower.cli.terminal import clock, data_text, note, out, parse_json, plain, print_json, usage
from sower.core.message import SERIALS_PER_SECOND, Position
from sower.errors import BadPosition, DaemonUnreachable, SowerError
from sower.quantities import parse_duration

FIRST_WAIT, LONGEST_WAIT = 0.2, 10.0
"""Seconds before a reconnect, doubled each time, with up to half of it taken off at random."""

DOUBLED = 6
"""Times that the wait is doubled: then it is the longest, and who tries for hours comes to powers that no float has."""

DO_NOT_RETRY = range(4500, 5000)
"""Close codes that say: something must be changed first (sower.errors)."""


def tail(
    channel: Annotated[str | None, typer.Argument(help="The channel.")] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Follow the daemon: who comes, goes, is refused, publishes.")
    ] = False,
    since: Annotated[
        str | None, typer.Option(help="Begin with what was said since: 5m, a serial or a position.")
    ] = None,
    event: Annotated[str | None, typer.Option(help="Only events of this name.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many lines.")] = None,
    presence: Annotated[bool, typer.Option("--presence", help="Show who joins, changes and leaves too.")] = False,
    as_json: JsonOption = False,
    config: ConfigOption = None,
    url: UrlOption = None,
    app: AppOption = None,
    key: KeyOption = None,
    secret_file: SecretOption = None,
) -> None:
    """Follow a channel. Ctrl-C ends it.

    \b
      sower tail demo --since 5m
      sower tail --all --json
    """
    if all_ == (channel is not None):
        raise typer.BadParameter("name one channel, or ask for --all.", param_hint="CHANNEL")
    if all_ and presence:
        raise typer.BadParameter("--all follows no channel; leave it out.", param_hint="--presence")
    with usage("--since"):
        begin = read_since(since, time.time())
    daemon = find_daemon(config, url, app, key, secret_file)
    follower = Follower(
        daemon,
        channel or FEED,
        begin,
        Printer(event, limit, presence=presence, as_json=as_json),
    )
    trio.run(follower.run)


def read_since(given: str | None, now: float) -> Position | None:
    """A position, a serial, or how long ago. Raises ValueError."""
    if given is None:
        return None
    try:
        return Position("", int((now - parse_duration(given)) * SERIALS_PER_SECOND))
    except ValueError:
        pass
    try:
        return Position.parse(given)
    except BadPosition as error:
        raise ValueError(f"{given[:64]!r} is no time ago such as 5m, no serial and no position") from error


def lost(since: Position, head: Position) -> bool:
    """Whether a gap is one: after the last event, nothing since a time or a bare serial is missing.

    since: as it was asked for; without an epoch where that was a time
    """
    return bool(since.epoch) or since.serial < head.serial


class Printer:
    """Which frames are shown, and how. Done after `limit` lines."""

    def __init__(self, event: str | None, limit: int | None, *, presence: bool, as_json: bool) -> None:
        self._event = event
        self._left = limit
        self._presence = presence
        self._as_json = as_json

    @property
    def done(self) -> bool:
        """Whether enough was shown."""
        return self._left == 0

    def show(self, frame: dict[str, Any]) -> None:
        """Show a frame, where it is asked for."""
        kind = frame["type"]
        wanted = kind == "event" if kind not in ("join", "update", "leave") else self._presence
        if self.done or not wanted or (self._event is not None and frame.get("event") != self._event):
            return
        if self._as_json:
            print_json(frame)
        elif out.is_terminal:
            out.print(coloured(frame))
        else:
            print("\t".join(cells(frame)), flush=True)
        if self._left is not None:
            self._left -= 1


def cells(frame: dict[str, Any]) -> list[str]:
    """Time, event, user and data of a frame, without control characters."""
    at = frame.get("time", time.time() * 1000)
    name = frame["event"] if frame["type"] == "event" else f"({frame['type']})"
    data = frame.get("data") if frame["type"] == "event" else frame.get("meta", "")
    return [clock(at), plain(name), plain(frame.get("user") or "-"), data_text(data)]


def coloured(frame: dict[str, Any]) -> Text:
    """A frame as a line for a terminal."""
    at, name, user, data = cells(frame)
    colour = "green" if frame["type"] == "event" else "yellow"
    return Text.assemble((at, "dim"), "  ", (name, f"bold {colour}"), "  ", (user, "cyan"), "  ", data)


class Follower:
    """Follows one channel through reconnects. position: after what was seen last."""

    def __init__(self, daemon: Daemon, channel: str, since: Position | None, printer: Printer) -> None:
        self._daemon = daemon
        self._channel = channel
        self._printer = printer
        self.position = since
        self._failures = 0
        self._connected = False

    async def run(self) -> None:
        """Follow until enough was shown, a signal comes, or it makes no sense to go on. Raises SowerError."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_end_on_signal, nursery.cancel_scope)
            while not self._printer.done:
                await self._follow_once()
            nursery.cancel_scope.cancel()

    async def _follow_once(self) -> None:
        try:
            async with self._daemon.socket(self._channel, str(self.position) if self.position else None) as connection:
                await self._listen(connection)
        except ConnectionClosed as closed:
            reason = closed.reason
            why = f"{reason.code} {reason.reason or ''}" if reason is not None else "the connection was lost"
            if reason is not None and reason.code in DO_NOT_RETRY:
                raise told_error({"code": reason.reason}, f"The daemon closed: {why}") from closed
            await self._wait(why)
        except SowerError as error:
            if not error.retry or (isinstance(error, DaemonUnreachable) and not self._connected):
                raise
            await self._wait(error.message, error.retry_after or 0.0)

    async def _listen(self, connection: WebSocketConnection) -> None:
        while not self._printer.done:
            self.take(parse_json(await connection.get_message()))

    def take(self, frame: dict[str, Any]) -> None:
        """One frame from the daemon. Raises the error that it tells."""
        if frame["type"] == "welcome":
            self._failures = 0
            self._connected = True
            epoch, _, _ = frame["position"].partition(":")
            if self.position is None:
                self.position = Position.parse(frame["position"])
            self.position = Position(self.position.epoch or epoch, self.position.serial)
        elif frame["type"] == "gap":
            since, head = Position.parse(frame["since"]), Position.parse(frame["position"])
            if lost(since, head):
                note("gap", f"something between {since} and {head} is gone")
            self.position = Position(head.epoch, min(since.serial, head.serial))
        elif frame["type"] == "error" and not frame.get("retry"):
            raise told_error(frame, "The daemon refused.")
        else:
            self._printer.show(frame)
            if frame["type"] == "event" and self.position is not None:
                self.position = Position(self.position.epoch, int(frame["serial"]))

    async def _wait(self, why: str, least: float = 0.0) -> None:
        self._failures += 1
        wait = max(backoff(self._failures, random.random()), least)
        note("reconnecting", f"in {wait:.1f} s: {why}")
        await trio.sleep(wait)


def backoff(failures: int, chance: float) -> float:
    """Seconds to wait before the next try. chance: from 0 to 1, so that many who lost a daemon come back spread."""
    return min(FIRST_WAIT * 2 ** min(failures - 1, DOUBLED), LONGEST_WAIT) * (1 - chance / 2)


async def _end_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()
            return
