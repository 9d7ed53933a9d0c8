"""The tables of what clients keep on the server besides messages: groups of channels, revoked tokens, requests that are
used up, actions on messages.

Each function is run in a connection's own thread. Times are seconds since 1970.
"""

from __future__ import annotations

from collections.abc import Iterable

from sower.core.polling import Reaction
from sower.errors import NoSuchMessage
from sower.store.sqlite import Database


def groups(db: Database) -> list[tuple[str, str, str]]:
    """Every channel of every group: app, group, channel, in the order in which they were added."""
    rows = db.execute("SELECT app, name, channel FROM groups ORDER BY rowid").fetchall()
    return [(str(app), str(group), str(channel)) for app, group, channel in rows]


def change_group(db: Database, app: str, group: str, add: Iterable[str], remove: Iterable[str]) -> None:
    """Add channels to a group, and take others out."""
    db.executemany("INSERT OR IGNORE INTO groups VALUES (?, ?, ?)", [(app, group, channel) for channel in add])
    db.executemany(
        "DELETE FROM groups WHERE app = ? AND name = ? AND channel = ?", [(app, group, channel) for channel in remove]
    )


def revoked(db: Database, now: float) -> list[tuple[str, float]]:
    """What revoked tokens are called that have not expired, and when they will."""
    rows = db.execute("SELECT name, expires FROM revoked WHERE expires > ?", (now,)).fetchall()
    return [(str(name), float(expires)) for name, expires in rows]


def revoke(db: Database, name: str, expires: float, now: float) -> None:
    """Remember a revoked token until it expires, and forget those that have."""
    db.execute("DELETE FROM revoked WHERE expires <= ?", (now,))
    db.execute("INSERT OR REPLACE INTO revoked VALUES (?, ?)", (name, expires))


def use_up(db: Database, name: str, until: float, now: float) -> bool:
    """Remember until then that something of this name is used. False where it was before."""
    db.execute("DELETE FROM used WHERE until <= ?", (now,))
    before = db.total_changes()
    db.execute("INSERT OR IGNORE INTO used VALUES (?, ?)", (name, until))
    return db.total_changes() > before


def names_since(db: Database, app: str, prefix: str, serial: int, most: int) -> list[str]:
    """The channels whose name begins with `prefix` and that have stored something after a serial."""
    rows = db.execute(
        "SELECT name FROM channels WHERE app = ? AND name >= ? AND name < ? AND head > ? LIMIT ?",
        (app, prefix, prefix[:-1] + chr(ord(prefix[-1]) + 1), serial, most),
    ).fetchall()
    return [str(name) for (name,) in rows]


def add_reaction(db: Database, app: str, channel: str, reaction: Reaction, most: int) -> bool:
    """Add an action. False where this user did the same to the message before, or it has as many as it may.

    Raises NoSuchMessage: an action goes with its message, so without one it would stay for ever.
    """
    kept = db.execute(
        "SELECT EXISTS (SELECT 1 FROM channels c JOIN messages m ON m.channel = c.id"
        " WHERE c.app = ? AND c.name = ? AND m.serial = ? AND m.message IS NULL)",
        (app, channel, reaction.message),
    ).get
    if not kept:
        raise NoSuchMessage(f"The channel {channel[:64]!r} has no message {reaction.message}, or has it no longer.")
    count = db.execute(
        "SELECT count(*) FROM reactions WHERE app = ? AND channel = ? AND message = ?", (app, channel, reaction.message)
    ).get
    if isinstance(count, int) and count >= most:
        return False
    before = db.total_changes()
    db.execute(
        "INSERT OR IGNORE INTO reactions VALUES (?, ?, ?, ?, ?, ?, ?)",
        (app, channel, reaction.at, reaction.message, reaction.user, reaction.kind, reaction.value),
    )
    return db.total_changes() > before


def remove_reaction(db: Database, app: str, channel: str, message: int, at: int) -> Reaction | None:
    """Take an action away. Returns it, None where it is not there."""
    row = db.execute(
        "SELECT message, serial, user, kind, value FROM reactions"
        " WHERE app = ? AND channel = ? AND serial = ? AND message = ?",
        (app, channel, at, message),
    ).get
    if row is None:
        return None
    db.execute("DELETE FROM reactions WHERE app = ? AND channel = ? AND serial = ?", (app, channel, at))
    return Reaction(*row)


def reactions(db: Database, app: str, channel: str, since: int, before: int, limit: int) -> tuple[list[Reaction], bool]:
    """The newest actions between two exclusive serials, oldest first, and whether there are older ones."""
    rows = db.execute(
        "SELECT message, serial, user, kind, value FROM reactions WHERE app = ? AND channel = ? AND serial > ?"
        " AND serial < ? ORDER BY serial DESC LIMIT ?",
        (app, channel, since, before, limit + 1),
    ).fetchall()
    return [Reaction(*row) for row in rows[:limit]][::-1], len(rows) > limit


def reactions_on(db: Database, app: str, channel: str, first: int, last: int) -> list[Reaction]:
    """The actions on the messages between two serials, both included."""
    rows = db.execute(
        "SELECT message, serial, user, kind, value FROM reactions WHERE app = ? AND channel = ? AND message >= ?"
        " AND message <= ? ORDER BY serial",
        (app, channel, first, last),
    ).fetchall()
    return [Reaction(*row) for row in rows]
