"""The database's tables, and the way to them from older versions.

Rule 1: `PRAGMA user_version` is the schema's version; a database of a newer one is refused, not guessed at.
Rule 2: a migration is one function in MIGRATIONS, run in one transaction, never changed once released.
"""

from __future__ import annotations

from sower.errors import StoreError
from sower.store.sqlite import Database

APPLICATION_ID = 0x534F5752
"""`SOWR` in SQLite's file header, so that another program's database is told from ours."""

_V1 = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE channels (
    id      INTEGER PRIMARY KEY,
    app     TEXT NOT NULL,
    name    TEXT NOT NULL,
    head    INTEGER NOT NULL DEFAULT 0,  -- highest serial ever stored
    trimmed INTEGER NOT NULL DEFAULT 0,  -- highest serial ever deleted
    UNIQUE (app, name)
);
CREATE TABLE messages (
    channel INTEGER NOT NULL,
    serial  INTEGER NOT NULL,
    event   TEXT NOT NULL,
    data    BLOB NOT NULL,
    kind    INTEGER NOT NULL,
    user    TEXT,
    id      TEXT,
    PRIMARY KEY (channel, serial)
) WITHOUT ROWID;
CREATE TABLE ids (
    channel INTEGER NOT NULL,
    id      TEXT NOT NULL,
    serial  INTEGER NOT NULL,
    PRIMARY KEY (channel, id)
) WITHOUT ROWID;
CREATE INDEX ids_by_age ON ids (serial);
CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    time    REAL NOT NULL,
    kind    TEXT NOT NULL,
    app     TEXT,
    who     TEXT,
    channel TEXT,
    code    TEXT,
    detail  TEXT NOT NULL,
    count   INTEGER NOT NULL
);
CREATE INDEX audit_by_time ON audit (time);
"""

_V2 = "ALTER TABLE messages ADD COLUMN extra BLOB"

_V3 = """
CREATE TABLE outbox (
    id       INTEGER PRIMARY KEY,
    app      TEXT NOT NULL,
    url      TEXT NOT NULL,
    channels TEXT NOT NULL,  -- a JSON array: whose order it keeps
    time     REAL NOT NULL,
    body     BLOB NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    next_try REAL NOT NULL DEFAULT 0,
    error    TEXT NOT NULL DEFAULT ''
);
CREATE TABLE standing (
    app     TEXT NOT NULL,
    channel TEXT NOT NULL,
    user    TEXT NOT NULL,  -- empty for the channel itself
    PRIMARY KEY (app, channel, user)
) WITHOUT ROWID;
"""

_V4 = """
CREATE TABLE groups (
    app     TEXT NOT NULL,
    name    TEXT NOT NULL,
    channel TEXT NOT NULL,
    UNIQUE (app, name, channel)
);
CREATE TABLE revoked (name TEXT PRIMARY KEY, expires REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE reactions (
    app     TEXT NOT NULL,
    channel TEXT NOT NULL,
    serial  INTEGER NOT NULL,  -- of the action
    message INTEGER NOT NULL,  -- serial of the message that it is about
    user    TEXT NOT NULL,
    kind    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (app, channel, serial),
    UNIQUE (app, channel, message, user, kind, value)
) WITHOUT ROWID;
"""

_V5 = """
ALTER TABLE messages ADD COLUMN message INTEGER;  -- serial of the message that it changes or annotates
ALTER TABLE messages ADD COLUMN act INTEGER;      -- what it does to it
ALTER TABLE messages ADD COLUMN about BLOB;       -- MessagePack, the rest of that
CREATE TABLE revised (
    channel INTEGER NOT NULL,
    message INTEGER NOT NULL,  -- the message's serial
    changes INTEGER NOT NULL,  -- how many there were, annotations too
    version INTEGER NOT NULL,  -- serial of the last version
    event   TEXT NOT NULL,
    data    BLOB NOT NULL,
    kind    INTEGER NOT NULL,
    extra   BLOB,
    about   BLOB NOT NULL,
    summary BLOB,              -- JSON, of its annotations
    told    INTEGER,           -- serial of the row that tells the summary
    PRIMARY KEY (channel, message)
) WITHOUT ROWID;
CREATE TABLE revisions (
    channel INTEGER NOT NULL,
    message INTEGER NOT NULL,
    serial  INTEGER NOT NULL,
    act     INTEGER NOT NULL,
    PRIMARY KEY (channel, message, serial)
) WITHOUT ROWID;
"""

_V6 = """
CREATE TABLE revocations (
    key    TEXT NOT NULL,
    kind   TEXT NOT NULL,  -- what its tokens are revoked by
    value  TEXT NOT NULL,
    before REAL NOT NULL,  -- those that were issued before this moment
    PRIMARY KEY (key, kind, value)
) WITHOUT ROWID;
INSERT OR IGNORE INTO revocations
    SELECT detail ->> '$.key', detail ->> '$.by', detail ->> '$.value', max(detail ->> '$.before') FROM
    (SELECT detail FROM audit WHERE kind = 'token_revoked' AND json_valid(detail)) GROUP BY 1, 2, 3;
"""
# Until then the audit's records were read again at each start.

_V7 = """
CREATE TABLE used (name TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;  -- signed requests
CREATE INDEX used_by_end ON used (until);
"""

MIGRATIONS = (_V1, _V2, _V3, _V4, _V5, _V6, _V7)
VERSION = len(MIGRATIONS)


def prepare(db: Database, path: str) -> None:
    """Bring an open database to this version. Raises StoreError."""
    version = _number(db, "PRAGMA user_version")
    application = _number(db, "PRAGMA application_id")
    tables = _number(db, "SELECT count(*) FROM sqlite_master")
    if version > VERSION:
        raise StoreError(f"{path} is of schema version {version}; this Sower reads up to {VERSION}. Upgrade Sower.")
    if tables and application != APPLICATION_ID:
        raise StoreError(f"{path} is a database of another program. Choose another store.path.")
    if version == VERSION:
        return
    if not tables:
        db.execute("PRAGMA auto_vacuum = incremental")
    with db:
        for migration in MIGRATIONS[version:]:
            db.execute(migration)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {VERSION}")


def _number(db: Database, sql: str) -> int:
    value = db.execute(sql).get
    return value if isinstance(value, int) else 0
