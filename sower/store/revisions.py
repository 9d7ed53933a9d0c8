"""The journal's SQL of messages that were changed or annotated.

    messages   every change and annotation is a row, at its place in the channel's order; it names its message
    revised    a row for each such message: how it is now, and its summary
    revisions  which rows are whose

Rule 1: a message is in the history while its first row is; then all is forgotten but the rows of later changes, which
        still tell clients that come back.
Rule 2: a message has one summary at most in the channel's order: the next one takes the last one's place.
Rule 3: of what was appended, clients that come back are told the whole, once, where the last of it stands: who was cut
        off in the middle cannot append anything twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from sower.core import versions
from sower.core.message import Act, Annotation, Kind, Message, Revision
from sower.errors import NoSuchMessage
from sower.store.sqlite import Database

ANNOTATED = 5
"""What `act` says of an annotation; of a change, it is the Act."""

VERSIONS = f"({Act.UPDATED:d}, {Act.DELETED:d}, {Act.APPENDED:d})"
"""Those acts that change what a message says."""

COLUMNS = "m.serial, m.event, m.data, m.kind, m.user, m.id, m.extra, m.about"

IN_PLACE = (
    "SELECT m.serial, coalesce(r.event, m.event), coalesce(r.data, m.data), coalesce(r.kind, m.kind), m.user, m.id,"
    " CASE WHEN r.message IS NULL THEN m.extra ELSE r.extra END, r.about, r.summary, r.version"
    " FROM messages m LEFT JOIN revised r ON r.channel = m.channel AND r.message = m.serial"
    " WHERE m.channel = ? AND m.message IS NULL"
)
"""Messages as they are now, where they were published."""

IN_ORDER = (
    f"SELECT {COLUMNS}, r.summary, m.act FROM messages m"
    f" LEFT JOIN revised r ON m.act < {ANNOTATED} AND r.channel = m.channel AND r.message = m.message"
    f" WHERE m.channel = ? AND (m.act IS NOT {Act.APPENDED:d} OR m.serial = (SELECT v.serial FROM revisions v"
    f" WHERE v.channel = m.channel AND v.message = m.message AND v.serial < ? AND v.act IN {VERSIONS}"
    " ORDER BY v.serial DESC LIMIT 1))"
)
"""All that was told, as rule 3 has it."""

UNCHANGED = f"SELECT {COLUMNS}, NULL, NULL FROM messages m WHERE m.channel = ?"
"""Both, where nothing was changed."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Revision | Annotation).decode


FIND = (
    "SELECT id, head, trimmed, EXISTS (SELECT 1 FROM revisions WHERE channel = channels.id)"
    " FROM channels WHERE app = ? AND name = ?"
)


class Seen(NamedTuple):
    """What a reader must know of a channel, as FIND finds it. changed: whether any message of it was."""

    id: int
    head: int
    trimmed: int
    changed: int


class Revised(NamedTuple):
    """What came of a change or an annotation: what is told of it, at its own place and, of a summary, at the next."""

    told: tuple[Message, ...]


def message_of(row: Sequence[Any]) -> Message:
    """A row of COLUMNS, and with the summary behind them where there is one."""
    serial, event, data, kind, user, message_id, extra = row[:7]
    if row[7] is None:
        return Message(serial, event, data, Kind(kind), user, message_id, extra)
    about = _decode(row[7])
    if isinstance(about, Revision) and len(row) > 8 and row[8] is not None:
        about = msgspec.structs.replace(about, summary=row[8])
    return Message(serial, event, data, Kind(kind), user, message_id, extra, None, about)


def current(db: Database, channel: int, message: int) -> Message | None:
    """A message as it is now, None where the channel has none with this serial."""
    row = db.execute(IN_PLACE + " AND m.serial = ?", (channel, message)).get
    return None if row is None else message_of(row)


def at(db: Database, channel: int, message: int, before: int) -> Message | None:
    """A message as it was before a serial, None where the channel has it no more."""
    row = db.execute(
        f"SELECT {COLUMNS}, r.summary FROM messages m LEFT JOIN revised r ON r.channel = m.channel"
        " AND r.message = m.serial WHERE m.channel = ? AND m.serial = ? AND m.message IS NULL",
        (channel, message),
    ).get
    if row is None:
        return None
    rows = db.execute(
        f"SELECT {COLUMNS} FROM revisions v JOIN messages m ON m.channel = v.channel AND m.serial = v.serial"
        f" WHERE v.channel = ? AND v.message = ? AND v.serial < ? AND v.act IN {VERSIONS} ORDER BY v.serial",
        (channel, message, before),
    ).fetchall()
    *first, summary = row
    return versions.annotated(versions.as_of(message_of(first), map(message_of, rows)), summary)


def whole(db: Database, channel: int, appended: Message, before: int) -> Message:
    """The last of what was appended before a serial, as the whole message; as it is where the first row is gone."""
    about = appended.about
    found = at(db, channel, about.of, before) if about is not None else None
    if found is None:
        return appended
    return msgspec.structs.replace(found, serial=appended.serial, id=appended.id)


def store(db: Database, channel: int, message: Message, largest: int) -> Revised:
    """Store a change or an annotation. largest: bytes of data. Raises NoSuchMessage, TooMany, and as core/versions."""
    about = message.about
    if about is None:
        raise TypeError("it is about no message")
    again = db.execute(
        f"SELECT {COLUMNS} FROM messages m WHERE m.channel = ? AND m.serial = ?", (channel, message.serial)
    ).get
    if again is not None:
        return _told_before(db, channel, msgspec.structs.replace(message_of(again), sender=message.sender))
    now = current(db, channel, about.of)
    if now is None:
        raise NoSuchMessage(f"The channel has no message {about.of}.")
    found = db.execute("SELECT changes, told FROM revised WHERE channel = ? AND message = ?", (channel, about.of)).get
    changes, summary_at = found or (0, None)
    decided = versions.decide(now, changes, message, largest)
    for told in decided.told:
        if isinstance(told.about, Revision) and told.about.act is Act.SUMMARISED:
            _take_away(db, channel, about.of, summary_at)
            summary_at = told.serial
        _insert(db, channel, told)
    _keep(db, channel, decided.now, changes + 1, summary_at)
    return Revised(decided.told)


def _take_away(db: Database, channel: int, message: int, summary_at: int | None) -> None:
    """The summary that was told before. summary_at: the serial of its row."""
    for table in ("messages", "revisions"):
        db.execute(
            f"DELETE FROM {table} WHERE channel = ? AND serial = ? AND message = ?", (channel, summary_at, message)
        )


def _told_before(db: Database, channel: int, message: Message) -> Revised:
    """What a restarted channel repeats, as it was told."""
    about = message.about
    if not isinstance(about, Annotation):
        return Revised((message,))
    row = db.execute(IN_ORDER + " AND m.serial = ?", (channel, 0, about.next)).get
    return Revised((message,) if row is None else (message, message_of(row)))


def _insert(db: Database, channel: int, m: Message) -> None:
    """One row at its place in the order, and whose it is."""
    about = m.about
    if about is None:
        raise TypeError("it is about no message")
    act = int(about.act) if isinstance(about, Revision) else ANNOTATED
    if isinstance(about, Revision):
        about = msgspec.structs.replace(about, summary=None)
    db.execute(
        "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (channel, m.serial, m.event, m.data, int(m.kind), m.user, m.id, m.extra, about.of, act, _encode(about)),
    )
    db.execute("INSERT INTO revisions VALUES (?, ?, ?, ?)", (channel, about.of, m.serial, act))


def _keep(db: Database, channel: int, m: Message, changes: int, summary_at: int | None) -> None:
    """How a message is now."""
    about = m.about
    if not isinstance(about, Revision):
        raise TypeError("it is no version of a message")
    bare = _encode(msgspec.structs.replace(about, summary=None))
    db.execute(
        "INSERT OR REPLACE INTO revised VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            channel,
            m.serial,
            changes,
            about.version,
            m.event,
            m.data,
            int(m.kind),
            m.extra,
            bare,
            about.summary,
            summary_at,
        ),
    )


def forget(db: Database, channel: int, upto: int) -> None:
    """Forget what is known of messages up to a serial whose first rows are deleted."""
    db.execute("DELETE FROM revised WHERE channel = ? AND message <= ?", (channel, upto))
    db.execute("DELETE FROM revisions WHERE channel = ? AND message <= ? AND serial <= ?", (channel, upto, upto))


def delete(db: Database, channel: int, since: int, before: int) -> None:
    """Delete all that is about the messages between two exclusive serials."""
    db.execute(
        "DELETE FROM messages WHERE channel = ? AND serial IN"
        " (SELECT serial FROM revisions WHERE channel = ? AND message > ? AND message < ?)",
        (channel, channel, since, before),
    )
    for table in ("revisions", "revised"):
        db.execute(f"DELETE FROM {table} WHERE channel = ? AND message > ? AND message < ?", (channel, since, before))


class Listed(NamedTuple):
    """Rows of one message. more: the page is not the last."""

    messages: list[Message]
    more: bool


def listed(
    db: Database,
    app: str,
    name: str,
    message: int,
    *,
    annotated: bool,
    since: int,
    before: int,
    limit: int,
    newest_first: bool,
) -> Listed:
    """The versions of a message from its first on, or its annotations, between two exclusive serials, as told."""
    acts = f"({ANNOTATED})" if annotated else VERSIONS
    direction = "DESC" if newest_first else "ASC"
    rows = db.execute(
        f"SELECT {COLUMNS} FROM messages m JOIN channels c ON m.channel = c.id WHERE c.app = ? AND c.name = ?"
        " AND m.serial > ? AND m.serial < ? AND (m.serial IN (SELECT v.serial FROM revisions v WHERE v.channel = c.id"
        f" AND v.message = ? AND v.act IN {acts}) OR (? AND m.serial = ?)) ORDER BY m.serial {direction} LIMIT ?",
        (app, name, max(since, message - 1), before, message, not annotated, message, limit + 1),
    ).fetchall()
    return Listed([message_of(row) for row in rows[:limit]], len(rows) > limit)
