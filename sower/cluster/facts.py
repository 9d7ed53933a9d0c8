"""What webhooks are told of the channels of all nodes: facts, which a script writes together with what they are about.

Rule 1: the script knows what is news: the first node on which somebody is, the last connection of a user.
Rule 2: facts of all channels of a shard (keys.py) are in one stream there, each channel's in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from sower.cluster.entries import Entered, Entry, Gone, Spoken
from sower.config import App
from sower.core.happening import Fact, Happening
from sower.core.message import Kind
from sower.core.rules import RuleBook
from sower.webhooks import wanted

HOW: Mapping[Fact, bytes] = {Fact.OCCUPIED: b"o", Fact.VACATED: b"v", Fact.COUNTED: b"n", Fact.CACHE_MISS: b"x"}
"""What nodes report, as scripts call it."""


class Report(msgspec.Struct, frozen=True):
    """What is so on one node; whether it is news the script knows. count: how many follow the channel there."""

    fact: Fact
    count: int = 0


NOTHING = Report(Fact.VACATED)
"""What is so on a channel before anything is reported of it."""

LAST_WORDS = ((Report(Fact.COUNTED), HOW[Fact.COUNTED]), (Report(Fact.VACATED), HOW[Fact.VACATED]))
"""What is said of each channel in the name of a node that is gone."""


class Told(msgspec.Struct, frozen=True, array_like=True):
    """A fact in a stream. parting: the daemon on which it was is ending, so its clients come back to another."""

    app: str
    fact: Fact
    channel: str
    user: str | None = None
    event: str | None = None
    data: bytes | None = None
    session: str | None = None
    kind: int = 0
    parting: bool = False


class Reports:
    """Of one channel on one node. due: what Redis is to be told, and how that is called there."""

    __slots__ = ("_known", "due")

    def __init__(self) -> None:
        self.due: list[tuple[Report, bytes]] = []
        self._known: dict[Fact, Report] = {}

    def note(self, report: Report) -> bool:
        """Have it told, unless it is known. Whether it is news."""
        about = Fact.OCCUPIED if report.fact is Fact.VACATED else report.fact
        if self._known.get(about, NOTHING) == report and about is not Fact.CACHE_MISS:
            return False
        self._known[about] = report
        self.due.append((report, HOW[report.fact]))
        return True

    def forget(self) -> list[Fact]:
        """Redis may not know it any more. What it was about."""
        known, self._known = self._known, {}
        return list(known)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Told).decode


class Facts:
    """Of one node. parting: it is ending."""

    def __init__(self, apps: Sequence[App] = (), rules: RuleBook | None = None) -> None:
        facts = wanted(apps)
        counted = {app for app, fact in facts if fact is Fact.COUNTED}
        self._wanted = facts | {(app, fact) for app in counted for fact in (Fact.OCCUPIED, Fact.VACATED)}
        self._rules = rules or RuleBook(())
        self.parting = False

    def hears(self, app: str, fact: Fact) -> bool:
        """Whether some webhook of an app may want to know a fact, or it is needed to know another."""
        return (app, fact) in self._wanted

    def of(self, app: str, channel: str, entry: Entry | Report) -> bytes:
        """What webhooks are told where an entry is news, nothing where nobody wants it."""
        told: Told | None = None
        if isinstance(entry, Report):
            told = Told(app, entry.fact, channel, parting=self.parting)
        elif isinstance(entry, Spoken):
            if entry.speaker is not None:
                told = Told(
                    app, Fact.CLIENT_EVENT, channel, entry.user, entry.event, entry.data, entry.speaker, entry.kind
                )
        elif isinstance(entry, Entered | Gone) and self._rules.of(channel).presence:
            fact = Fact.MEMBER_ADDED if isinstance(entry, Entered) else Fact.MEMBER_REMOVED
            told = Told(app, fact, channel, entry.user, parting=self.parting)
        return _encode(told) if told is not None and (app, told.fact) in self._wanted else b""


def read(row: Sequence[Any]) -> tuple[str, Happening]:
    """A row of a stream: the app, and what happened."""
    _, fact, _, count = row[1]
    told = _decode(fact)
    return told.app, Happening(
        told.fact,
        told.channel,
        told.user,
        told.event,
        told.data,
        told.session,
        int(count) if count else None,
        Kind(told.kind),
        told.parting,
    )
