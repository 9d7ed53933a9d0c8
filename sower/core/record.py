"""What the audit keeps of one thing that happened."""

from __future__ import annotations

import msgspec


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record. time: seconds since 1970. who: an address, session, key or user. code: an error's code."""

    time: float
    kind: str
    app: str | None = None
    who: str | None = None
    channel: str | None = None
    code: str | None = None
    detail: str = ""
    count: int = 1


class NodeRecord(Record, frozen=True, omit_defaults=True):
    """One record of several daemons. node: whose it is."""

    node: str = ""
