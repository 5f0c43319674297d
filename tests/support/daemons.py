"""A program that imports Harbor once and forks a daemon per request, because imports are most of what a start costs.

    serve CONFIG STDERR [MAX_DESCRIPTORS]   forks; prints the daemon's pid
    poll PID                                prints its exit code (negative: killed by that signal), or "running"

With the name of a configuration as its only argument it is the daemon itself, from the very beginning.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import traceback
from pathlib import Path
from typing import NoReturn

from harbor.config import load
from harbor.daemon import serve


def main() -> None:
    if len(sys.argv) > 1:
        sys.exit(serve(load(Path(sys.argv[1]), os.environ)))
    for line in sys.stdin:
        match line.split():
            case ["serve", config, stderr, *limit]:
                answer = fork(config, stderr, *limit)
            case ["poll", pid]:
                answer = poll(int(pid))
            case _:
                answer = "what?"
        print(answer, flush=True)


def fork(config: str, stderr: str, limit: str = "") -> str:
    pid = os.fork()
    return str(pid) if pid else become_daemon(config, stderr, limit)


def become_daemon(config: str, stderr: str, limit: str) -> NoReturn:
    code = 70
    try:
        os.umask(0)  # the daemon has to keep its files private by itself
        nothing, log = os.open("/dev/null", os.O_RDWR), os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for number, target in ((0, nothing), (1, nothing), (2, log)):
            os.dup2(target, number)
        if limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        code = serve(load(Path(config), {}))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def poll(pid: int) -> str:
    ended, status = os.waitpid(pid, os.WNOHANG)
    return str(os.waitstatus_to_exitcode(status)) if ended else "running"


if __name__ == "__main__":
    main()
