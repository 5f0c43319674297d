"""Machine code of the data path, where it was built from these very sources; plain Python everywhere else.

``hatch_build.py`` compiles the modules named here, as they stand, with mypyc. What it makes lies in ``_compiled``,
with a digest of what it was made from. Machine code that is older than its source, or of another Python, is left
alone, and so is all of it where HARBOR_PURE is set to anything but 0: the program is the same, only slower.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Mapping
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

# What runs for every session and every message. They call one another directly, so they are compiled together.
MODULES: Final = (
    "harbor.policy.access",
    "harbor.policy.age",
    "harbor.policy.client_hello",
    "harbor.policy.flows",
    "harbor.policy.http.chunked",
    "harbor.policy.http.fields",
    "harbor.policy.http.forwarding",
    "harbor.policy.http.heads",
    "harbor.policy.http.pages",
    "harbor.policy.http.relay",
    "harbor.policy.http.start_line",
    "harbor.policy.limits",
    "harbor.policy.line",
    "harbor.policy.meter",
    "harbor.policy.rates",
    "harbor.policy.replies",
    "harbor.policy.rotation",
    "harbor.policy.sni",
    "harbor.dataplane.acceptor",
    "harbor.dataplane.backend_tls",
    "harbor.dataplane.budget",
    "harbor.dataplane.dial",
    "harbor.dataplane.greeting",
    "harbor.dataplane.http",
    "harbor.dataplane.linger",
    "harbor.dataplane.newcomers",
    "harbor.dataplane.pacing",
    "harbor.dataplane.plane",
    "harbor.dataplane.proxy_protocol",
    "harbor.dataplane.reactor",
    "harbor.dataplane.session",
    "harbor.dataplane.shared_port",
    "harbor.dataplane.sockets",
    "harbor.dataplane.stream",
    "harbor.dataplane.tally",
    "harbor.dataplane.tcp",
    "harbor.dataplane.tls",
    "harbor.dataplane.udp",
    "harbor.dataplane.waiting",
)
GROUP: Final = "harbor_data_path"  # the one library in which all of them are; theirs are only doors to it
LIBRARY: Final = f"{GROUP}__mypyc"

ROOT: Final = Path(__file__).parent
FOLDER: Final = ROOT / "_compiled" / str(sys.implementation.cache_tag)
STAMP: Final = "digest"
VARIABLE: Final = "HARBOR_PURE"


def source_of(module: str) -> Path:
    """The file that holds the source of a module in ``MODULES``."""
    return ROOT.parent.joinpath(*module.split(".")).with_suffix(".py")


def digest() -> str:
    """Identifies what machine code is made from: the sources, and the Python that it is for."""
    made_from = hashlib.sha256(f"{sys.version} {EXTENSION_SUFFIXES[0]}".encode())
    for module in MODULES:
        made_from.update(module.encode())
        made_from.update(source_of(module).read_bytes())
    return made_from.hexdigest()


def is_current(folder: Path = FOLDER) -> bool:
    """Whether ``folder`` has machine code of these sources for this Python."""
    try:
        return (folder / STAMP).read_text() == digest()
    except OSError:
        return False


def files(folder: Path) -> dict[str, Path]:
    """Where the machine code of each module lies in ``folder``."""
    suffix = EXTENSION_SUFFIXES[0]
    return {name: folder / f"{name}{suffix}" for name in (*MODULES, LIBRARY)}


class Finder(MetaPathFinder):
    """Finds machine code where the import system would find source."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self._files = files

    def find_spec(self, fullname: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        file = self._files.get(fullname)
        return None if file is None else spec_from_file_location(fullname, file)


def prefer() -> bool:
    """Import machine code from now on, if it is there and wanted; says whether that is so."""
    if os.environ.get(VARIABLE, "0") != "0" or not is_current():
        return False
    sys.meta_path.insert(0, Finder(files(FOLDER)))
    return True
