"""What a test needs of the machine: skipped where it is missing, but a failure in CI, where it must be there."""

from __future__ import annotations

import os
import shutil
from typing import Final, NoReturn

import pytest

import harbor

SETTLED: Final = "changes what compiled code has settled"
plain_source = pytest.mark.skipif(harbor.is_compiled, reason=SETTLED)

# program -> the Debian package that has it; a program that is not listed has a package of its own name
PACKAGES: Final = {
    "dig": "bind9-dnsutils",
    "dnsmasq": "dnsmasq-base",
    "ip": "iproute2",
    "nc": "netcat-openbsd",
    "nft": "nftables",
    "node": "nodejs",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "ssh": "openssh-client",
    "sshd": "openssh-server",
    "ss": "iproute2",
    "setsid": "util-linux",
    "systemd-analyze": "systemd",
    "unshare": "util-linux",
}


def needs(program: str) -> str:
    """The path of ``program``; without it the test is skipped, or fails where ``CI=true``."""
    # Servers live in /usr/sbin, which is not on the PATH of an ordinary user.
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = shutil.which(program, path=search)
    if found is None:
        lacking(f"{program} is missing; on Debian: apt-get install {PACKAGES.get(program, program)}")
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
