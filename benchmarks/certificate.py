"""The certificate of the TLS rows: ECDSA P-256, the same for every peer of a run, and never kept."""

from __future__ import annotations

import functools
import os
import time
from pathlib import Path
from typing import Final

from harbor.certificates import make_self_signed

NAMES: Final = ("bench.example", "127.0.0.1")


@functools.cache
def pem() -> bytes:
    """Key and certificate in one text, as OpenSSL and Go read it."""
    return make_self_signed(NAMES, time.time()).pem()


def put(file: Path) -> None:
    """Write it where only its owner may read."""
    with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(pem())
