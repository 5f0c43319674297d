"""What the machine tells: cores, processor time, memory, who listens; and what it is, without its name."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Final

TICK: Final = os.sysconf("SC_CLK_TCK")
LISTEN: Final = "0A"  # TCP_LISTEN in /proc/net/tcp
UNCONNECTED: Final = "07"  # TCP_CLOSE, which says in /proc/net/udp that a socket has no peer


@dataclass(frozen=True, slots=True)
class Cores:
    """The proxy has one core for itself; load and backend share another."""

    proxy: int
    load: int

    @classmethod
    def choose(cls) -> Cores:
        """The last core for the proxy, the first for the load; with one core they are the same."""
        usable = sorted(os.sched_getaffinity(0))
        return cls(usable[-1], usable[0])


@dataclass(frozen=True, slots=True)
class Stat:
    """The parts of /proc/PID/stat that count here; ``children`` is the time of those that were waited for."""

    state: str
    session: int
    user: float
    system: float
    children: float


def parse_stat(text: str) -> Stat:
    """/proc/PID/stat (proc(5)); the name of the program may hold spaces and brackets."""
    fields = text.rpartition(")")[2].split()
    ticks = [int(field) / TICK for field in fields[11:15]]
    return Stat(fields[0], int(fields[3]), ticks[0], ticks[1], ticks[2] + ticks[3])


def parse_rollup(text: str) -> dict[str, int]:
    """/proc/PID/smaps_rollup: bytes by name."""
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}


def parse_listening(lines: Iterable[str]) -> set[int]:
    """/proc/net/tcp: the ports on which somebody listens.

    They come first; reading on through thousands of sockets in TIME_WAIT would take a second.
    """
    return {port for port, _ in takewhile(lambda row: row[1] == LISTEN, _sockets(lines))}


def parse_bound(lines: Iterable[str]) -> set[int]:
    """/proc/net/udp: the ports of sockets that take datagrams from everybody."""
    return {port for port, state in _sockets(lines) if state == UNCONNECTED}


def _sockets(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    rows = (line.split() for line in islice(lines, 1, None))
    return ((int(row[1].rpartition(":")[2], 16), row[3]) for row in rows)


def parse_busy(text: str) -> float:
    """/proc/stat: seconds that all cores together have worked; waiting and stolen time is not work."""
    user, nice, system, _idle, _wait, irq, softirq = (int(field) / TICK for field in text.split("\n")[0].split()[1:8])
    return user + nice + system + irq + softirq


def session_members(session: int) -> list[int]:
    """The processes of a session: a proxy with its workers, however they were born; not those that have ended."""
    members = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                stat = parse_stat(Path(entry.path, "stat").read_text())
                if stat.session == session and stat.state != "Z":
                    members.append(int(entry.name))
            except OSError:
                pass  # it has ended
    return members


def cpu_seconds(session: int) -> float:
    """Processor time of a session, to the nanosecond for the living, to the tick for workers that have ended."""
    total = 0.0
    for pid in session_members(session):
        try:
            total += time.clock_gettime(~pid << 3 | 2)  # the clock of another process: clock_getcpuclockid(3)
            total += parse_stat(Path(f"/proc/{pid}/stat").read_text()).children
        except OSError:
            pass
    return total


def memory(session: int) -> int:
    """Bytes of a session in RAM (PSS: what processes share counts once)."""
    total = 0
    for pid in session_members(session):
        try:
            total += parse_rollup(Path(f"/proc/{pid}/smaps_rollup").read_text()).get("Pss", 0)
        except OSError:
            pass
    return total


def busy_seconds() -> float:
    """Processor time of the whole machine."""
    return parse_busy(Path("/proc/stat").read_text())


def listens(pid: int, tcp: Iterable[int], udp: Iterable[int]) -> bool:
    """Whether all these ports are open where ``pid`` lives (its network namespace)."""
    for protocol, ports, parse in (("tcp", tcp, parse_listening), ("udp", udp, parse_bound)):
        wanted = set(ports)
        if wanted:
            with Path(f"/proc/{pid}/net/{protocol}").open() as lines:
                if not wanted <= parse(lines):
                    return False
    return True


def describe() -> dict[str, str | int]:
    """The machine as a reader of figures needs it; nothing that names it."""
    info = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*: (.+)$", info, re.MULTILINE)
    total = re.search(r"^MemTotal: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(int(total[1]) / (1 << 20)) if total else 0,
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }
