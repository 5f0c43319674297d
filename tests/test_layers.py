"""A package imports only from packages below it: the table here is the architecture, the imports are the truth."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import harbor

ROOT = Path(harbor.__file__).parent

# Lowest first. What stands on one line does not import one another. A module that is not here fails the test.
LAYERS = (
    ("harbor.compiled",),
    ("harbor",),  # the version, and which of the two the data path runs: source or machine code
    ("harbor.errors",),
    ("harbor.model",),
    ("harbor.config",),
    ("harbor.policy", "harbor.client"),
    ("harbor.dataplane", "harbor.store", "harbor.sources", "harbor.health", "harbor.certificates"),
    ("harbor.node",),
    ("harbor.api",),
    ("harbor.daemon",),
    ("harbor.runner", "harbor.demo", "harbor.https_proxy"),
    ("harbor.cli",),
    ("harbor.__main__",),
)

# Packages that may import less than what is below them.
ONLY = {
    "harbor.policy": {"harbor.errors", "harbor.model"},
    "harbor.dataplane": {"harbor.errors", "harbor.model", "harbor.policy"},
    "harbor.certificates": {"harbor.errors", "harbor.model", "harbor.policy"},
    # What asks a node over HTTP may know nothing of how one is made.
    "harbor.client": {"harbor.errors", "harbor.config"},
    "harbor.runner": {"harbor", "harbor.errors", "harbor.model", "harbor.config", "harbor.policy", "harbor.client"},
    "harbor.cli": {"harbor", "harbor.errors", "harbor.model", "harbor.config", "harbor.client", "harbor.daemon"}
    | {"harbor.runner", "harbor.demo", "harbor.https_proxy", "harbor.certificates"},
}

# Pure packages decide; they neither look at the world nor wait for it.
PURE = ("harbor.errors", "harbor.model", "harbor.policy")
WORLD = {
    "asyncio", "concurrent", "fcntl", "io", "logging", "multiprocessing", "os", "pathlib", "resource", "select",
    "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "structlog", "subprocess", "tempfile", "threading",
    "time", "uvloop",
}  # fmt: skip


class Import(NamedTuple):
    """One import statement: who imports what, and where it stands."""

    importer: str
    imported: str
    where: str


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(root.rglob("*.py")):
        parts = path.relative_to(root.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(root: Path) -> Iterator[Import]:
    known = {name for name, _ in modules(root)}
    for name, path in modules(root):
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            where = f"{path.relative_to(root.parent)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                yield from (Import(name, alias.name, where) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                source = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
                source = ".".join(part for part in (source, node.module) if part)
                for alias in node.names:
                    inner = f"{source}.{alias.name}"
                    yield Import(name, inner if inner in known else source, where)


def package_of(module: str) -> str | None:
    """The entry of ``LAYERS`` that ``module`` belongs to."""
    entries = sorted((entry for layer in LAYERS for entry in layer), key=len, reverse=True)
    if module == "harbor":
        return "harbor"
    return next((e for e in entries if e != "harbor" and (module == e or module.startswith(e + "."))), None)


def height(package: str) -> int:
    return next(level for level, layer in enumerate(LAYERS) if package in layer)


def wrong_imports(root: Path) -> list[str]:
    wrong = []
    for found in imports(root):
        if found.imported.split(".")[0] != "harbor":
            continue
        importer, imported = package_of(found.importer), package_of(found.imported)
        if importer is None or imported is None:
            lacking = found.importer if importer is None else found.imported
            wrong.append(f"{found.where}: {lacking} has no layer; give it one in {Path(__file__).name}")
        elif importer != imported and height(imported) >= height(importer):
            wrong.append(f"{found.where}: {importer} may not import {found.imported}, which is not below it")
        elif importer != imported and imported not in ONLY.get(importer, {imported}):
            wrong.append(f"{found.where}: {importer} may import only {', '.join(sorted(ONLY[importer]))}")
    return wrong


def worldly_imports(root: Path) -> list[str]:
    return [
        f"{found.where}: {found.importer} is pure and may not import {found.imported}"
        for found in imports(root)
        if package_of(found.importer) in PURE and found.imported.split(".")[0] in WORLD
    ]


def coroutines(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root.parent)}:{node.lineno}: {node.name} is async in a pure package"
        for name, path in modules(root)
        if package_of(name) in PURE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.AsyncFunctionDef)
    ]


def test_every_module_has_a_layer() -> None:
    assert [name for name, _ in modules(ROOT) if package_of(name) is None] == []


def test_packages_import_only_what_is_below_them() -> None:
    assert wrong_imports(ROOT) == []


def test_pure_packages_do_not_touch_the_world() -> None:
    assert worldly_imports(ROOT) == []
    assert coroutines(ROOT) == []


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("policy/ports.py", "from harbor.dataplane import tcp", "harbor.policy may not import harbor.dataplane"),
        ("policy/ports.py", "def f():\n    import harbor.node", "ports.py:2: harbor.policy may not import harbor.node"),
        ("store/sqlite.py", "from ..dataplane import tcp", "harbor.store may not import harbor.dataplane"),
        ("store/sqlite.py", "from harbor import node", "harbor.store may not import harbor.node"),
        ("cli/services.py", "import harbor.node", "harbor.cli may import only"),
        ("model/service.py", "from harbor.policy import ports", "harbor.model may not import harbor.policy"),
        ("wizard.py", "import harbor.model", "harbor.wizard has no layer"),
        ("policy/ports.py", "from time import monotonic", "harbor.policy.ports is pure and may not import time"),
        ("model/event.py", "import os.path", "harbor.model.event is pure and may not import os.path"),
        ("policy/flows.py", "async def expire(): ...", "expire is async in a pure package"),
    ],
)  # fmt: skip
def test_a_wrong_import_is_found(tmp_path: Path, path: str, text: str, complaint: str) -> None:
    root = tmp_path / "harbor"
    for package in ("policy", "dataplane", "store", "node", "cli", "model"):
        (root / package).mkdir(parents=True)
        (root / package / "__init__.py").touch()
    (root / "__init__.py").touch()
    (root / path).write_text(text)
    found = wrong_imports(root) + worldly_imports(root) + coroutines(root)
    assert len(found) == 1, found
    assert complaint in found[0]
