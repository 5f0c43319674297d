"""What the kernel's files say, and what is said about the machine."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys

from benchmarks import machine
from support.waiting import eventually

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:4E20 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   2: 0100007F:4E21 0100007F:DA61 06 00000000:00000000 03:00000CC6 00000000     0
"""
UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
  160: 0100007F:CBDC 0100007F:AF9A 01 00000000:00000000 00:00000000 00000000     0
  240: 0100007F:4E22 00000000:0000 07 00000000:00000000 00:00000000 00000000     0
"""


def test_the_name_of_a_program_may_hold_anything() -> None:
    tail = "S 1 70 71 0 -1 4194304 1 0 0 0 250 50 100 300 20 0 1 0 5 6 7"
    stat = machine.parse_stat(f"72 (a ) S 9 (b) {tail}")
    assert (stat.state, stat.session, stat.user, stat.system) == ("S", 71, 250 / machine.TICK, 50 / machine.TICK)
    assert stat.children == 400 / machine.TICK


def test_memory_is_read_in_bytes() -> None:
    text = "55d0-7ffc ---p 00000000 00:00 0    [rollup]\nRss:       2048 kB\nPss:        1024 kB\n"
    assert machine.parse_rollup(text) == {"Rss": 2 << 20, "Pss": 1 << 20}


def test_only_those_who_listen_are_listed() -> None:
    assert machine.parse_listening(TCP.splitlines()) == {20000, 22}
    assert machine.parse_bound(UDP.splitlines()) == {20002}


def test_waiting_and_stolen_time_is_not_work() -> None:
    assert machine.parse_busy("cpu  100 1 20 9000 800 3 4 70 0 0\ncpu0 1") == 128 / machine.TICK


def test_a_port_is_seen_as_soon_as_it_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        ports = [tcp.getsockname()[1]], [udp.getsockname()[1]]
        # The kernel's list is no snapshot: a socket may be passed over while others come and go.
        eventually(lambda: machine.listens(os.getpid(), *ports))
    assert not machine.listens(os.getpid(), *ports)


def test_a_session_counts_with_its_children() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, start_new_session=True) as process:
        eventually(lambda: len(machine.session_members(process.pid)) == 2, within=30)
        assert machine.cpu_seconds(process.pid) > 0
        assert machine.memory(process.pid) > 1 << 20
        process.communicate(b"\n")
    assert machine.session_members(process.pid) == []


def test_the_description_does_not_name_the_machine() -> None:
    said = machine.describe()
    assert set(said) == {"processor", "cores", "memory_gib", "kernel", "python"}
    assert platform.node() not in str(said)
