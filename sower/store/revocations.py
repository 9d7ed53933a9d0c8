"""The table of revocations: for each key and what its tokens are revoked by, the latest moment.

Each function is run in a connection's own thread. A token may be good for as long as who signed it likes, so none of
these is ever over; there are as many as a key may have.
"""

from __future__ import annotations

from sower.core.revocations import By, Revocation
from sower.store.sqlite import Database


def keep(db: Database, revocation: Revocation) -> None:
    """Remember one, or of an earlier one of the same the later moment."""
    db.execute(
        "INSERT INTO revocations VALUES (?, ?, ?, ?)"
        " ON CONFLICT (key, kind, value) DO UPDATE SET before = max(before, excluded.before)",
        (revocation.key, revocation.by.value, revocation.value, revocation.before),
    )


def kept(db: Database) -> list[Revocation]:
    """All of all keys."""
    rows = db.execute("SELECT key, kind, value, before FROM revocations").fetchall()
    return [Revocation(key, By(kind), value, before) for key, kind, value, before in rows]
