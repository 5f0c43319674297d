"""What the code knows stands in the documentation, or the test is red."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import get_args

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from harbor.api.app import ROUTERS
from harbor.api.broker import routes as broker
from harbor.api.broker.routes import DESCRIPTION_PATH
from harbor.config import Config
from harbor.model import Drop, Reason
from harbor.model.policy import FIELDS, Policy, plain

ROOT = Path(__file__).parents[1]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def config_keys() -> Iterator[str]:
    for name, field in Config.model_fields.items():
        kinds = [kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)]
        section = next((kind for kind in kinds if issubclass(kind, BaseModel)), None)
        yield from (f"{name}.{key}" for key in section.model_fields) if section else (name,)


def dependencies() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    tools = (ROOT / ".ci" / "tools.in").read_text().splitlines()
    wanted = [*project["dependencies"], *(line for extra in extras for line in extra), *tools]
    return {re.split(r"[<>=!~ \[;]", line)[0] for line in wanted}


def meanings(kind: type[StrEnum]) -> dict[str, str]:
    """What the comment beside each value says."""
    source = (ROOT / "harbor" / "model" / "reason.py").read_text()
    body = source.partition(f"class {kind.__name__}(")[2].partition("\nclass ")[0]
    return dict(re.findall(r'^    [A-Z_]+ = "([a-z_]+)"  # (.+)$', body, re.MULTILINE))


@pytest.mark.parametrize("key", list(config_keys()))
def test_every_key_of_the_configuration_is_documented(key: str) -> None:
    assert f"| `{key}` |" in page("reference/configuration.md")


def anchors(name: str) -> set[str]:
    """What a link can lead to on a page."""
    headings = re.findall(r"^#+ (.+)$", page(name), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def as_default(value: object) -> tuple[str, ...]:
    """How the page may write a default."""
    if value is None:
        return ("off", "by the name")
    return ("empty",) if value == [] else (f"`{value:g}`" if isinstance(value, float) else f"`{value}`",)


@pytest.mark.parametrize("policy", FIELDS)
def test_every_policy_has_its_line_with_its_default_and_a_place_that_explains_it(policy: str) -> None:
    rows = re.findall(rf"^\| \[`{policy}`\]\(([^)]+)\) \| ([^|]+) \| [^|]+ \|$", page("policies.md"), re.MULTILINE)
    assert len(rows) == 1
    link, default = rows[0]
    assert default in as_default(plain(policy, getattr(Policy(), policy)))
    name, _, anchor = link.partition("#")
    assert not anchor or anchor in anchors(name or "policies.md")
    explained = page(name or "policies.md").partition("\n## What a client sees")[2 if not name else 0]
    assert re.search(rf"\b{policy}\b", explained)


@pytest.mark.parametrize("kind", [Reason, Drop])
def test_every_reason_is_documented_in_its_own_words(kind: type[StrEnum]) -> None:
    explained = meanings(kind)
    assert list(explained) == [str(value) for value in kind]
    heading = {Reason: "## Why a session ended", Drop: "## Why a datagram went nowhere"}[kind]
    section = page("reasons.md").partition(heading)[2].partition("\n## ")[0]
    for word, meaning in explained.items():
        assert f"| `{word}` | {meaning} |" in section


def test_no_reason_is_documented_that_does_not_exist() -> None:
    assert set(re.findall(r"^\| `([a-z_]+)` \|", page("reasons.md"), re.MULTILINE)) == {*Reason, *Drop}


def test_every_path_of_the_api_is_documented_with_its_methods() -> None:
    known: dict[str, set[str]] = {}
    known[DESCRIPTION_PATH] = {"GET"}
    for route in (route for router in (*ROUTERS, broker.router) for route in router.routes):
        if isinstance(route, APIRoute) and route.include_in_schema:
            known.setdefault(route.path, set()).update(route.methods)
    table = re.findall(r"^\| `(/[^`]*)` \| ([A-Z, ]+) \|", page("reference/api.md"), re.MULTILINE)
    assert {path: set(methods.split(", ")) for path, methods in table} == known


def test_every_error_code_is_documented_and_no_other_is() -> None:
    source = "\n".join(path.read_text() for path in sorted((ROOT / "harbor").rglob("*.py")))
    raised = set(re.findall(r'\bcode(?:: str)? ?= ?"([a-z_]+)"', source))
    documented = set(re.findall(r"^\| `([a-z_]+)` \| [0-9]{3}", page("reference/errors.md"), re.MULTILINE))
    assert sorted(raised - documented) == []
    assert sorted(code for code in documented if f'"{code}"' not in source) == []


def test_L05_every_dependency_has_its_line_and_no_other_has() -> None:
    lines = re.findall(r"^\| `([^`]+)` (\|.*)$", page("dependencies.md"), re.MULTILINE)
    assert sorted(name for name, _ in lines) == sorted(dependencies())
    assert all(cell.strip() for _, rest in lines for cell in rest.strip("|").split("|"))


@pytest.mark.parametrize("name", sorted(dependencies()))
def test_L01_every_dependency_is_locked_with_hashes(name: str) -> None:
    lock = "".join((ROOT / path).read_text() for path in ("requirements.lock", ".ci/tools.lock"))
    assert re.search(rf"^{re.escape(name.lower())}==\S+[^\n]* \\\n    --hash=sha256:", lock, re.MULTILINE)
    assert "://" not in lock


def test_every_page_is_linked_from_a_table_of_contents() -> None:
    pages = {path.relative_to(ROOT / "docs").with_suffix("").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    linked = {"index"}
    for parent in ("index.md", "decisions/index.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page(parent), re.DOTALL):
            names = [line for line in block.splitlines() if line and not line.startswith(":")]
            linked |= {(Path(parent).parent / name).as_posix() for name in names}
    assert pages == linked
