"""Another process that holds a port."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PROGRAM = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
sock.bind(("127.0.0.1", int(sys.argv[2])))
if sys.argv[1] == "tcp":
    sock.listen()
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def squatter(port: int, kind: str = "tcp") -> Iterator[int]:
    """A process that has the port until the block ends; yields its pid."""
    program = [sys.executable, "-c", _PROGRAM, kind, str(port)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        yield process.pid
        process.stdin.close()
