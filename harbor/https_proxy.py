"""HTTPS in front of an app in its container: the relay of a node, without the node.

Stackato's "HTTPS container proxy" with its rules: the certificate of the service goes before the app's ``harbor.crt``
and ``harbor.key``, all of them in a folder ``certs`` or ``cert`` of the app. A file that changes is examined and
shown from the next handshake on; one that is no good leaves what was shown before.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop

from harbor.certificates import Accepted, Keep, accept_files, listing
from harbor.dataplane.budget import Descriptors, raise_limit
from harbor.dataplane.plane import DataPlane
from harbor.errors import Invalid, Refused
from harbor.model import Address, Opening, Policy, Protocol, Route, TlsRules, TlsTerms
from harbor.policy.naming import check_name

FOLDERS: Final = ("certs", "cert")  # where an app has its certificates
STEM: Final = "harbor"  # of the files that serve every service
LOOK_EVERY: Final = 1.0  # seconds between looks at the folder
STOP_WITHIN: Final = 10.0  # seconds that sessions have left after SIGTERM
SAY_AGAIN: Final = 5.0  # seconds for which the app's refusals are told once

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Asked:
    """What to do: where to listen, where the app is, and whose certificates to show. ``http``: read HTTP along;
    ``trusted``: networks of proxies that are believed then.
    """

    listen: Address
    to: Address
    folder: Path
    service: str | None = None
    http: bool = True
    trusted: tuple[str, ...] = ()


def find_folder(app: Path) -> Path:
    """The folder with the certificates of an app. Errors: ``Refused`` (``certificate_unavailable``)."""
    for name in FOLDERS:
        if (app / name).is_dir():
            return app / name
    raise Refused(
        f"{app} has no folder certs or cert; put <service>.crt and <service>.key, or harbor.crt and harbor.key, "
        "into one, or name another with --certs",
        code="certificate_unavailable",
    )


def run(asked: Asked, say: Say) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends the sessions at once. SIGHUP looks at the folder at once.

    Errors: ``Refused``, ``Invalid`` if there is no certificate to begin with; ``PortTaken``.
    """
    if asked.service is not None:
        check_name(asked.service)
    raise_limit()
    with tempfile.TemporaryDirectory(prefix="harbor-") as scratch:
        uvloop.run(_Proxy(asked, Keep(Path(scratch)), say).serve())


class _Proxy:
    """One port before one app."""

    def __init__(self, asked: Asked, keep: Keep, say: Say) -> None:
        self._asked = asked
        self._keep = keep
        self._say = say
        self._seen: Mapping[str, object] = {}  # the marks of the files that count, as they were read last
        self._shown: tuple[str, ...] = ()  # digests
        self._told = 0.0

    async def serve(self) -> None:
        asked, loop = self._asked, asyncio.get_running_loop()
        policy = Policy(max_sessions=0).with_overrides({"trusted_proxies": asked.trusted})
        terms = self._terms()
        assert terms is not None
        self._plane = plane = DataPlane(loop, self, descriptors=Descriptors.of_process())
        opening = Opening("app", "app", Protocol.TCP, asked.listen.host, asked.listen.port, policy, terms, asked.http)
        try:
            plane.bind(opening)
            plane.set_backends("app", [Route("app", asked.to)])
            plane.open("app")
            self._say(f"https on {asked.listen} for {asked.to}")
            await self._until_stopped(loop)
        finally:
            plane.close()

    def backend_failed(self, service_id: str, backend_id: str, address: Address, detail: str) -> None:
        """The app does not answer; told now and then."""
        now = time.monotonic()
        if now - self._told > SAY_AGAIN:
            self._told = now
            self._say(detail)

    async def _until_stopped(self, loop: asyncio.AbstractEventLoop) -> None:
        stop, hurry, look = asyncio.Event(), asyncio.Event(), asyncio.Event()

        def on_stop() -> None:
            (hurry if stop.is_set() else stop).set()
            look.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_stop)
        loop.add_signal_handler(signal.SIGHUP, look.set)
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(look.wait(), LOOK_EVERY)
            look.clear()
            self._renew()
        self._plane.stop_listening()
        end = time.monotonic() + STOP_WITHIN
        while self._plane.connection_count() and time.monotonic() < end and not hurry.is_set():  # noqa: ASYNC110 - relays count, they do not call
            await asyncio.sleep(0.05)

    def _renew(self) -> None:
        try:
            terms = self._terms()
            if terms is not None:
                self._plane.set_tls("app", terms)
                self._say("another certificate is shown from now on")
        except (Invalid, Refused, OSError) as error:
            self._say(f"{error}; what was shown before stays")

    def _terms(self) -> TlsTerms | None:
        """What is to be shown, read anew if anything has changed; None if it is shown already."""
        asked = self._asked
        stems = [stem for stem in (asked.service, STEM) if stem is not None]
        there = listing(asked.folder) or {}
        marks = {name: there.get(name) for stem in stems for name in (f"{stem}.crt", f"{stem}.key")}
        if marks == self._seen:
            return None
        self._seen = marks  # whatever comes of it: a bad file is told once
        accepted = self._first(stems, there)
        if (accepted.digest,) == self._shown:
            return None
        self._shown = (accepted.digest,)
        return TlsTerms(TlsRules(alpn=("http/1.1",) if asked.http else ()), (accepted.identity,))

    def _first(self, stems: list[str], there: dict[str, tuple[int, int, int, int, int]]) -> Accepted:
        for stem in stems:
            accepted = accept_files(self._keep, self._asked.folder, stem, there, (), time.time())
            if accepted is not None:
                for finding in accepted.findings:
                    self._say(f"{stem}.crt: {finding.message}")
                return accepted
        wanted = " or ".join(f"{stem}.crt and {stem}.key" for stem in stems)
        raise Refused(f"there is no {wanted} in {self._asked.folder}", code="certificate_unavailable")
