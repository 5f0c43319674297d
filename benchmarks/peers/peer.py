"""What a peer is: a proxy that can be found, told to forward ports, watched, and told to forward others."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from benchmarks import machine
from benchmarks.process import ROOT, STOP, Failed, Program

Protocol = Literal["tcp", "udp"]
Front = Literal["plain", "tls", "https"]  # what clients speak: bytes pass as they are; from within TLS; as HTTP in TLS

WHEELS: Final = ROOT.parent / ".venv-bench"  # the peers that come from PyPI; see setup.py
HELLO: Final = b"harbor-bench"  # not HTTP: Traefik answers that itself while it has no route yet
ASKING: Final = b"GET / HTTP/1.1\r\nHost: bench.example\r\n\r\n"  # within TLS: an echo sends it back, HTTP answers it
FIRST_PATIENCE: Final = 0.005  # seconds; some peers accept before they have a route, and then never answer that client


@dataclass(frozen=True, slots=True)
class Forward:
    """One port of a proxy, and the backend behind it, which may be there at several addresses of 127.0.0.0/8.

    A client has some 28,000 ports to one address, and a connection that it ends keeps one for a minute. With more
    addresses what is measured is the proxy and not the kernel's search for a free port.
    """

    protocol: Protocol
    port: int
    backend: tuple[str, int]
    addresses: int = 1
    front: Front = "plain"

    @property
    def name(self) -> str:
        """A name that every peer's configuration takes."""
        return f"{self.protocol}{self.port}"

    @property
    def backends(self) -> list[tuple[str, int]]:
        """The backend at each of its addresses, to be used in turn."""
        host, port = self.backend
        first = ipaddress.ip_address(host)
        return [(str(first + number), port) for number in range(self.addresses)]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a proxy runs. ``spare`` ports are those it will be asked to open later."""

    scratch: Path
    cpu: int
    host: str = "127.0.0.1"
    namespace: str | None = None
    spare: tuple[Forward, ...] = ()

    @property
    def certificate(self) -> Path:
        """Key and certificate for the ports that end TLS."""
        return self.scratch / "certificate.pem"


class Missing(Exception):
    """The peer is not on this machine; the message says what would change that."""


class Proxy(ABC):
    """A running peer.

    Closing: ``stop()``.
    """

    def __init__(self, place: Place, forwards: Sequence[Forward]) -> None:
        self.place = place
        self.forwards = {forward.port: forward for forward in forwards}
        self.program: Program

    @abstractmethod
    def open(self, forward: Forward) -> None:
        """Ask for another port, the way this peer's users do; whether it is open yet is for the caller to find out."""

    @abstractmethod
    def close(self, forward: Forward) -> None:
        """Give a port back."""

    def is_listening(self) -> bool:
        """Whether every port is open."""
        tcp = [forward.port for forward in self.forwards.values() if forward.protocol == "tcp"]
        udp = [forward.port for forward in self.forwards.values() if forward.protocol == "udp"]
        return machine.listens(self.program.pid, tcp, udp)

    def stop(self, patience: float = STOP) -> None:
        """End it; by force after so many seconds."""
        self.program.stop(patience)


class Peer(ABC):
    """A proxy that takes part. Baselines are shown, but nobody is measured against them."""

    name: ClassVar[str]
    title: ClassVar[str]
    protocols: ClassVar[frozenset[Protocol]] = frozenset({"tcp"})
    fronts: ClassVar[frozenset[Front]] = frozenset({"plain"})
    is_baseline: ClassVar[bool] = False
    opens_ports: ClassVar[bool] = True  # while it runs

    @abstractmethod
    def version(self) -> str:
        """Its version. Errors: ``Missing``."""

    @abstractmethod
    def start(self, place: Place, forwards: Sequence[Forward]) -> Proxy:
        """Start it, with these ports. Errors: ``Failed``."""

    def fill(self, place: Place, forwards: Sequence[Forward]) -> None:  # noqa: B027 (most keep no state)
        """Leave in the scratch directory what a start with these ports finds there. Errors: ``Failed``."""


class Configured(Proxy):
    """A proxy that reads files, and reads them again when told to."""

    def __init__(self, peer: ConfiguredPeer, place: Place, forwards: Sequence[Forward]) -> None:
        super().__init__(place, forwards)
        self.peer = peer
        self._write()
        self.program = Program(peer.command(place), place.cpu, log=place.scratch / "log", namespace=place.namespace)

    def open(self, forward: Forward) -> None:
        self.forwards[forward.port] = forward
        self._apply()

    def close(self, forward: Forward) -> None:
        del self.forwards[forward.port]
        self._apply()

    def _apply(self) -> None:
        self._write()
        self.peer.reload(self)

    def _write(self) -> None:
        """Put every file in place by renaming it, as those that watch their files expect."""
        for name, text in self.peer.files(self.place, list(self.forwards.values())).items():
            draft = self.place.scratch / f".{name}.new"
            draft.write_text(text)
            os.replace(draft, self.place.scratch / name)


class ConfiguredPeer(Peer):
    """A peer that is told everything by files."""

    @abstractmethod
    def command(self, place: Place) -> list[str | Path]:
        """How it is started."""

    @abstractmethod
    def files(self, place: Place, forwards: Sequence[Forward]) -> Mapping[str, str]:
        """Its configuration: text by name of the file."""

    def reload(self, proxy: Configured) -> None:
        """Tell it that the files have changed; a peer that watches them need not be told."""

    def start(self, place: Place, forwards: Sequence[Forward]) -> Proxy:
        return Configured(self, place, forwards)


def program_named(name: str, install: str) -> Path:
    """The path of a program; sbin counts, where Debian puts proxies. Errors: ``Missing``."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise Missing(f"{name} is not installed; {install}")
    return Path(found)


def version_said_by(command: Sequence[str | Path], pattern: str) -> str:
    """What a program says its version is. Errors: ``Missing`` if it cannot be run."""
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=20)
    except OSError as error:
        raise Missing(f"{command[0]} cannot be run: {error.strerror}") from error
    found = re.search(pattern, done.stdout + done.stderr)
    if found is None:
        raise Missing(f"{Path(command[0]).name} does not tell its version: exit {done.returncode}")
    return found[1]


def reach(forward: Forward, host: str = "127.0.0.1", within: float = 20.0) -> float:
    """Seconds until a first byte came back through a port whose backend echoes. Errors: ``Failed``."""
    begun = time.monotonic()
    patience = FIRST_PATIENCE if forward.front == "plain" else 1.0  # a handshake takes its time
    while not _try((host, forward.port), forward, patience):
        if time.monotonic() > begun + within:
            raise Failed(f"no byte came through {forward.name} within {within:g} s")
        time.sleep(0.0005)
        patience = min(1.0, 1.5 * patience)
    return time.monotonic() - begun


def _try(address: tuple[str, int], forward: Forward, patience: float) -> bool:
    if forward.protocol == "udp":
        return _try_udp(address, patience)
    try:
        with socket.create_connection(address, patience) as sock:
            if forward.front != "plain":
                with _anybody().wrap_socket(sock) as secured:
                    return _answers(secured, ASKING)
            return _answers(sock, HELLO)
    except OSError:
        return False


def _answers(sock: socket.socket, hello: bytes) -> bool:
    sock.sendall(hello)
    return bool(sock.recv(1))


def _anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _try_udp(address: tuple[str, int], patience: float) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(patience)
        try:
            sock.connect(address)
            sock.send(HELLO)
            return sock.recv(64) == HELLO
        except OSError:
            return False
