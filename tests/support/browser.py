"""Chromium without a window, as a client that is strict about whom it trusts."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.needs import needs
from support.waiting import eventually

PATIENCE: Final = 60.0
FLAGS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",  # root, as which CI runs, has no sandbox
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",  # it reaches nothing but this machine
)  # fmt: skip


class Browser:
    """The browser of a user whose files are in ``home``."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._environment = {"PATH": os.defpath, "HOME": str(home)}
        self._database = home / ".pki" / "nssdb"

    def trust(self, authority: Path) -> None:
        """From now on a certificate that this one has signed is good."""
        self._database.mkdir(parents=True)
        added = ["-A", "-t", "C,,", "-n", "authority", "-i", str(authority)]
        subprocess.run(
            [needs("certutil"), "-d", f"sql:{self._database}", *added],
            env=self._environment, timeout=PATIENCE, check=True,
        )  # fmt: skip

    def page(self, url: str) -> str:
        """The document as it is once it is loaded. Errors: ``Unreachable``, with the browser's word for it."""
        done = subprocess.run(
            [needs("chromium"), "--headless", *FLAGS, "--dump-dom", url],
            env=self._environment, timeout=PATIENCE, capture_output=True, text=True, check=True,
        )  # fmt: skip
        if "Page load failed: " in done.stderr:
            raise Unreachable(done.stderr.partition("Page load failed: ")[2].split()[0])
        return done.stdout

    @contextmanager
    def tab(self, url: str) -> Iterator[Tab]:
        """A page that stays open until the block ends."""
        profile = self._home / "profile"
        options = ("--headless", *FLAGS, "--remote-debugging-port=0", f"--user-data-dir={profile}", url)
        with subprocess.Popen(
            [needs("chromium"), *options], env=self._environment, stderr=subprocess.DEVNULL
        ) as process:
            try:
                yield Tab(profile / "DevToolsActivePort")
            finally:
                process.terminate()


class Tab:
    """A page in a browser that runs."""

    def __init__(self, port_file: Path) -> None:
        self._port_file = port_file

    def await_title(self, title: str) -> None:
        """Return once the page is called so."""
        eventually(lambda: self._port_file.exists() and self._port_file.read_text(), PATIENCE, "the browser runs")
        port = self._port_file.read_text().split()[0]
        eventually(lambda: self._title(port) == title, PATIENCE, f"the page is called {title}")

    def _title(self, port: str) -> str | None:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=PATIENCE) as answer:
            return next((one["title"] for one in json.load(answer) if one["type"] == "page"), None)


class Unreachable(Exception):
    """The browser shows no page."""
