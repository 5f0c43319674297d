from __future__ import annotations

import inspect
import json
import os
import pty
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.conftest import COMMAND, Shell
from harbor.cli import main
from harbor.cli.output import clean, duration, print_table, size
from support.running_api import StagedApi, staged_api

HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\n\x9b31m\u202egnp.exe\u2028\u200b\ud7ff"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, ünïcode 日本 🚢", "plain text, ünïcode 日本 🚢"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("a\nb\r\tc\x00", r"a\x0ab\x0d\x09c\x00"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\u202eexe.txt\u2066\u200b\ufeff\u2028", r"\u202eexe.txt\u2066\u200b\ufeff\u2028"),
        ("\ud800", r"\ud800"),
        ("\U000e0041", r"\U000e0041"),
        (None, ""),
        (7, "7"),
    ],
)
def test_K10_what_steers_a_terminal_is_shown_as_an_escape(text: object, shown: str) -> None:
    assert clean(text) == shown


@given(st.text())
def test_K10_nothing_that_is_printed_steers_a_terminal(text: str) -> None:
    shown = clean(text)
    assert shown.isprintable()
    assert len(shown) >= len(text)


@pytest.fixture
async def staged(tmp_path: Path) -> AsyncIterator[StagedApi]:
    async with staged_api(tmp_path) as running:
        yield running


async def test_K10_no_command_prints_what_others_smuggled_in(staged: StagedApi) -> None:
    await staged.unix("POST", "/v1/services", {"name": "a"})
    await staged.unix("PUT", "/v1/services/a/backends/b", {"host": "127.0.0.1", "port": 1, "instance": HOSTILE})
    staged.node.degraded["a"] = HOSTILE
    staged.node.problems_ = [HOSTILE]
    staged.node.events.add("service.degraded", HOSTILE, HOSTILE)
    shell = Shell(None, HARBOR_URL=str(staged.server.url), HARBOR_TOKEN=staged.token)
    for command in (["services"], ["service", "a"], ["backends", "a"], ["events"], ["node"]):
        ran = await shell(*command)
        assert "owned" in ran.out
        assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e", "\u2028"} & set(ran.out)
        in_json = await shell(*command, "--json")
        assert "owned" in in_json.out
        assert in_json.out.isascii()
        assert not {"\x1b", "\x07", "\r"} & set(in_json.out)
    refused = await shell("service", HOSTILE.replace("\ud7ff", ""))
    assert refused.code == 1
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(refused.err)


def test_a_table_in_a_pipe_is_columns_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "long name"), [("x" * 200, 1), ("y", None)], "none")
    assert capsys.readouterr().out == f"{'ID'.ljust(200)}  LONG NAME\n{'x' * 200}  1\n{'y'}\n"


def test_a_table_without_rows_keeps_its_heading_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("id", "name"), [], "none")
    assert capsys.readouterr().out == "ID  NAME\n"


def on_a_terminal(program: str, **environment: str) -> str:
    """What a Python program prints on a terminal of 40 columns."""
    ours, theirs = pty.openpty()
    env = os.environ | {"COLUMNS": "40", "TERM": "xterm"} | environment
    try:
        with subprocess.Popen([COMMAND[0], "-c", program], stdout=theirs, stdin=theirs, env=env) as process:
            os.close(theirs)
            shown = b""
            try:
                while chunk := os.read(ours, 4096):
                    shown += chunk
            except OSError:  # EIO: the other side is closed
                pass
        assert process.returncode == 0
        return shown.decode()
    finally:
        os.close(ours)


TABLE = (
    "from harbor.cli.output import print_table; print_table(('id', 'state'), [('x' * 60, 'up'), ('[b]y', 'down')], '')"
)


def test_a_table_on_a_terminal_loses_nothing_and_reads_without_colour() -> None:
    shown = on_a_terminal(TABLE, NO_COLOR="1")
    assert shown.count("x") == 60
    assert "[b]y" in shown
    assert "down" in shown
    assert "\x1b[3" not in shown


def test_a_table_on_a_terminal_has_colours() -> None:
    environment = dict.fromkeys(("NO_COLOR",), "")
    assert "\x1b[" in on_a_terminal(TABLE, **environment)


def test_no_rows_on_a_terminal_are_told_in_words() -> None:
    program = "from harbor.cli.output import print_table; print_table(('id',), [], 'nothing yet')"
    assert on_a_terminal(program).strip() == "nothing yet"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (3660, "1h01m"), (90_000, "1d01h")],
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**30, "1.0 GiB"), (2**50, "1024.0 TiB")]
)
def test_sizes_are_short(count: int, text: str) -> None:
    assert size(count) == text


def test_every_command_teaches_by_example() -> None:
    for name, command in main.commands.items():
        assert name == "version" or f"\n  harbor {name}" in inspect.cleandoc(command.help or ""), name
        assert command.get_short_help_str(limit=60).endswith(".")
        assert not command.get_short_help_str(limit=60).endswith("...")


def test_every_command_that_reads_has_json() -> None:
    for name in ("services", "service", "backends", "sessions", "events", "ports", "node", "version", "check-config"):
        assert any("--json" in parameter.opts for parameter in main.commands[name].params), name


def test_json_is_stable(capsys: pytest.CaptureFixture[str]) -> None:
    from harbor.cli.output import print_json

    print_json({"b": "é", "a": [1, None]})
    out = capsys.readouterr().out
    assert json.loads(out) == {"b": "é", "a": [1, None]}
    assert out.index('"b"') < out.index('"a"')
    assert out.isascii()
