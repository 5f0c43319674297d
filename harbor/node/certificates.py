"""Which certificate each service shows, and how a new one takes its place.

Of four sources the first that has a good certificate is the default: uploaded, ``<certs_dir>/<service>``,
``<certs_dir>/harbor``, self-signed; others, and those whose file names go on with ``+`` and a label, are shown to
clients that ask for a name in them. A new one is staged: read, examined, kept in a file of the node's own, tried. Only
then it is shown, from the next handshake on. One that fails leaves what was there before, also over a restart, and an
event says what is wrong.

Everything happens under one lock, which is taken after that of a service. What takes time runs in a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from typing import Final

import structlog

from harbor.certificates import (
    Accepted,
    Keep,
    Listing,
    accept,
    accept_files,
    accept_pair,
    again,
    check_clients,
    listing,
    make_self_signed,
)
from harbor.errors import HarborError, Invalid, NotFound, Refused
from harbor.model import Service, Tls
from harbor.model.certificate import DAY, Source
from harbor.node.backend_tls import check_to_backends
from harbor.node.certificate_news import News
from harbor.node.expiry import Expiry
from harbor.node.parts import NODE, Parts
from harbor.node.shelf import MORE, OWN, Place, Shelf, owner_of
from harbor.node.stems import LABEL, stems
from harbor.policy.naming import shown
from harbor.policy.settling import Settling
from harbor.store import RemoveCertificate, SaveCertificate

log = structlog.get_logger("harbor.node")

RENEWED: Final = 30 * DAY  # seconds before the end of a self-signed certificate at which a new one is made
EVERY: Final = 1_000_000  # events: all that the feed has
MOST_UPLOADED: Final = 32  # certificates of one service: each handshake may look through all of their names
LOOK_EVERY: Final = 1.0  # seconds between looks at certs_dir; a change counts at the second one

Outcome = Accepted | HarborError | None


class Certificates:
    """The certificates of a node."""

    def __init__(self, parts: Parts) -> None:
        node = parts.config.node
        self._parts = parts
        self._keep = Keep(parts.config.state_dir)
        told = (node.ext_hostname, node.hostname, node.ext_host, node.host)
        self._names = tuple(dict.fromkeys(filter(None, told)))  # by which apps and clients know the node
        self._own_names = tuple(dict.fromkeys((*self._names, "localhost")))
        self.shelf = Shelf(self._keep, parts.config.tls.rules())
        self._lock = asyncio.Lock()
        self._news = News(parts)
        self._settling = Settling()
        self._expiry = Expiry(parts)
        self._wake = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    # Life

    def restore(self, saved: Iterable[SaveCertificate]) -> None:
        """Put back what was served, then look at what there is now. Blocks; meant for the start."""
        services = self._ended_here()
        all_services = self._parts.registry.services()
        for service in all_services:
            self.shelf.keep_texts(service)
        owners = {OWN, *(service.id for service in services)}
        for row in saved:
            if owner_of(row.owner) in owners:
                self._take_back(row)
            else:
                self._parts.journal.later(RemoveCertificate(row.owner, row.source))
        if services:
            if self._is_due():
                self._apply_own(self._make_own())
            marks = listing(self._parts.config.certs_dir)
            if marks is not None:  # else it is not there, or not for us: what was served stays
                for owner, stem in stems(services, marks, self.shelf.owners()):
                    self._has_changed(owner, stem, marks, at_once=True)
                    self._apply(owner, stem, self._read(stem, marks))
        self._expiry.restore(self._parts.feed.recent(limit=EVERY))
        self._expiry.look(self.shelf.of(services), services, time.time())
        self._keep.sweep(self.shelf.digests(all_services))

    def start(self) -> None:
        """Begin to watch."""
        self._watcher = asyncio.get_running_loop().create_task(self._watch(), name="certificates")

    def look_now(self) -> None:
        """Look at the files at once."""
        self._wake.set()

    async def close(self) -> None:
        """Stop watching."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._wake.wait(), LOOK_EVERY)
            except TimeoutError:
                pass
            at_once = self._wake.is_set()
            self._wake.clear()
            if self._ended_here():
                await self._look_around(at_once)

    async def _look_around(self, at_once: bool) -> None:
        try:
            async with self._lock:
                await self._look(self._ended_here(), at_once)
                services = self._ended_here()
                self._expiry.look(self.shelf.of(services), services, time.time())
        except Exception as error:  # whatever it was, it must not end the watch
            log.error("certificates.failed", exc_info=error)

    async def _look(self, services: Sequence[Service], at_once: bool) -> None:
        if self._is_due():
            self._apply_own(await asyncio.to_thread(self._make_own))
        marks = await asyncio.to_thread(listing, self._parts.config.certs_dir)
        if marks is None:
            return  # not there, or not for us: what was read stays
        for owner, stem in stems(services, marks, self.shelf.owners()):
            if at_once and owner in self.shelf.refused:
                self._settling.forget(owner)
            if self._has_changed(owner, stem, marks, at_once):
                self._apply(owner, stem, await asyncio.to_thread(self._read, stem, marks))

    # Services come and go

    async def prepare(self, service: Service) -> None:
        """Make sure that a service which is about to be made has something to show.

        Errors: ``Invalid`` (``tls_rules_invalid``), ``StoreFailed``.
        """
        await self.check_rules(service)
        if service.tls is Tls.NODE:
            async with self._lock:
                await self._look([service], at_once=True)

    async def check_rules(self, service: Service) -> None:
        """Return if the rules of this service can be kept, to both sides.

        Errors: ``Invalid`` (``tls_rules_invalid``, ``backend_tls_invalid``), ``StoreFailed``.
        """
        if service.backend_tls is not None:
            check_to_backends(service, service.backend_tls)
        if service.tls is not Tls.NODE and service.tls_rules:
            raise Invalid(
                f"service {service.name} has rules for TLS, which the node does not end: its TLS is "
                f"{service.tls.value}; ask for tls: node, or leave the rules out",
                code="tls_rules_invalid",
            )
        if "ca" in service.tls_rules:
            check_clients(service.tls_rules["ca"], service.tls_rules.get("crl"), time.time())
        if service.tls_rules or service.backend_tls:
            await asyncio.to_thread(self.shelf.keep_texts, service)

    def show(self, service: Service) -> None:
        """Let a service show what it has by now, by the rules that it has now."""
        self._show([service])

    async def forget(self, service_id: str) -> None:
        """The service is no more."""
        async with self._lock:
            for owner in [one for one in {service_id, *self.shelf.refused} if owner_of(one) == service_id]:
                self._settling.forget(owner)
                self.shelf.refused.pop(owner, None)
            for place in self.shelf.of_owner(service_id):
                self._settling.forget(place[0])
                self._parts.journal.later(RemoveCertificate(*place))
                self.shelf.discard(self.shelf.remove(place))

    # Uploads

    async def put(self, ref: str, certificate: str, key: str, actor: str, label: str | None) -> Service:
        """Serve what was uploaded, before everything else; with a label, beside what else was.

        Errors: what ``accept`` refuses, ``service_not_found``, ``tls_off``, ``label_invalid``,
        ``certificates_exhausted``, ``store_failed``.
        """
        parts = self._parts
        known = parts.registry.find(ref)
        async with parts.locks.hold(known.id), self._lock:
            service = parts.registry.find(known.id)
            _check_ends_tls(service)
            place = _place(service, label)
            self._check_room(service, place)
            try:
                texts = certificate.encode("utf-8", "replace"), key.encode("utf-8", "replace")
                accepted = await asyncio.to_thread(accept, self._keep, *texts, self._names, time.time())
            except Invalid as error:
                self._news.refused(service.name, Source.UPLOADED, error, actor)
                raise
            await self._commit(place, accepted, actor, service)
            before = self.shelf.get(place)
            self.shelf.put(place, accepted)
            self._show([service])
            self.shelf.discard(before)
            return service

    async def delete(self, ref: str, actor: str, label: str | None) -> None:
        """Forget what was uploaded, under this label or without one; the next source takes its place.

        Errors: ``service_not_found``, ``certificate_not_found``, ``store_failed``.
        """
        parts = self._parts
        known = parts.registry.find(ref)
        async with parts.locks.hold(known.id), self._lock:
            service = parts.registry.find(known.id)
            place = _place(service, label)
            labelled = f" as {label}" if label is not None else ""
            if self.shelf.get(place) is None:
                raise NotFound(
                    f"no certificate was uploaded for service {service.name}{labelled}; what lies in certs_dir is "
                    "changed there",
                    code="certificate_not_found",
                )
            message = f"{service.name}: the uploaded certificate{labelled} is forgotten"
            event = self._news.gone(service.name, place[1], message, actor)
            await parts.journal.commit(event, RemoveCertificate(*place))
            before = self.shelf.remove(place)
            self._show([service])
            self.shelf.discard(before)

    def _check_room(self, service: Service, place: Place) -> None:
        uploaded = self.shelf.uploaded(service)
        if place not in uploaded and len(uploaded) >= MOST_UPLOADED:
            raise Refused(
                f"service {service.name} has {len(uploaded)} uploaded certificates, and {MOST_UPLOADED} are the most; "
                "delete one, put several names into one certificate, or use another service",
                code="certificates_exhausted",
            )

    async def _commit(self, place: Place, accepted: Accepted, actor: str, service: Service) -> None:
        event = self._news.of(service.name, place[1], accepted, actor)
        try:
            await self._parts.journal.commit(event, SaveCertificate(*place, accepted.digest, time.time()))
        except BaseException:
            self.shelf.discard(accepted)
            raise

    # Files

    def _ended_here(self) -> list[Service]:
        return [service for service in self._parts.registry.services() if service.tls is Tls.NODE]

    def _has_changed(self, owner: str, stem: str, marks: Listing, at_once: bool) -> bool:
        return self._settling.look(owner, tuple(marks.get(stem + suffix) for suffix in (".crt", ".key")), at_once)

    def _read(self, stem: str, marks: Listing) -> Outcome:
        """What the files of a stem are worth; None if there are none. Blocks; changes nothing of this object."""
        try:
            return accept_files(self._keep, self._parts.config.certs_dir, stem, marks, self._names, time.time())
        except HarborError as error:
            return error

    def _apply(self, owner: str, stem: str, outcome: Outcome) -> None:
        """Let what was read take effect, unless the service has gone meanwhile."""
        of_node = owner_of(owner) == OWN
        source = Source.NODE_FILE if of_node else Source.SERVICE_FILE
        place = (owner, source)
        name = None if of_node else stem.partition(MORE)[0]
        before = self.shelf.get(place)
        if isinstance(outcome, HarborError):
            self.shelf.refused[owner] = f"{stem}.crt and .key: {outcome.message}"
            self._news.refused(name, source, outcome, NODE)
            return
        self.shelf.refused.pop(owner, None)
        if outcome is None:
            if before is None:
                return
            self.shelf.remove(place)
            gone = self._news.gone(name, source, f"{stem}.crt and .key are gone from certs_dir")
            self._news.changed(gone, RemoveCertificate(*place))
        else:
            self.shelf.put(place, outcome)
            if before is not None and before.digest == outcome.digest:
                return
            save = SaveCertificate(*place, outcome.digest, time.time())
            self._news.changed(self._news.of(name, source, outcome), save)
        self._show([one for one in self._ended_here() if of_node or owner_of(owner) == one.id])
        self.shelf.discard(before)

    # Self-signed

    def _is_due(self) -> bool:
        own = self.shelf.get((OWN, Source.SELF_SIGNED))
        return (
            own is None or own.facts.not_after - time.time() < RENEWED or set(own.facts.names) != set(self._own_names)
        )

    def _make_own(self) -> Accepted | HarborError:
        now = time.time()
        try:
            return accept_pair(self._keep, make_self_signed(self._own_names, now), self._names, now)
        except HarborError as error:
            return error

    def _apply_own(self, outcome: Accepted | HarborError) -> None:
        place = (OWN, Source.SELF_SIGNED)
        if isinstance(outcome, HarborError):
            if self.shelf.refused.get(OWN) != outcome.message:
                self.shelf.refused[OWN] = outcome.message
                self._news.refused(None, place[1], outcome, NODE)
            return
        before = self.shelf.get(place)
        self.shelf.put(place, outcome)
        save = SaveCertificate(*place, outcome.digest, time.time())
        self._news.changed(self._news.of(None, place[1], outcome), save)
        self._show(self._ended_here())
        self.shelf.discard(before)

    # What follows

    def _take_back(self, row: SaveCertificate) -> None:
        place = (row.owner, row.source)
        try:
            self.shelf.put(place, again(self._keep, row.digest, self._names, time.time()))
        except (HarborError, ValueError) as error:
            owner = owner_of(row.owner)
            name = None if owner == OWN else self._parts.registry.find(owner).name
            lost = Invalid(f"the copy in state_dir is lost: {error}; give it again", code="certificate_invalid")
            self._news.refused(name, row.source, lost, NODE)
            self._parts.journal.later(RemoveCertificate(*place))

    def _show(self, services: Sequence[Service]) -> None:
        """Let the data plane show what these services have now, from the next handshake on."""
        for service in services:
            try:
                self._parts.show(service)
            except (OSError, HarborError) as error:  # an SSLError is an OSError
                log.error("certificate.not_shown", service=service.name, detail=str(error))


def _place(service: Service, label: str | None) -> Place:
    if label is None:
        return service.id, Source.UPLOADED
    if LABEL.fullmatch(label) is None:
        raise Invalid(
            f"label {shown(label)} is not valid; use 1 to 63 letters, digits, dots, hyphens and underscores",
            code="label_invalid",
        )
    return f"{service.id}{MORE}{label}", Source.UPLOADED


def _check_ends_tls(service: Service) -> None:
    if service.tls is not Tls.NODE:
        raise Refused(
            f"service {service.name} shows no certificate, because its TLS is {service.tls.value}; "
            "create a service with tls: node, or with a name that ends in https",
            code="tls_off",
        )
