"""The demo as a person meets it: a process, its lines pasted into a shell, its end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harbor.model import Address
from support.needs import needs
from support.port_block import open_ports
from support.sockets import connected, receive_all
from support.waiting import eventually

EPHEMERAL = 32_768  # the lowest port that the kernel gives to who asks for any
DEADLINE = 30.0  # seconds; against hanging only
DEMO = [sys.executable, "-c", "import sys; from harbor.demo import run; sys.exit(run(duration=float(sys.argv[1])))"]
AT_LONGEST = "120"  # seconds after which a demo that a failing test left behind ends by itself
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
ALTERNATE_SCREEN, FORMER_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
CTRL_C = b"\x03"
ANSWER = re.compile(r"hello-\d|udp-echo-\d|dns-\d")


class Demo:
    """A demo in a process of its own. ``written`` is all its output so far, ``printed`` the same without colours.

    Closing: it reads ``output`` until that ends, or until ``hang_up()``, and closes it.
    """

    def __init__(self, process: subprocess.Popen[bytes], output: int) -> None:
        self.process = process
        self.written = ""
        self._output = output
        self._listens = True
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def printed(self) -> str:
        return CONTROL.sub("", self.written).replace("\r", "")

    @property
    def scratch(self) -> Path:
        return Path(self.line(". /").split()[1]).parent

    @property
    def ports(self) -> set[int]:
        """Of its API, its services and those samples that it tells of."""
        return {int(port) for port in re.findall(r"127\.0\.0\.1(?::| -p | )(\d+)", self.printed)}

    def shows(self, text: str) -> None:
        eventually(lambda: text in self.printed or not self._reader.is_alive(), DEADLINE, text)
        assert text in self.printed

    def line(self, beginning: str) -> str:
        """The one line to paste that begins like this, with its comment."""
        lines = [line.strip() for line in self.printed.splitlines()]
        (found,) = {line for line in lines if line.startswith(beginning)}
        return found

    def paste(self, *lines: str) -> list[str]:
        """The names of those who answer when a person pastes these lines into a shell."""
        done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == 0, done.stderr
        return ANSWER.findall(done.stdout)

    def press(self, key: bytes) -> None:
        os.write(self._output, key)

    def hang_up(self) -> None:
        """Read no more."""
        self._listens = False
        self._reader.join(DEADLINE)

    def ended(self) -> int:
        """Its exit code; everything it had is gone."""
        code = self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        leased = sorted(port for port in self.ports if port < EPHEMERAL)  # others may have an ephemeral one by now
        eventually(lambda: open_ports(leased) == {}, DEADLINE, "nobody listens any more")
        assert not self.scratch.exists()
        return code

    def _read(self) -> None:
        try:
            while self._listens and (data := os.read(self._output, 1 << 16)):
                self.written += data.decode()
        except OSError:
            pass  # EIO: how a terminal says that no program has it open any more
        finally:
            os.close(self._output)


@contextmanager
def demo() -> Iterator[Demo]:
    """A demo whose output is a pipe."""
    ours, its = os.pipe()
    with subprocess.Popen([*DEMO, AT_LONGEST], stdout=its, stderr=subprocess.PIPE) as process:
        os.close(its)
        running = Demo(process, ours)
        try:
            running.shows("What happens:")
            yield running
        finally:
            process.terminate()
            running.ended()
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.fixture
def on_terminal() -> Iterator[Demo]:
    """A demo on a terminal of 80 by 24."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    with subprocess.Popen(
        [needs("setsid"), "--ctty", *DEMO, AT_LONGEST],
        stdin=its, stdout=its, stderr=its, env={**environment, "TERM": "xterm"},
    ) as process:  # fmt: skip
        os.close(its)
        running = Demo(process, ours)
        try:
            running.shows("0 live sessions")
            yield running
        finally:
            process.terminate()
            running.ended()


def test_every_line_that_it_prints_shows_what_it_says() -> None:
    for program in ("curl", "nc", "dig"):
        needs(program)
    with demo() as running:
        curl, nc, dig = running.line("curl http"), running.line("echo hi"), running.line("dig")
        environment = running.line(". /")
        assert running.paste(*[curl] * 7) == ["hello-1", "hello-2", "hello-3"] * 2 + ["hello-1"]
        assert running.paste(nc) == ["udp-echo-1"]
        assert running.paste(dig, dig) == ["dns-1", "dns-1"]
        assert running.paste(*[dig.replace("+short", "+short +tcp")] * 3) == ["dns-1", "dns-2", "dns-1"]

        running.paste(environment, running.line("harbor deregister"))
        assert running.paste(nc) == ["udp-echo-2"]
        running.paste(environment, running.line("harbor register"))
        assert running.paste(nc) == ["udp-echo-2"]
        assert running.paste(environment, "harbor backends udp-echo --json") == ["udp-echo-2", "udp-echo-1"]
        running.paste(environment, running.line("harbor drain"))
        assert set(running.paste(*[curl] * 4)) == {"hello-1", "hello-3"}
        running.shows("udp-echo: udp-echo-2 takes the datagrams now, udp-echo-1 did before")
        running.shows("backend.drain")


def test_a_session_that_stays_is_seen_and_ended_with_the_demo() -> None:
    with demo() as running:
        port = int(re.findall(r":(\d+)/clock", running.printed)[0])
        with connected(Address("127.0.0.1", port)) as client:
            client.sendall(b"GET /clock HTTP/1.1\r\n\r\n")
            assert b"200 OK" in client.recv(1 << 16)
            running.process.send_signal(signal.SIGINT)
            with contextlib.suppress(ConnectionResetError):
                receive_all(client)
        assert running.ended() == 0
        assert running.printed.endswith(f"Its ports are closed, {running.scratch} is removed.\n")


def test_two_run_side_by_side() -> None:
    with demo() as first, demo() as second:
        assert first.scratch != second.scratch
        assert not first.ports & second.ports
        assert len(first.ports) == len(second.ports) == 5  # the API, three services, one sample
        assert (first.scratch / "env").stat().st_mode & 0o077 == 0


def test_without_a_terminal_there_are_no_control_codes() -> None:
    with demo() as running:
        running.process.send_signal(signal.SIGTERM)
        assert running.ended() == 0
        assert running.written.replace("\n", "").isprintable()


def test_it_ends_by_itself_when_its_time_is_up() -> None:
    done = subprocess.run([*DEMO, "0.1"], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert "Harbor demo ended." in done.stdout
    assert done.stderr == ""


def test_a_reader_that_leaves_ends_it_in_peace() -> None:
    """As in ``harbor demo | head -1``: nobody is told anything, nothing is left."""
    ours, its = os.pipe()
    os.close(ours)
    with (
        tempfile.TemporaryDirectory() as temporary,
        subprocess.Popen(
            [*DEMO, AT_LONGEST], stdout=its, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": temporary}
        ) as process,
    ):
        os.close(its)
        assert process.wait(DEADLINE) == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert os.listdir(temporary) == []


def test_a_deep_directory_for_temporary_files_is_no_obstacle(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    environment = {**os.environ, "TMPDIR": str(deep)}
    done = subprocess.run([*DEMO, "0.1"], capture_output=True, text=True, timeout=DEADLINE, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_on_a_terminal_it_is_a_screen_that_goes_with_ctrl_c(on_terminal: Demo) -> None:
    needs("curl")
    curl = on_terminal.line("curl http")
    assert on_terminal.paste(curl, curl, curl, curl) == ["hello-1", "hello-2", "hello-3", "hello-1"]
    on_terminal.shows("0 of 4")
    assert ALTERNATE_SCREEN in on_terminal.written
    on_terminal.press(CTRL_C)
    assert on_terminal.ended() == 0
    assert "Harbor demo ended." in on_terminal.written.partition(FORMER_SCREEN)[2]


def test_a_terminal_that_is_closed_ends_it(on_terminal: Demo) -> None:
    on_terminal.hang_up()
    assert on_terminal.ended() == 0
