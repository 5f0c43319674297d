"""What the files of certificates are called: ``<service>``, ``<service>+<label>``, and the same for the node."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from harbor.model import Service
from harbor.node.shelf import MORE, OWN

STEM: Final = "harbor"  # of the node's own files in certs_dir
LABEL: Final = re.compile(r"[A-Za-z0-9._-]{1,63}")


def stems(services: Iterable[Service], names: Iterable[str], known: Iterable[str]) -> list[tuple[str, str]]:
    """Each owner that files may be for, with what these are called without their suffix.

    ``names`` are those of the files that there are, ``known`` tells of which owners there were some: that they
    are gone is news, too.
    """
    found: dict[str, str] = {OWN: STEM}
    owners: dict[str, list[str]] = {STEM: [OWN]}
    for service in services:
        found[service.id] = service.name
        owners.setdefault(service.name, []).append(service.id)
    for name in sorted(names):
        stem, more, label = name.rpartition(".")[0].partition(MORE)
        if more and LABEL.fullmatch(label):
            found |= {f"{owner}{MORE}{label}": f"{stem}{MORE}{label}" for owner in owners.get(stem, ())}
    for labelled in known:
        owner, more, label = labelled.partition(MORE)
        if more and owner in found:
            found[labelled] = f"{found[owner]}{MORE}{label}"
    return list(found.items())
