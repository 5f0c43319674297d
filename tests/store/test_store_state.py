"""The state directory and the database file: who may use them, and what is refused rather than repaired."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from harbor.errors import StateUnusable, StoreFailed
from harbor.model import Exposure, Protocol, Service
from harbor.store import RestPort, SaveService, Snapshot
from harbor.store.database import open_database
from harbor.store.lock import StateLock
from harbor.store.migrations import MIGRATIONS, version_of
from harbor.store.sqlite import SqliteStore
from support.needs import needs, needs_root

COMMITTER = Path(__file__).with_name("commit_numbered.py")


async def a_state(directory: Path, services: int = 3) -> Snapshot:
    """A store that was filled and closed; returns what it holds."""
    store = SqliteStore.open(directory)
    for number in range(services):
        service = Service(f"s{number}", f"n{number}", Protocol.TCP, 30000 + number, 4100, Exposure.PRIVATE)
        await store.commit(SaveService(service))
    kept = store.load()
    await store.close()
    return kept


async def read(directory: Path) -> Snapshot:
    store = SqliteStore.open(directory)
    kept = store.load()
    await store.close()
    return kept


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


# -- K14: who may read and write ------------------------------------------------------------------------------------


async def test_K14_everything_is_private_whatever_the_umask(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with umask(0):
        store = SqliteStore.open(tmp_path / "made" / "on the way")
        await store.commit(RestPort(1))
        store.backup(tmp_path / "copy")
        found = {path.name: mode(path) for path in store.path.parent.iterdir()}
        await store.close()
    assert found == dict.fromkeys(["harbor.db", "harbor.db-shm", "harbor.db-wal", "harbor.lock"], 0o600)
    assert [mode(tmp_path / "made"), mode(tmp_path / "made" / "on the way")] == [0o700, 0o700]
    assert mode(tmp_path / "copy") == 0o600


async def test_K14_the_key_of_a_state_is_made_once_private_and_no_other_states(tmp_path: Path) -> None:
    keys = {}
    for name in ("one", "two", "one"):
        with umask(0):
            store = SqliteStore.open(tmp_path / name)
            keys.setdefault(name, store.key())
            assert store.key() == keys[name]
            await store.close()
        assert mode(tmp_path / name / "binding.key") == 0o600
    assert keys["one"] != keys["two"]
    assert min(map(len, keys.values())) >= 32
    (tmp_path / "one" / "binding.key").chmod(0o640)
    store = SqliteStore.open(tmp_path / "one")
    with pytest.raises(StateUnusable, match="chmod 600"):
        store.key()
    await store.close()


async def test_K14_files_that_came_back_from_a_backup_readable_are_made_private(tmp_path: Path) -> None:
    await a_state(tmp_path)
    for name in ("harbor.db", "harbor.lock"):
        (tmp_path / name).chmod(0o644)
    await read(tmp_path)
    assert [mode(tmp_path / name) for name in ("harbor.db", "harbor.lock")] == [0o600, 0o600]


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_K14_a_directory_that_everybody_may_write_is_refused(tmp_path: Path, depth: int) -> None:
    state = tmp_path / "a" / "b" / "state"
    state.mkdir(parents=True)
    open_to_all = [state, *state.parents][depth]
    open_to_all.chmod(0o777)
    with pytest.raises(StateUnusable, match=rf"{open_to_all}\b.*every user.*chmod"):
        SqliteStore.open(state)
    assert list(state.iterdir()) == []


def test_K14_nothing_is_made_below_a_parent_that_everybody_may_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(StateUnusable, match="every user"):
        SqliteStore.open(tmp_path / "new" / "state")
    assert list(tmp_path.iterdir()) == []


def test_K14_a_link_does_not_hide_where_the_state_really_is(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "state").mkdir(parents=True)
    shared.chmod(0o777)
    (tmp_path / "link").symlink_to(shared / "state")
    with pytest.raises(StateUnusable, match=f"{shared}, which holds"):
        SqliteStore.open(tmp_path / "link")


async def test_K14_a_parent_with_the_sticky_bit_is_fine(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    assert await read(tmp_path / "state") == Snapshot()


def test_K14_the_directory_of_somebody_else_is_refused(tmp_path: Path) -> None:
    needs_root()
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    with pytest.raises(StateUnusable, match=r"belongs to uid 65534 and Harbor runs as uid 0"):
        SqliteStore.open(state)


@contextmanager
def ordinary_user(directory: Path) -> Iterator[None]:
    """Root may write anywhere: be nobody for a moment, as the owner of the directory."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(directory, 65534, -1)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_directory_that_may_not_be_written_is_refused() -> None:
    state = Path(tempfile.mkdtemp(prefix="harbor-test-"))  # tmp_path has parents that only root may pass
    try:
        state.chmod(0o500)
        with (
            ordinary_user(state),
            pytest.raises(StateUnusable, match=r"Permission denied \(EACCES\); give the directory"),
        ):
            SqliteStore.open(state)
    finally:
        shutil.rmtree(state)


@pytest.mark.parametrize("taken", ["state", "parent"])
def test_a_file_in_the_place_of_the_directory_is_refused(tmp_path: Path, taken: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StateUnusable, match="director"):
        SqliteStore.open(tmp_path / "file" if taken == "state" else tmp_path / "file" / "state")


@pytest.mark.parametrize("name", ["harbor.db", "harbor.lock", "harbor.db-wal"])
@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
async def test_K14_only_regular_files_are_opened(tmp_path: Path, name: str, kind: str) -> None:
    state = tmp_path / "state"
    await a_state(state)
    (tmp_path / "elsewhere").write_bytes(b"")
    (state / name).unlink(missing_ok=True)
    make: dict[str, Callable[[Path], None]] = {
        "link": lambda path: path.symlink_to(tmp_path / "elsewhere"),
        "fifo": os.mkfifo,
        "directory": os.mkdir,
    }
    make[kind](state / name)
    with pytest.raises(StateUnusable, match=rf"cannot be used|{name} is not a regular file"):
        SqliteStore.open(state)
    assert (tmp_path / "elsewhere").read_bytes() == b""


# -- G02: one node at a time ----------------------------------------------------------------------------------------


async def test_G02_a_second_store_in_this_process_is_refused(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    with pytest.raises(StateUnusable, match=rf"in use by another Harbor \(pid {os.getpid()}\)"):
        SqliteStore.open(tmp_path)
    await store.commit(RestPort(1))  # the one that was first is not disturbed
    await store.close()
    assert await read(tmp_path) == Snapshot(resting=(1,))


async def test_G02_a_second_node_on_the_same_state_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    program = f"import sys, harbor.store.lock as l, pathlib; k = l.StateLock(pathlib.Path({str(tmp_path)!r}))"
    first = subprocess.Popen(
        [sys.executable, "-c", f"{program}; print('held', flush=True); sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert first.stdout is not None
    with first:
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(StateUnusable, match=rf"in use by another Harbor \(pid {first.pid}\)"):
            SqliteStore.open(tmp_path)
        assert not (tmp_path / "harbor.db").exists()
        first.send_signal(signal.SIGKILL)
    assert await read(tmp_path) == Snapshot()  # the lock died with its holder


async def test_G02_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    inherited = os.dup(lock._fd)  # what a fork would leave in the child: one more descriptor of the same lock
    lock.release()
    assert await read(tmp_path) == Snapshot()
    os.close(inherited)


async def test_a_refused_start_lets_go_of_the_lock(tmp_path: Path) -> None:
    await a_state(tmp_path)
    whole = (tmp_path / "harbor.db").read_bytes()
    (tmp_path / "harbor.db").write_bytes(b"")
    with pytest.raises(StateUnusable):
        SqliteStore.open(tmp_path)
    (tmp_path / "harbor.db").write_bytes(whole)
    assert len((await read(tmp_path)).services) == 3


# -- G11: damaged, foreign, newer, older ----------------------------------------------------------------------------


def cut_short(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def header_gone(whole: bytes) -> bytes:
    return b"\xde\xad\xbe\xef" * 25 + whole[100:]


def noise_in_the_middle(whole: bytes) -> bytes:
    noise = bytes((number * 73 + 41) % 256 for number in range(4096))
    return whole[:8192] + noise + whole[12288:]


def a_page_of_zeros(whole: bytes) -> bytes:
    return whole[:4096] + bytes(4096) + whole[8192:]


def nothing_left(whole: bytes) -> bytes:
    return b""


def all_zeros(whole: bytes) -> bytes:
    return bytes(len(whole))


@pytest.mark.parametrize(
    "damage", [cut_short, header_gone, noise_in_the_middle, a_page_of_zeros, nothing_left, all_zeros]
)
async def test_G11_a_damaged_database_is_refused_untouched_and_a_backup_restores_it(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    kept = await a_state(tmp_path)
    database = tmp_path / "harbor.db"
    store = SqliteStore.open(tmp_path)
    store.backup(tmp_path / "harbor.db.monday.bak")
    await store.close()
    database.write_bytes(damage(database.read_bytes()))
    damaged = database.read_bytes()

    with pytest.raises(StateUnusable, match=rf"{database} is damaged .*copy the backup to .*harbor\.db\.monday\.bak"):
        SqliteStore.open(tmp_path)
    assert database.read_bytes() == damaged

    for path in (database, *tmp_path.glob("harbor.db-*")):  # as the message says
        path.unlink()
    shutil.copy(tmp_path / "harbor.db.monday.bak", database)
    assert await read(tmp_path) == kept


async def test_G11_damage_beside_an_unfinished_log_leaves_both_as_they_are(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "sound")
    with closing(sqlite3.connect(store.path)) as other:
        (page,) = other.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'replies'").fetchone()
    await store.close()
    state = tmp_path / "state"
    subprocess.run([sys.executable, COMMITTER, state, "1", "3", "--vanish"], check=True, capture_output=True)
    log = state / "harbor.db-wal"
    with (state / "harbor.db").open("r+b") as file:  # a page that the log does not hold
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)
    before = [log.read_bytes(), (state / "harbor.db").read_bytes()]
    with pytest.raises(StateUnusable, match="damaged"):
        SqliteStore.open(state)
    assert [log.read_bytes(), (state / "harbor.db").read_bytes()] == before


def test_G11_a_log_without_its_database_is_not_thrown_away(tmp_path: Path) -> None:
    subprocess.run([sys.executable, COMMITTER, tmp_path, "1", "3", "--vanish"], check=True, capture_output=True)
    (tmp_path / "harbor.db").rename(tmp_path / "mislaid")
    with pytest.raises(StateUnusable, match=r"harbor\.db is missing, but its log"):
        SqliteStore.open(tmp_path)
    assert not (tmp_path / "harbor.db").exists()
    assert (tmp_path / "harbor.db-wal").exists()


def test_G11_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "harbor.db")) as other:
        other.execute("CREATE TABLE photographs (id INTEGER)")
    before = (tmp_path / "harbor.db").read_bytes()
    with pytest.raises(StateUnusable, match="not Harbor's"):
        SqliteStore.open(tmp_path)
    assert (tmp_path / "harbor.db").read_bytes() == before


async def test_G11_a_newer_schema_is_refused_with_both_versions(tmp_path: Path) -> None:
    await a_state(tmp_path)
    with closing(sqlite3.connect(tmp_path / "harbor.db")) as other:
        other.execute("PRAGMA user_version = 900")
    before = (tmp_path / "harbor.db").read_bytes()
    with pytest.raises(StateUnusable, match=rf"version 900, and this Harbor knows up to version {len(MIGRATIONS)}\b"):
        SqliteStore.open(tmp_path)
    assert (tmp_path / "harbor.db").read_bytes() == before


ONE_MORE = (*MIGRATIONS, ("ALTER TABLE services ADD COLUMN colour TEXT", "UPDATE services SET colour = 'red'"))


async def test_G11_an_older_schema_is_migrated_after_a_backup(tmp_path: Path) -> None:
    kept = await a_state(tmp_path)
    with closing(open_database(tmp_path / "harbor.db", ONE_MORE)) as migrated:
        assert version_of(migrated) == len(ONE_MORE)
        assert migrated.execute("SELECT DISTINCT colour FROM services").fetchall() == [("red",)]
    backup = tmp_path / f"harbor.db.v{len(MIGRATIONS)}.bak"
    assert mode(backup) == 0o600
    with pytest.raises(StateUnusable, match=rf"found here: {backup.name}"):  # going back to the older program
        SqliteStore.open(tmp_path)
    backup.replace(tmp_path / "harbor.db")
    assert await read(tmp_path) == kept


async def test_G11_a_state_without_bindings_opens_with_all_it_holds(tmp_path: Path) -> None:
    """Schema 1 knew neither bindings nor where a service came from."""
    await a_state(tmp_path / "new", 1)
    (tmp_path / "old").mkdir(0o700)
    with closing(open_database(tmp_path / "old" / "harbor.db", MIGRATIONS[:1])) as old:
        old.execute("INSERT INTO services VALUES ('s0', 'n0', 'tcp', 30000, 4100, 'private', 'off', NULL, 0.0, '{}')")
    assert await read(tmp_path / "old") == await read(tmp_path / "new")
    assert (tmp_path / "old" / "harbor.db.v1.bak").exists()


async def test_G11_a_migration_that_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    kept = await a_state(tmp_path)
    broken = (*ONE_MORE, ("DROP TABLE events", "UPDATE no_such_table SET x = 1"))
    with pytest.raises(StateUnusable, match="no such table"):
        open_database(tmp_path / "harbor.db", broken)
    assert await read(tmp_path) == kept


async def test_G11_a_migration_that_leaves_rows_without_owner_is_undone(tmp_path: Path) -> None:
    await a_state(tmp_path)
    orphan = "INSERT INTO backends (service_id, id, position, host, port, draining)"
    orphan += " VALUES ('nobody', 'b', 0, '10.0.0.1', 1, 0)"
    with pytest.raises(StateUnusable, match="a row of backends names one of services that does not exist"):
        open_database(tmp_path / "harbor.db", (*MIGRATIONS, (orphan,)))
    assert (await read(tmp_path)).backends == ()


async def test_G11_a_backup_is_taken_while_the_store_is_in_use(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path / "state")
    await store.commit(RestPort(1))
    store.backup(tmp_path / "copy")
    await store.commit(RestPort(2))
    store.backup(tmp_path / "later copy")
    await store.close()
    for copy, ports in (("copy", (1,)), ("later copy", (1, 2))):
        restored = tmp_path / f"from {copy}"
        restored.mkdir()
        shutil.copy(tmp_path / copy, restored / "harbor.db")
        assert await read(restored) == Snapshot(resting=ports)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["copy", "later copy"]


async def test_G11_a_backup_that_cannot_be_made_says_so_and_leaves_the_last_one(tmp_path: Path) -> None:
    store = SqliteStore.open(tmp_path)
    with pytest.raises(StoreFailed, match="is the database itself"):
        store.backup(tmp_path / "harbor.db")
    with pytest.raises(StoreFailed, match="ENOENT"):
        store.backup(tmp_path / "nowhere" / "copy")
    await store.commit(RestPort(1))
    assert store.failure is None
    await store.close()


# -- a read-only file system ----------------------------------------------------------------------------------------


def test_G10_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    needs_root()
    script = f"""
        set -e
        mount -t tmpfs tmpfs {tmp_path}
        "$1" "$2" {tmp_path}/state 1 1
        mount -o remount,ro {tmp_path}
        "$1" "$2" {tmp_path}/state 2 2
    """
    run = [needs("unshare"), "--mount", needs("sh"), "-c", script, "sh", sys.executable, str(COMMITTER)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout.split() == ["open", "ok", "1", "closed"]
    assert "Read-only file system (EROFS); choose a state_dir on a file system that is mounted" in done.stderr
