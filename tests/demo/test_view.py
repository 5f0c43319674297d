"""The screen of the demo: it fits, and nothing that a client chose gets out of its place."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from rich.console import Console

from harbor.demo.guide import Try
from harbor.demo.view import Moment, Screen, amount, plain_event, plain_try
from harbor.model import (
    Address,
    BackendView,
    Event,
    Exposure,
    Policy,
    Protocol,
    Service,
    ServiceCounters,
    ServiceView,
    SessionView,
    State,
    Status,
)

HOSTILE = "[red]\x1b[2J\x07name\r\n"
TRIES = [Try(f"harbor register udp-echo 127.0.0.1:5555{n} --id udp-echo-1", "back, at the end") for n in range(8)]


def service(name: str, backends: Sequence[str], status: Status = Status.READY) -> ServiceView:
    return ServiceView(
        service=Service(f"id-{name}", name, Protocol.BOTH, 31234, 4100, Exposure.PRIVATE),
        status=status,
        reason=None,
        listen="127.0.0.1",
        policy=Policy(),
        backends=tuple(BackendView(name, "127.0.0.1", 45678, State.UP, 0.0, 3) for name in backends),
        counters=ServiceCounters(opened=12, active=3, bytes_in=1234, bytes_out=5_678_900),
    )


def session(
    number: int, service: str, host: str = "fd00:1234:5678:9abc:def0:1234:5678:9abc"
) -> tuple[SessionView, str]:
    client = Address(host, number)
    view = SessionView(
        str(number), service, Protocol.TCP, client, "hello-1", Address("127.0.0.1", 1), "open", 0.0, 7.4, 10, 2_000
    )
    return view, service


def event(number: int, message: str) -> Event:
    return Event(number, 0.0, "backend.registered", "demo", message)


def printed(moment: Moment, width: int, height: int) -> list[str]:
    """The lines of the screen, with the control codes that a terminal would get taken out by having no terminal."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=False, color_system=None)
    console.print(Screen("Harbor demo", TRIES, moment))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().removesuffix("\n").split("\n")


def busy(name: str = "hello") -> Moment:
    return Moment(
        [service(f"{name}{n}", [f"{name}-{n}-{m}" for m in range(3)]) for n in range(5)],
        [session(number, name) for number in range(50)],
        [
            event(number, f"{name}: backend {number} of a message that goes on for a while {name}")
            for number in range(50)
        ],
    )


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (60, 24), (200, 60), (80, 30)])
@pytest.mark.parametrize("name", ["hello", "a-service-with-a-name-of-63-characters-which-is-the-longest-ever", HOSTILE])
def test_it_fits_the_terminal_whatever_there_is_to_show(size: tuple[int, int], name: str) -> None:
    lines = printed(busy(name), *size)
    assert len(lines) <= size[1]
    assert max(map(cell_len, lines)) <= size[0]
    assert any("50 live sessions" in line for line in lines)
    assert any("backend.registered" in line for line in lines)


def test_K10_names_cannot_drive_the_terminal_or_pass_for_markup() -> None:
    lines = printed(busy(HOSTILE), 200, 60)
    assert all(line.isprintable() for line in lines)
    assert any(r"[red]\x1b[2J\x07name\r\n" in line for line in lines)
    assert plain_event(event(1, HOSTILE)).endswith(r"[red]\x1b[2J\x07name\r\n")


def test_everything_can_be_read_on_80_by_24() -> None:
    moment = Moment(
        [
            service("hello", ["hello-1", "hello-2", "hello-3"]),
            service("udp-echo", ["udp-echo-1", "udp-echo-2"]),
            service("both-dns", ["dns-1", "dns-2"], Status.DEGRADED),
        ],
        [session(54321, "hello", "127.0.0.1")],
        [event(1, "hello: backend hello-1 at 127.0.0.1 port 45678")],
    )
    lines = printed(moment, 80, 24)
    assert [line for line in lines if "…" in line] == []
    table = [line.split() for line in lines if "31234" in line]
    assert table == [
        ["hello", "both", "31234", "3", "of", "12", "1.2k", "5.7M", "hello-1", "up", "3"],
        ["udp-echo", "both", "31234", "3", "of", "12", "1.2k", "5.7M", "udp-echo-1", "up", "3"],
        ["both-dns", "both", "31234", "degraded", "1.2k", "5.7M", "dns-1", "up", "3"],
    ]


def test_a_service_without_backends_says_so() -> None:
    assert any("none" in line for line in printed(Moment([service("hello", [])], [], []), 80, 24))


def test_a_line_to_paste_fills_80_characters_at_most() -> None:
    assert [len(plain_try(line)) for line in TRIES] == [79] * len(TRIES)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1_000, "1.0k"), (99_499, "99.5k"), (99_500, "100k"), (999_499, "999k"),
     (999_500, "1.0M"), (5_678_900, "5.7M"), (1 << 40, "1.1T"), (10**15, "1P")],
)  # fmt: skip
def test_amounts_are_short(count: int, text: str) -> None:
    assert amount(count) == text
