"""The database file: created whole, checked before it is trusted, migrated after a backup, never wiped."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from harbor.errors import StateUnusable
from harbor.store.lock import private_file, sync_directory, unusable
from harbor.store.migrations import APPLICATION_ID, MIGRATIONS, Step, migrate, version_of

DATABASE_NAME: Final = "harbor.db"
# Primary result codes of a file that is not, or no longer, a database (https://sqlite.org/rescode.html).
_DAMAGED: Final = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
# How long a write waits for somebody else's lock: an administrator's sqlite3 shell, say.
_BUSY_TIMEOUT: Final = 5.0
# What sqlite keeps beside the file: the log, its index, and the journal of an unfinished change of mode.
_LOG, _INDEX, _JOURNAL = "-wal", "-shm", "-journal"


def open_database(path: Path, steps: Sequence[Step] = MIGRATIONS) -> sqlite3.Connection:
    """The database at ``path``, made if there is none, sound and with the newest schema.

    Blocks. The caller holds the lock of the state directory and owns the connection, which any one
    thread at a time may use.

    Errors: ``StateUnusable`` if it is damaged, newer than this program, not Harbor's or not writable;
    the file is then as it was.
    """
    try:
        if not path.exists():
            _create(path, steps)
        for name in (path, *(_beside(path, suffix) for suffix in (_LOG, _INDEX, _JOURNAL))):
            if name.is_symlink() or name.exists():
                os.close(private_file(name))
    except OSError as exc:
        raise unusable(str(path), exc) from exc
    with _explained(path):
        # For reading only: closing a connection that can write would empty the log into a damaged file. But
        # where a journal was left, the file is whole only after sqlite has rolled it back.
        look = _connect if _beside(path, _JOURNAL).exists() else open_for_reading
        with closing(look(path)) as reader:
            _check(reader, path, steps)
        connection = _connect(path)
        try:
            if version_of(connection) < len(steps):
                copy_database(path, _beside(path, f".v{version_of(connection)}.bak"))
                migrate(connection, steps)
            _make_durable(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def copy_database(source: Path, target: Path) -> None:
    """Write a copy of the database as of one moment to ``target`` (0600), whole or not at all.

    Blocks; works while another connection writes. The copy is one file. Errors: ``OSError`` or ``sqlite3.Error``.
    """
    if target.exists() and target.samefile(source):
        raise FileExistsError(f"{target} is the database itself; choose another file for the copy")
    with _scratch(target) as scratch, closing(_connect(scratch)) as copy, closing(open_for_reading(source)) as original:
        original.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # a log beside the copy would be forgotten by who moves it


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A connection that sees what is committed and cannot write; for the thread that opens it."""
    return sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT)


def _create(path: Path, steps: Sequence[Step]) -> None:
    """A database that appears under its name only when it is complete: an empty file is always damage."""
    for log in (_beside(path, _LOG), _beside(path, _JOURNAL)):
        if log.exists():
            raise StateUnusable(
                f"{path} is missing, but its log {log} is there and may hold the latest changes; put the database "
                f"back from where it went, or move {log} away as well to start with no services or with a backup"
            )
    with _explained(path), _scratch(path) as scratch, closing(_connect(scratch)) as connection:
        migrate(connection, steps)


@contextmanager
def _scratch(target: Path) -> Iterator[Path]:
    """A private empty file that takes the target's name once the block has filled it; it must be closed by then."""
    scratch = _beside(target, ".new")
    for leftover in (scratch, *(_beside(scratch, suffix) for suffix in (_LOG, _INDEX, _JOURNAL))):
        leftover.unlink(missing_ok=True)
    os.close(private_file(scratch, os.O_CREAT | os.O_EXCL))
    try:
        yield scratch
        fd = private_file(scratch)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        scratch.rename(target)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync_directory(target.parent)


def _connect(path: Path) -> sqlite3.Connection:
    # Autocommit: transactions begin and end where this package says so. Used by the opener, then by the writer thread.
    return sqlite3.connect(path, isolation_level=None, timeout=_BUSY_TIMEOUT, check_same_thread=False)


def _check(connection: sqlite3.Connection, path: Path, steps: Sequence[Step]) -> None:
    if path.stat().st_size == 0:
        raise _damaged(path, "it is empty")
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise StateUnusable(f"{path} is a database, but not Harbor's; move it away or choose another state_dir")
    version = version_of(connection)
    if version > len(steps):
        raise StateUnusable(
            f"{path} has schema version {version}, and this Harbor knows up to version {len(steps)}; run the newer "
            f"Harbor that wrote it, or restore a backup that was made before the upgrade{_backups(path)}"
        )
    (finding,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise _damaged(path, " ".join(str(finding).split()))


def _make_durable(connection: sqlite3.Connection, path: Path) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StateUnusable(f"{path} cannot have a write-ahead log here; choose a state_dir on a local disk")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What sqlite and the system say about the file, as a refusal to start."""
    try:
        yield
    except sqlite3.Error as exc:
        raise refusal(path, exc) from exc
    except OSError as exc:
        raise unusable(str(path), exc) from exc


def refusal(path: Path, exc: sqlite3.Error) -> StateUnusable:
    """Why the database cannot be used, and what would help."""
    # Errors that Python raises itself (a text that is no UTF-8) carry no code.
    code = getattr(exc, "sqlite_errorcode", None)
    if code is None or code & 0xFF in _DAMAGED:
        return _damaged(path, str(exc))
    return StateUnusable(f"{path} cannot be used: {exc} ({exc.sqlite_errorname})")


def _damaged(path: Path, finding: str) -> StateUnusable:
    return StateUnusable(
        f"{path} is damaged ({finding}); it was left as it is. To restore a backup, move {path.name} and every "
        f"{path.name}-* away and copy the backup to {path}{_backups(path)}"
    )


def _backups(path: Path) -> str:
    found = sorted(path.parent.glob(f"{path.name}.*.bak"))
    return f" (found here: {', '.join(backup.name for backup in found)})" if found else ""


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
