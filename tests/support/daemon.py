"""Harbor as a process of its own, and its API as a test calls it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.unix_http import UnixConnection
from support.needs import needs
from support.running_node import config_text
from support.waiting import eventually

PROGRAM: Final = Path(__file__).with_name("daemons.py")
PATIENCE: Final = 30.0


class Unreachable(Exception):
    """The daemon did not answer: it is not there (yet), or it died over the request."""


@dataclass(frozen=True)
class Answer:
    """What the API said."""

    status: int
    body: Any

    @property
    def code(self) -> str:
        """The code of a problem."""
        return str(self.body["code"])


class Api:
    """The API on the Unix socket, over one connection that is kept."""

    def __init__(self, path: Path) -> None:
        self._connection = UnixConnection(path, PATIENCE)

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Ask; raises ``Unreachable`` when no whole answer came."""
        sent = None if body is None else json.dumps(body).encode()
        head = {name.replace("_", "-"): value for name, value in headers.items()}
        if sent is not None:
            head["Content-Type"] = "application/json"
        try:
            self._connection.request(method, path, sent, head)
            reply = self._connection.getresponse()
            text = reply.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise Unreachable(str(error)) from error
        return Answer(reply.status, json.loads(text) if text else None)

    def create(self, name: str, key: str = "", **wish: Any) -> Answer:
        return self("POST", "/v1/services", {"name": name, **wish}, **({"Idempotency_Key": key} if key else {}))

    def put(self, name: str, backend_id: str, address: tuple[str, int], **more: Any) -> Answer:
        host, port = address
        return self("PUT", f"/v1/services/{name}/backends/{backend_id}", {"host": host, "port": port, **more})

    def services(self) -> dict[str, dict[str, Any]]:
        return {body["name"]: body for body in self("GET", "/v1/services?limit=1000").body}

    def close(self) -> None:
        self._connection.close()


class Daemons:
    """Starts daemons quickly: see ``daemons.py``. Closing: ``close()`` kills those that are left."""

    def __init__(self) -> None:
        self._program = subprocess.Popen(
            [sys.executable, str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, *words: object) -> str:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.write(" ".join(map(str, words)) + "\n")
        self._program.stdin.flush()
        return self._program.stdout.readline().strip()

    def close(self) -> None:
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        self._program.stdin.close()
        self._program.wait(PATIENCE)
        self._program.stdout.close()


class Daemon:
    """One daemon. ``log`` is what it wrote to standard error.

    Closing: ``close()`` kills it if it still runs.
    """

    def __init__(self, daemons: Daemons, directory: Path, text: str, max_descriptors: int | None = None) -> None:
        self._daemons = daemons
        self._exit: int | None = None
        self._log = directory / "log"
        self._log.unlink(missing_ok=True)
        self.state = directory / "state"
        self.config = directory / "harbor.yml"
        self.config.write_text(text)
        words = [] if max_descriptors is None else [max_descriptors]
        self.pid = int(daemons.ask("serve", self.config, self._log, *words))
        self.api = Api(self.state / "harbor.sock")

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def await_ready(self) -> Daemon:
        """Return once it answers."""

        def answers() -> bool:
            assert self.exit_code is None, f"it ended with {self.exit_code}: {self.log}"
            with contextlib.suppress(Unreachable):
                return self.api("GET", "/healthz").status == 200
            return False

        eventually(answers, PATIENCE, "the daemon answers")
        return self

    @property
    def exit_code(self) -> int | None:
        """How it ended, negative if by a signal; None while it runs."""
        if self._exit is None:
            answer = self._daemons.ask("poll", self.pid)
            self._exit = None if answer == "running" else int(answer)
        return self._exit

    def await_exit(self, within: float = PATIENCE) -> int:
        eventually(lambda: self.exit_code is not None, within, "the daemon ended")
        assert self._exit is not None
        return self._exit

    def signal(self, number: signal.Signals) -> None:
        assert self.exit_code is None
        os.kill(self.pid, number)

    def stop(self) -> None:
        """End it in order; it must have nothing to complain about."""
        self.signal(signal.SIGTERM)
        assert self.await_exit() == 0, self.log
        assert "Traceback" not in self.log, self.log

    def kill(self) -> None:
        """End it without a chance to say anything."""
        self.signal(signal.SIGKILL)
        assert self.await_exit() == -signal.SIGKILL

    def close(self) -> None:
        self.api.close()
        if self.exit_code is None:
            self.kill()

    @contextmanager
    def under_strace(self, inject: str) -> Iterator[None]:
        """From here on a fault is injected into its system calls, counted for each of its threads."""
        call = inject.partition(":")[0]
        command = [needs("strace"), "-f", "-qq", "-o", "/dev/null", "-p", str(self.pid)]
        with subprocess.Popen([*command, "-e", f"trace={call}", "-e", f"inject={inject}"]) as strace:
            try:
                eventually(lambda: _is_traced(self.pid), what="strace has attached")
                yield
            finally:
                strace.terminate()


def _is_traced(pid: int) -> bool:
    """Whether all threads of a process have a tracer."""
    statuses = [status.read_text() for status in Path(f"/proc/{pid}/task").glob("*/status")]
    return bool(statuses) and not any("TracerPid:\t0\n" in status for status in statuses)


Serve = Callable[..., Daemon]


def daemon_config(directory: Path, ports: range, extra: str = "", quarantine: float = 60.0) -> str:
    """The configuration of a daemon whose files are in ``directory``."""
    return config_text(directory / "state", ports, extra, quarantine)


def by_name(bodies: Mapping[str, dict[str, Any]], key: str) -> dict[str, Any]:
    """One member of every service."""
    return {name: body[key] for name, body in bodies.items()}
