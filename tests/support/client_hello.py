"""ClientHellos made by hand, well or badly."""

from __future__ import annotations

from collections.abc import Sequence

Extension = tuple[int, bytes]


def vector(content: bytes, width: int) -> bytes:
    return len(content).to_bytes(width, "big") + content


def server_name(name: bytes) -> Extension:
    """The extension that asks for a name."""
    return 0, vector(b"\x00" + vector(name, 2), 2)


def body(extensions: Sequence[Extension] | None) -> bytes:
    """A ClientHello without its header; None leaves the extensions out altogether."""
    head = b"\x03\x03" + bytes(range(32)) + vector(bytes(32), 1) + vector(b"\x13\x01", 2) + vector(b"\x00", 1)
    if extensions is None:
        return head
    return head + vector(b"".join(kind.to_bytes(2, "big") + vector(content, 2) for kind, content in extensions), 2)


def hello(name: str, filling: int = 0) -> bytes:
    """One that asks for this name, behind so many bytes of something else."""
    return body([(51, bytes(filling)), server_name(name.encode())])


def message(content: bytes) -> bytes:
    """It with its header."""
    return b"\x01" + vector(content, 3)


def records(said: bytes, size: int = 16_384) -> bytes:
    """A message in records of so many bytes."""
    return b"".join(b"\x16\x03\x01" + vector(said[at : at + size], 2) for at in range(0, len(said), size))
