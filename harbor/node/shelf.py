"""The certificates that a node holds, and what follows for each service: reads only memory, decides who shows what."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final

from harbor.certificates import Accepted, Keep, examine_lists
from harbor.errors import NotFound, Refused
from harbor.model import Service, Tls, TlsRules, TlsTerms
from harbor.model.certificate import CertificateView, Source
from harbor.model.tls import BackendTls

OWN: Final = ""  # the owner of what belongs to the node; other owners are services, by their id
MORE: Final = "+"  # between an owner and the label of a further certificate; no name of a service has one
TEXTS: Final = ("ca", "crl")  # what OpenSSL reads from a file and is no secret

Place = tuple[str, Source]


def owner_of(owner: str) -> str:
    """The owner without a label."""
    return owner.partition(MORE)[0]


class Shelf:
    """What was accepted, by owner and source. ``refused`` says of an owner why its newest files are not served."""

    def __init__(self, keep: Keep, rules: TlsRules) -> None:
        self.refused: dict[str, str] = {}
        self._keep = keep
        self._rules = rules
        self._held: dict[Place, Accepted] = {}
        self._places: dict[Place, list[Place]] = {}  # by owner without label, and source: the one without label first

    def get(self, place: Place) -> Accepted | None:
        return self._held.get(place)

    def put(self, place: Place, accepted: Accepted) -> None:
        """Hold it. What was there before is to be discarded once nobody shows it."""
        self._held[place] = accepted
        places = self._places.setdefault((owner_of(place[0]), place[1]), [])
        if place not in places:
            places.append(place)
            places.sort()  # a text is before itself with something behind it

    def remove(self, place: Place) -> Accepted | None:
        """Hold it no longer; returns what it was."""
        if place in self._held:
            self._places[owner_of(place[0]), place[1]].remove(place)
        return self._held.pop(place, None)

    def discard(self, accepted: Accepted | None) -> None:
        """Drop the file of what was replaced, unless it is held elsewhere too."""
        if accepted is not None and all(accepted.digest != one.digest for one in self._held.values()):
            self._keep.drop(accepted.digest)

    def owners(self) -> set[str]:
        """All for whom something is held, or was refused."""
        return {*self.refused, *(owner for owner, _ in self._held)}

    def of_owner(self, owner: str) -> list[Place]:
        """What is held for this owner, with its further ones."""
        return [place for source in Source for place in self._places.get((owner, source), ())]

    def uploaded(self, service: Service) -> list[Place]:
        """Where that is which was uploaded for this service."""
        return list(self._places.get((service.id, Source.UPLOADED), ()))

    def terms(self, service: Service) -> TlsTerms | None:
        """How the node ends the TLS of this service; None if it does not.

        Errors: ``Refused`` (``certificate_unavailable``).
        """
        if service.tls is not Tls.NODE:
            return None
        served = self._served(service)
        if not served:
            raise Refused(
                f"service {service.name} has no certificate to show: {self.refused.get(OWN, 'none could be made')}",
                code="certificate_unavailable",
                status=503,
            )
        ca, crl = (self._file_of(service.tls_rules.get(name)) for name in TEXTS)
        identities = tuple(dict.fromkeys(accepted.identity for _, accepted in served))
        return TlsTerms(self._rules.with_settings(service.tls_rules), identities, ca, crl)

    def rules(self, service: Service) -> dict[str, Any] | None:
        """The rules of this service, as the API shows them: of long texts only the SHA-256."""
        if service.tls is not Tls.NODE:
            return None
        given = service.tls_rules
        texts = {name: Keep.digest_of(given[name]) for name in TEXTS if name in given}
        return self._rules.with_settings(given).as_json() | texts

    def backend_terms(self, service: Service) -> BackendTls | None:
        """How TLS is spoken to the backends of this service; None if it is not."""
        given = service.backend_tls
        if given is None:
            return None
        return BackendTls(given.get("verify", True), given.get("server_name"), self._file_of(given.get("ca")))

    def backend_rules(self, service: Service) -> dict[str, Any] | None:
        """The same as the API shows it: of long texts only the SHA-256."""
        given = service.backend_tls
        if given is None:
            return None
        texts = {"ca": Keep.digest_of(given["ca"])} if "ca" in given else {}
        return {"verify": True, "server_name": None} | dict(given) | texts

    def view(self, service: Service) -> CertificateView:
        """What this service shows. Errors: ``NotFound`` (``certificate_not_found``)."""
        served = self._served(service)
        if service.tls is not Tls.NODE or not served:
            raise NotFound(
                f"service {service.name} shows no certificate: its TLS is {service.tls.value}, "
                "and the node ends it only with tls: node",
                code="certificate_not_found",
            )
        source, accepted = served[0]
        owners = [service.id, OWN] if source in (Source.NODE_FILE, Source.SELF_SIGNED) else [service.id]
        refused = next((self.refused[one] for whose in owners for one in self.refused if owner_of(one) == whose), None)
        crl = service.tls_rules.get("crl")
        findings = (*accepted.findings, *(examine_lists(crl, time.time()) if crl is not None else ()))
        labels = {place[0].partition(MORE)[2]: self._held[place].facts for place in self.uploaded(service)}
        labels.pop("", None)
        return CertificateView(service.name, source, accepted.facts, findings, refused, labels)

    def views(self, services: Iterable[Service]) -> list[CertificateView]:
        """What these services show, as far as they show anything."""
        return [self.view(service) for service in services if service.tls is Tls.NODE and self._served(service)]

    def of(self, services: Iterable[Service]) -> list[tuple[str | None, Source, Accepted]]:
        """What these services show, each certificate once; with the service's name if it is only its own."""
        found: dict[str, tuple[str | None, Source, Accepted]] = {}
        for service in services:
            for source, accepted in self._served(service):
                name = service.name if source in (Source.UPLOADED, Source.SERVICE_FILE) else None
                found[accepted.digest] = (name, source, accepted)
        return list(found.values())

    def keep_texts(self, service: Service) -> None:
        """Write what OpenSSL is to read. Blocks. Errors: ``StoreFailed``."""
        for text in _texts(service):
            self._keep.put_text(text)

    def digests(self, services: Iterable[Service]) -> set[str]:
        """Whatever is in use."""
        texts = {Keep.digest_of(text) for one in services for text in _texts(one)}
        return texts | {accepted.digest for accepted in self._held.values()}

    def _file_of(self, text: str | None) -> str | None:
        return None if text is None else str(self._keep.path(Keep.digest_of(text)))

    def _served(self, service: Service) -> list[tuple[Source, Accepted]]:
        sources = ((service.id, Source.UPLOADED), (service.id, Source.SERVICE_FILE), (OWN, Source.NODE_FILE))
        found = [(one[1], self._held[place]) for one in sources for place in self._places.get(one, ())]
        if not found and (OWN, Source.SELF_SIGNED) in self._held:
            found.append((Source.SELF_SIGNED, self._held[OWN, Source.SELF_SIGNED]))
        return found


def _texts(service: Service) -> list[str]:
    """What OpenSSL has to find in files for this service."""
    rules = [service.tls_rules[name] for name in TEXTS if name in service.tls_rules]
    return [*rules, *([service.backend_tls["ca"]] if service.backend_tls and "ca" in service.backend_tls else [])]
