"""Where the node keeps what it serves: ``<state_dir>/certificates``, mode 0700, its files 0600.

A file is named after what is in it, never after a service or a name that somebody asks for. So nothing that is
served is ever written over, and a file that is there is whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container
from pathlib import Path
from typing import Final

from harbor.certificates.files import read_in, write_private
from harbor.certificates.pem import Pair, read_pair
from harbor.errors import StoreFailed

NAME: Final = "certificates"
SUFFIX: Final = ".pem"
DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Keep:
    """The files of one node. Every method blocks."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / NAME

    def path(self, digest: str) -> Path:
        """Where the file with this digest is, or would be."""
        if DIGEST.fullmatch(digest) is None:
            raise ValueError(f"{digest!r} is no digest")
        return self.directory / f"{digest}{SUFFIX}"

    @staticmethod
    def digest_of(text: str) -> str:
        """The digest of a text that is kept with ``put_text``."""
        return hashlib.sha256(text.encode()).hexdigest()

    def has(self, digest: str) -> bool:
        """Whether it is kept."""
        return self.path(digest).is_file()

    def put(self, pair: Pair) -> str:
        """Keep the pair; returns its digest. Errors: ``StoreFailed``."""
        return self._put(pair.digest, pair.pem())

    def get(self, digest: str) -> Pair:
        """The pair with this digest. Errors: ``Invalid`` if it is gone or damaged."""
        content = read_in(self.directory, self.path(digest).name, secret=True)
        return read_pair(content, content)

    def put_text(self, text: str) -> Path:
        """Keep a text that is no secret, certificates of authorities say; returns where. Errors: ``StoreFailed``."""
        return self.path(self._put(self.digest_of(text), text.encode()))

    def drop(self, digest: str) -> None:
        """Keep it no longer."""
        self.path(digest).unlink(missing_ok=True)

    def sweep(self, used: Container[str]) -> None:
        """Drop all that is not used: what a crash left behind."""
        if self.directory.is_dir():
            for file in self.directory.iterdir():
                if file.name.removesuffix(SUFFIX) not in used and not file.is_dir():
                    file.unlink(missing_ok=True)

    def _put(self, digest: str, content: bytes) -> str:
        try:
            if not self.has(digest):
                self.directory.mkdir(mode=0o700, exist_ok=True)
                write_private(self.directory, self.path(digest).name, content)
        except OSError as exc:
            raise StoreFailed(f"{self.directory} cannot be written: {exc.strerror}; free some disk space") from exc
        return digest
