"""Many sessions with random faults against a node in a process of its own; afterwards nothing may be left of them.

    python -m benchmarks.soak SESSIONS [SEED]

TCP, TLS and UDP; ends in order, half-closes and resets from either side; backends that refuse, that are drained and
that come and go; sessions killed and policies changed through the API. Descriptors, sessions, tasks and timers must
come back to what they were, and memory must stop growing: it is read after each tenth.

The node is the daemon as it is, and a thread that counts what is on its loop when it is asked on standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import resource
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.unix_http import UnixConnection
from harbor.config import load
from harbor.daemon import serve

AT_ONCE: Final = 100  # sessions at a time
TENTHS: Final = 10
SLACK: Final = 1 << 20  # bytes that memory may have grown by whatever the number of sessions
PER_SESSION: Final = 8  # bytes of growth per session; a leak of one small object would be more
LOOKS: Final = 16  # at a node before all
SETTLE: Final = 30.0  # seconds for what is left to end
PATIENCE: Final = 20.0  # seconds until a client has to see its end
RESET: Final = struct.pack("ii", 1, 0)
KINDS: Final = ("tcp", "tcp", "tcp", "udp", "tls")


@dataclass
class State:
    """The node at rest."""

    descriptors: int
    memory: int
    sessions: int
    used: int
    threads: int
    tasks: int
    timers: int

    @property
    def counts(self) -> dict[str, int]:
        """What has to come back to what it was."""
        return {name: value for name, value in vars(self).items() if name != "memory"}


@dataclass
class Soak:
    """A run. ``seen`` counts how sessions went for their clients."""

    sessions: int
    seed: int
    seen: Counter[str] = field(default_factory=Counter)
    memory: list[int] = field(default_factory=list)


class Node:
    """The node's process and its API. Closing: ``close()`` ends it and returns its exit code."""

    def __init__(self, directory: Path) -> None:
        start = 22_000 + os.getpid() % 300 * 10
        self._directory = directory
        config = directory / "harbor.yml"
        config.write_text(
            f"state_dir: {directory / 'state'}\n"
            'api: {listen: "127.0.0.1:0"}\n'
            f'ports: {{ranges: ["{start}-{start + 9}"]}}\n'
            "backends: {allow: [127.0.0.0/8]}\n"
            "defaults: {udp_timeout: 1, connect_timeout: 2, drain_timeout: 1}\n"
            "log: {level: warning}\n"
        )
        with (directory / "log").open("w") as log:
            command = [sys.executable, "-m", "benchmarks.soak", "--node", str(config)]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True)
        self.pid = self._process.pid

    @property
    def log(self) -> str:
        return (self._directory / "log").read_text()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Ask the API; what it refuses is told by an exception, unless a backend had gone by then."""
        connection = UnixConnection(self._directory / "state" / "harbor.sock", PATIENCE)
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, {"Content-Type": "application/json"} if sent else {})
            reply = connection.getresponse()
            text = reply.read()
            if reply.status >= 400 and b"backend_not_found" not in text:
                raise RuntimeError(f"{method} {path}: {reply.status} {text.decode()}")
            return json.loads(text) if text else None
        finally:
            connection.close()

    async def change(self, method: str, path: str, body: Any = None) -> Any:
        """The same without holding up the clients."""
        return await asyncio.to_thread(self.ask, method, path, body)

    def await_ready(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.ask("GET", "/healthz")
                return
            except OSError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise
                time.sleep(0.05)

    def state(self) -> State:
        node = self.ask("GET", "/v1/node")
        status = Path(f"/proc/{self.pid}/status").read_text()
        figures = dict(line.split(":", 1) for line in status.splitlines())
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        tasks, timers = map(int, self._process.stdout.readline().split())
        return State(
            descriptors=len(os.listdir(f"/proc/{self.pid}/fd")),
            memory=int(figures["VmRSS"].split()[0]) * 1024,
            sessions=node["sessions"],
            used=node["limits"]["used"],
            threads=int(figures["Threads"]),
            tasks=tasks,
            timers=timers,
        )

    def close(self) -> int:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._process.communicate(timeout=PATIENCE)
        return self._process.returncode


class Backend:
    """Echoes, ends, resets or stays silent: what a byte of its client's first message asks for."""

    def __init__(self) -> None:
        self.server: asyncio.Server | None = None
        self.port = 0
        self._datagrams: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Serve where it was before, or elsewhere if a client has that port as its own by now."""
        loop = asyncio.get_running_loop()
        while self._datagrams is None:
            try:
                self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
                self.port = self.server.sockets[0].getsockname()[1]
                self._datagrams, _ = await loop.create_datagram_endpoint(Echo, ("127.0.0.1", self.port))
            except OSError:
                await self.stop()
                self.port = 0

    async def stop(self) -> None:
        """Refuse from now on."""
        if self.server is not None:
            self.server.close()
            self.server = None
        if self._datagrams is not None:
            self._datagrams.close()
            self._datagrams = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(PATIENCE):
                asked = await reader.read(1 << 16)
                writer.write(asked)
                match asked[:1]:
                    case b"R":
                        reset(writer)
                    case b"E":
                        writer.write_eof()
                        await reader.read()
                    case _:
                        while data := await reader.read(1 << 16):
                            writer.write(data)
                            await writer.drain()
        writer.close()


class Echo(asyncio.DatagramProtocol):
    """Answers every datagram."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._transport.sendto(data, addr)  # type: ignore[attr-defined]


def reset(writer: asyncio.StreamWriter) -> None:
    """End it by a reset."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


async def stream(run: Soak, port: int, context: ssl.SSLContext | None, dice: random.Random) -> None:
    """One TCP or TLS session, ended in one of the ways that there are."""
    way = dice.choice(("close", "half", "reset", "R", "E", "silent", "bulk"))
    data = (way if len(way) == 1 else "x").encode() + dice.randbytes(30_000 if way == "bulk" else dice.randrange(200))
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            try:
                if way != "silent":
                    writer.write(data)
                if way == "half" and context is None:
                    writer.write_eof()
                if way in ("half", "bulk", "close") and (way != "half" or context is None):
                    await reader.readexactly(len(data))
                if way in ("R", "E"):
                    await reader.read()
            finally:
                if way == "reset":
                    reset(writer)
                else:
                    writer.close()
    except TimeoutError:
        run.seen["late"] += 1
    except (OSError, asyncio.IncompleteReadError) as error:
        run.seen[f"{type(error).__name__}"] += 1
    else:
        run.seen[way] += 1


def datagram(run: Soak, port: int, dice: random.Random) -> None:
    """A new UDP flow with up to three datagrams, whatever becomes of them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        for _ in range(dice.randrange(1, 4)):
            with contextlib.suppress(OSError):
                sock.sendto(dice.randbytes(dice.randrange(100)), ("127.0.0.1", port))
    run.seen["flow"] += 1


async def trouble(node: Node, backends: list[Backend], dice: random.Random) -> None:
    """Until it is cancelled: drains, kills, patches, and backends that refuse for a moment."""
    while True:
        name, which = dice.choice(("web", "https")), dice.randrange(len(backends))
        match dice.randrange(5):
            case 0:
                await node.change("POST", f"/v1/services/{name}/backends/b{which}/drain")
            case 1:
                await node.change("DELETE", "/v1/sessions?service=" + name)
            case 2:
                policy = {"balance": dice.choice(("round_robin", "least_sessions", "source_hash")), "max_sessions": 500}
                await node.change("PATCH", f"/v1/services/{name}", policy)
            case 3:
                await backends[which].stop()
                await asyncio.sleep(dice.random() / 4)
                await backends[which].start()
            case 4:
                await node.change("DELETE", f"/v1/services/{name}/backends/b{which}")
        await register(node, backends)
        await asyncio.sleep(0.02)


async def register(node: Node, backends: list[Backend]) -> None:
    for service in ("web", "https", "udp"):
        for number, backend in enumerate(backends):
            path = f"/v1/services/{service}/backends/b{number}"
            await node.change("PUT", path, {"host": "127.0.0.1", "port": backend.port})


async def clients(run: Soak, count: int, ports: dict[str, int], dice: random.Random) -> None:
    """So many sessions, some at a time."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    left = iter(range(count))

    async def one_after_another() -> None:
        for _ in left:
            kind = dice.choice(KINDS)
            if kind == "udp":
                datagram(run, ports["udp"], dice)
                await asyncio.sleep(0)
            elif kind == "tls" and dice.random() < 0.25:
                await stream(run, ports["https"], context, dice)
            else:
                await stream(run, ports["web"], None, dice)

    await asyncio.gather(*[one_after_another() for _ in range(AT_ONCE)])


async def at_rest(node: Node, before: State | None = None) -> State:
    """The node once nothing is left of its sessions: the least of several looks, or of as many as ``before`` takes.

    A look sees the connection over which the one before it was asked; what has leaked is seen by all of them.
    """
    end = time.monotonic() + SETTLE
    looks: list[State] = []
    while True:
        state = await asyncio.to_thread(node.state)
        looks.append(state)
        least = State(*(min(values) for values in zip(*map(astuple, looks), strict=True)))
        least.memory = state.memory
        if time.monotonic() > end:
            return least
        if state.sessions == 0 and state.used == 0:
            if before is None and len(looks) >= LOOKS:
                return least
            if before is not None and not grown(least, before):
                return least
        await asyncio.sleep(0.1)


def grown(now: State, before: State) -> list[str]:
    """What there is more of than before."""
    counts = zip(now.counts.items(), before.counts.values(), strict=True)
    return [f"{name}: {value} instead of {former}" for (name, value), former in counts if value > former]


async def soak(run: Soak, node: Node) -> list[str]:
    """Run it; returns what is wrong afterwards."""
    dice = random.Random(run.seed)
    async with served(node) as (ports, backends):
        # What is made once and kept (threads, connections to the store, pools of memory) is there after this.
        await with_trouble(run, node, backends, ports, min(run.sessions, 2000), dice)
        before = await at_rest(node)
        for _ in range(TENTHS):
            await with_trouble(run, node, backends, ports, run.sessions // TENTHS, dice)
            state = await at_rest(node, before)
            run.memory.append(state.memory)
            print(f"{sum(run.seen.values()):>9,} sessions  {state}", flush=True)
    wrong = grown(state, before)
    half = run.memory[TENTHS // 2 - 1]
    growth, allowed = run.memory[-1] - half, SLACK + PER_SESSION * run.sessions // 2
    if growth > allowed:
        wrong.append(f"memory: {growth} bytes more than at half time, {allowed} allowed")
    return wrong + ([f"{run.seen['late']} clients never saw an end"] if run.seen["late"] else [])


async def with_trouble(
    run: Soak, node: Node, backends: list[Backend], ports: dict[str, int], count: int, dice: random.Random
) -> None:
    troubles = asyncio.create_task(trouble(node, backends, dice))
    work = asyncio.create_task(clients(run, count, ports, dice))
    await asyncio.wait((troubles, work), return_when=asyncio.FIRST_COMPLETED)
    if troubles.done():
        work.cancel()
        await troubles  # tells what the API refused
    await work
    troubles.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await troubles


@contextlib.asynccontextmanager
async def served(node: Node) -> AsyncIterator[tuple[dict[str, int], list[Backend]]]:
    """The services, by port, and their backends."""
    ports = {name: node.ask("POST", "/v1/services", {"name": name})["port"] for name in ("web", "https", "udp")}
    backends = [Backend() for _ in range(3)]
    for backend in backends:
        await backend.start()
    await register(node, backends)
    try:
        yield ports, backends
    finally:
        for backend in backends:
            await backend.stop()


def be_node(config: Path) -> int:
    """The daemon, which tells on standard output how many tasks and timers it has whenever a line comes."""

    def count() -> None:
        for _ in sys.stdin:
            gc.collect()
            kinds = [type(one).__name__ for one in gc.get_objects() if not is_over(one)]
            print(kinds.count("Task"), kinds.count("TimerHandle"), flush=True)

    threading.Thread(target=count, daemon=True).start()
    return serve(load(config, {}))


def is_over(one: object) -> bool:
    """Whether it is a task that is done or a timer that was called off."""
    return (isinstance(one, asyncio.Task) and one.done()) or (type(one).__name__ == "TimerHandle" and one.cancelled())  # type: ignore[attr-defined]


def main() -> int:
    if sys.argv[1:2] == ["--node"]:
        return be_node(Path(sys.argv[2]))
    sessions = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    run = Soak(sessions, seed)
    print(f"{sessions:,} sessions, seed {seed}")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="harbor-") as directory:
        node = Node(Path(directory))
        try:
            node.await_ready()
            wrong = uvloop.run(soak(run, node))
        finally:
            code = node.close()
            log = node.log
    if code or "Traceback" in log or "dataplane.bug" in log:
        wrong.append(f"the node ended with {code}: {log[-3000:]}")
    print(f"{time.monotonic() - began:.0f} s, {dict(sorted(run.seen.items()))}")
    for each in wrong:
        print(f"WRONG: {each}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
