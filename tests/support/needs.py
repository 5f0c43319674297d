"""What a test needs of the machine: skipped where it is missing, but a failure in CI, where it must be there."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Final, NoReturn

import pytest

import harbor

SETTLED: Final = "changes what compiled code has settled"
plain_source = pytest.mark.skipif(harbor.is_compiled, reason=SETTLED)

# program -> the Debian package that has it; a program that is not listed has a package of its own name
PACKAGES: Final = {
    "certutil": "libnss3-tools",
    "dig": "bind9-dnsutils",
    "dnsmasq": "dnsmasq-base",
    "gnutls-cli": "gnutls-bin",
    "ip": "iproute2",
    "nc": "netcat-openbsd",
    "nft": "nftables",
    "node": "nodejs",
    "pkill": "procps",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "ss": "iproute2",
    "setsid": "util-linux",
    "systemd-analyze": "systemd",
    "testssl": "testssl.sh",
    "unshare": "util-linux",
}
TOOLS: Final = ("sslyze",)  # in an environment of their own, see .ci/tools.in

# The test environment has servers in Python. Others live in /usr/sbin or /usr/games, not on every PATH.
SEARCH: Final = os.pathsep.join(
    [
        os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin", "/usr/games",
        str(Path(sys.executable).parent), str(Path(__file__).parents[2] / ".venv-tools" / "bin"),
    ]
)  # fmt: skip


def needs(program: str) -> str:
    """The path of ``program``; without it the test is skipped, or fails where ``CI=true``."""
    found = shutil.which(program, path=SEARCH)
    if found is None:
        wanted = "make tools" if program in TOOLS else f"on Debian: apt-get install {PACKAGES.get(program, program)}"
        lacking(f"{program} is missing; {wanted}")
    return found


def needs_root() -> None:
    """Only root can do what this test does (mounts, namespaces, foreign owners)."""
    if os.geteuid() != 0:
        lacking("this test needs root")


def lacking(what: str) -> NoReturn:
    """Skip on a user's machine; fail in CI, where a skipped test would go unnoticed."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
