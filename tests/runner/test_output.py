"""What instances print: lines of any kind, names and colours, files that stay small, readers that stall."""

from __future__ import annotations

import os
import re
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harbor.errors import HarborError
from harbor.runner import outlet, output
from harbor.runner.lines import LONGEST, Lines, Prefix, shown
from harbor.runner.outlet import Outlet
from harbor.runner.output import Files, Output, Screen
from support.waiting import eventually


@given(st.lists(st.binary()), st.binary())
def test_lines_are_the_same_however_they_arrive(chunks: list[bytes], last: bytes) -> None:
    lines, whole = Lines(), Lines()
    apart = [line for chunk in [*chunks, last] for line in lines.feed(chunk)] + lines.flush()
    assert apart == whole.feed(b"".join([*chunks, last])) + whole.flush()
    assert b"\n" not in b"".join(apart)


def test_a_line_that_never_ends_needs_no_memory() -> None:
    lines = Lines()
    pieces = [piece for _ in range(1000) for piece in lines.feed(b"x" * 1000)]
    assert sum(map(len, pieces)) > 990_000
    assert max(map(len, pieces)) <= LONGEST
    assert len(lines.flush()[0]) < LONGEST


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        (b"text", "text"),
        (b"text\r", "text"),
        (b"10 %\r20 %\r30 %", "30 %"),
        (b"a\tb", "a\tb"),
        ("größe €".encode(), "größe €"),
        (b"\xff\xfe\x00", "\\xff\\xfe\\x00"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        (b"\x1b[2J\x1b[H", "\\x1b[2J\\x1b[H"),
        ("\u202eevil".encode(), "\\u202eevil"),
        (b"", ""),
    ],
)
def test_K10_what_would_steer_a_terminal_is_shown_as_an_escape(line: bytes, plain: str) -> None:
    assert shown(line, styled=False) == plain


def test_colours_of_programs_are_kept_on_a_terminal_and_end_with_their_line() -> None:
    assert shown(b"\x1b[1;31mred\x1b[2J", styled=True) == "\x1b[1;31mred\\x1b[2J\x1b[0m"
    assert shown(b"plain", styled=True) == "plain"


@given(st.binary(), st.booleans())
def test_K10_any_bytes_are_harmless(line: bytes, styled: bool) -> None:
    text = re.sub(r"\x1b\[[0-9;:]*m", "", shown(line, styled))
    assert text.replace("\t", "").isprintable()


def test_names_stand_in_a_column_each_in_its_colour() -> None:
    prefix = Prefix(styled=False)
    assert prefix.line("12:00:00", "a.1", 1, "text") == "12:00:00 a.1    | text\n"
    assert prefix.line("12:00:00", "longer.10", 10, "x") == "12:00:00 longer.10 | x\n"
    assert prefix.line("12:00:00", "harbor", 0, "x") == "12:00:00 harbor    | x\n"
    styled = Prefix(styled=True)
    fronts = {styled.line("", "a", number, "").partition("m")[0] for number in range(11)}
    assert len(fronts) == 11


def test_lines_of_several_instances_do_not_mix() -> None:
    reading, writing = os.pipe()
    screen = Screen(writing, styled=False)
    screen.write("a.1", 1, b"be")
    screen.write("a.2", 2, b"other\n")
    screen.write("a.1", 1, b"gun\nrest")
    screen.write("a.1", 1, b"")
    os.close(writing)
    with os.fdopen(reading) as printed:
        lines = [line.partition(" ")[2] for line in printed.read().splitlines()]
    assert lines == ["a.2    | other", "a.1    | begun", "a.1    | rest"]


def test_a_file_is_put_aside_when_it_is_large_and_few_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "LARGEST_FILE", 1000)
    files = Files(tmp_path / "logs" / "deep")
    for number in range(100):
        files.write("site.1", 1, f"{number:099d}\n".encode())
    files.write("site.2", 2, b"\x00\xff raw\n")
    found = sorted(path.name for path in (tmp_path / "logs" / "deep").iterdir())
    assert found == ["site.1.log", "site.1.log.1", "site.1.log.2", "site.1.log.3", "site.2.log"]
    texts = [(tmp_path / "logs" / "deep" / name).read_text() for name in reversed(found[:4])]
    assert [int(line) for line in "".join(texts).splitlines()] == list(range(60, 100))
    assert (tmp_path / "logs" / "deep" / "site.2.log").read_bytes() == b"\x00\xff raw\n"


def test_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HarborError, match=r"--log-dir .*file/x cannot be made: Not a directory"):
        Files(tmp_path / "file" / "x")
    with pytest.raises(HarborError, match=r"--log-dir .*file cannot be made: File exists"):
        Files(tmp_path / "file")


def test_J09_a_reader_that_stalls_costs_bounded_memory_and_is_told_what_it_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outlet, "PATIENCE", 0.0)
    go_on, written = threading.Event(), bytearray()

    def write(name: str, number: int, data: bytes) -> None:
        go_on.wait()
        written.extend(data)

    queue = Outlet(write)
    rooms = [queue.put("a.1", 1, b"x" * 100_000) for _ in range(50)]
    assert rooms[0]
    assert not all(rooms)
    go_on.set()
    eventually(lambda: len(written) >= outlet.ROOM)
    queue.put("a.1", 1, b"end")
    queue.close()
    assert len(written) < outlet.ROOM + 200_000
    assert re.search(rb"xxx[0-9]+ bytes of output were dropped here: nobody took them\n", bytes(written))
    assert written.endswith(b"end")


def test_I07_a_reader_that_left_and_a_disk_that_is_full_end_nothing(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    out = Output(writing, False, None)
    assert all(out.put("a.1", 1, b"x" * 10_000) for _ in range(1000) if not time.sleep(0))
    out.close()
    os.close(writing)
    if not os.path.exists("/dev/full"):
        return
    reading, writing = os.pipe()
    (tmp_path / "site.1.log").symlink_to("/dev/full")
    out = Output(writing, False, tmp_path)
    out.put("site.1", 1, b"text\n")
    said = eventually(lambda: os.read(reading, 1 << 16)).decode()
    said += "" if "not written" in said else os.read(reading, 1 << 16).decode()
    assert "the log files are not written: No space left on device" in said
    assert out.put("site.1", 1, b"text\n")
    out.close()
    os.close(reading)
    os.close(writing)


def test_I07_log_files_go_on_once_they_can_be_written_again(tmp_path: Path) -> None:
    told: list[str | None] = []
    files = Files(tmp_path / "logs", lambda error: told.append(None if error is None else error.strerror))
    (tmp_path / "logs").rmdir()
    for _ in range(3):
        files.write("site.1", 1, b"lost\n")
    assert told == ["No such file or directory"]
    (tmp_path / "logs").mkdir()
    for _ in range(2):
        files.write("site.1", 1, b"kept\n")
    assert told == ["No such file or directory", None]
    assert (tmp_path / "logs" / "site.1.log").read_text() == "kept\n" * 2
