"""The schema, as the steps that lead to it.

Rule 1: a step that was released never changes; a new one is added at the end.
Rule 2: step *n* leads from ``user_version`` n to n + 1, and all steps that are due run in one transaction.
Rule 3: foreign keys are off while they run, so that a step may rebuild a table; they are checked afterwards.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final

Step = tuple[str, ...]

# "Hrbr": tells Harbor's database from any other sqlite file.
APPLICATION_ID: Final = 0x48726272

MIGRATIONS: Final[tuple[Step, ...]] = (
    (
        """
        CREATE TABLE services (
            id TEXT PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            protocol TEXT NOT NULL,
            port INTEGER NOT NULL,
            int_port INTEGER NOT NULL,
            exposure TEXT NOT NULL,
            tls TEXT NOT NULL,
            plan TEXT,
            created REAL NOT NULL,
            overrides TEXT NOT NULL
        ) WITHOUT ROWID
        """,
        # Never two owners of a port: the last net, below the node's own bookkeeping. TCP and UDP are independent.
        "CREATE UNIQUE INDEX services_by_tcp_port ON services (port) WHERE protocol <> 'udp'",
        "CREATE UNIQUE INDEX services_by_udp_port ON services (port) WHERE protocol <> 'tcp'",
        """
        CREATE TABLE backends (
            service_id TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
            id TEXT NOT NULL,
            position INTEGER NOT NULL,
            host TEXT NOT NULL,
            port INTEGER NOT NULL,
            ttl REAL,
            instance TEXT,
            draining INTEGER NOT NULL,
            PRIMARY KEY (service_id, id)
        ) WITHOUT ROWID
        """,
        "CREATE TABLE resting_ports (port INTEGER PRIMARY KEY)",
        """
        CREATE TABLE events (
            id INTEGER PRIMARY KEY,
            time REAL NOT NULL,
            kind TEXT NOT NULL,
            actor TEXT NOT NULL,
            message TEXT NOT NULL,
            service TEXT,
            details TEXT NOT NULL
        )
        """,
        # number grows by one with every reply that is saved, so the lowest numbers are the oldest replies.
        """
        CREATE TABLE replies (
            number INTEGER PRIMARY KEY,
            key TEXT NOT NULL UNIQUE,
            fingerprint TEXT NOT NULL,
            body TEXT NOT NULL
        )
        """,
    ),
    (
        "ALTER TABLE services ADD COLUMN origin TEXT NOT NULL DEFAULT '{}'",
        """
        CREATE TABLE bindings (
            id TEXT PRIMARY KEY,
            service_id TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
            app TEXT NOT NULL,
            created REAL NOT NULL,
            token_digest TEXT NOT NULL,
            origin TEXT NOT NULL,
            UNIQUE (service_id, app)
        ) WITHOUT ROWID
        """,
    ),
    (
        "ALTER TABLE services ADD COLUMN tls_rules TEXT NOT NULL DEFAULT '{}'",
        # owner is a service's id, or empty for what is the node's: hence no foreign key. Keys are in files.
        """
        CREATE TABLE certificates (
            owner TEXT NOT NULL,
            source TEXT NOT NULL,
            digest TEXT NOT NULL,
            since REAL NOT NULL,
            PRIMARY KEY (owner, source)
        ) WITHOUT ROWID
        """,
    ),
    ("ALTER TABLE backends ADD COLUMN weight INTEGER NOT NULL DEFAULT 1",),
    ("ALTER TABLE services ADD COLUMN backend_tls TEXT",),
    (
        "ALTER TABLE services ADD COLUMN server_names TEXT NOT NULL DEFAULT '[]'",
        # A port may be shared by services that forward TLS as it is: each takes other names, and one of them the rest.
        "DROP INDEX services_by_tcp_port",
        "CREATE UNIQUE INDEX services_by_tcp_port ON services (port) WHERE protocol <> 'udp' AND tls <> 'passthrough'",
        "CREATE UNIQUE INDEX services_by_names ON services (port, server_names) WHERE tls = 'passthrough'",
    ),
    ("ALTER TABLE services ADD COLUMN expires_at REAL",),
)


def version_of(connection: sqlite3.Connection) -> int:
    """Which schema the database has; 0 is an empty one."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def migrate(connection: sqlite3.Connection, steps: Sequence[Step] = MIGRATIONS) -> None:
    """Bring the database to the newest schema: all of the steps that are due, or none.

    The connection is in autocommit mode and has foreign keys off. Errors: ``sqlite3.Error``, with the
    database as it was.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        for step in steps[version_of(connection) :]:
            for statement in step:
                connection.execute(statement)
        stray = connection.execute("PRAGMA foreign_key_check").fetchone()
        if stray is not None:
            raise sqlite3.IntegrityError(f"a row of {stray[0]} names one of {stray[2]} that does not exist")
        # Both are part of the transaction; a PRAGMA takes no parameters.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID:d}")
        connection.execute(f"PRAGMA user_version = {len(steps):d}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
