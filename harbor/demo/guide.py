"""What to try: lines to paste, made for the ports and names of this demo."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from harbor.demo.samples import Sample


class Try(NamedTuple):
    """A command, and what it shows: a comment short enough that both fit on a line of 80 characters."""

    command: str
    shows: str


def tries(ports: Mapping[str, int], samples: Sequence[Sample], environment: Path) -> list[Try]:
    """In the order in which they tell a story. ``ports`` are those of the services, by name."""
    web, echo, dns = ports["hello"], ports["udp-echo"], ports["both-dns"]
    first = next(sample for sample in samples if sample.service == "udp-echo")
    return [
        Try(f"curl http://127.0.0.1:{web}/", "each in turn"),
        Try(f"curl -N http://127.0.0.1:{web}/clock", "stays: see below"),
        Try(f"echo hi | nc -u -w1 127.0.0.1 {echo}", "the first in line"),
        Try(f"dig @127.0.0.1 -p {dns} whoami.harbor.test TXT +short", "+tcp: in turn"),
        Try(f". {shlex.quote(str(environment))}", "then, right there"),
        Try(f"harbor deregister udp-echo {first.name}", "next is promoted"),
        Try(f"harbor register udp-echo {first.address} --id {first.name}", "back, at the end"),
        Try("harbor drain hello hello-2", "takes nothing new"),
    ]


def environment(url: str, token: str) -> str:
    """A file for a shell to read, so that the commands above talk to this demo's node."""
    lines = [f"export HARBOR_URL={shlex.quote(url)}", f"export HARBOR_TOKEN={shlex.quote(token)}"]
    here = os.path.dirname(sys.executable)
    if os.access(os.path.join(here, "harbor"), os.X_OK) and shutil.which("harbor") is None:
        lines.append(f'export PATH={shlex.quote(here)}:"$PATH"')
    return "\n".join([*lines, ""])
