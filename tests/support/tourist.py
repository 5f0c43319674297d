"""Somebody who follows the tour of a page literally, in a folder of his own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from support.browser import FLAGS
from support.needs import needs

DOCS: Final = Path(__file__).parents[2] / "docs"
PATIENCE: Final = 60.0
DONE: Final = "\x1e"  # what no command prints: it stands before the exit code


class Step(NamedTuple):
    """What the reader types, and what the page says comes of it."""

    command: str
    said: str


def steps(page: str) -> Iterator[Step]:
    tour = (DOCS / page).read_text().partition("\n## A tour\n")[2].partition("\n## ")[0]
    for block in re.findall(r"```console\n(.*?)```", tour, re.DOTALL):
        for typed, said in re.findall(r"^\$ (.*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            yield Step(typed.replace("\n> ", "\n").strip(), said)


class Shell:
    """A shell in which one command follows the other."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [needs("bash"), "--norc"], cwd=folder, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, command: str) -> tuple[str, int]:
        """What it printed, and its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\necho; echo {DONE}$?\n")
        self.process.stdin.flush()
        said = ""
        for line in self.process.stdout:
            if line.startswith(DONE):
                return said[:-1], int(line[1:])
            said += line
        raise AssertionError(f"the shell ended in {command!r}: {said}")

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


@contextmanager
def tourist(folder: Path, config: Path) -> Iterator[Shell]:
    """A shell in a folder of its own, with what the page says one has."""
    folder.mkdir()
    for program in (DOCS / "tour").glob("*.py"):
        shutil.copy(program, folder)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", "/usr/games"])
    shell = Shell(folder, {"PATH": path, "HOME": str(folder), "HARBOR_CONFIG": str(config)})
    try:
        shell.run(f'chromium() {{ command chromium {shlex.join(FLAGS)} "$@"; }}')
        yield shell
    finally:
        shell.run("kill $(cat *.pid) $(jobs -p) 2>&-")
        shell.close()
