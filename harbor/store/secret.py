"""Secrets in files of the state directory: random, made once, readable by the node's own user only."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from harbor.errors import StateUnusable
from harbor.store.lock import sync_directory

SECRET_BYTES: Final = 32  # 256 bits of randomness, 43 characters


def load_or_create_secret(path: Path, what: str) -> bytes:
    """The text in this file, made there (mode 0600) at the first start. ``what`` is what messages call it. Blocks.

    Errors: ``StateUnusable`` if it cannot be read or written, is too short, or is open to other users.
    """
    try:
        return _load(path, what) if os.path.lexists(path) else _create(path)
    except OSError as exc:
        raise StateUnusable(f"{path}: {exc.strerror}") from exc


def _create(path: Path) -> bytes:
    """Write the file whole under another name, then give it its own: a crash leaves a secret or none."""
    secret = secrets.token_urlsafe(SECRET_BYTES).encode()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(secret + b"\n")
            file.flush()
            os.fsync(descriptor)
        os.link(draft, path)
    finally:
        os.unlink(draft)
    sync_directory(path.parent)
    return secret


def _load(path: Path, what: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if mode & 0o077:
            raise StateUnusable(f"{path}: mode {mode:04o} lets other users read it; run chmod 600 {path}")
        secret = file.read(4096).strip()
    if len(secret) < SECRET_BYTES:
        raise StateUnusable(f"{path}: this is not a {what}; remove the file and start again to get a new one")
    return secret
