"""What can be written on a command line for a policy, by kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from harbor.cli.policies import duration, policy_option, shown
from harbor.model.kinds import Flag, Kind, Networks, Number, Record, Seconds, Setting, Size, Text, Whole, setting


@dataclass(frozen=True)
class Line:
    size: int = setting(Whole(1, 100), "How many.")
    timeout: float = setting(Seconds(0, 600), "How long.", 5.0)
    word: str | None = setting(Text(20), "A word.", None)
    loud: bool = setting(Flag(), "Loud.", False)


LINE = Record(Line)


def read(kind: Kind, *args: str) -> Any:
    found = []

    @click.command()
    @policy_option("the_thing", Setting(kind, "What `it` is."))
    def command(the_thing: Any) -> None:
        found.append(the_thing)

    ran = CliRunner().invoke(command, args)
    return found[0] if ran.exit_code == 0 else ran.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("kind", "texts", "value"),
    [
        (Seconds(0, 9), ["90"], 90.0),
        (Seconds(0, 9), ["0.5"], 0.5),
        (Seconds(0, 9), ["30m"], 1800.0),
        (Seconds(0, 9), ["7d"], 604_800.0),
        (Number(0, 9), ["2.5"], 2.5),
        (Whole(0, 9), ["12"], 12),
        (Size(0, 9), ["64Ki"], 65_536),
        (Size(0, 9), ["10M"], 10_000_000),
        (Networks(9), ["10.0.0.0/8", "::1"], ["10.0.0.0/8", "::1"]),
        (LINE, ["100"], {"size": 100}),
        (LINE, ["100,timeout=1m"], {"size": 100, "timeout": 60.0}),
        (LINE, ["size=100", 'timeout=5,"word=a,b=c"', "loud=true"],
         {"size": 100, "timeout": 5.0, "word": "a,b=c", "loud": True}),
    ],
)  # fmt: skip
def test_values_are_written_as_people_do(kind: Kind, texts: list[str], value: Any) -> None:
    assert read(kind, *(part for text in texts for part in ("--the-thing", text))) == value


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        (Seconds(0, 9), "5min", "'5min' is no duration; write seconds, or one like 30s, 5m, 1h, 7d"),
        (Size(0, 9), "1T", "'1T' is no number of bytes; write one like 65536, 64Ki, 500k, 10M"),
        (Whole(0, 9), "x", "'x' is not a whole number"),
        (LINE, "100,time=5", "'time=5' is none of size=N,timeout=SECONDS,word=TEXT,loud=true|false"),
        (LINE, "sizes=100", "'sizes=100' is none of size=N,timeout=SECONDS,word=TEXT,loud=true|false"),
        (LINE, "100,5", "'5' is none of size=N,timeout=SECONDS,word=TEXT,loud=true|false"),
        (LINE, "100,loud=yes", "'yes' is neither true nor false"),
    ],
)
def test_what_cannot_be_read_is_told_with_what_would_work(kind: Kind, text: str, why: str) -> None:
    assert read(kind, "--the-thing", text).startswith(f"Error: Invalid value for '--the-thing': {why}")


def test_a_value_is_shown_on_one_line() -> None:
    assert [shown(value) for value in (5.0, 0.25, True, "x", [], ["a", "b"], {"size": 3, "timeout": 1.0})] == [
        "5", "0.25", "True", "x", "empty", "a, b", "size=3, timeout=1",
    ]  # fmt: skip


def test_a_long_duration_is_not_rounded() -> None:
    assert duration("31536000") == 31_536_000
