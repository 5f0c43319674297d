"""Files of certificates: only regular ones, directly in their directory, of a sensible size; keys for one user only.

A name is looked up in the directory that is open already, so that no part of it can lead elsewhere; a symbolic link is
not followed, and a FIFO does not hold anybody up.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from harbor.errors import Invalid

MOST_BYTES: Final = 64 * 1024  # a chain of four RSA certificates has 8 KiB; what the API takes is bounded by the same

_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_SECRET: Final = 0o077  # what others may not have of a key; the group may read one that is not the node's own

# What tells two versions of a file apart: device, inode, size, and when it was last changed.
Mark = tuple[int, int, int, int, int]
Listing = dict[str, Mark]


def listing(directory: Path) -> Listing | None:
    """What lies in the directory; None if it cannot be looked at. Links are told by the link, never followed."""
    try:
        with os.scandir(directory) as entries:
            return {entry.name: mark for entry in entries if (mark := _mark(entry)) is not None}
    except OSError:
        return None


def read_in(directory: Path, name: str, *, secret: bool = False) -> bytes:
    """The content of a file in the directory. ``secret``: nobody but its owner may be able to read it.

    Errors: ``Invalid`` (``file_unfit``) says why it was left alone, and what would work.
    """
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise _unfit("it is no plain file name")
    with _translated(name):
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            descriptor = os.open(name, _READ, dir_fd=folder)
        finally:
            os.close(folder)
        try:
            _check(name, os.fstat(descriptor), secret)
            content = os.read(descriptor, MOST_BYTES + 1)
        finally:
            os.close(descriptor)
    if len(content) > MOST_BYTES:
        raise _too_large(name)
    return content


def write_private(directory: Path, name: str, content: bytes) -> None:
    """Put a file into the directory, mode 0600, whole or not at all. Errors: ``OSError``."""
    draft = directory / f".{secrets.token_hex(8)}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(draft, directory / name)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    _sync(directory)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mark(entry: os.DirEntry[str]) -> Mark | None:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return None  # gone in the meantime
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _check(name: str, found: os.stat_result, secret: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise _unfit(f"{name} is no regular file; put the file itself there")
    if found.st_size > MOST_BYTES:
        raise _too_large(name)
    allowed = 0 if found.st_uid == os.geteuid() else stat.S_IRGRP
    if secret and found.st_mode & _SECRET & ~allowed:
        mode = stat.S_IMODE(found.st_mode)
        raise _unfit(f"{name} has mode {mode:04o}, so that other users can get at the key; run chmod 600 on it")


@contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as exc:
        raise _unfit(f"there is no {name}") from exc
    except PermissionError as exc:
        raise _unfit(f"{name} cannot be read by the user that runs Harbor; give the file to that user") from exc
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise _unfit(f"{name} is a symbolic link, which is not followed; put the file itself there") from exc
        raise _unfit(f"{name} cannot be read: {exc.strerror}") from exc


def _too_large(name: str) -> Invalid:
    return _unfit(
        f"{name} has more than {MOST_BYTES // 1024} KiB; put only the certificate and its intermediates there"
    )


def _unfit(why: str) -> Invalid:
    return Invalid(why, code="file_unfit")
