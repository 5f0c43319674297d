"""``harbor run`` as a process: puts everything together, and hears signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Final

import uvloop

from harbor.client import Client, Unreachable
from harbor.errors import HarborError
from harbor.runner.node import Node, local_address
from harbor.runner.output import Output, is_styled
from harbor.runner.plan import Surroundings
from harbor.runner.ports import Ports
from harbor.runner.process import Warden, adopt_orphans, sweep_orphans
from harbor.runner.supervisor import Supervisor
from harbor.runner.wish import Asked

ANSWER_TIMEOUT: Final = 10.0  # seconds; a renewal that takes longer is better asked again
# The exit code of who was ended by a signal, as shells report it. SIGTERM is how an end is ordered: that is 0.
ENDED_BY: Final = 128
MOST_TOLD: Final = 100  # refusals that are remembered, so that each is told once


def run(asked: Asked) -> int:
    """Run the app until it is to end; returns the exit code.

    Errors: ``HarborError`` if it cannot begin: nothing has been started then. ``CannotStart`` says so of the command.
    """
    output = Output(sys.stdout.fileno(), is_styled(sys.stdout.fileno(), os.environ), asked.log_dir)
    try:
        return uvloop.run(_run(asked, output))
    finally:
        output.close()


async def _run(asked: Asked, output: Output) -> int:
    host = asked.advertise
    if host is None:
        host = await asyncio.to_thread(local_address, asked.where)
    async with Client(asked.where, ANSWER_TIMEOUT) as client:
        node = Node(client)
        ports = Ports(await node.leased_ranges())
        adopt_orphans()
        warden = Warden()
        warden.start()
        try:
            around = Surroundings(
                node=node,
                host=host,
                ttl=asked.ttl,
                stop_timeout=asked.stop_timeout,
                health=asked.health,
                ports=ports,
                warden=warden,
                output=output,
                contact=Contact(output),
            )
            supervisor = Supervisor(asked, around)
            _hear(supervisor)
            return await supervisor.run()
        finally:
            warden.close()
            sweep_orphans()


class Contact:
    """Tells people when the node goes and when it is back, once each, whichever instance found out."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._is_lost = False
        self._told: set[str] = set()

    def __call__(self, error: HarborError | None) -> None:
        """How the last talk with the node went."""
        if error is None:
            if self._is_lost:
                self._is_lost = False
                self._output.say("the node is back")
        elif isinstance(error, Unreachable):
            if not self._is_lost:
                self._is_lost = True
                self._output.say(f"{error.message}; the instances go on, and register again", wrong=True)
        elif error.message not in self._told:
            # Each life may be refused with its own port in the message: what is remembered stays bounded.
            self._told = {error.message, *list(self._told)[: MOST_TOLD - 1]}
            self._output.say(f"the node refuses: {error.message}", wrong=True)


def _hear(supervisor: Supervisor) -> None:
    """Signals, as people expect them of a supervisor in a terminal and of a service."""
    terminal = _has_terminal()
    # Who began us with SIGHUP ignored (nohup) wants us to outlive the terminal; a new start is still a new start.
    stays = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    def hung_up() -> None:
        if terminal and not stays and not _has_terminal():
            supervisor.stop(ENDED_BY + signal.SIGHUP)
        else:
            supervisor.restart()

    what: Mapping[signal.Signals, Callable[[], object]] = {
        signal.SIGINT: lambda: supervisor.stop(ENDED_BY + signal.SIGINT),
        signal.SIGTERM: lambda: supervisor.stop(0),
        signal.SIGQUIT: lambda: supervisor.hurry(ENDED_BY + signal.SIGQUIT),
        signal.SIGHUP: hung_up,
        signal.SIGTSTP: supervisor.suspend,
        # These would end us, and with us the instances, over somebody's mistake.
        signal.SIGUSR1: lambda: None,
        signal.SIGUSR2: lambda: None,
    }
    loop = asyncio.get_running_loop()
    for number, act in what.items():
        # A shell without job control ignores SIGINT for what it starts with &: Ctrl-C is then for somebody else.
        if number is not signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, act)


def _has_terminal() -> bool:
    """Whether this process (still) has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
