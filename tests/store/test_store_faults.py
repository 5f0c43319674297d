"""The store on disks that fill up, fail, crawl, and in processes that are killed: strace injects, sqlite is real."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from harbor.store import RestPort, Snapshot
from harbor.store.database import copy_database
from harbor.store.sqlite import SqliteStore
from support.needs import needs, needs_root

COMMITTER: Final = Path(__file__).with_name("commit_numbered.py")
BATCHES: Final = 6


def commit_under(inject: str, state: Path, first: int, last: int, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the committing program with a fault injected into its system calls.

    strace counts the calls of each thread for itself. (Its --seccomp-bpf would be faster and injects nothing.)
    """
    call = inject.split(":")[0]
    trace = [needs("strace"), "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}"]
    program = [sys.executable, str(COMMITTER), str(state), str(first), str(last), *options]
    return subprocess.run([*trace, *program], capture_output=True, text=True, timeout=60)


def fill(state: Path, last: int) -> None:
    """A store with batches 1 to ``last``, closed."""
    done = subprocess.run([sys.executable, COMMITTER, state, "1", str(last)], capture_output=True, timeout=60)
    assert done.stdout.endswith(b"closed\n"), done.stderr


def acknowledged(said: str) -> list[int]:
    return [int(number) for number in re.findall(r"^ok (\d+)$", said, re.MULTILINE)]


def refused(said: str) -> dict[int, str]:
    return {int(number): why for number, why in re.findall(r"^failed (\d+) (.*)$", said, re.MULTILINE)}


def present(state: Path) -> list[int]:
    """Which batches the store holds; asserts that it is sound and that none of them is there in part."""

    async def read() -> Snapshot:
        store = SqliteStore.open(state)
        kept = store.load()
        await store.commit(RestPort(60000))  # it also works again
        await store.close()
        return kept

    kept = asyncio.run(read())
    with closing(sqlite3.connect(state / "harbor.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    numbers = sorted(int(service.id[1:]) for service in kept.services)
    assert sorted(int(saved.backend.id[1:]) for saved in kept.backends) == numbers
    assert [port for port in kept.resting if port != 60000] == numbers
    return numbers


# -- G03: killed at any write ---------------------------------------------------------------------------------------


class Sweep:
    """Kill a process at one system call after the other, until it has no more of them to be killed at."""

    def __init__(self, directory: Path, start: Path | None, call: str, stride: int) -> None:
        """``start`` is the database that it begins with, holding STORED batches; without one it is created."""
        self.directory = directory / f"{call}-{start.name if start else 'new'}"
        self.start = start
        self.call = call
        self.stride = stride

    def kills(self) -> int:
        """How often it was killed; what was found after each time has been checked."""
        for kills, when in enumerate(range(1, 200, self.stride)):
            if not self._killed_at(when):
                return kills
        raise AssertionError(f"still killed at {self.call} number 200: is the program in a loop?")

    def _killed_at(self, when: int) -> bool:
        state = self.directory / str(when)
        state.mkdir(parents=True)
        stored = 0
        if self.start is not None:
            stored = STORED
            shutil.copy(self.start, state / "harbor.db")
        done = commit_under(f"{self.call}:signal=KILL:when={when}", state, stored + 1, stored + BATCHES)
        killed = done.returncode == -signal.SIGKILL
        assert killed or done.stdout.endswith("closed\n"), done.stderr
        last_acknowledged = max(acknowledged(done.stdout), default=stored)
        found = present(state)
        assert found == list(range(1, len(found) + 1))
        assert last_acknowledged <= len(found) <= last_acknowledged + 1, f"{self.call} {when}: {done.stdout}"
        return killed


STORED: Final = 2
# (call, stride): all of the calls that make something durable or visible, and a sample of the many writes.
CALLS: Final = [("fdatasync", 1), ("fsync", 1), ("rename", 1), ("unlink", 1), ("ftruncate", 1), ("pwrite64", 7)]


@pytest.mark.slow
def test_G03_trap_15_killed_at_any_write_the_store_holds_what_it_acknowledged_and_at_most_one_more(
    tmp_path: Path,
) -> None:
    needs("strace")
    fill(tmp_path / "filled", STORED)
    used, restored = tmp_path / "filled" / "harbor.db", tmp_path / "restored"
    copy_database(used, restored)
    sweeps = [Sweep(tmp_path, start, call, stride) for start in (None, used, restored) for call, stride in CALLS]
    with ThreadPoolExecutor(2) as pool:
        kills = dict(zip([sweep.directory.name for sweep in sweeps], pool.map(Sweep.kills, sweeps), strict=True))
    # Every commit flushes once: the sweeps must have met all of them, and a creation its rename.
    assert kills["fdatasync-new"] >= BATCHES
    assert kills["fdatasync-harbor.db"] >= BATCHES
    assert kills["rename-new"] == 1


# -- G10: full, read-only and failing disks -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ("fdatasync", "EIO", r"disk I/O error \(SQLITE_IOERR_FSYNC\); look at the disk"),
        ("fdatasync", "ENOSPC", r"\(SQLITE_IOERR_FSYNC\)"),
        ("pwrite64", "ENOSPC", r"full \(SQLITE_FULL\); free some disk space"),
        ("pwrite64", "EIO", r"disk I/O error \(SQLITE_IOERR_WRITE\)"),
        ("pwrite64", "EROFS", r"disk I/O error \(SQLITE_IOERR_WRITE\)"),
    ],
)
def test_G10_a_failing_disk_refuses_the_change_and_the_next_one_succeeds(
    tmp_path: Path, call: str, error: str, said: str
) -> None:
    fill(tmp_path, 2)
    # The 20th pwrite64 of the writing thread is in its second commit, its 4th fdatasync at the end of one.
    when = {"fdatasync": 4, "pwrite64": 20}[call]
    done = commit_under(f"{call}:error={error}:when={when}", tmp_path, 3, 8, "--vanish")
    failures = refused(done.stdout)
    assert len(failures) == 1
    assert re.search(rf"^{re.escape(str(tmp_path))}/harbor\.db was not changed: .*{said}", *failures.values())
    assert sorted([*acknowledged(done.stdout), *failures]) == [3, 4, 5, 6, 7, 8]
    assert max(failures) < 8  # later ones succeeded
    assert present(tmp_path) == [1, 2, *acknowledged(done.stdout)]


def test_G10_what_was_refused_does_not_rise_again_after_a_crash(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    # The log is complete when its flush fails, and the process ends before it writes anything else.
    done = commit_under("fdatasync:error=EIO:when=3", tmp_path, 3, 3, "--vanish")
    assert list(refused(done.stdout)) == [3]
    assert present(tmp_path) == [1, 2]


def test_G10_a_full_disk_refuses_changes_serves_reads_and_recovers(tmp_path: Path) -> None:
    needs_root()
    program = f"""
import asyncio, os
from pathlib import Path
from harbor.errors import StoreFailed
from harbor.store import RestPort, SaveReply
from harbor.store.database import copy_database
from harbor.store.sqlite import SqliteStore

async def main():
    store = SqliteStore.open(Path("{tmp_path}/state"))
    await store.commit(RestPort(1))
    ballast = os.open("{tmp_path}/ballast", os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(ballast, bytes(4096))
    except OSError:
        pass
    refused = 0
    for number in range(3):
        try:
            await store.commit(RestPort(100 + number), SaveReply("key", "f", {{"body": "x" * 100_000}}))
        except StoreFailed as exc:
            refused += 1
            assert "SQLITE_FULL" in str(exc) and "free some disk space" in str(exc), exc
            assert store.failure == str(exc)
            assert store.load().resting == (1,)
    os.unlink("{tmp_path}/ballast")
    os.close(ballast)
    await store.commit(RestPort(2))
    assert store.failure is None
    assert store.load().resting == (1, 2)
    await store.close()
    store = SqliteStore.open(Path("{tmp_path}/state"))
    assert store.load().resting == (1, 2)
    await store.close()
    print("refused", refused)

asyncio.run(main())
"""
    script = f'set -e; mount -t tmpfs -o size=512k tmpfs {tmp_path}; exec "$1" -c "$2"'
    run = [needs("unshare"), "--mount", needs("sh"), "-c", script, "sh", sys.executable, program]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60)
    assert done.stdout == "refused 3\n", done.stderr


# -- G13: a slow disk -----------------------------------------------------------------------------------------------


def test_G13_a_disk_that_takes_a_second_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    fill(tmp_path, 2)
    done = commit_under("fdatasync:delay_enter=1000000:when=3", tmp_path, 3, 3, "--ticks")
    assert acknowledged(done.stdout) == [3]
    # A loop that was held up would have turned once or twice; this one had a second for turns of a millisecond.
    assert int(done.stdout.split("ticks ")[1].split()[0]) > 20
