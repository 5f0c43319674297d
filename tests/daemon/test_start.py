"""How a daemon starts, and how it refuses to: exit code 1, one line that says what would work, nothing touched."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from harbor.daemon import machine
from harbor.errors import StateUnusable
from support.daemon import Serve, daemon_config
from support.sockets import address_of, listening
from support.waiting import eventually


def harbor_serve(directory: Path) -> list[str]:
    """What ``harbor serve`` says, which is expected to refuse."""
    program = [sys.executable, "-c", "from harbor.cli import main; main()", "serve", "--config", "harbor.yml"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, cwd=directory)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr.splitlines()


def refusal(serve: Serve, **how: Any) -> str:
    """The one line with which a daemon refuses to start."""
    daemon = serve(wait=False, **how)
    assert daemon.await_exit() == 1
    (line,) = daemon.log.splitlines()
    assert line.startswith("harbor: ")
    return line.removeprefix("harbor: ")


def files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def test_I01_an_invalid_configuration_is_refused_with_a_line_for_each_fault(directory: Path, ports: range) -> None:
    (directory / "harbor.yml").write_text(daemon_config(directory, ports, "log: {level: loud}\nprots: {}"))
    level, key = harbor_serve(directory)
    assert level.startswith("harbor: harbor.yml:6:14: log.level")
    assert "harbor.yml:7:1: prots" in key
    assert not (directory / "state").exists()


def test_I01_a_file_that_is_not_there_is_named(directory: Path) -> None:
    assert harbor_serve(directory) == ["harbor: harbor.yml: there is no such file"]


def test_G02_a_second_daemon_on_the_same_state_is_refused_and_the_first_goes_on(serve: Serve) -> None:
    first = serve()
    port = first.api.create("web").body["port"]
    line = refusal(serve)
    assert f"{first.state} is in use by another Harbor (pid {first.pid})" in line
    assert first.api("GET", "/readyz").status == 200
    assert first.api.services()["web"]["port"] == port
    first.stop()


def test_the_address_of_the_api_that_is_taken_is_named(serve: Serve) -> None:
    with listening() as squatter:
        place = str(address_of(squatter))
        line = refusal(serve, instead=("127.0.0.1:0", place))
    assert line == f"api.listen: {place} is not available: in use by another program"


def test_a_certificate_that_cannot_be_used_is_named(serve: Serve) -> None:
    instead = ('"127.0.0.1:0"', '"127.0.0.1:0", cert: nowhere.crt, key: nowhere.key')
    assert refusal(serve, instead=instead).startswith("api.cert nowhere.crt and api.key nowhere.key cannot be used")


# -- G11 --------------------------------------------------------------------------------------------------------------


def newer(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA user_version = 4711")


def foreign(database: Path) -> None:
    database.unlink()
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("CREATE TABLE services (id TEXT)")


def truncated(database: Path) -> None:
    os.truncate(database, database.stat().st_size // 2)


def scribbled(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(b"not a database at all")


def emptied(database: Path) -> None:
    os.truncate(database, 0)


def misunderstood(database: Path) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE services SET int_port = 'four thousand'")
        connection.commit()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (newer, "has schema version 4711, and this Harbor knows up to version"),
        (foreign, "is a database, but not Harbor's"),
        (truncated, "is damaged"),
        (scribbled, "is damaged"),
        (emptied, "is damaged (it is empty)"),
        (misunderstood, "the row of table services with id"),
    ],
)
def test_G11_state_that_cannot_be_used_is_refused_in_one_line_and_left_as_it_is(
    serve: Serve, directory: Path, damage: Callable[[Path], None], said: str
) -> None:
    daemon = serve()
    for n in range(5):
        daemon.api.create(f"s{n}")
    daemon.stop()
    shutil.copytree(daemon.state, directory / "whole")
    database = daemon.state / "harbor.db"
    damage(database)
    before = files(daemon.state)
    assert said in refusal(serve)
    after = files(daemon.state)
    assert after["harbor.db"] == before["harbor.db"]
    assert before.keys() <= after.keys()
    # The state is good again as soon as it is whole again.
    for path in daemon.state.iterdir():
        path.unlink()
    shutil.copy(directory / "whole" / "harbor.db", database)
    assert len(serve().api.services()) == 5


# -- K14 --------------------------------------------------------------------------------------------------------------


def test_K14_state_is_private_whatever_the_umask(serve: Serve) -> None:
    daemon = serve()  # under umask 0, see support/daemons.py
    daemon.api.create("web")
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in daemon.state.iterdir()}
    assert stat.S_IMODE(daemon.state.stat().st_mode) == 0o700
    assert modes.keys() >= {"harbor.db", "harbor.db-wal", "harbor.lock", "harbor.sock", "admin.token"}
    assert {name: mode for name, mode in modes.items() if mode != 0o600} == {}


def test_K14_a_state_directory_that_everybody_may_write_is_refused(serve: Serve, directory: Path) -> None:
    (directory / "state").mkdir()
    (directory / "state").chmod(0o777)
    assert "can be written by every user" in refusal(serve)


# -- Warnings and version ---------------------------------------------------------------------------------------------


def test_G08_a_range_among_the_ephemeral_ports_is_warned_of_at_start(serve: Serve) -> None:
    low, high = machine.ephemeral_ports() or (0, 0)
    daemon = serve(some=range(high - 20, high + 1))
    warned = f"overlaps the kernel's ephemeral ports {low}-{high}"
    (warning,) = daemon.api("GET", "/v1/ports").body["warnings"]
    assert warned in warning
    eventually(lambda: warned in daemon.log)
    daemon.stop()


@pytest.mark.parametrize("old", [(3, 10, 14), (3, 11, 0), (3, 11, 4)])
def test_L06_a_python_with_known_holes_is_refused(monkeypatch: pytest.MonkeyPatch, old: tuple[int, ...]) -> None:
    monkeypatch.setattr(sys, "version_info", (*old, "final", 0))
    with pytest.raises(StateUnusable, match=r"Harbor needs 3\.11\.5 or newer \(CVE-2023-40217\)"):
        machine.check_python()


@pytest.mark.parametrize("new", [(3, 11, 5), (3, 11, 12), (3, 12, 0), (3, 13, 1), (4, 0, 0)])
def test_L06_a_python_without_them_is_taken(monkeypatch: pytest.MonkeyPatch, new: tuple[int, ...]) -> None:
    monkeypatch.setattr(sys, "version_info", (*new, "final", 0))
    machine.check_python()
