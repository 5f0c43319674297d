"""The tour of the HTTPS page, followed literally: its commands work, and they say what the page says."""

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

import pytest

from support.app_node import app_node
from support.browser import FLAGS
from support.needs import needs
from support.port_block import open_ports, port_block
from support.waiting import eventually

DOCS: Final = Path(__file__).parents[1] / "docs"
PROGRAMS: Final = ("bash", "certutil", "chromium", "curl", "gunicorn", "openssl")
BACKENDS: Final = (18080, 18081)  # where the page has its apps
SERVICES: Final = (31443, 31444)  # and its services
MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d UTC)?")
DONE: Final = "\x1e"  # what no command prints: it stands before the exit code
PATIENCE: Final = 60.0


class Step(NamedTuple):
    """What the reader types, and what the page says comes of it."""

    command: str
    said: str


def steps() -> Iterator[Step]:
    tour = (DOCS / "https.md").read_text().partition("\n## A tour\n")[2].partition("\n## ")[0]
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
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    shell = Shell(folder, {"PATH": path, "HOME": str(folder), "HARBOR_CONFIG": str(config)})
    try:
        shell.run(f'chromium() {{ command chromium {shlex.join(FLAGS)} "$@"; }}')
        yield shell
    finally:
        shell.run("kill $(cat app.pid) $(jobs -p) 2>&-")
        shell.close()


def started_by(step: Step) -> list[int]:
    """The ports at which a step leaves an app running; a reader is slower than the app."""
    return [port for port in BACKENDS if re.match(rf"(gunicorn|python3) .*\b{port}\b", step.command)]


def masked(text: str) -> str:
    return MOMENT.sub("<moment>", text)


@pytest.mark.slow
def test_D11_D12_the_tour_of_HTTPS_is_as_the_page_says(tmp_path: Path) -> None:
    for program in PROGRAMS:
        needs(program)
    with (
        app_node(tmp_path) as node,
        port_block(len(BACKENDS)) as backends,
        tourist(tmp_path / "tour", tmp_path / "harbor.yml") as shell,
    ):
        first = int(node.ask("GET", "/v1/ports")["ranges"][0].partition("-")[0])
        ports = dict(zip((*BACKENDS, *SERVICES), (*backends, first, first + 1), strict=True))

        def here(text: str) -> str:
            return re.sub("|".join(map(str, ports)), lambda port: str(ports[int(port[0])]), text)

        for step in steps():
            said, code = shell.run(here(step.command))
            if step.said:
                assert masked(said) == masked(here(step.said)), step.command
            else:
                assert code == 0, (step.command, said)
            for port in (
                ports[port] for port in BACKENDS if re.search(rf"^(gunicorn|python3).*\b{port}\b", step.command)
            ):
                eventually(lambda port=port: open_ports([port]), PATIENCE, step.command)
        eventually(lambda: not open_ports(backends), PATIENCE, "the apps have ended")
