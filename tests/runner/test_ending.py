"""How a run ends: in order, at once, by a terminal, or by kill -9; and that nothing is ever left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from runner.conftest import Start
from support.daemon import Daemon
from support.needs import needs
from support.runs import APP, HARBOR, Load, Run, asked, greeting, is_gone, port_of
from support.waiting import eventually


def printed_pid(running: Run, word: str) -> int:
    return int(re.findall(rf"{word} (\d+)", running.shows(f"{word} "))[0])


def test_one_that_ignores_sigterm_is_killed_when_its_time_is_up(daemon: Daemon, run: Start) -> None:
    running = run("--service", "web", "--stop-timeout", "2", "--", *APP, "--deaf").ready()
    pid = running.pid_of("site.1")
    assert running.stop() == 0
    assert is_gone(pid)
    assert "got SIGTERM" in running.printed
    assert "site.1 did not end within 2 s of SIGTERM: killed" in running.printed


def test_one_that_ends_in_its_time_is_let_to(daemon: Daemon, run: Start, folder: Path) -> None:
    done = folder / "done"
    running = run("--service", "web", "--stop-timeout", "120", "--", *APP, "--linger", str(done)).ready()
    running.signal(signal.SIGTERM)
    running.shows("got SIGTERM")
    assert running.process.poll() is None
    done.touch()
    assert running.ended() == 0
    assert "ends in order" in running.printed


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGQUIT])
def test_a_second_signal_ends_it_at_once(daemon: Daemon, run: Start, second: signal.Signals) -> None:
    """The first is still waiting for a session, and after that would wait for two minutes."""
    running = run("--service", "web", "--instances", "2", "--stop-timeout", "120", "--", *APP, "--deaf").ready(2)
    pids = running.children()
    with Load.session(port_of(daemon, "web")):
        running.signal(signal.SIGINT)
        running.shows("stopping: sessions may finish; a second time stops at once")
        running.signal(second)
        assert running.ended() == 130
    assert all(map(is_gone, pids))
    eventually(lambda: asked(daemon, "/v1/services/web/backends") == [])


def test_what_the_command_started_ends_with_it(daemon: Daemon, run: Start) -> None:
    """npm start, sh -c '...': the process that listens is a child of the one that was started."""
    running = run("--service", "web", "--", *APP, "--worker").ready()
    parent, pids = printed_pid(running, "parent"), running.children()
    assert parent in pids
    worker = int(daemon_greeting(daemon).split()[1])
    assert worker != parent
    os.kill(parent, signal.SIGKILL)
    eventually(lambda: is_gone(worker))
    running.ready(2)
    assert running.stop() == 0
    assert running.printed.count("ends in order") == 1  # the second worker had its SIGTERM


def daemon_greeting(daemon: Daemon) -> str:
    return "{} {}".format(*greeting(port_of(daemon, "web")))


def test_a_worker_may_end_in_order_after_its_parent(daemon: Daemon, run: Start, folder: Path) -> None:
    done = folder / "done"
    running = run("--service", "web", "--stop-timeout", "120", "--", *APP, "--worker", "--linger", str(done)).ready()
    parent = printed_pid(running, "parent")
    running.signal(signal.SIGTERM)
    running.shows("got SIGTERM")
    eventually(lambda: is_gone(parent))
    done.touch()
    assert running.ended() == 0
    assert "ends in order" in running.printed


@pytest.mark.parametrize("kind", ["", "--worker"])
def test_kill_9_of_the_supervisor_leaves_no_instance(daemon: Daemon, run: Start, kind: str) -> None:
    running = run("--service", "web", "--instances", "2", "--ttl", "1", "--", *APP, *filter(None, [kind])).ready(2)
    port = port_of(daemon, "web")
    with Load.session(port), Load.session(port):
        pids = [*running.children(), *(int(daemon_greeting(daemon).split()[1]) for _ in range(2))]
        helpers = processes_of(running.process.pid)
        running.process.kill()
        running.process.wait()
        for pid in {*pids, *helpers}:
            eventually(lambda pid=pid: is_gone(pid), what=f"{pid} is gone")
    eventually(lambda: asked(daemon, "/v1/services/web/backends") == [])


def test_kill_9_of_warden_and_supervisor_still_ends_what_was_started(daemon: Daemon, run: Start) -> None:
    running = run("--service", "web", "--", *APP).ready()
    instance = running.pid_of("site.1")
    (warden,) = set(processes_of(running.process.pid)) - {instance}
    os.kill(warden, signal.SIGKILL)
    running.process.kill()
    running.process.wait()
    eventually(lambda: is_gone(instance))


def test_a_warden_that_is_killed_is_replaced(daemon: Daemon, run: Start) -> None:
    running = run("--service", "web", "--", *APP, "--worker").ready()
    (warden,) = set(processes_of(running.process.pid)) - {printed_pid(running, "parent")}
    os.kill(warden, signal.SIGKILL)
    eventually(lambda: is_gone(warden))
    os.kill(printed_pid(running, "parent"), signal.SIGKILL)
    running.ready(2)
    worker = int(daemon_greeting(daemon).split()[1])
    running.process.kill()
    running.process.wait()
    eventually(lambda: is_gone(worker))


def test_one_that_left_its_session_is_found_too(daemon: Daemon, run: Start) -> None:
    running = run("--service", "web", "--", *APP, "--escape").ready()
    escaped = printed_pid(running, "escaped")
    os.kill(running.pid_of("site.1"), signal.SIGKILL)
    eventually(lambda: is_gone(escaped), what="the orphan of the first life is gone")
    running.ready(2)
    again = int(re.findall(r"escaped (\d+)", running.printed)[1])
    assert running.stop() == 0
    assert is_gone(again)


def processes_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_no_zombies_gather(daemon: Daemon, run: Start) -> None:
    """A grandchild that ends after its parent falls to the supervisor, which has to reap it."""
    program = "import os, time\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0: time.sleep(0.1)\n os._exit(0)\n"
    running = run("--service", "web", "--", APP[0], "-c", program + f"os.wait(); os.execv({APP[0]!r}, {APP!r})").ready()
    eventually(lambda: len(processes_of(running.process.pid)) == 2)  # the instance and the warden
    assert running.stop() == 0


def test_a_storm_of_other_signals_does_nothing(daemon: Daemon, run: Start) -> None:
    running = run("--service", "web", "--", *APP).ready()
    before = running.children()
    for _ in range(50):
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGWINCH, signal.SIGCONT):
            running.signal(number)
    assert daemon_greeting(daemon).startswith("site.1 ")
    assert running.children() == before
    assert running.stop() == 0


def test_many_hangups_are_one_more_restart_each_at_most(daemon: Daemon, run: Start) -> None:
    running = run("--service", "web", "--", *APP).ready()
    for _ in range(30):
        running.signal(signal.SIGHUP)
    running.shows("harbor | restarted\n")
    assert running.stop() == 0
    assert running.printed.count("is ready") <= 4


class Terminal:
    """A terminal whose foreground program is ``harbor run``.

    Closing: ``close()`` hangs up, and leaves nothing.
    """

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str], by: Sequence[str] = ()) -> None:
        """``by`` is a program that becomes ``harbor run``."""
        self._ours, its = os.openpty()
        self.process = subprocess.Popen(
            [needs("setsid"), "--ctty", *by, *HARBOR, "run", *words],
            stdin=its, stdout=its, stderr=its, cwd=folder, env=environment,
        )  # fmt: skip
        os.close(its)
        self.written = ""
        fcntl.fcntl(self._ours, fcntl.F_SETFL, os.O_NONBLOCK)

    def shows(self, text: str) -> None:
        def shown() -> bool:
            try:
                self.written += os.read(self._ours, 1 << 16).decode()
            except OSError:
                pass
            return text in self.written

        eventually(shown, 40, text)

    def press(self, key: bytes) -> None:
        os.write(self._ours, key)

    def hang_up(self) -> None:
        os.close(self._ours)
        self._ours = -1

    def close(self) -> None:
        if self._ours >= 0:
            self.hang_up()
        self.process.kill()
        self.process.wait()


@pytest.fixture
def terminal(daemon: Daemon, folder: Path) -> Iterator[Terminal]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "HARBOR_URL")}
    environment = kept | {"HARBOR_CONFIG": str(daemon.config), "TERM": "xterm"}
    with contextlib.closing(Terminal(["--service", "web", "--", *APP], folder, environment)) as found:
        yield found


def test_on_a_terminal_names_have_colours_and_ctrl_c_ends_it(terminal: Terminal) -> None:
    terminal.shows("is ready")
    assert re.search(r"\x1b\[36m\d\d:\d\d:\d\d site\.1 \|\x1b\[0m args\r\n", terminal.written)
    terminal.press(b"\x03")
    terminal.shows("stopped\r\n")
    assert terminal.process.wait(40) == 130


def test_a_terminal_that_is_closed_ends_it(terminal: Terminal) -> None:
    terminal.shows("is ready")
    children = processes_of(terminal.process.pid)
    terminal.hang_up()
    assert terminal.process.wait(40) == 129
    assert all(map(is_gone, children))


def test_ctrl_z_stops_everything_until_it_is_continued(terminal: Terminal, daemon: Daemon) -> None:
    """As a job of a shell: nothing of it runs meanwhile."""
    terminal.shows("is ready")
    pid = terminal.process.pid
    (instance,) = [
        child for child in processes_of(pid) if b"HARBOR_INSTANCE=" in Path(f"/proc/{child}/environ").read_bytes()
    ]
    os.kill(pid, signal.SIGTSTP)  # a session leader has no shell to stop it for
    eventually(lambda: [state(pid), state(instance)] == ["T", "T"])
    os.kill(pid, signal.SIGCONT)
    assert daemon_greeting(daemon).startswith("site.1 ")
    terminal.press(b"\x03")
    assert terminal.process.wait(40) == 130


def test_ctrl_s_does_not_stop_the_instances(daemon: Daemon, folder: Path) -> None:
    """A terminal that takes nothing holds up neither what is printed there nor a heartbeat."""
    environment = {**os.environ, "HARBOR_CONFIG": str(daemon.config), "TERM": "xterm"}
    program = f"import os\nif os.fork() == 0:\n while True: print('x' * 99)\nos.execv({APP[0]!r}, {APP!r})"
    terminal = Terminal(["--service", "web", "--ttl", "1", "--", APP[0], "-c", program], folder, environment)
    try:
        terminal.shows("is ready")
        terminal.press(b"\x13")
        for _ in range(3):  # renewals go on
            for sign in (lambda left: left < 0.8, lambda left: left > 0.8):
                eventually(lambda sign=sign: sign(asked(daemon, "/v1/services/web/backends")[0]["expires_in"]))
        assert not [event for event in asked(daemon, "/v1/events") if event["kind"] == "backend.deregistered"]
        os.kill(terminal.process.pid, signal.SIGTERM)
        assert terminal.process.wait(40) == 0
    finally:
        terminal.close()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_nohup_outlives_its_terminal(daemon: Daemon, folder: Path) -> None:
    environment = {**os.environ, "HARBOR_CONFIG": str(daemon.config), "TERM": "xterm"}
    shell = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh"]
    with contextlib.closing(Terminal(["--service", "web", "--", *APP], folder, environment, shell)) as terminal:
        terminal.shows("is ready")
        before = greeting(port_of(daemon, "web"))[1]
        terminal.hang_up()
        eventually(lambda: greeting(port_of(daemon, "web"))[1] != before)  # a hangup is a restart to who stays
        os.kill(terminal.process.pid, signal.SIGTERM)
        assert terminal.process.wait(40) == 0
