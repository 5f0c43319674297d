"""Why no instance outlives the supervisor, however that ends. A program of its own on nothing but the standard library.

    guard.py leash PARENT PROGRAM WORD...   becomes PROGRAM with these words, and dies when PARENT does
    guard.py warden                         is told "+SESSION" and "-SESSION"; at the end of its input it kills the rest

Each instance is a session, made before this program begins. The leash is the kernel's (PR_SET_PDEATHSIG) and binds the
process that was started; the warden, in a session of its own that no terminal reaches, finds its descendants as well.
A process that makes a session of its own (``setsid``) leaves both; in an orderly end the supervisor, to which
orphans fall (PR_SET_CHILD_SUBREAPER), still finds it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
NOT_FOUND, NOT_EXECUTABLE = 127, 126  # the exit codes of shells
MOST_ROUNDS = 20  # of killing what forks faster than it is found


def main() -> None:
    match sys.argv[1:]:
        case ["leash", parent, program, *words]:
            leash(int(parent), program, words)
        case ["warden"]:
            warden()
        case _:
            sys.exit(2)


def leash(parent: int, program: str, words: list[str]) -> None:
    """Become the program. Returns never: what cannot be started is told on standard error, as shells do."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before it could be watched
        os._exit(1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        if signal.getsignal(number) is not None:
            signal.signal(number, signal.SIG_DFL)  # Python ignores some; an instance begins like any program
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execv(program, words)  # noqa: S606  # nosec B606
    except OSError as error:
        found = not isinstance(error, FileNotFoundError)
        advice = "; a script needs a first line like #!/bin/sh that names its interpreter" if found else ""
        print(f"harbor: cannot start {program}: {os.strerror(error.errno or 0)}{advice}", file=sys.stderr, flush=True)
        os._exit(NOT_EXECUTABLE if found else NOT_FOUND)


def warden() -> None:
    """Read until the supervisor has closed the pipe, by whatever end, and leave none of its instances."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    sessions: set[int] = set()
    for line in sys.stdin:
        change = sessions.add if line.startswith("+") else sessions.discard
        change(int(line[1:]))
    for session in sessions:
        kill_session(session)


def prctl(option: int, value: int) -> None:
    """Set an attribute of this process that only the C library can name."""
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def kill_session(session: int) -> None:
    """Kill every process of a session, also what it forks meanwhile."""
    for _ in range(MOST_ROUNDS):
        found = list(members(session))
        for pid in found:
            send(pid, signal.SIGKILL)
        if not found:
            return


def send(pid: int, number: int) -> None:
    """Signal a process, or a group by its negative number, that may be gone or have become somebody else's."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def members(session: int) -> Iterator[int]:
    """The processes of a session that still run; zombies do not."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            state, _, of = stat(int(name))
            if of == session and state not in "ZX":
                yield int(name)


def stat(pid: int) -> tuple[str, int, int]:
    """State, parent and session of a process; of one that is gone: X, 0, 0."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name of the program stands in parentheses and may contain anything.
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return "X", 0, 0
    return fields[0].decode(), int(fields[1]), int(fields[3])


if __name__ == "__main__":
    main()
