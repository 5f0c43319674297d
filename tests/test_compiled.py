"""Machine code serves only the source that it was made from, and only where it is wanted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harbor import compiled
from support.needs import lacking

TELL = "import harbor, harbor.dataplane.stream as stream; print(harbor.is_compiled, stream.__file__)"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package with its machine code."""
    if not compiled.is_current():
        lacking("the data path is not compiled; run make compiled (it needs a C compiler)")
    shutil.copytree(compiled.ROOT, tmp_path / "harbor", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "harbor"


def told_by(package: Path, pure: str | None = None) -> tuple[bool, str]:
    """Whether the package says that it is compiled, and where its relay really comes from."""
    environment = {name: value for name, value in os.environ.items() if name != compiled.VARIABLE}
    if pure is not None:
        environment[compiled.VARIABLE] = pure
    out = subprocess.check_output([sys.executable, "-c", TELL], cwd=package.parent, env=environment, text=True)
    says, _, file = out.strip().partition(" ")
    assert Path(file).is_relative_to(package)
    return says == "True", Path(file).suffix


def test_machine_code_of_the_present_source_is_used(copy: Path) -> None:
    assert told_by(copy) == (True, ".so")


@pytest.mark.parametrize(("pure", "used"), [("1", ".py"), ("yes", ".py"), ("0", ".so")])
def test_who_sets_HARBOR_PURE_gets_the_source(copy: Path, pure: str, used: str) -> None:
    assert told_by(copy, pure) == (used == ".so", used)


@pytest.mark.parametrize("module", compiled.MODULES)
def test_one_changed_line_and_all_machine_code_is_left_alone(copy: Path, module: str) -> None:
    with copy.parent.joinpath(*module.split(".")).with_suffix(".py").open("a") as source:
        source.write("# a change\n")
    assert told_by(copy) == (False, ".py")


def test_machine_code_that_is_not_whole_is_left_alone(copy: Path) -> None:
    (copy / compiled.FOLDER.relative_to(compiled.ROOT) / compiled.STAMP).unlink()
    assert told_by(copy) == (False, ".py")


def test_what_is_compiled_exists() -> None:
    assert [module for module in compiled.MODULES if not compiled.source_of(module).is_file()] == []
