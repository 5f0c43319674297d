"""The state directory: made private, checked, and held by one node at a time."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from harbor.errors import StateUnusable

LOCK_NAME: Final = "harbor.lock"
# What helps, by what the system said; everything else is told as the system says it.
_REMEDIES: Final = {
    errno.EACCES: "give the directory to the user that runs Harbor, or choose another state_dir",
    errno.EPERM: "give the directory to the user that runs Harbor, or choose another state_dir",
    errno.EROFS: "choose a state_dir on a file system that is mounted read-write",
    errno.ENOSPC: "free some disk space",
    errno.EDQUOT: "free some disk space or raise the quota",
    errno.ENOTDIR: "choose a state_dir whose parents are directories",
    errno.ELOOP: "replace the symbolic link by the file itself",
    errno.ENOLCK: "choose a state_dir on a local disk",
}


def prepare_directory(path: Path) -> Path:
    """Make the state directory if it is missing (0700), and return it resolved once it is safe to use.

    Errors: ``StateUnusable`` if it, or a directory on the way to it, could be changed by any user of
    the machine, or if it belongs to somebody else.
    """
    try:
        wanted = Path(os.path.abspath(path))
        # Checked before anything is made, so that nothing is left behind in a place that is refused.
        for parent in sorted({*wanted.parents, *Path(os.path.realpath(wanted)).parents}):
            _refuse_open_parent(parent)
        for directory in reversed([wanted, *wanted.parents]):
            if not directory.exists():
                directory.mkdir(mode=0o700, exist_ok=True)
                sync_directory(directory.parent)
        _refuse_foreign(wanted)
        return Path(os.path.realpath(wanted))
    except OSError as exc:
        raise unusable(f"state directory {path}", exc) from exc


def _refuse_open_parent(parent: Path) -> None:
    """A parent that everybody may write lets anybody swap the state for their own; the sticky bit prevents that."""
    try:
        mode = parent.stat().st_mode
    except FileNotFoundError:
        return  # about to be made, by us
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise StateUnusable(
            f"{parent}, which holds the state directory, can be written by every user of this machine; "
            f"`chmod o-w {parent}` or choose another state_dir"
        )


def _refuse_foreign(directory: Path) -> None:
    found = directory.stat()
    if not stat.S_ISDIR(found.st_mode):
        raise StateUnusable(f"state directory {directory} is not a directory; choose another state_dir")
    if found.st_uid != os.geteuid():
        raise StateUnusable(
            f"state directory {directory} belongs to uid {found.st_uid} and Harbor runs as uid {os.geteuid()}; "
            "run Harbor as its owner or choose another state_dir"
        )
    if found.st_mode & stat.S_IWOTH:
        raise StateUnusable(
            f"state directory {directory} can be written by every user of this machine; `chmod 700 {directory}`"
        )


def unusable(what: str, exc: OSError) -> StateUnusable:
    """The refusal for what the system would not do."""
    remedy = _REMEDIES.get(exc.errno or 0)
    name = errno.errorcode.get(exc.errno or 0, type(exc).__name__)
    said = f"{what} cannot be used: {exc.strerror or exc} ({name})"
    return StateUnusable(f"{said}; {remedy}" if remedy else said)


def private_file(path: Path, flags: int = 0) -> int:
    """The descriptor of a regular file, opened to read and write, with mode 0600 whatever the umask or its past.

    Closing: the caller owns the descriptor. Never call this for a database that a connection of this
    process has open: closing the descriptor would drop sqlite's POSIX locks on it.
    """
    fd = os.open(path, flags | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise StateUnusable(f"{path} is not a regular file; move it away")
        if stat.S_IMODE(mode) != 0o600:
            os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable: what was created, renamed and removed there."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class StateLock:
    """The right to use a state directory; the kernel takes it back when the process ends, however it ends.

    ``flock`` rather than POSIX locks: it also holds against a second store in this process, and no
    stray ``close`` of another descriptor lets go of it.
    """

    def __init__(self, directory: Path) -> None:
        """Take the lock, or raise ``StateUnusable`` naming the process that has it."""
        self.path = directory / LOCK_NAME
        try:
            self._fd = private_file(self.path, os.O_CREAT)
        except OSError as exc:
            raise unusable(f"state directory {directory}", exc) from exc
        try:
            self._take(directory)
        except BaseException:
            os.close(self._fd)
            raise

    def _take(self, directory: Path) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateUnusable(
                f"state directory {directory} is in use by another Harbor ({self._holder()}); "
                "stop that one or give this node a state_dir of its own"
            ) from None
        except OSError as exc:
            raise unusable(f"{self.path}", exc) from exc
        self._sign()

    def _holder(self) -> str:
        written = os.pread(self._fd, 32, 0).strip()
        return f"pid {int(written)}" if written.isdigit() else "its pid is not known"

    def _sign(self) -> None:
        try:
            signature = b"%d\n" % os.getpid()
            os.pwrite(self._fd, signature, 0)
            os.ftruncate(self._fd, len(signature))
        except OSError:
            pass  # a full disk: the lock holds without it, only the message to the second node is poorer

    def release(self) -> None:
        """Let another node have the directory. The file stays: removing it would race with who waits for it."""
        # Explicit, because a forked child may have inherited the descriptor and would keep the lock.
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        os.close(self._fd)
